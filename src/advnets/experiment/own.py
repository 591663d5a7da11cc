"""Games and configs from a file of the reader's own: FILE.py:NAME."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import replace
from pathlib import Path

from advnets import config
from advnets.errors import RunError, UsageError
from advnets.types import Game

_PLACE = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")


def is_place(text: str) -> bool:
    """Whether a text reads FILE.py:NAME."""
    return _PLACE.fullmatch(text) is not None


def config_at(place: str, start: config.Config) -> config.Config:
    """The config that stands at a place, or the starting one playing the game that stands there.

    Raises:
        UsageError: the file is not there or cannot be run; it has nothing of that name.
    """
    file = _file(place)
    found = _load(place)
    if isinstance(found, config.Config):
        return found
    resolved = f"{file.resolve()}:{place.rpartition(':')[2]}"
    game = config.OwnGame(resolved, _digest(file))
    own_game(game)  # what is no game is refused before a run begins
    return replace(start.with_stage(replace(start.stage, game=game)), preset=file.stem)


def own_game(spec: config.OwnGame) -> Game:
    """The game that a config names.

    Raises:
        RunError: its file has changed since the run began.
        UsageError: what is there is no game.
    """
    digest = _digest(_file(spec.place))
    if spec.digest != digest:
        raise RunError(
            f"{spec.place} has changed since the run began (digest {spec.digest[:12]} then, "
            f"{digest[:12]} now); bring the old file back or begin a new run"
        )
    found = _load(spec.place)
    game = found if isinstance(found, Game) and not isinstance(found, type) else _made(spec, found)
    if not isinstance(game, Game):
        raise UsageError(
            f"{spec.place} is {type(game).__name__}, which has no phases(); give a game, or "
            "a function that makes one"
        )
    return game


def _made(spec: config.OwnGame, found: object) -> object:
    if not callable(found):
        return found
    try:
        return found()
    except TypeError as error:
        raise UsageError(
            f"{spec.place} cannot be called without arguments ({error}); give a function that "
            "makes the game"
        ) from None


def _file(place: str) -> Path:
    match = _PLACE.fullmatch(place)
    file = Path(match["file"]).expanduser() if match else Path()
    if match is None or not file.is_file():
        raise UsageError(f"there is no file {file} for the game {place!r}; give FILE.py:NAME")
    return file


def _load(place: str) -> object:
    """What a file has under a name, the file run anew."""
    file, name = _file(place), place.rpartition(":")[2]
    spec = importlib.util.spec_from_file_location(f"own_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UsageError(
            f"{file} cannot be run ({type(error).__name__}: {error}); mend it, or try it with "
            f"`python {file}`"
        ) from error
    if not hasattr(module, name):
        known = sorted(n for n in vars(module) if not n.startswith("_"))
        raise UsageError(f"{file} has nothing called {name!r}; it has {', '.join(known)}")
    return getattr(module, name)


def _digest(file: Path) -> str:
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
