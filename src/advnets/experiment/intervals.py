"""How far each number of a record may be off by chance: by the pictures that were drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

from advnets.metrics.student_t import CONFIDENCE, quantile
from advnets.metrics.subsampling import GROUPS

Record = Mapping[str, Any]
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
"""Numbers beside their standard errors, of many pictures: normal."""
_SHARES = {
    "memorisation": {"share": "n_samples"},
    "points": {"high_quality": "n"},
    "classes": {"accuracy": "n_fake"},
    "test-error": {"error": "n_test"},
    "one-nn": {"error": "n_test"},
}
"""Shares of so many pictures, each counted as if the others were not there."""
_OF_PARTS = {
    "prdc": {"precision": 1.0, "recall": 1.0, "density": math.inf, "coverage": 1.0},
    "neighbour": {"accuracy": 1.0},
}
"""Numbers from 0 to a largest one, beside their standard errors, which parts of the sets gave."""
_DRAWN_AGAIN = {"inception": ("mean", "splits", 0), "probe": ("accuracy", "draws", 1)}
"""Means of so many values n; beside them their standard deviation, by n or by n - 1."""


def interval(record: Record) -> dict[str, Interval]:
    """The 95 % interval of each number that has one, by its name.

    Of a number with a standard error it is normal, of a share Wilson's, of a mean or an error of
    few values Student's. It is of the samples and pictures drawn, not of trainings: several seeds
    are `advnets compare`'s. And it holds what as many others would give in the mean, not what
    endless ones would: distances and divergences of few pictures are too large.
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
            low, high = _about(record[name], quantile(CONFIDENCE, GROUPS - 1) * error)
            found[name] = [max(low, 0.0), min(high, most)]
    if metric in _DRAWN_AGAIN:
        name, count, less = _DRAWN_AGAIN[metric]
        n, deviation = record[count], record["deviation"]
        if deviation is not None and n > 1:
            error = deviation * math.sqrt((n - less) / (n - 1) / n)
            found[name] = _about(record[name], quantile(CONFIDENCE, n - 1) * error)
    return found


def _normal(value: float, error: float) -> Interval:
    return _about(value, _Z * error)


def _about(value: float, reach: float) -> Interval:
    return [value - reach, value + reach]


def _wilson(share: float, n: int) -> Interval:
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    reach = math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) * _Z / (1 + _Z**2 / n)
    return _about(middle, reach)
