"""Evaluation: the metrics that a run can be scored by, their records, and comparisons of runs."""
