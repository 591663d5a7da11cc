"""Selection of the best step by evaluations during training, and early stopping."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Event = Mapping[str, Any]


@dataclass
class Selection:
    """The best evaluation of a training so far, and the number of evaluations since.

    It depends on the events only, so that a resumed training selects the same step and ends at the
    same step as an uninterrupted one.
    """

    metric: str
    value: str
    """The field of the evaluations that is compared, such as `modes_found`."""
    better: Literal["lower", "higher"]
    keep_best: bool = False
    """Whether the checkpoint of the best step is kept."""
    patience: int = 0
    """The number of evaluations without a better score after which training ends; 0: never."""
    best: float | None = field(default=None, init=False)
    """The best score; None: no evaluation had a finite score."""
    best_step: int = field(default=0, init=False)
    since_best: int = field(default=0, init=False)
    """The number of evaluations since the best one."""

    def reset(self, events: Sequence[Event], weights: str, after: int) -> None:
        """Restore the state from the events of a run, of evaluations after the step `after`."""
        self.best, self.best_step, self.since_best = None, 0, 0
        for event in events_of_state(events):
            is_evaluation = event["kind"] == "evaluate" and event.get("weights") == weights
            if is_evaluation and event.get("step", 0) > after:
                self.update(event)

    def update(self, event: Event) -> bool:
        """Add an evaluation; return whether it is the best so far."""
        score = event.get(self.value)
        if event.get("metric") != self.metric or not isinstance(score, (int, float)):
            return False
        sign = 1 if self.better == "higher" else -1
        # NaN is never better.
        best = -float("inf") if self.best is None else sign * self.best
        if sign * score > best:
            self.best, self.best_step, self.since_best = score, event["step"], 0
            return True
        self.since_best += 1
        return False

    @property
    def patience_exhausted(self) -> bool:
        """Whether the training ends early."""
        return 0 < self.patience <= self.since_best

    def __str__(self) -> str:
        since = f"of step {self.best_step:,}" if self.best_step else "of any step"
        return (
            f"{self.since_best} evaluations in a row have no better {self.value} of {self.metric} "
            f"than that {since}"
        )


def events_of_state(events: Sequence[Event]) -> list[Event]:
    """Return the events of the steps that led to the last state, without rolled-back ones."""
    kept: list[Event] = []
    for event in events:
        if event.get("kind") == "rollback":
            kept = [earlier for earlier in kept if earlier.get("step", 0) <= event.get("step", 0)]
        kept.append(event)
    return [event for event in kept if "kind" in event]


def best_step(events: Sequence[Event], saved: Container[int]) -> int | None:
    """Return the newest step that was evaluated as the best and whose checkpoint is `saved`."""
    marked = [event["step"] for event in events_of_state(events) if event.get("best")]
    return next((step for step in reversed(marked) if step in saved), None)
