"""What can be computed of a run, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

from advnets.errors import UnknownNameError, UsageError
from advnets.evaluation.classification import class_accuracy_records, classification_error_records
from advnets.evaluation.context import (
    EvaluationContext,
    Record,
    frechet_records,
    kernel_records,
    parzen_records,
    sliced_records,
)
from advnets.evaluation.encoders import elbo_records, reconstruction_records
from advnets.evaluation.inpainting import inpainting_records
from advnets.evaluation.linear_probe import nearest_neighbor_classifier_records, probe_records
from advnets.evaluation.modes import (
    inception_score_records,
    kl_jsd_records,
    mixture_records,
    mode_records,
)
from advnets.evaluation.neighbors import memorization_records, prdc_records, two_sample_records
from advnets.extractors.base import Extractor
from advnets.extractors.registry import extractor
from advnets.metrics.uncertainty import CONFIDENCE, NUM_GROUPS, student_quantile

METRICS: dict[str, Callable[[EvaluationContext], list[Record]]] = {
    "parzen": parzen_records,
    "frechet": frechet_records,
    "kernel": kernel_records,
    "sliced": sliced_records,
    "prdc": prdc_records,
    "neighbor": two_sample_records,
    "memorization": memorization_records,
    "inception": inception_score_records,
    "modes": mode_records,
    "points": mixture_records,
    "divergence": kl_jsd_records,
    "probe": probe_records,
    "one-nn": nearest_neighbor_classifier_records,
    "classes": class_accuracy_records,
    "test-error": classification_error_records,
    "reconstruction": reconstruction_records,
    "completion": inpainting_records,
    "elbo": elbo_records,
}

UNDRAWN = ("probe", "test-error", "reconstruction", "completion", "elbo")
"""Those that look at no samples."""

LOOKING = (
    "frechet",
    "kernel",
    "sliced",
    "prdc",
    "neighbor",
    "memorization",
    "inception",
    "classes",
)
"""Those that look through the extractor that is asked for."""

SAMPLED = ("parzen", *LOOKING)
"""Those that look at as many samples as are asked for: others have a number of their own."""

EXTRACTORS = {"mnist": "digits"}
"""What looks at a set unless another extractor is asked for, by the set's name; else pixels.

Only a classifier that was trained on the very pixels of a set stands here.
"""

OWN = "discriminator"
"""The extractor that is the run's own D: its features are of that run alone."""


def extractor_of(data: str, asked: str | None = None, *, trust_code: bool = False) -> Extractor:
    """The extractor that is asked for, else the one that looks at this set.

    Raises:
        UnknownNameError: none is called so.
        DataError: its file is absent, broken, or no extractor.
        UsageError: its file can run code, which is not trusted.
        MissingExtraError: it needs a library that is not installed.
    """
    return extractor(asked or EXTRACTORS.get(data, "pixels"), trust_code=trust_code)


LEAST = 10
"""Samples that every metric makes something of; fewer tell nothing."""


def check_evaluation(
    metrics: tuple[str, ...],
    *,
    extractor: str | None,
    keep_fraction: float,
    num_samples: int | None,
    probe_labels: tuple[int, ...],
    class_proportions: str,
) -> None:
    """Refuse what nobody knows, and what would be asked for in vain.

    Raises:
        UnknownNameError: a metric is called so by nobody.
        UsageError: there is none, or none that looks at what else is given.
    """
    if not metrics:
        raise UsageError("no metric was asked for; give at least one, as --metrics frechet")
    for name in metrics:
        if name not in METRICS:
            raise UnknownNameError("metric", name, METRICS)
        if keep_fraction != 1 and name in UNDRAWN:
            raise UsageError(
                f"keep is {keep_fraction}, and the metric {name} looks at no samples; leave --keep-fraction, or "
                "ask for the metric apart"
            )
        if class_proportions != "data" and name in UNDRAWN:
            raise UsageError(
                f"class proportions are {class_proportions}, and the metric {name} looks at no samples; "
                "leave --class-proportions, or ask for the metric apart"
            )
    if extractor is not None and not set(metrics) & {*LOOKING}:
        raise UsageError(
            f"extractor is {extractor}, and none of {', '.join(metrics)} looks through one; ask "
            f"for one of {', '.join(LOOKING)}, or leave --extractor out"
        )
    if num_samples is not None and not set(metrics) & {*SAMPLED}:
        raise UsageError(
            f"num is {num_samples}, and none of {', '.join(metrics)} looks at as many samples as are asked "
            f"for; ask for one of {', '.join(SAMPLED)}, or leave --num-samples out"
        )
    if num_samples is not None and num_samples < LEAST:
        raise UsageError(f"num is {num_samples}; metrics look at {LEAST} samples and more")
    if probe_labels and "probe" not in metrics:
        raise UsageError(
            f"labels are {' '.join(map(str, probe_labels))}, which the metric probe alone is given; ask "
            "for it, or leave --probe-labels out"
        )


