"""Scores while training goes on: what the curve of a run is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from advnets import config
from advnets.experiment.class_shares import ClassShares
from advnets.experiment.intervals import interval
from advnets.experiment.metrics import METRICS, extractor_of
from advnets.experiment.modes import distribution_of, mixture_of, mode_judge
from advnets.experiment.sampler import SAMPLES, Drawing, draw_samples, held_out, parzen, parzen_by
from advnets.experiment.scores import Subject, test_part
from advnets.experiment.setup import PreparedData
from advnets.metrics.parzen import ParzenScore

_NEEDS: dict[str, Callable[[PreparedData], object]] = {
    "parzen": held_out,
    "frechet": test_part,
    "modes": mode_judge,
    "points": mixture_of,
    "divergence": distribution_of,
}
"""What each score asks of the data."""
_SAID = {
    *("samples", "weights", "keep", "step"),
    *("data", "data_digest", "pictures", "versions"),
}
"""Of a record: what config.json says anyway, or the event itself."""


def check_score(ticks: config.Ticks, data: PreparedData) -> None:
    """See before training begins that the score on the way can be had.

    Raises:
        DataError: the data lacks what it needs.
    """
    if ticks.evaluate:
        _NEEDS[ticks.score](data)


def score_on_the_way(
    generator: nn.Module, data: PreparedData, run: config.Config, drawing: Drawing
) -> dict[str, Any]:
    """What the metric `ticks.score` finds of a generator, as an event.

    Of a metric with several records of the same samples it is the last, that of the most of them.
    """
    shares = data.facts.class_shares() if run.stage.game.conditional else None
    if run.ticks.score == "parzen":
        return _parzen(generator, data, run.seed, drawing, shares)
    subject = Subject(
        players={"generator": generator},
        data=data,
        seed=run.seed,
        step=0,
        weights="",
        drawing=drawing,
        extractor=extractor_of(data.facts.name),
        class_shares=shares,
        beside=False,
    )
    record = METRICS[run.ticks.score](subject)[-1]
    said = {key: found for key, found in record.items() if key not in _SAID}
    return {**said, "interval": interval(record)}


def _parzen(
    generator: nn.Module,
    data: PreparedData,
    seed: int,
    drawing: Drawing,
    shares: ClassShares | None,
) -> dict[str, Any]:
    """The Parzen log-likelihood on the paper's grid.

    Where several folds of a file share these training pictures, it is in `folds` for each of them.
    """
    samples = draw_samples(generator, data.scaling, SAMPLES, seed, drawing, shares)
    own, served = data.splits.fold, data.splits.served
    folds = {n: parzen_by(samples, held.valid, held.test, "paper") for n, held in served.items()}
    score = folds[own] if own in folds else parzen(samples, data, "paper")
    event: dict[str, Any] = {"metric": "parzen", "seed": seed, **_briefly(score)}
    event["interval"] = interval(event)
    if folds:
        event["folds"] = [{"fold": n, **_briefly(score)} for n, score in folds.items()]
    return event


def _briefly(score: ParzenScore) -> dict[str, float]:
    return {
        "mean": score.mean,
        "valid_mean": score.valid_mean,
        "standard_error": score.standard_error,
        "sigma": score.sigma,
    }
