"""The registry of presets."""

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
    """Return the config of a preset.

    Args:
        name: name of a preset, such as "dcgan".

    Raises:
        UnknownNameError: there is no preset of that name; the message suggests similar names.

    Example:
        >>> advnets.presets.get_preset("dcgan").stage.generator.latent_dim
        100
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS, listed="`advnets presets` lists them")
    return PRESETS[name].config


def starting_config(name: str) -> Config:
    """Return the config that a name stands for: a preset, data, a config file or FILE.py:NAME.

    A data source gives the default preset on these data; FILE.py:NAME a config, or the default
    preset with the game of that file; a config file is a run's config.json, or YAML or TOML.

    Args:
        name: the PRESET argument.

    Raises:
        UnknownNameError: the name is neither a preset, a data source nor a file.
        UsageError: the file cannot be run or read, or does not define the name.
        RunError: a config.json is damaged, or of another version.
    """
    if name in PRESETS:
        return get_preset(name)
    spec.reject_run_directory(name)
    if is_game_spec(name):
        from advnets.games.custom import config_from_file  # imported late to keep --help fast

        return config_from_file(name, get_preset(DEFAULT))
    if is_config_file(name):
        from advnets.presets.config_file import read_config_file

        return read_config_file(Path(name).expanduser())
    if not spec.is_source(name):
        known = {*PRESETS, *spec.DATASET_NAMES}
        listed = "`advnets presets` and `advnets data list` list the names"
        raise UnknownNameError("preset, dataset, file or folder", name, known, listed=listed)
    config = get_preset(DEFAULT_POINTS if spec.is_point_data(name) else DEFAULT)
    return replace(config, data=replace(config.data, source=name))


def default_out(config: Config, name: str | None = None) -> Path:
    """Return the default folder of a run: runs/PRESET, or runs/DATA for a preset on other data.

    `name` is the PRESET argument; if it names data, the folder does too.

    Args:
        config: the config of the run.
        name: the PRESET argument; None: the preset of the config.
    """
    preset = PRESETS.get(config.preset)
    has_other_data = preset is not None and config.data.source != preset.config.data.source
    has_other_data = has_other_data and not spec.in_memory(config.data.source)
    named_by_data = has_other_data or (name is not None and is_data(name))
    return Path("runs") / (spec.short_name(config.data.source) if named_by_data else config.preset)


def is_data(name: str) -> bool:
    """Return whether the PRESET argument names a data source.

    Args:
        name: the PRESET argument.
    """
    return name not in PRESETS and not is_game_spec(name) and not is_config_file(name)


def is_game_spec(name: str) -> bool:
    """Return whether the PRESET argument is FILE.py:NAME.

    Args:
        name: the PRESET argument.
    """
    return ".py:" in name


def is_config_file(name: str) -> bool:
    """Return whether the PRESET argument is the name of a config.json, or a YAML or TOML file.

    Args:
        name: the PRESET argument.
    """
    return name.lower().endswith((".json", ".yaml", ".yml", ".toml"))
