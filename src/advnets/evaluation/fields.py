"""What of a record is a number to compare, by its metric: all the rest is what it hangs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from advnets.report.score_text import VERSIONS

Record = Mapping[str, Any]
Better = Literal["less", "more"] | None
"""What a better generator has; None: neither, the real row is what to be near to."""


@dataclass(frozen=True)
class MetricSpec:
    """How records of a metric are read."""

    values: Mapping[str, Better]
    """The numbers to compare."""
    found: tuple[str, ...] = ()
    """What was found beside them: it differs as they do, and is no reason not to compare."""
    cases: tuple[str, ...] = ()
    """What one evaluation goes through: a column for each."""
    self_described: bool = False
    """Whether what is looked through is the run's own, and itself what is scored."""

    def settings(self, record: Record) -> dict[str, Any]:
        """What a record hangs on, but for what a run is free in: nothing unknown is passed over."""
        left_out = {*self.values, *self.found, *self.cases, *_FREE, *_SAID_TWICE}
        if self.self_described:
            left_out |= {"extractor", "extractor_sha256"}
        said = {key: value for key, value in record.items() if key not in left_out}
        said |= {f"{VERSIONS}{what}": of for what, of in record.get("versions", {}).items()}
        if (
            said.get("class_proportions") == "data"
        ):  # as samples of G without classes are distributed
            del said["class_proportions"]
        return {key: value for key, value in said.items() if value is not None}

    def case(self, record: Record) -> dict[str, Any]:
        """Which of the cases of one evaluation a record is."""
        return {key: record[key] for key in self.cases}


_FREE = ("metric", "samples", "weights", "keep", "seed", "step", "versions", "interval")
_SAID_TWICE = ("n", "n_samples", "n_test")  # each is n_real or n_fake

READINGS: dict[str, MetricSpec] = {
    "parzen": MetricSpec(
        {"mean": "more"},
        found=("valid_mean", "standard_error", "sigma", "sigma_on_edge"),
        cases=("grid",),
    ),
    "frechet": MetricSpec({"value": "less"}, found=("standard_error", "few_images")),
    "kernel": MetricSpec({"value": "less"}, found=("standard_error", "deviation")),
    "sliced": MetricSpec({"value": "less"}, found=("standard_error",)),
    "prdc": MetricSpec(
        {"precision": "more", "recall": "more", "density": None, "coverage": "more"},
        found=("precision_error", "recall_error", "density_error", "coverage_error"),
    ),
    "neighbor": MetricSpec({"accuracy": None}, found=("of_real", "of_fake", "accuracy_error")),
    "memorization": MetricSpec(
        {"share": None},
        found=(
            *("expected_share", "z", "p_value", "n_train"),
            *("nearer", "expected_nearer", "nearer_p_value"),
        ),
    ),
    "inception": MetricSpec({"mean": "more"}, found=("deviation",)),
    "modes": MetricSpec(
        {"seen": "more", "kl_uniform": "less", "kl_reference": "less"},
        found=("kl_uniform_error", "kl_reference_error"),
    ),
    "points": MetricSpec(
        {"seen": "more", "high_quality": None, "kl": "less", "jsd": "less"},
        found=("shares", "spreads", "roundness", "kl_error", "jsd_error"),
        cases=("n",),
    ),
    "divergence": MetricSpec({"kl": "less", "jsd": "less"}, found=("kl_error", "jsd_error")),
    "probe": MetricSpec(
        {"accuracy": "more"}, found=("deviation", "costs"), cases=("labels",), self_described=True
    ),
    "one-nn": MetricSpec({"error": "less"}, cases=("n_known",)),
    "classes": MetricSpec(
        {"accuracy": "more", "coverage": "more", "recall": "more"},
        found=("least_coverage", "n_of_each"),
    ),
    "test-error": MetricSpec({"error": "less"}, found=("wrong", "thinks_real")),
    "reconstruction": MetricSpec({"error": "less"}, found=("standard_error",)),
    "completion": MetricSpec({"error": "less", "diversity": None}, cases=("hidden",)),
    "elbo": MetricSpec(
        {"elbo": "more", "bound_of_many": "more"}, found=("standard_error", "divergence")
    ),
}
"""Every metric, in the order of its columns."""