Interval = list[float]
"""From, to: as JSON has it."""

_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
_WITH_ERROR = {
    "parzen": {"mean": "standard_error"},
    "frechet": {"value": "standard_error"},
    "kernel": {"value": "standard_error"},
    "sliced": {"value": "standard_error"},
    "modes": {"kl_uniform": "kl_uniform_error", "kl_reference": "kl_reference_error"},
    "points": {"kl": "kl_error", "jsd": "jsd_error"},
    "divergence": {"kl": "kl_error", "jsd": "jsd_error"},
    "reconstruction": {"error": "standard_error"},
    "elbo": {"elbo": "standard_error"},
}
"""Numbers beside their standard errors, of many images: normal."""
_SHARES = {
    "memorization": {"share": "n_samples"},
    "points": {"high_quality": "n"},
    "classes": {"accuracy": "n_fake"},
    "test-error": {"error": "n_test"},
    "one-nn": {"error": "n_test"},
}
"""Shares of so many images, each counted as if the others were not there."""
_OF_PARTS = {
    "prdc": {"precision": 1.0, "recall": 1.0, "density": math.inf, "coverage": 1.0},
    "neighbor": {"accuracy": 1.0},
}
"""Numbers from 0 to a largest one, beside their standard errors, which parts of the sets gave."""
_DRAWN_AGAIN = {"inception": ("mean", "splits", 0), "probe": ("accuracy", "draws", 1)}
"""Means of so many values n; beside them their standard deviation, by n or by n - 1."""


def interval(record: Record) -> dict[str, Interval]:
    """The 95 % interval of each number that has one, by its name.

    Of a number with a standard error it is normal, of a share Wilson's, of a mean or an error of
    few values Student's. It is of the samples and images drawn, not of trainings: several seeds
    are `advnets compare`'s. And it holds what as many others would give in the mean, not what
    endless ones would: distances and divergences of few images are too large.
    Source: Wilson 1927, “Probable inference, the law of succession, and statistical inference”.
    """
    metric = record["metric"]
    found = {
        name: _normal(record[name], record[error])
        for name, error in _WITH_ERROR.get(metric, {}).items()
        if record.get(name) is not None and record.get(error) is not None
    }
    for name, count in _SHARES.get(metric, {}).items():
        found[name] = _wilson(record[name], record[count])
    for name, most in _OF_PARTS.get(metric, {}).items():
        if (error := record.get(f"{name}_error")) is not None:
            low, high = _about(record[name], student_quantile(CONFIDENCE, NUM_GROUPS - 1) * error)
            found[name] = [max(low, 0.0), min(high, most)]
    if metric in _DRAWN_AGAIN:
        name, count, less = _DRAWN_AGAIN[metric]
        n, deviation = record[count], record["deviation"]
        if deviation is not None and n > 1:
            error = deviation * math.sqrt((n - less) / (n - 1) / n)
            found[name] = _about(record[name], student_quantile(CONFIDENCE, n - 1) * error)
    return found


def _normal(value: float, error: float) -> Interval:
    return _about(value, _Z * error)


def _about(value: float, reach: float) -> Interval:
    return [value - reach, value + reach]


def _wilson(share: float, n: int) -> Interval:
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    reach = math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) * _Z / (1 + _Z**2 / n)
    return _about(middle, reach)
