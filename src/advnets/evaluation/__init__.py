"""Evaluation: the metrics that a run can be scored by, their records, and comparisons of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advnets.lazy import set_attributes

if TYPE_CHECKING:
    from advnets.evaluation.comparison import ScoredRun, compare, read_scored_run
    from advnets.evaluation.context import EvaluationContext
    from advnets.evaluation.registry import METRICS, register_metric
    from advnets.evaluation.spec import MetricSpec, Value

__all__ = [
    "METRICS",
    "EvaluationContext",
    "MetricSpec",
    "ScoredRun",
    "Value",
    "compare",
    "read_scored_run",
    "register_metric",
]

set_attributes(
    __name__,
    {
        "EvaluationContext": "advnets.evaluation.context",
        "METRICS": "advnets.evaluation.registry",
        "MetricSpec": "advnets.evaluation.spec",
        "ScoredRun": "advnets.evaluation.comparison",
        "Value": "advnets.evaluation.spec",
        "compare": "advnets.evaluation.comparison",
        "read_scored_run": "advnets.evaluation.comparison",
        "register_metric": "advnets.evaluation.registry",
    },
)
