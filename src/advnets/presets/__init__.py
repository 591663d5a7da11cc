"""Complete configs by name: the experiments of 2014, DCGAN, and what takes minutes."""

from advnets.presets.preset import Preset
from advnets.presets.registry import (
    DEFAULT,
    DEFAULT_POINTS,
    PRESETS,
    default_out,
    is_data,
    is_place,
    named,
    starting_point,
)

__all__ = [
    "DEFAULT",
    "DEFAULT_POINTS",
    "PRESETS",
    "Preset",
    "default_out",
    "is_data",
    "is_place",
    "named",
    "starting_point",
]
