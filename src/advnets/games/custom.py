"""Custom games and configs from a Python file of the user, given as FILE.py:NAME."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from advnets import config
from advnets.custom_code import (
    CustomCode,
    InvalidResultError,
    describe_exception,
    describe_value,
    untrusted_code_error,
)
from advnets.errors import RunError, UsageError
from advnets.protocols import Batch, Game, Phase, PhaseOutput, Players
from advnets.rng import RNG


class CheckedGame:
    """A game with code of the user, whose phases are checked as they are computed.

    `source` is the FILE.py:NAME of the code, for messages. That each loss depends on every weight
    of its player is checked in the first update of each phase.
    """

    def __init__(self, game: Game, source: str) -> None:
        self.game = game
        self.source = source
        self.checked: set[str] = set()
        """The names of the phases that have been computed."""

    def phases(self) -> tuple[Phase, ...]:
        """Return the phases of the game, with losses that are checked.

        Raises:
            InvalidResultError: the game returns anything but phases.
        """
        phases = cast(object, self.game.phases())
        items = cast(Sequence[object], phases) if isinstance(phases, tuple | list) else (phases,)
        wrong = [item for item in items if not isinstance(item, Phase)]
        if wrong or not items:
            got = describe_value(wrong[0]) if wrong else "no phase"
            raise InvalidResultError(
                f"phases() of {self.source} returned {got}, expected a tuple of Phase"
            )
        return tuple(
            replace(phase, losses=partial(self._losses, phase))
            for phase in cast(Sequence[Phase], items)
        )

    def _losses(self, phase: Phase, players: Players, batch: Batch, rng: RNG) -> PhaseOutput:
        where = f"the phase {phase.name} of {self.source}"
        try:
            output = cast(object, phase.losses(players, batch, rng))
        except SystemExit as error:
            raise InvalidResultError(f"{where} raised {describe_exception(error)}") from error

        # Check the types, then the names and shapes of losses and metrics.
        if not isinstance(output, PhaseOutput):
            raise InvalidResultError(
                f"{where} returned {describe_value(output)}, expected PhaseOutput"
            )
        for name, values in (("losses", output.losses), ("metrics", output.metrics)):
            if not isinstance(cast(object, values), Mapping):
                raise InvalidResultError(
                    f"{where} returned {describe_value(values)} as {name}, expected a mapping of "
                    "scalars"
                )
        expected = f"expected one of {' or '.join(players)}"
        for player in [name for name in output.losses if name not in players] or (
            [] if output.losses else ["no player"]
        ):
            raise InvalidResultError(f"{where} returned a loss of {player!r}, {expected}")
        for kind, values in (("loss", output.losses), ("metric", output.metrics)):
            for name, value in cast(Mapping[str, object], values).items():
                if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
                    raise InvalidResultError(
                        f"{where} returned {describe_value(value)} as the {kind} {name!r}, "
                        "expected a tensor of shape () of floats"
                    )

        # Check that the losses have gradients.
        for player, loss in output.losses.items():
            weight = None if phase.name in self.checked else _unused_weight(loss, players[player])
            if not loss.requires_grad or weight is not None:
                raise InvalidResultError(
                    f"{where} returned a loss of the {player} that does not depend on "
                    f"{weight or 'its weights'}, expected one with a gradient for each weight of "
                    f"the {player}"
                )
        self.checked.add(phase.name)
        return output


def _unused_weight(loss: Tensor, player: nn.Module) -> str | None:
    """Return the name of a weight of a player that a loss does not depend on; None: there is none.

    Return None for a loss without a gradient too.
    """
    named = dict(player.named_parameters())
    if frozen := [name for name, weight in named.items() if not weight.requires_grad]:
        return frozen[0]
    if not loss.requires_grad or not named:
        return None
    weights = tuple(named.values())
    gradients = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    found = cast(tuple[Tensor | None, ...], gradients)
    unused = (name for name, gradient in zip(named, found, strict=True) if gradient is None)
    return next(unused, None)


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
            f"{spec.source} is {describe_value(game)}, without phases(); give a game, or a "
            "function that returns one"
        )
    return CheckedGame(game, spec.source)


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
    except SystemExit as error:
        raise UsageError(
            f"{spec.source} raised {describe_exception(error)}; give a function that returns the "
            "game"
        ) from None
