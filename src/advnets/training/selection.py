"""Selection of the best step by evaluations during training, and early stopping."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Event = Mapping[str, Any]


@dataclass
class Selection:
    """The best of the evaluations of a training.

    It is a function of the events, so that a resumed training selects and ends as an uninterrupted
    one does.
    """

    metric: str
    value: str
    """The field of the evaluations that is compared."""
    better: Literal["lower", "higher"]
    keep_best: bool = False
    """Whether the checkpoint of the best step is kept."""
    patience: int = 0
    """The number of evaluations without a better score at which training ends; 0: it does not."""
    best: float | None = field(default=None, init=False)
    """The best score; None: there was no evaluation with a finite one."""
    best_step: int = field(default=0, init=False)
    since_best: int = field(default=0, init=False)
    """The number of evaluations since the best one."""

    def reset(self, events: Sequence[Event], weights: str, after: int) -> None:
        """Start from the evaluations in the events of a run, of steps after `after`."""
        self.best, self.best_step, self.since_best = None, 0, 0
        for event in events_of_state(events):
            is_evaluation = event["kind"] == "evaluate" and event.get("weights") == weights
            if is_evaluation and event.get("step", 0) > after:
                self.update(event)

    def update(self, event: Event) -> bool:
        """Take account of an evaluation; return whether it is better than all before."""
        score = event.get(self.value)
        if event.get("metric") != self.metric or not isinstance(score, (int, float)):
            return False
        sign = 1 if self.better == "higher" else -1
        # A score that is NaN is never better.
        best = -float("inf") if self.best is None else sign * self.best
        if sign * score > best:
            self.best, self.best_step, self.since_best = score, event["step"], 0
            return True
        self.since_best += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether the training ends early."""
        return 0 < self.patience <= self.since_best

    def __str__(self) -> str:
        since = f"of step {self.best_step:,}" if self.best_step else "of any step"
        return (
            f"{self.since_best} evaluations in a row have no better {self.value} of {self.metric} "
            f"than that {since}"
        )


def events_of_state(events: Sequence[Event]) -> list[Event]:
    """Return the events that led to the last state, without those that were rolled back."""
    kept: list[Event] = []
    for event in events:
        if event.get("kind") == "rollback":
            kept = [earlier for earlier in kept if earlier.get("step", 0) <= event.get("step", 0)]
        kept.append(event)
    return [event for event in kept if "kind" in event]


def best_step(events: Sequence[Event], saved: Container[int]) -> int | None:
    """Return the step of the newest evaluation marked as best whose checkpoint is among `saved`."""
    marked = [event["step"] for event in events_of_state(events) if event.get("best")]
    return next((step for step in reversed(marked) if step in saved), None)
