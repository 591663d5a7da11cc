import math
import sys

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import linprog

from advnets.errors import UsageError
from advnets.metrics.sliced_wasserstein import sliced_wasserstein
from advnets.rng import RNG


def draw(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_transport(x: np.ndarray, y: np.ndarray) -> float:
    """Return W² of points on a line by linear programming."""
    n, m = len(x), len(y)
    sums = np.concatenate((np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))))
    masses = np.concatenate((np.full(n, 1 / n), np.full(m, 1 / m)))
    return linprog(((x[:, None] - y) ** 2).ravel(), A_eq=sums, b_eq=masses).fun


@pytest.mark.parametrize(("n", "m"), [(6, 6), (6, 9), (5, 8), (1, 4)])
def test_on_a_line_it_equals_the_cheapest_transport(n, m):
    x, y = draw(n, 1, 0), draw(m, 1, 1) + 1
    squared = by_transport(x[:, 0].numpy(), y[:, 0].numpy())
    assert sliced_wasserstein(x, y, directions=3).value ** 2 == pytest.approx(squared, rel=1e-9)


def test_it_is_the_root_of_the_mean_over_directions():
    x, y = draw(7, 4, 0), draw(10, 4, 1) + 0.5
    theta = RNG(3).normal("direction", 5, 4).double()
    lines = (theta / theta.norm(dim=1, keepdim=True)).numpy()
    squares = [by_transport(x.numpy() @ line, y.numpy() @ line) for line in lines]
    result = sliced_wasserstein(x, y, directions=5, seed=3).value
    assert result == pytest.approx(math.sqrt(np.mean(squares)), rel=1e-6)


def test_shifted_sets_have_the_projected_shift():
    """‖v‖ / √d averaged over all directions."""
    x, v = draw(50, 2, 0), torch.tensor([3.0, -4.0])
    square = quad(lambda a: (3 * math.cos(a) - 4 * math.sin(a)) ** 2, 0, math.pi)[0] / math.pi
    assert square == pytest.approx(25 / 2)
    result = sliced_wasserstein(x, x + v, directions=20_000).value
    assert result == pytest.approx(math.sqrt(square), rel=0.02)


def test_normal_distributions_have_the_difference_of_standard_deviations():
    x, y = draw(20_000, 3, 0), 2 * draw(15_000, 3, 1)
    assert sliced_wasserstein(x, y, directions=50).value == pytest.approx(1, rel=0.05)


def test_a_set_and_its_repetition_have_distance_0():
    x = draw(40, 3, 0)
    assert sliced_wasserstein(x, x.flip(0)).value < 1e-12
    assert sliced_wasserstein(x, torch.cat((x, x))).value < 1e-12


def test_order_and_blocks_do_not_matter_and_the_seed_does(monkeypatch):
    x, y = draw(30, 5, 0), draw(45, 5, 1)
    result = sliced_wasserstein(x, y, directions=230).value
    assert sliced_wasserstein(x.flip(0), y.flip(0), directions=230).value == pytest.approx(result)
    assert sliced_wasserstein(y, x, directions=230).value == pytest.approx(result)
    monkeypatch.setattr(sys.modules["advnets.metrics.sliced_wasserstein"], "_BLOCK", 7)
    assert sliced_wasserstein(x, y, directions=230).value == pytest.approx(result, rel=1e-12)
    assert sliced_wasserstein(x, y, directions=230, seed=1).value != result


def test_zero_directions_are_refused():
    with pytest.raises(UsageError, match="0 directions were requested"):
        sliced_wasserstein(draw(3, 2, 0), draw(3, 2, 1), directions=0)


@pytest.mark.parametrize(("n", "m", "directions"), [(200, 200, 100), (150, 300, 8)])
def test_the_standard_error_equals_the_deviation_over_draws(n, m, directions):
    """Of both sets and of directions."""
    results = [
        sliced_wasserstein(
            draw(n, 3, 2 * seed), draw(m, 3, 2 * seed + 1) + 1, directions=directions, seed=seed
        )
        for seed in range(300)
    ]
    deviation = np.std([f.value for f in results], ddof=1)
    assert np.mean([f.standard_error for f in results]) == pytest.approx(deviation, rel=0.12)
    x = draw(n, 3, 0)
    assert sliced_wasserstein(x, x).standard_error is None


def test_the_value_and_its_error_are_in_units_of_the_features():
    x, y = draw(200, 3, 0), draw(150, 3, 1) + 1
    result, larger = (sliced_wasserstein(c * x, c * y, directions=50) for c in (1.0, 5.0))
    assert larger.value == pytest.approx(5 * result.value, rel=1e-9)
    assert larger.standard_error == pytest.approx(5 * result.standard_error, rel=1e-9)


def test_one_image_gives_no_standard_error():
    result = sliced_wasserstein(draw(1, 3, 0), draw(1, 3, 1))
    assert result.value > 0
    assert result.standard_error is None
