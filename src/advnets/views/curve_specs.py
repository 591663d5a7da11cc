"""What ticks show of a game whose D tells what is real: its verdicts, and V with its optimum."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Watched:
    """By which names ticks have it, how it is written, and what it is at the optimum."""

    title: str
    unit: str
    verdicts: Mapping[str, str]
    """Name in a tick to symbol: probabilities, each 1/2 at the optimum."""
    labels: Sequence[str]
    """Of their curves."""
    value: str
    """V's name in a tick …"""
    formula: str
    """… and what it is."""
    best: float
    best_in_words: tuple[str, str]
    """The same, short, and for a reader who hears the page."""
    at_the_optimum: str

    @property
    def symbols(self) -> dict[str, str]:
        """Name in a tick to symbol, of the verdicts and of V."""
        return {**self.verdicts, self.value: "V"}

    @property
    def alternative(self) -> str:
        """The curves in words."""
        what = " and ".join(self.verdicts.values())
        return (
            f"{what} with the line one half; {self.formula} with the line {self.best_in_words[1]}"
        )


ONE_BY_ONE = Watched(
    title="Verdict of D",
    unit="probability of real",
    verdicts={"d_real": "D(x)", "d_fake": "D(G(z))"},
    labels=("real, D(x)", "samples, D(G(z))"),
    value="value",
    formula="V(D, G)",
    best=-math.log(4),
    best_in_words=("−log 4", "minus log 4"),
    at_the_optimum="D(x) = D(G(z)) = 1/2 and V(D, G) = −log\N{NO-BREAK SPACE}4",
)
PAIRS = Watched(
    title="Verdict of D on pairs",
    unit="probability of real",
    verdicts={"d_pair": "D(x, G(z))"},
    labels=("D(x, G(z))",),
    value="value_pair",
    formula="E log D(x, G(z))",
    best=-math.log(2),
    best_in_words=("−log 2", "minus log 2"),
    at_the_optimum="D(x, G(z)) = 1/2, whose logarithm is −log\N{NO-BREAK SPACE}2",
)


def watched(ticks: Sequence[Mapping[str, Any]]) -> Watched | None:
    """Which of these ticks show, the newest first; None of a game that observes other things."""
    for tick in reversed(ticks):
        for some in (ONE_BY_ONE, PAIRS):
            if some.symbols.keys() & tick.keys():
                return some
    return None
