"""Custom games and configs from a Python file of the user, given as FILE.py:NAME."""

from __future__ import annotations

from dataclasses import replace

from advnets import config
from advnets.custom_code import CustomCode, untrusted_code_error
from advnets.errors import RunError, UsageError
from advnets.protocols import Game


def config_from_file(spec: str, start: config.Config) -> config.Config:
    """Return the config of that name in a file, or `start` with the game of that name.

    This runs the file, and is therefore only for a spec that the user has given.

    Raises:
        UsageError: the file does not exist or fails, or has nothing of that name.
    """
    code = CustomCode.read(spec)
    value = code.run()
    if isinstance(value, config.Config):
        return value
    game = config.CustomGame(code.source, code.digest)
    load_game(game, trust_code=True)  # reject anything but a game before the run starts
    return replace(start.with_stage(replace(start.stage, game=game)), preset=code.file.stem)


def load_game(spec: config.CustomGame, *, trust_code: bool) -> Game:
    """Run the file that a config names, if its code is trusted, and return the game.

    Raises:
        RunError: the code is not trusted, or the file has changed since the run started.
        UsageError: the value of that name is not a game.
    """
    if not trust_code:
        raise _untrusted_game_error(spec)
    code = CustomCode.read(spec.source)
    code.check_digest(spec.digest)
    value = code.run()
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
        raise _untrusted_game_error(games[0])


def _untrusted_game_error(spec: config.CustomGame) -> RunError:
    remedy = "give its FILE.py:NAME in place of PRESET, or "
    return untrusted_code_error("game", spec.source, remedy)


def custom_games(run: config.Config) -> list[config.CustomGame]:
    """Return the custom games of a config, at most one for each stage."""
    return [stage.game for stage in run.stages if isinstance(stage.game, config.CustomGame)]


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
