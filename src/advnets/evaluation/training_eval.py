"""Scores while training goes on: what the curve of a run is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from advnets import config
from advnets.data.class_proportions import ClassProportions
from advnets.data.prepared import PreparedData
from advnets.evaluation.context import EvaluationContext, require_test_split
from advnets.evaluation.modes import mode_classifier, require_distribution, require_mixture
from advnets.evaluation.registry import METRICS, extractor_of, interval
from advnets.metrics.parzen import ParzenScore
from advnets.sampling.sampler import (
    NUM_SAMPLES,
    ComputeSettings,
    draw_samples,
    parzen_scores,
    require_held_out,
    score_parzen,
)

_NEEDS: dict[str, Callable[[PreparedData], object]] = {
    "parzen": require_held_out,
    "frechet": require_test_split,
    "modes": mode_classifier,
    "points": require_mixture,
    "divergence": require_distribution,
}
"""What each score asks of the data."""
_SAID = {
    *("samples", "weights", "keep", "step"),
    *("data", "data_digest", "images", "versions"),
}
"""Of a record: what config.json says anyway, or the event itself."""


def check_eval_metric(ticks: config.Intervals, data: PreparedData) -> None:
    """See before training begins that the score on the way can be had.

    Raises:
        DataError: the data lacks what it needs.
    """
    if ticks.eval_every:
        _NEEDS[ticks.eval_metric](data)


def evaluate_during_training(
    generator: nn.Module, data: PreparedData, run: config.Config, drawing: ComputeSettings
) -> dict[str, Any]:
    """What the metric `ticks.score` finds of a generator, as an event.

    Of a metric with several records of the same samples it is the last, that of the most of them.
    """
    shares = data.info.class_proportions() if run.stage.game.conditional else None
    if run.intervals.eval_metric == "parzen":
        return _parzen(generator, data, run.seed, drawing, shares)
    subject = EvaluationContext(
        players={"generator": generator},
        data=data,
        seed=run.seed,
        step=0,
        weights="",
        compute_settings=drawing,
        extractor=extractor_of(data.info.name),
        class_proportions=shares,
        include_real=False,
    )
    record = METRICS[run.intervals.eval_metric](subject)[-1]
    said = {key: found for key, found in record.items() if key not in _SAID}
    return {**said, "interval": interval(record)}


def _parzen(
    generator: nn.Module,
    data: PreparedData,
    seed: int,
    drawing: ComputeSettings,
    shares: ClassProportions | None,
) -> dict[str, Any]:
    """The Parzen log-likelihood on the paper's grid.

    Where several folds of a file share these training images, it is in `folds` for each of them.
    """
    samples = draw_samples(generator, data.normalizer, NUM_SAMPLES, seed, drawing, shares)
    own, served = data.dataset.fold, data.dataset.evaluation_folds
    folds = {
        n: parzen_scores(samples, held.valid, held.test, "paper") for n, held in served.items()
    }
    score = folds[own] if own in folds else score_parzen(samples, data, "paper")
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
