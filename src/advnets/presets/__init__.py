"""Presets: complete configurations by name."""

from advnets.lazy import set_attributes
from advnets.presets.preset import Preset
from advnets.presets.registry import (
    DEFAULT,
    DEFAULT_POINTS,
    PRESETS,
    default_out,
    get_preset,
    is_config_file,
    is_data,
    is_game_spec,
    starting_config,
)

__all__ = [
    "DEFAULT",
    "DEFAULT_POINTS",
    "PRESETS",
    "Preset",
    "default_out",
    "get_preset",
    "is_config_file",
    "is_data",
    "is_game_spec",
    "starting_config",
]

set_attributes(__name__)
