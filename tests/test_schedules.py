from __future__ import annotations

import pytest

from advnets.rng import RNG
from advnets.schedules import cosine, geometric


@pytest.mark.parametrize(
    ("done", "expected"), [(0.0, 4.0), (1.0, 2.0), (0.5, 3.0), (1 / 3, 3.5), (2 / 3, 2.5)]
)
def test_half_of_the_way_lies_behind_at_half_of_the_time(done, expected):
    """Cos 60° is 1/2: at a third, a quarter of the way."""
    assert cosine(4.0, 2.0, done) == pytest.approx(expected)


@pytest.mark.parametrize(("done", "expected"), [(0.0, 8.0), (1 / 3, 4.0), (2 / 3, 2.0), (1.0, 1.0)])
def test_by_a_factor_each_third_halves(done, expected):
    assert geometric(8.0, 1.0, done) == pytest.approx(expected)
    assert geometric(8.0, None, done) == 8.0


def test_both_ends_are_met_exactly():
    assert (geometric(1e-1, 1e-5, 0.0), geometric(1e-1, 1e-5, 1.0)) == (1e-1, 1e-5)
    assert (cosine(2e-4, 5e-5, 0.0), cosine(2e-4, 5e-5, 1.0)) == (2e-4, 5e-5)


def test_without_an_end_a_number_stays():
    assert [cosine(0.3, None, done) for done in (0.0, 0.4, 1.0)] == [0.3] * 3


def test_noise_knows_how_far_a_run_is():
    """Under any purpose, and never further than to the end."""
    noise = RNG(0, over=8).under("discriminator").stacked("real", "fake")
    assert [noise.at(step).done for step in (0, 2, 8, 20)] == [0.0, 0.25, 1.0, 1.0]
    assert noise.at(4).ramp(4.0, 2.0).item() == pytest.approx(3.0)
    assert RNG(0, step=5).done == 0.0
