"""What a run that is to go on was begun with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from advnets.config import Config
from advnets.data.spec import is_dataset_name
from advnets.errors import RunError, UsageError
from advnets.experiment.stored_run import StoredRun
from advnets.games.custom import custom_games, with_files_of
from advnets.presets.registry import DEFAULT, default_out, is_data, is_game_spec, starting_config


def resumed_config(out: Path | None, name: str | None, source: str | None = None) -> Config:
    """The config of the run in `out`, or of the one that goes where this preset's on a source does.

    Raises:
        RunError: there is no run, or it plays another file's game than the name says.
        UsageError: it was begun with another preset, or on other data, than the name says.
    """
    start = starting_config(name or DEFAULT)
    if source is not None:
        start = replace(start, data=replace(start.data, source=source))
    path = out or default_out(start)
    stored = StoredRun.read(path).config
    if name is None:
        return stored
    if is_game_spec(name):
        return _with_typed_game(path, stored, name, start)
    if start.preset != stored.preset:
        raise UsageError(f"{path} was begun with preset {stored.preset}, not {name}; leave it out")
    if not is_data(name) or start.data.source == stored.data.source:
        return stored
    if is_dataset_name(name) and is_dataset_name(stored.data.source):
        raise UsageError(f"{path} was begun on {stored.data.source}, not {name}; leave it out")
    # Where data lies is not what it is: whether it is the same is decided by its digest.
    return replace(stored, data=replace(stored.data, source=start.data.source))


def _with_typed_game(path: Path, stored: Config, name: str, start: Config) -> Config:
    """Return the stored config with its games taken from the file that was typed, and no other."""
    typed = custom_games(start)
    found = with_files_of(stored, typed)
    for game in custom_games(found):
        if game not in typed:
            raise RunError(
                f"{path} was begun with a game of {game.source!r} of digest {game.digest[:12]!r}, "
                f"and {name} is another or has changed since; bring the old file back or begin a "
                "new run"
            )
    if not custom_games(found) and (typed or start.preset != stored.preset):
        raise UsageError(f"{path} was begun with preset {stored.preset}, not {name}; leave it out")
    return found
