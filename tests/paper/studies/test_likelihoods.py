"""Tests of the curves of log-likelihood over CPU minutes."""

from __future__ import annotations

from advnets.paper.studies.likelihoods import score_curve


def tick(step, **time):
    return {"kind": "log", "step": step, **time}


def score(step, weights, mean):
    return {"kind": "evaluate", "step": step, "weights": weights, "mean": mean}


def test_score_curve_sums_cpu_minutes_before_each_score():
    events = [
        tick(5, seconds=99.0, cpu_seconds=30.0),
        tick(10, seconds=99.0, cpu_seconds=60.0),
        score(10, "ema", 2.0),
        score(10, "last", 1.0),
        {"kind": "resume", "step": 10},
        tick(15, seconds=99.0, cpu_seconds=30.0),
        tick(20, seconds=99.0, cpu_seconds=90.0),
        score(20, "ema", 4.0),
        score(20, "last", 3.0),
    ]
    assert score_curve(events, "ema") == ([1.5, 3.5], [2.0, 4.0])
    assert score_curve(events, "last") == ([1.5, 3.5], [1.0, 3.0])


def test_score_curve_is_empty_without_cpu_seconds():
    """Wall-clock time of a machine with other work is no substitute."""
    assert score_curve([tick(5, seconds=120.0), score(5, "last", 1.0)], "last") == ([], [])
