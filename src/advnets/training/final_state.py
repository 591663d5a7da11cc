"""Checks of the final state of training: finite, bounded, and changed from the initial one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

ADVICE = "start a new run with a lower learning rate or smaller initial weights"
"""Advice after a divergence."""

WEIGHT_GROWTH = 1e6
"""Limit of the absolute weights at the end, in units of the largest initial one (at least 1)."""


@dataclass(frozen=True)
class Problem:
    """The reason why the final state of training is not usable."""

    reason: Literal["diverged", "had no effect"]
    detail: str
    """One clause that gives numbers, and what to do."""

    def __str__(self) -> str:
        return f"the training {self.reason}: {self.detail}"


@dataclass(frozen=True)
class InitialWeights:
    """A summary of the players' weights before the first step, to compare the final ones with."""

    digests: Mapping[str, bytes]
    """By player."""
    largest: float
    """The largest absolute weight of all players."""

    @classmethod
    def from_players(cls, players: Mapping[str, nn.Module]) -> InitialWeights:
        """Return the summary of untrained players."""
        digests = {name: _digest(player.parameters()) for name, player in players.items()}
        return cls(digests, max(map(largest_weight, players.values()), default=0.0))


def training_problem(
    initial: InitialWeights,
    players: Mapping[str, nn.Module],
    losses: Mapping[str, Tensor],
    loss_limit: float,
) -> Problem | None:
    """Return why the final state of training is not usable, or None if it is.

    `losses` are the players' losses in the final state, one scalar each; an absolute value above
    `loss_limit` counts as diverged.
    """
    # Check that losses are bounded.
    for name, loss in losses.items():
        value = float(loss)
        if not abs(value) <= loss_limit:  # also true for NaN
            return _diverged(f"the loss of the {name}", value, loss_limit)
    # Check that weights are bounded.
    limit = WEIGHT_GROWTH * max(1.0, initial.largest)
    for name, player in players.items():
        largest = largest_weight(player)
        if not largest <= limit:
            return _diverged(f"the largest weight of the {name}", largest, limit)
    # Check that each player was changed; one without a loss is not trained.
    unchanged = [
        name for name in losses if _digest(players[name].parameters()) == initial.digests[name]
    ]
    if unchanged:
        return Problem(
            "had no effect",
            f"no weight of the {' and of the '.join(sorted(unchanged))} differs from its initial "
            "value; start a new run with higher learning rates",
        )
    return None


def _diverged(quantity: str, value: float, limit: float) -> Problem:
    return Problem(
        "diverged", f"{quantity} is {value:.3g}, and the limit is {limit:,.0f}; {ADVICE}"
    )


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether every floating-point number in these tensors is finite."""
    checks = [tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point()]
    return not checks or bool(torch.stack(checks).all())


def largest_weight(player: nn.Module) -> float:
    """Return the largest absolute parameter: NaN if any is NaN, 0 without parameters."""
    largest = [
        parameter.detach().abs().max() for parameter in player.parameters() if parameter.numel()
    ]
    return float(torch.stack(largest).max()) if largest else 0.0


def _digest(parameters: Iterable[Tensor]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for parameter in parameters:
        flat = parameter.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.digest()
