"""Games and configs from a file of the reader's own: FILE.py:NAME.

The code of such a file runs only where its place is typed in the very command or call, or where
`trust_code` says so: never because a run's config.json names it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from advnets import config
from advnets.errors import RunError, UsageError
from advnets.files import shell_quote
from advnets.protocols import Game

_PLACE = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")


def is_game_spec(text: str) -> bool:
    """Whether a text reads FILE.py:NAME."""
    return _PLACE.fullmatch(text) is not None


def config_from_file(place: str, start: config.Config) -> config.Config:
    """The config that stands at a place, or the starting one playing the game that stands there.

    Runs the file: only for a place that was typed.

    Raises:
        UsageError: the file is not there or cannot be run; it has nothing of that name.
    """
    file, name = _parts(place)
    content = _content(file, place)
    found = _load(file, name, content)
    if isinstance(found, config.Config):
        return found
    game = config.CustomGame(f"{file.resolve()}:{name}", _digest(content))
    load_game(game, trust_code=True)  # what is no game is refused before a run begins
    return replace(start.with_stage(replace(start.stage, game=game)), preset=file.stem)


def load_game(spec: config.CustomGame, *, trust_code: bool) -> Game:
    """The game that a config names; runs its file if the code is trusted.

    Raises:
        RunError: the code is not trusted; its file has changed since the run began.
        UsageError: what is there is no game.
    """
    if not trust_code:
        raise is_untrusted(spec)
    file, name = _parts(spec.source)
    content = _content(file, spec.source)
    if spec.digest != (digest := _digest(content)):
        raise RunError(
            f"{spec.source} has changed since the run began (digest {spec.digest[:12]} then, "
            f"{digest[:12]} now); bring the old file back or begin a new run"
        )
    found = _load(file, name, content)
    game = found if isinstance(found, Game) and not isinstance(found, type) else _made(spec, found)
    if not isinstance(game, Game):
        raise UsageError(
            f"{spec.source} is {type(game).__name__}, which has no phases(); give a game, or "
            "a function that makes one"
        )
    return game


def check_trusted(run: config.Config, *, trust_code: bool) -> None:
    """Refuse a config that would run a file's code, unless that code is trusted.

    Raises:
        RunError: a game of the config is a file's, and `trust_code` is False.
    """
    if not trust_code and (games := custom_games(run)):
        raise is_untrusted(games[0])


def is_untrusted(spec: config.CustomGame) -> RunError:
    """The error that names a file whose code nobody asked to run."""
    return RunError(
        f"the config plays a game of {spec.source!r}, whose Python code would run, and this "
        "command does not name it; read that file, then type its FILE.py:NAME in the place of "
        "PRESET, or add --trust-code (in Python, trust_code=True)"
    )


def custom_games(run: config.Config) -> list[config.CustomGame]:
    """The games of a config that are in files, one a stage."""
    return [stage.game for stage in run.stages if isinstance(stage.game, config.CustomGame)]


def with_files_of(stored: config.Config, games: Sequence[config.CustomGame]) -> config.Config:
    """Return a config that takes its games from other files, where their name and content agree."""
    known = {_identity(game): game for game in games}

    def placed(game: config.GameConfig) -> config.GameConfig:
        return known.get(_identity(game), game) if isinstance(game, config.CustomGame) else game

    stages = tuple(replace(stage, game=placed(stage.game)) for stage in stored.stages)
    return replace(stored, stages=stages)


def _identity(game: config.CustomGame) -> tuple[str, str]:
    return game.source.rpartition(":")[2], game.digest


def _made(spec: config.CustomGame, found: object) -> object:
    if not callable(found):
        return found
    try:
        return found()
    except TypeError as error:
        raise UsageError(
            f"{spec.source} cannot be called without arguments ({error}); give a function that "
            "makes the game"
        ) from None


def _parts(place: str) -> tuple[Path, str]:
    match = _PLACE.fullmatch(place)
    if match is None:
        raise UsageError(f"{place!r} is no place of a game; give FILE.py:NAME")
    return Path(match["file"]).expanduser(), match["name"]


def _content(file: Path, place: str) -> bytes:
    try:
        if file.is_file():
            return file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read for the game {place!r} ({error.strerror}); give FILE.py:NAME"
        ) from None
    raise UsageError(f"there is no file {file} for the game {place!r}; give FILE.py:NAME")


def _load(file: Path, name: str, content: bytes) -> object:
    """Run a file anew and return what it has under a name.

    The bytes whose digest is known are compiled: importing the file could run a `__pycache__`
    beside it instead.
    """
    module = ModuleType(f"own_{file.stem}")
    module.__file__ = str(file)
    try:
        exec(compile(content, file, "exec", dont_inherit=True), vars(module))
    except Exception as error:
        raise UsageError(
            f"{file} cannot be run ({type(error).__name__}: {error}); mend it, or try it with "
            f"`python {shell_quote(file)}`"
        ) from error
    if not hasattr(module, name):
        known = sorted(n for n in vars(module) if not n.startswith("_"))
        raise UsageError(f"{file} has nothing called {name!r}; it has {', '.join(known)}")
    return getattr(module, name)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
