"""Complete configs by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from advnets.config import Config
from advnets.data import names
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


def named(name: str) -> Config:
    """The config of a preset.

    Raises:
        UnknownNameError: there is none of that name; the nearest are in the message.
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return PRESETS[name].config


def starting_point(name: str) -> Config:
    """The config of a preset; of a source, or FILE.py:NAME, the default one on it, or playing it.

    Raises:
        UnknownNameError: it is none of them.
        UsageError: the file cannot be run, or has nothing of that name.
    """
    if name in PRESETS:
        return named(name)
    names.refuse_run(name)
    if is_place(name):
        from advnets.experiment.custom_game import config_at  # not what --help should wait for

        return config_at(name, named(DEFAULT))
    if not names.is_source(name):
        known = {*PRESETS, *names.PICTURES, *names.POINTS}
        raise UnknownNameError("preset, data set, file or folder", name, known)
    config = named(DEFAULT_POINTS if names.gives_points(name) else DEFAULT)
    return replace(config, data=replace(config.data, source=name))


def default_out(config: Config) -> Path:
    """Where a run goes that is told no place: runs/, by preset, or by the data's own name."""
    known = PRESETS.get(config.preset)
    own = known is not None and config.data.source != known.config.data.source
    return Path("runs") / (names.short(config.data.source) if own else config.preset)


def is_data(name: str) -> bool:
    """Whether a name in the place of a preset's is that of data."""
    return name not in PRESETS and not is_place(name)


def is_place(name: str) -> bool:
    """Whether a name is that of something in a file of the reader's own, FILE.py:NAME."""
    return ".py:" in name
