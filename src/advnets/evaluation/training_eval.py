"""The metric of a training curve, computed every `eval_every` steps."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from advnets import config
from advnets.data.class_proportions import ClassProportions
from advnets.data.prepared import PreparedData
from advnets.errors import UnknownNameError
from advnets.evaluation.context import EvaluationContext
from advnets.evaluation.registry import (
    METRICS,
    default_extractor,
    record_intervals,
    resolve_metrics,
)
from advnets.evaluation.spec import MetricSpec
from advnets.metrics.parzen import ParzenScore
from advnets.sampling.sampler import (
    NUM_SAMPLES,
    ComputeSettings,
    draw_samples,
    parzen_score_on_data,
    parzen_score_on_splits,
)
from advnets.training.selection import Selection

_NOT_IN_EVENTS = {
    *("samples", "weights", "keep_fraction", "step"),
    *("data", "data_digest", "images", "versions"),
}
"""Fields of a record that config.json or the event itself has."""


def eval_metric(intervals: config.Intervals) -> MetricSpec:
    """Return the metric that --eval-metric names.

    Raises:
        UnknownNameError: there is no such metric, or it cannot be computed in training.
    """
    suitable = [name for name, spec in METRICS.items() if spec.curve is not None]
    name = intervals.eval_metric
    try:
        (resolved,) = resolve_metrics(name)
    except (UnknownNameError, ValueError):
        aliases = [alias for metric in suitable for alias in METRICS[metric].aliases]
        raise UnknownNameError("metric of a training curve", name, suitable, aliases) from None
    if resolved not in suitable:
        raise UnknownNameError("metric of a training curve", name, suitable)
    return METRICS[resolved]


def check_eval_metric(intervals: config.Intervals, data: PreparedData) -> None:
    """Check before training that the metric of its curve can be computed.

    Raises:
        UnknownNameError: there is no such metric.
        DataError: the data lacks what it needs.
    """
    spec = eval_metric(intervals)
    selection(intervals)
    if intervals.eval_every:
        spec.check_data(data)


def selection(intervals: config.Intervals) -> Selection | None:
    """Return the selection of the best step that --keep-best and --patience request, if any.

    Raises:
        UnknownNameError: --keep-best is no score of --eval-metric that has a direction.
    """
    if not (intervals.keep_best or intervals.patience):
        return None
    spec = eval_metric(intervals)
    directions: dict[str, Literal["lower", "higher"]]
    directions = {name: value.better for name, value in spec.values.items() if value.better}
    # Prefer the score of the training curve.
    curve = "" if spec.curve is None else spec.curve.value
    name = intervals.keep_best or spec.name
    if name.lower() in (spec.name, *spec.aliases):
        name = curve if curve in directions else next(iter(directions))
    better = directions.get(name)
    if better is None:
        known = [spec.name, *directions]
        raise UnknownNameError(f"score of the metric {spec.name}", name, known)
    return Selection(spec.name, name, better, bool(intervals.keep_best), intervals.patience)


def evaluate_during_training(
    generator: nn.Module,
    data: PreparedData,
    run: config.Config,
    compute_settings: ComputeSettings,
) -> dict[str, Any]:
    """Return the event of a generator's score by --eval-metric.

    Where the metric has several records of the same samples, the event is the last of them, which
    has the most samples.
    """
    spec = eval_metric(run.intervals)
    proportions = data.info.class_proportions() if run.stage.game.conditional else None
    if spec.name == "parzen":
        return _parzen_event(generator, data, run.seed, compute_settings, proportions)
    context = EvaluationContext(
        players={"generator": generator},
        data=data,
        seed=run.seed,
        step=0,
        weights="",
        compute_settings=compute_settings,
        extractor=default_extractor(data.info.name),
        class_proportions=proportions,
        include_real=False,
    )
    record = spec.records(context)[-1]
    event = {key: value for key, value in record.items() if key not in _NOT_IN_EVENTS}
    return {**event, "interval": spec.intervals(record)}


def _parzen_event(
    generator: nn.Module,
    data: PreparedData,
    seed: int,
    compute_settings: ComputeSettings,
    proportions: ClassProportions | None,
) -> dict[str, Any]:
    """Return the event of the Parzen log-likelihood, σ from the paper's grid.

    Where several folds of a file have the same training images, `folds` has the score of each.
    """
    samples = draw_samples(
        generator, data.normalizer, NUM_SAMPLES, seed, compute_settings, proportions
    )
    own_fold, splits_by_fold = data.dataset.fold, data.dataset.evaluation_folds
    folds = {
        fold: parzen_score_on_splits(samples, splits.valid, splits.test, "paper")
        for fold, splits in splits_by_fold.items()
    }
    score = folds[own_fold] if own_fold in folds else parzen_score_on_data(samples, data, "paper")
    event: dict[str, Any] = {"metric": "parzen", "seed": seed, **_summary(score)}
    event["interval"] = record_intervals(event)
    if folds:
        event["folds"] = [{"fold": fold, **_summary(score)} for fold, score in folds.items()]
    return event


def _summary(score: ParzenScore) -> dict[str, float]:
    return {
        "mean": score.mean,
        "valid_mean": score.valid_mean,
        "standard_error": score.standard_error,
        "sigma": score.sigma,
    }
