"""Intervals of single scores, against SciPy and by how often they hold what is true."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from advnets.experiment.intervals import interval
from advnets.experiment.metrics import METRICS
from advnets.experiment.readings import READINGS

COUNTS = {"n_real": 300, "n_fake": 500, "n_samples": 500, "n": 500, "n_test": 300}


@pytest.mark.parametrize("wrong", [0, 7, 300])
def test_of_a_share_it_is_wilsons(wrong):
    found = interval({"metric": "test-error", "error": wrong / 300, **COUNTS})["error"]
    expected = stats.binomtest(wrong, 300).proportion_ci(method="wilson")
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_of_both_kinds_of_pictures_both_are_counted():
    low, high = interval({"metric": "neighbour", "accuracy": 0.5, **COUNTS})["accuracy"]
    expected = stats.binomtest(400, 800).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_of_a_standard_error_it_is_normal():
    found = interval({"metric": "frechet", "value": 4.0, "standard_error": 0.5})
    assert found["value"] == pytest.approx(stats.norm(4, 0.5).interval(0.95))
    assert interval({"metric": "frechet", "value": 4.0, "standard_error": None}) == {}


def test_of_a_few_draws_it_is_students():
    values = np.random.default_rng(0).normal(size=10)
    told = {"mean": values.mean(), "deviation": values.std(), "splits": 10}
    found = interval({"metric": "inception", **told})["mean"]
    expected = stats.t.interval(0.95, 9, values.mean(), values.std(ddof=1) / math.sqrt(10))
    assert found == pytest.approx(expected)
    told = {"accuracy": values.mean(), "deviation": values.std(ddof=1), "draws": 10}
    assert interval({"metric": "probe", **told})["accuracy"] == pytest.approx(expected)
    one = {"metric": "probe", "accuracy": 0.5, "deviation": None, "draws": 1}
    assert interval(one) == {}


def test_every_name_is_one_of_the_metrics_numbers():
    """Each metric's record has what its interval is made of; completion alone has none."""
    made = {}
    for metric in METRICS:
        record = dict.fromkeys(READINGS[metric].values, 0.5)
        record |= {"standard_error": 0.1, "deviation": 0.1, "splits": 5, "draws": 5, **COUNTS}
        record |= {"kl_uniform_error": 0.1, "kl_reference_error": 0.1}
        made[metric] = interval({"metric": metric, **record})
        assert made[metric].keys() <= READINGS[metric].values.keys()
    assert {metric for metric, found in made.items() if not found} == {"completion"}
