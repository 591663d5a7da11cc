"""Complete configs by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from advnets.config import Config
from advnets.data import spec
from advnets.errors import UnknownNameError
from advnets.presets import dcgan, extensions, modern, paper2014, small
from advnets.presets.preset import Preset

PRESETS: dict[str, Preset] = {
    preset.config.preset: preset
    for preset in (
        *small.PRESETS,
        *paper2014.PRESETS,
        *dcgan.PRESETS,
        *extensions.PRESETS,
        *modern.PRESETS,
    )
}

DEFAULT, DEFAULT_POINTS = "digits", "points"


def get_preset(name: str) -> Config:
    """The config of a preset.

    Raises:
        UnknownNameError: there is none of that name; the nearest are in the message.
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return PRESETS[name].config


def starting_config(name: str) -> Config:
    """The config of a preset; of a source, or FILE.py:NAME, the default one on it, or playing it.

    Raises:
        UnknownNameError: it is none of them.
        UsageError: the file cannot be run, or has nothing of that name.
    """
    if name in PRESETS:
        return get_preset(name)
    spec.reject_run_directory(name)
    if is_game_spec(name):
        from advnets.games.custom import config_from_file  # not what --help should wait for

        return config_from_file(name, get_preset(DEFAULT))
    if not spec.is_source(name):
        known = {*PRESETS, *spec.IMAGE_DATASETS, *spec.DISTRIBUTION_NAMES}
        raise UnknownNameError("preset, data set, file or folder", name, known)
    config = get_preset(DEFAULT_POINTS if spec.is_point_data(name) else DEFAULT)
    return replace(config, data=replace(config.data, source=name))


def default_out(config: Config) -> Path:
    """Where a run goes that is told no place: runs/, by preset, or by the data's own name."""
    known = PRESETS.get(config.preset)
    own = known is not None and config.data.source != known.config.data.source
    return Path("runs") / (spec.short_name(config.data.source) if own else config.preset)


def is_data(name: str) -> bool:
    """Whether a name in the place of a preset's is that of data."""
    return name not in PRESETS and not is_game_spec(name)


def is_game_spec(name: str) -> bool:
    """Whether a name is that of something in a file of the reader's own, FILE.py:NAME."""
    return ".py:" in name
