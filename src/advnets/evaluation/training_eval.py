"""The metric of a training curve, computed every `eval_every` steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from torch import nn

from advnets import config
from advnets.data.prepared import PreparedData
from advnets.errors import UnknownNameError, UsageError
from advnets.evaluation.context import EvaluationContext
from advnets.evaluation.registry import (
    METRICS,
    default_extractor,
    find_metric,
    record_intervals,
)
from advnets.evaluation.spec import MetricSpec
from advnets.metrics.parzen import ParzenScore
from advnets.sampling.sampler import (
    NUM_SAMPLES,
    ComputeSettings,
    parzen_score_on_data,
    parzen_score_on_splits,
)
from advnets.training.selection import Selection

MAX_IMAGES = 1_000
"""The largest number of samples of an evaluation by default, where --eval-every is not given."""
_NOT_IN_EVENTS = {
    *("samples", "weights", "keep_fraction", "step"),
    *("data", "data_digest", "images", "versions"),
}
"""Fields of a record that config.json or the event itself has."""


def eval_metric(intervals: config.Intervals) -> MetricSpec:
    """Return the metric that --eval-metric names, or else --keep-best; by default parzen.

    Raises:
        UnknownNameError: there is no such metric, or it cannot be computed in training.
    """
    suitable = [name for name, spec in METRICS.items() if spec.curve is not None]
    name = intervals.eval_metric or metric_to_keep_by(intervals) or "parzen"
    spec = find_metric(name)
    if spec is None or spec.name not in suitable:
        aliases = [alias for metric in suitable for alias in METRICS[metric].aliases]
        raise UnknownNameError("metric of a training curve", name, suitable, aliases)
    return spec


def metric_to_keep_by(intervals: config.Intervals) -> str | None:
    """Return the metric that --keep-best names, or of which alone it names a value, if any."""
    score = intervals.keep_best or ""
    if spec := find_metric(score):
        return spec.name
    owners = _metrics_with(score)
    return owners[0] if len(owners) == 1 else None


def _metrics_with(score: str) -> list[str]:
    """Return the metrics of training curves of which a score is the name or a value."""
    return [
        name
        for name, spec in METRICS.items()
        if spec.curve is not None
        if score.lower() in (spec.name, *spec.aliases) or score in spec.values
    ]


def check_keep_best(intervals: config.Intervals) -> None:
    """Check that --keep-best is a score of any metric of training curves.

    Raises:
        UnknownNameError: it is not.
    """
    score = intervals.keep_best
    if score is None or find_metric(score) or _metrics_with(score):
        return
    curves = {name: spec for name, spec in METRICS.items() if spec.curve is not None}
    aliases = [alias for spec in curves.values() for alias in (*spec.aliases, *spec.values)]
    raise UnknownNameError("metric of a training curve or value of one", score, curves, aliases)


def num_images(data: PreparedData) -> int:
    """Return the number of samples of an evaluation by default, and of test images; 0: none."""
    return min(MAX_IMAGES, len(data.dataset.test or ()))


def selection(intervals: config.Intervals) -> Selection | None:
    """Return the selection of the best step that --keep-best and --patience request, if any.

    Raises:
        UnknownNameError: --keep-best is no score of --eval-metric that has a direction.
        UsageError: it is a score of another metric.
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
    others = [metric for metric in _metrics_with(name) if metric != spec.name]
    if better is None and others:
        raise UsageError(
            f"keep_best is {name}, but the evaluations are by {spec.name}, which has no such "
            f"score; set eval_metric to {' or '.join(others)}"
        )
    if better is None:
        known = [spec.name, *directions]
        raise UnknownNameError(f"score of the metric {spec.name}", name, known)
    return Selection(spec.name, name, better, bool(intervals.keep_best), intervals.patience)


@dataclass
class TrainingEvaluator:
    """The evaluation of a generator by the metric of the training curve.

    The features of test images are computed once. Without --eval-every it is cheap: of fewer
    samples and test images.
    """

    data: PreparedData
    run: config.Config
    intervals: config.Intervals
    """Those of the run, with the metric."""
    compute_settings: ComputeSettings

    @property
    def spec(self) -> MetricSpec:
        """The metric."""
        return eval_metric(self.intervals)

    @cached_property
    def context(self) -> EvaluationContext:
        """The input of the metric, without the generator."""
        data, conditional = self.data, self.run.stage.game.conditional
        cheap = self.run.intervals.eval_every is None and data.dataset.distribution is None
        return EvaluationContext(
            players={},
            data=data,
            seed=self.run.seed,
            step=0,
            weights="",
            compute_settings=self.compute_settings,
            extractor=default_extractor(data.info.name),
            class_proportions=data.info.class_proportions() if conditional else None,
            num_samples=num_images(data) if cheap else NUM_SAMPLES,
            max_test_images=num_images(data) if cheap else None,
            include_real=False,
        )

    def __call__(self, generator: nn.Module) -> dict[str, Any]:
        """Return the event of a generator's score.

        Where the metric has several records of the same samples, the event is the last of them,
        which has the most samples.
        """
        context = replace(self.context, players={"generator": generator})
        if self.spec.name == "parzen":
            return _parzen_event(context)
        if self.spec.uses_extractor:
            vars(context)["test_features"] = self.context.test_features
        record = self.spec.compute(context)[-1]
        return {key: value for key, value in record.items() if key not in _NOT_IN_EVENTS}


def _parzen_event(context: EvaluationContext) -> dict[str, Any]:
    """Return the event of the Parzen log-likelihood, σ from the paper's grid.

    Where several folds of a file have the same training images, `folds` has the score of each.
    """
    data, samples = context.data, context.samples(context.num_samples)
    own_fold, splits_by_fold = data.dataset.fold, data.dataset.evaluation_folds
    folds = {
        fold: parzen_score_on_splits(samples, splits.valid, splits.test, "paper")
        for fold, splits in splits_by_fold.items()
    }
    score = folds[own_fold] if own_fold in folds else parzen_score_on_data(samples, data, "paper")
    event: dict[str, Any] = {"metric": "parzen", "seed": context.seed, **_summary(score)}
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
