"""Complete configs by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from advnets.config import Config
from advnets.data import names
from advnets.errors import UnknownNameError
from advnets.presets import dcgan, experiments2014, section7, small
from advnets.presets.preset import Preset

PRESETS: dict[str, Preset] = {
    preset.config.preset: preset
    for preset in (
        *small.PRESETS,
        *experiments2014.PRESETS,
        *dcgan.PRESETS,
        *section7.PRESETS,
    )
}

DEFAULT, DEFAULT_POINTS = "digits", "points"


def named(name: str) -> Config:
    """The config of a preset.

    Raises:
        UnknownNameError: there is none of that name; the nearest are in the message.
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return PRESETS[name].config


def starting_point(name: str) -> Config:
    """The config of a preset, or, given a source, the default one for pictures or points on it.

    Raises:
        UnknownNameError: it is neither.
    """
    if name in PRESETS:
        return named(name)
    if not names.is_source(name):
        known = {*PRESETS, *names.PICTURES, *names.POINTS}
        raise UnknownNameError("preset, data set, file or folder", name, known)
    config = named(DEFAULT_POINTS if names.gives_points(name) else DEFAULT)
    return replace(config, data=replace(config.data, source=name))


def default_out(config: Config) -> Path:
    """Where a run goes that is told no place: runs/, by preset, or by the data's own name."""
    own = config.data.source != PRESETS[config.preset].config.data.source
    return Path("runs") / (names.short(config.data.source) if own else config.preset)
