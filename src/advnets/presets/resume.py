"""The config of a run that is resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from advnets.config import Config
from advnets.data.spec import is_dataset_name
from advnets.errors import RunError, UsageError
from advnets.experiment.stored_run import StoredRun
from advnets.games.custom import custom_games, update_game_paths
from advnets.presets.registry import DEFAULT, default_out, is_data, is_game_spec, starting_config


def resumed_config(out: Path | None, name: str | None, source: str | None = None) -> Config:
    """Return the config of the run in `out`, or in the default folder of a preset and its data.

    Raises:
        RunError: there is no run, or its game is from another file than `name`.
        UsageError: the run was started with another preset, or on other data, than given.
    """
    start = starting_config(name or DEFAULT)
    if source is not None:
        start = replace(start, data=replace(start.data, source=source))
    path = out or default_out(start, name)
    stored = StoredRun.read(path).config
    if name is None:
        return stored
    if is_game_spec(name):
        return _with_given_game(path, stored, name, start)
    if start.preset != stored.preset:
        raise UsageError(
            f"{path} was started with preset {stored.preset}, not {name}; leave {name} out"
        )
    if not is_data(name) or start.data.source == stored.data.source:
        return stored
    if is_dataset_name(name) and is_dataset_name(stored.data.source):
        raise UsageError(
            f"{path} was started on {stored.data.source}, not {name}; leave {name} out"
        )
    # The path of the data may differ: whether they are the same is decided by their digest.
    return replace(stored, data=replace(stored.data, source=start.data.source))


def _with_given_game(path: Path, stored: Config, name: str, start: Config) -> Config:
    """Return the stored config with the games of the file that was given, and of no other."""
    given_games = custom_games(start)
    config = update_game_paths(stored, given_games)
    for game in custom_games(config):
        if game not in given_games:
            raise RunError(
                f"{path} was started with the game {game.source!r} (digest {game.digest[:12]!r}), "
                f"but {name} is another game or has changed since; restore the file or start a "
                "new run"
            )
    if not custom_games(config) and (given_games or start.preset != stored.preset):
        raise UsageError(
            f"{path} was started with preset {stored.preset}, not {name}; leave {name} out"
        )
    return config
