"""Standard errors from scores of subsets."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from advnets.errors import DataError, UsageError
from advnets.metrics.uncertainty import (
    Interval,
    student_interval,
    student_quantile,
    subsampled_errors,
)
from advnets.metrics.validation import shuffle_by_content


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 6, 9, 10, 29, 30, 301])
@pytest.mark.parametrize("confidence", [0.01, 0.5, 0.95, 0.999])
def test_quantiles_equal_those_of_scipy(freedom, confidence):
    expected = stats.t.ppf(0.5 + confidence / 2, freedom)
    assert student_quantile(confidence, freedom) == pytest.approx(expected, rel=1e-9)


def test_an_interval_equals_that_of_scipy():
    values = [3.1, 2.7, 3.4, 2.2]
    result = student_interval(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert result.mean - result.half_width == pytest.approx(low)
    assert result.mean + result.half_width == pytest.approx(high)
    assert student_interval([1.0, 3.0]).half_width == pytest.approx(12.7062047361747)


def test_intervals_cover_the_mean_in_95_percent():
    """Of 2,000 sets of 4 normal values, within three standard errors."""
    rng = np.random.default_rng(0)
    results = [student_interval(rng.normal(5, 2, 4).tolist()) for _ in range(2000)]
    share = np.mean([abs(interval.mean - 5) <= interval.half_width for interval in results])
    assert share == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 2000))


def test_one_value_has_no_interval_and_no_values_have_no_mean():
    assert student_interval([4.0]) == Interval(4.0, None, 1)
    with pytest.raises(UsageError, match="there are no values; give at least one"):
        student_interval([])
    with pytest.raises(UsageError, match="confidence 1 at 0 degrees of freedom was requested"):
        student_quantile(1.0, 0)


@pytest.mark.parametrize("wild", [math.nan, math.inf])
def test_values_that_are_not_finite_have_no_interval(wild):
    with pytest.raises(UsageError, match="expected finite numbers"):
        student_interval([1.0, wild])


def draw(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


def gaps(x, y):
    """Return the differences of two sets' means and standard deviations."""
    return {"gap": float((x.mean(0) - y.mean(0)).norm()), "wider": float(x.std() / y.std())}


def test_errors_are_the_deviation_over_ten_pairs_of_subsets():
    """The unbiased standard deviation divided by the square root of ten."""
    x, y = draw(1200, 0), draw(1503, 1) + 0.3
    real = np.array_split(shuffle_by_content(x, "real").numpy(), 10)
    fake = np.array_split(shuffle_by_content(y, "fake").numpy(), 10)
    pairs = [gaps(*map(torch.from_numpy, pair)) for pair in zip(real, fake, strict=True)]
    result = subsampled_errors(gaps, x, y, ("gap", "wider"))
    assert result.keys() == {"gap", "wider"}
    for name, error in result.items():
        expected = np.std([pair[name] for pair in pairs], ddof=1) / math.sqrt(10)
        assert error == pytest.approx(expected, rel=1e-4)


def test_subsets_have_the_dtype_of_the_sets_and_every_row_once():
    x, y, subsets = draw(1000, 0), draw(1007, 1), []

    def score(samples, others):
        subsets.append((samples, others))
        return {"gap": 0.0}

    assert subsampled_errors(score, x, y, ("gap",)) == {"gap": 0.0}
    for rows, parts in zip((x, y), zip(*subsets, strict=True), strict=True):
        joined = torch.cat(parts)
        assert joined.dtype == rows.dtype == torch.float32
        assert torch.equal(joined.sort(0).values, rows.sort(0).values)
        assert len(parts) == 10
        assert min(map(len, parts)) == 100


@pytest.mark.parametrize(("n", "m"), [(999, 2000), (2000, 999), (1, 1000)])
def test_subsets_of_fewer_than_100_give_no_errors(n, m):
    assert subsampled_errors(gaps, draw(n, 0), draw(m, 1), ("gap",)) == {"gap": None}


def test_an_empty_set_is_refused():
    with pytest.raises(DataError, match="fake features have shape"):
        subsampled_errors(gaps, draw(9, 0), torch.empty(0, 3), ("gap",))
