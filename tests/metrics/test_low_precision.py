"""Bounds of distances by products of rounded points, and neighbors that are found by them."""

import pytest
import torch

from advnets.metrics import low_precision
from advnets.metrics.low_precision import RoundedPoints, kth_distances, rounded_half_distances

DTYPES = [torch.bfloat16, torch.float32]


def draw(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(x.double(), y.double(), compute_mode=mode)


@pytest.mark.parametrize("source", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["normal", "outliers", "rounded alike"])
def test_distances_differ_by_no_more_than_the_bound(kind, dtype, source):
    """Also where rounding errors of all features have the same sign, so that none cancel."""
    x, y = draw(1100, 80, 0), draw(90, 80, 1)
    center = torch.zeros(80, dtype=source)
    if kind == "outliers":
        x[::7] *= 1e3
        center = y.mean(0).to(source)
    if kind == "rounded alike":  # just below the middle between two numbers of bfloat16
        x = (1 + 2**-8 - 2**-12) * x.sign()
        y = x[:90].clone()
    x, y = x.to(source), y.to(source)
    exact = -0.5 * exact_distances(x, y).square()
    rounded = (RoundedPoints.round(points, center, dtype) for points in (x, y))
    covered, largest = torch.zeros_like(exact), 0.0
    for rows, columns, block, error in rounded_half_distances(*rounded):
        ratio = (block.double() - exact[rows, columns]).abs() / error
        largest = max(largest, float(ratio.max()))
        covered[rows, columns] += 1
    assert (covered == 1).all()
    assert largest <= 1
    if kind == "rounded alike" and dtype == torch.bfloat16:
        assert largest > 0.5


@pytest.mark.parametrize("source", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("extra", [11, 2])
def test_the_kth_distance_equals_that_of_all_pairs(k, dtype, source, extra, monkeypatch):
    """Over several blocks, with repeated points; points that need more candidates have them."""
    monkeypatch.setattr(low_precision, "_EXTRA", extra)
    monkeypatch.setattr(low_precision, "_MAX_INCOMPLETE", 1.0)
    x = draw(1100, 200, 0).to(source)
    x[7], x[1050] = x[8], x[3]
    expected = exact_distances(x, x).fill_diagonal_(torch.inf).sort(dim=1).values[:, k - 1]
    result = kth_distances(x, k, dtype)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-9)


def test_clusters_that_products_do_not_resolve_have_no_result():
    x = draw(300, 80, 0) / 1000
    x[::2] += 1
    assert kth_distances(x, 5, torch.bfloat16) is None
    assert kth_distances(x[:4], 3, torch.bfloat16) is not None  # all others are kept
