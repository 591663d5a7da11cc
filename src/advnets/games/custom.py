"""Custom games and configs from a Python file of the user, given as FILE.py:NAME.

The file is run only if the command or call names it, or with `trust_code`: never because the
config.json of a run names it.
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

_SPEC = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")


def config_from_file(spec: str, start: config.Config) -> config.Config:
    """Return the config of that name in a file, or `start` with the game of that name.

    This runs the file, and is therefore only for a spec that the user has given.

    Raises:
        UsageError: the file does not exist or fails, or has nothing of that name.
    """
    file, name = _split_spec(spec)
    content = _read_content(file, spec)
    value = _load(file, name, content)
    if isinstance(value, config.Config):
        return value
    game = config.CustomGame(f"{file.resolve()}:{name}", _digest(content))
    load_game(game, trust_code=True)  # reject anything but a game before the run starts
    return replace(start.with_stage(replace(start.stage, game=game)), preset=file.stem)


def load_game(spec: config.CustomGame, *, trust_code: bool) -> Game:
    """Run the file that a config names, if its code is trusted, and return the game.

    Raises:
        RunError: the code is not trusted, or the file has changed since the run started.
        UsageError: the value of that name is not a game.
    """
    if not trust_code:
        raise untrusted_code_error(spec)
    file, name = _split_spec(spec.source)
    content = _read_content(file, spec.source)
    if spec.digest != (digest := _digest(content)):
        raise RunError(
            f"{spec.source} has changed since the run started (digest {spec.digest[:12]} then, "
            f"{digest[:12]} now); restore the old file, or start a new run"
        )
    value = _load(file, name, content)
    game = (
        value
        if isinstance(value, Game) and not isinstance(value, type)
        else _call_if_function(spec, value)
    )
    if not isinstance(game, Game):
        raise UsageError(
            f"{spec.source} is a {type(game).__name__} without phases(); give a game, or a "
            "function that returns one"
        )
    return game


def check_trusted(run: config.Config, *, trust_code: bool) -> None:
    """Reject a config with a custom game, as its code would run, unless the code is trusted.

    Raises:
        RunError: the config has a custom game, and `trust_code` is False.
    """
    if not trust_code and (games := custom_games(run)):
        raise untrusted_code_error(games[0])


def untrusted_code_error(spec: config.CustomGame) -> RunError:
    """Return the error for a file that the command does not name."""
    return RunError(
        f"the config uses the custom game {spec.source!r}, whose Python code would run, but the "
        "command does not name it; read that file, then give its FILE.py:NAME in place of PRESET, "
        "or add --trust-code (in Python, trust_code=True)"
    )


def custom_games(run: config.Config) -> list[config.CustomGame]:
    """Return the custom games of a config, at most one for each stage."""
    return [stage.game for stage in run.stages if isinstance(stage.game, config.CustomGame)]


def update_game_paths(stored: config.Config, games: Sequence[config.CustomGame]) -> config.Config:
    """Return a config with the paths of these games, matched by name and content."""
    by_identity = {_identity(game): game for game in games}

    def updated(game: config.GameConfig) -> config.GameConfig:
        if isinstance(game, config.CustomGame):
            return by_identity.get(_identity(game), game)
        return game

    stages = tuple(replace(stage, game=updated(stage.game)) for stage in stored.stages)
    return replace(stored, stages=stages)


def _identity(game: config.CustomGame) -> tuple[str, str]:
    return game.source.rpartition(":")[2], game.digest


def _call_if_function(spec: config.CustomGame, value: object) -> object:
    """Return the result of a function without arguments; return any other value unchanged."""
    if not callable(value):
        return value
    try:
        return value()
    except TypeError as error:
        raise UsageError(
            f"{spec.source} cannot be called without arguments ({error}); give a function that "
            "returns the game"
        ) from None


def _split_spec(spec: str) -> tuple[Path, str]:
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UsageError(f"{spec!r} does not name a custom game; give FILE.py:NAME")
    return Path(match["file"]).expanduser(), match["name"]


def _read_content(file: Path, spec: str) -> bytes:
    try:
        if file.is_file():
            return file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{file} of the game {spec!r} cannot be read ({error.strerror}); give FILE.py:NAME"
        ) from None
    raise UsageError(f"the file {file} of the game {spec!r} does not exist; give FILE.py:NAME")


def _load(file: Path, name: str, content: bytes) -> object:
    """Run the content of a file and return its global variable of this name.

    The content that was checked is compiled, as an import could run a cached file instead.
    """
    module = ModuleType(f"own_{file.stem}")
    module.__file__ = str(file)
    try:
        exec(compile(content, file, "exec", dont_inherit=True), vars(module))
    except Exception as error:
        raise UsageError(
            f"{file} failed ({type(error).__name__}: {error}); fix it, and test it with "
            f"`python {shell_quote(file)}`"
        ) from error
    if not hasattr(module, name):
        names = sorted(n for n in vars(module) if not n.startswith("_"))
        raise UsageError(f"{file} does not define {name!r}; it defines {', '.join(names)}")
    return getattr(module, name)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
