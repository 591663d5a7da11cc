import math

import numpy as np
import pytest
import scipy.linalg
import torch

from advnets.errors import DataError
from advnets.metrics.frechet import frechet_distance


def draw(n: int, d: int, seed: int) -> torch.Tensor:
    """Correlated features of unlike scale."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(9))
    return torch.randn(n, d, generator=generator) @ mixing * (1 + 0.1 * seed) + 0.2 * seed


def by_scipy(x: torch.Tensor, y: torch.Tensor) -> float:
    """The formula as written, with a matrix root of a product that is not symmetric."""
    a, b = x.double().numpy(), y.double().numpy()
    one, other = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(scipy.linalg.sqrtm(one @ other))
    gap = a.mean(0) - b.mean(0)
    return float(gap @ gap + np.trace(one) + np.trace(other) - 2 * np.trace(root))


@pytest.mark.parametrize(("n", "m", "d"), [(200, 300, 2), (500, 400, 20)])
def test_it_is_the_formula(n, m, d):
    x, y = draw(n, d, 1), draw(m, d, 2)
    assert frechet_distance(x, y) == pytest.approx(by_scipy(x, y), rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(by_scipy(x, y), rel=1e-9)


def test_of_large_samples_it_is_that_of_the_gaussians():
    """N(0, 1) and N(1, 4) in each of three independent columns: 3 (1 + (2 - 1)²)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200_000, 3, generator=generator, dtype=torch.float64)
    y = 1 + 2 * torch.randn(200_000, 3, generator=generator, dtype=torch.float64)
    assert frechet_distance(x, y) == pytest.approx(6, rel=0.02)


def test_of_equal_sets_it_is_zero_and_never_less():
    x = draw(300, 40, 1)
    assert 0 <= frechet_distance(x, x.clone()) < 1e-9
    flat = torch.cat((x, x[:, :5]), dim=1)  # singular: columns twice
    assert 0 <= frechet_distance(flat, flat.clone()) < 1e-9


def test_order_and_shift_do_not_matter():
    x, y = draw(300, 8, 1).double(), draw(300, 8, 2).double()
    distance = frechet_distance(x, y)
    assert frechet_distance(x.flip(0), y) == pytest.approx(distance, rel=1e-12)
    assert frechet_distance(x + 1000, y + 1000) == pytest.approx(distance, rel=1e-8)


def test_fewer_pictures_than_features_are_warned_of():
    with pytest.warns(UserWarning, match="10 fake rows span less than their 20 columns"):
        frechet_distance(draw(30, 20, 1), draw(10, 20, 2))


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (torch.zeros(1, 3), torch.zeros(5, 3), r"real features have shape \(1, 3\)"),
        (torch.zeros(5, 3), torch.zeros(5, 4), "fake features have 4 columns and real ones 3"),
        (torch.zeros(5, 3), torch.full((5, 3), math.nan), "fake features hold numbers that are"),
    ],
)
def test_what_cannot_be_compared_is_refused(real, fake, message):
    with pytest.raises(DataError, match=message):
        frechet_distance(real, fake)
