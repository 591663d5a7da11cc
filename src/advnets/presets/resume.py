"""The default run directories, numbered, and the config of a run that is resumed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from advnets.config import Config, update_custom_paths
from advnets.data.spec import is_dataset_name
from advnets.errors import RunError, UsageError
from advnets.experiment.stored_run import StoredRun
from advnets.games.custom import custom_games
from advnets.presets.registry import (
    DEFAULT,
    default_out,
    is_config_file,
    is_data,
    is_game_spec,
    starting_config,
)
from advnets.run_directory import RunDirectory


def new_out(config: Config, name: str | None = None) -> Path:
    """Return the folder of a new run: the default one or, if it is taken, NAME-2, NAME-3, ….

    `name` is the PRESET argument. A number is not reused while a run with a higher one exists.
    """
    base = default_out(config, name)
    number = max(_numbered_runs(base, name), default=0) + 1
    while (run := RunDirectory(_with_number(base, number))).locked or run.exists:
        number += 1
    return run.path


def newest_out(config: Config, name: str | None = None) -> Path:
    """Return the folder of the newest run in a default folder, to resume it.

    `name` is the PRESET argument. If there is no such run, the default folder is returned.
    """
    base = default_out(config, name)
    return _with_number(base, max(_numbered_runs(base, name), default=1))


def _with_number(base: Path, number: int) -> Path:
    return base if number == 1 else base.with_name(f"{base.name}-{number}")


def _numbered_runs(base: Path, name: str | None) -> list[int]:
    """Return the numbers of the runs in the default folder `base` (number 1), BASE-2, BASE-3, ….

    A run of the preset semi-supervised-mnist-2016 is not run 2016 of semi-supervised-mnist.
    """
    pattern = re.compile(re.escape(base.name) + r"(?:-([1-9]\d{0,8}))?")
    folders = base.parent.iterdir() if base.parent.is_dir() else ()
    numbers = [int(match[1] or 1) for f in folders if (match := pattern.fullmatch(f.name))]
    return [n for n in numbers if _is_default_run(_with_number(base, n), base, name)]


def _is_default_run(path: Path, base: Path, name: str | None) -> bool:
    if not RunDirectory(path).exists:
        return False
    try:
        return default_out(StoredRun.read(path).config, name) == base
    except RunError:  # it is reported where the run is used
        return True


def resumed_config(out: Path | None, name: str | None, source: str | None = None) -> Config:
    """Return the config of the run in `out`, or of the newest one of a preset and its data.

    For a config file in place of a preset, the config in that file is returned.

    Raises:
        RunError: there is no run, or its game is from another file than `name`.
        UsageError: the run was started with another preset, or on other data, than given.
    """
    start = starting_config(name or DEFAULT)
    if source is not None:
        start = replace(start, data=replace(start.data, source=source))
    path = out or newest_out(start, name)
    stored = StoredRun.read(path).config
    if name is None:
        return stored
    if is_config_file(name):
        return start
    if is_game_spec(name):
        return _with_requested_game(path, stored, name, start)
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


def _with_requested_game(path: Path, stored: Config, name: str, start: Config) -> Config:
    """Return the stored config with the location of its game's file, which must be the same."""
    given_games = custom_games(start)
    config = update_custom_paths(stored, start)
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
