"""Plain bounds on the state in which a training ends: finite, moved, and not run away."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

ADVICE = "begin a new run with a lower learning rate or smaller initial weights"

WEIGHT_GROWTH = 1e6
"""Largest absolute weight at the end, in units of the largest initial one or of 1."""


@dataclass(frozen=True)
class Problem:
    """Why the last state of a training is not usable."""

    reason: Literal["diverged", "learned nothing"]
    detail: str
    """One clause, and what to do."""

    def __str__(self) -> str:
        return f"the training {self.reason}: {self.detail}"


@dataclass(frozen=True)
class InitialWeights:
    """Facts on the players' weights before the first step, to compare the last ones with."""

    digests: Mapping[str, bytes]
    largest: float

    @classmethod
    def of(cls, players: Mapping[str, nn.Module]) -> InitialWeights:
        """Return the facts of players that have not moved yet."""
        digests = {name: _digest(player.parameters()) for name, player in players.items()}
        return cls(digests, max(map(largest_weight, players.values()), default=0.0))


def training_problem(
    initial: InitialWeights,
    players: Mapping[str, nn.Module],
    losses: Mapping[str, Tensor],
    loss_limit: float,
) -> Problem | None:
    """Return why the last state of a training is not usable; None: it is within the bounds.

    `losses` are the players' losses in the last state, one scalar each, and `loss_limit` is the
    absolute value beyond which one has run away.
    """
    for name, loss in losses.items():
        value = float(loss)
        if not abs(value) <= loss_limit:  # NaN too
            return _diverged(f"the loss of the {name}", value, loss_limit)
    limit = WEIGHT_GROWTH * max(1.0, initial.largest)
    for name, player in players.items():
        largest = largest_weight(player)
        if not largest <= limit:
            return _diverged(f"the largest weight of the {name}", largest, limit)
    # A player without a loss is not trained.
    unmoved = [
        name for name in losses if _digest(players[name].parameters()) == initial.digests[name]
    ]
    if unmoved:
        return Problem(
            "learned nothing",
            f"no weight of the {' and of the '.join(sorted(unmoved))} differs from its initial "
            "value; begin a new run with higher learning rates",
        )
    return None


def _diverged(what: str, value: float, limit: float) -> Problem:
    return Problem("diverged", f"{what} is {value:.3g}, and the limit is {limit:,.0f}; {ADVICE}")


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether every floating-point number in these tensors is finite."""
    found = [tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point()]
    return not found or bool(torch.stack(found).all())


def largest_weight(player: nn.Module) -> float:
    """Return the largest absolute parameter, NaN where there is one; 0 without parameters."""
    found = [
        parameter.detach().abs().max() for parameter in player.parameters() if parameter.numel()
    ]
    return float(torch.stack(found).max()) if found else 0.0


def _digest(parameters: Iterable[Tensor]) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for parameter in parameters:
        flat = parameter.detach().cpu().contiguous().reshape(-1)
        found.update(flat.view(torch.uint8).numpy().data)
    return found.digest()
