from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from advnets.errors import UsageError
from advnets.metrics.student_t import Interval, quantile, student_interval


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 6, 9, 10, 29, 30, 301])
@pytest.mark.parametrize("confidence", [0.01, 0.5, 0.95, 0.999])
def test_quantiles_agree_with_scipy(freedom, confidence):
    expected = stats.t.ppf(0.5 + confidence / 2, freedom)
    assert quantile(confidence, freedom) == pytest.approx(expected, rel=1e-9)


def test_an_interval_is_scipys():
    values = [3.1, 2.7, 3.4, 2.2]
    found = student_interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert found.mean - found.half_width == pytest.approx(low)
    assert found.mean + found.half_width == pytest.approx(high)
    assert student_interval([1.0, 3.0]).half_width == pytest.approx(12.7062047361747)


def test_an_interval_holds_the_mean_as_often_as_it_says():
    """Of 2,000 sets of 4 normal values 95 %, within three standard errors."""
    rng = np.random.default_rng(0)
    found = [student_interval(rng.normal(5, 2, 4).tolist()) for _ in range(2000)]
    share = np.mean([abs(some.mean - 5) <= some.half_width for some in found])
    assert share == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 2000))


def test_one_value_has_no_interval_and_none_no_mean():
    assert student_interval([4.0]) == Interval(4.0, None, 1)
    with pytest.raises(UsageError, match="interval of no values was asked for; give at least one"):
        student_interval([])
    with pytest.raises(UsageError, match="confidence 1 at 0 degrees of freedom was asked for"):
        quantile(1.0, 0)


@pytest.mark.parametrize("wild", [math.nan, math.inf])
def test_what_is_not_finite_has_no_interval(wild):
    with pytest.raises(UsageError, match="give finite numbers"):
        student_interval([1.0, wild])
