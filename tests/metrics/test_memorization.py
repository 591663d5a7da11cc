import math

import numpy as np
import pytest
import torch
from scipy.stats import fisher_exact, hypergeom
from sklearn.neighbors import NearestNeighbors

from advnets.errors import DataError, UsageError
from advnets.metrics.distance import nearest
from advnets.metrics.memorization import memorization


def draw(n: int, seed: int, d: int = 12) -> torch.Tensor:
    """Return images from clusters of different widths."""
    generator = torch.Generator().manual_seed(seed)
    cluster = torch.randint(4, (n,), generator=generator)
    return torch.randn(n, d, generator=generator) * 2.0 ** cluster[:, None] + 20 * cluster[:, None]


TRAIN, TEST, MORE = draw(2000, 0), draw(1000, 1), draw(1000, 2)


@pytest.mark.parametrize("near", [0.5, 0.8])
def test_fraction_and_test_equal_their_definitions(near):
    """Compared with scikit-learn's two nearest neighbors and SciPy's exact test."""
    samples = torch.cat((MORE[:500], TRAIN[:20] + 0.05 * draw(20, 3)))
    result = memorization(TRAIN, TEST, samples, distance_ratio=near)
    search = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(TRAIN.double().numpy())

    def on_a_image(points):
        first, second = search.kneighbors(points.double().numpy())[0].T
        return int((first < near * second).sum())

    copies, others = on_a_image(samples), on_a_image(TEST)
    table = [[copies, 520 - copies], [others, 1000 - others]]
    chance = hypergeom(1520, copies + others, 520)
    assert (result.copy_fraction, result.expected_copy_fraction) == (copies / 520, others / 1000)
    assert result.p_value == pytest.approx(fisher_exact(table, "greater").pvalue, rel=1e-6)
    assert result.z == pytest.approx((copies - chance.mean()) / chance.std())
    assert (result.distance_ratio, result.n_train, result.n_test, result.n_samples) == (
        near,
        2000,
        1000,
        520,
    )

    neighbor_distances = search.kneighbors(TRAIN.double().numpy())[0][:, 1]

    def nearer(points):
        distance, which = search.kneighbors(points.double().numpy())
        return int((distance[:, 0] < neighbor_distances[which[:, 0]]).sum())

    copies, others = nearer(samples), nearer(TEST)
    table = [[copies, 520 - copies], [others, 1000 - others]]
    assert (result.nearer_fraction, result.expected_nearer_fraction) == (
        copies / 520,
        others / 1000,
    )
    assert result.nearer_p_value == pytest.approx(fisher_exact(table, "greater").pvalue, rel=1e-6)


def test_a_sample_at_exactly_the_distance_ratio_is_not_a_copy():
    """A sample at 1, between training points 0 and 3, is exactly half as far from the first."""
    train, samples = torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [0.75]])
    result = memorization(train, torch.tensor([[1.5]]), samples, distance_ratio=0.5)
    assert (result.copy_fraction, result.expected_copy_fraction) == (0.5, 0.0)


def test_altered_copies_are_nearer_without_coinciding():
    train, test, independent, rng = torch.randn(
        4, 500, 64, generator=torch.Generator().manual_seed(0)
    )
    result = memorization(train, test, train + 0.8 * rng)
    assert result.copy_fraction < 0.05
    assert result.nearer_fraction > 0.99
    assert result.nearer_p_value < 1e-50
    held_out = memorization(train, test, independent)
    assert held_out.nearer_p_value > 0.05
    assert held_out.nearer_fraction == pytest.approx(held_out.expected_nearer_fraction, abs=0.1)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_copies_of_training_images_are_detected(noise):
    result = memorization(TRAIN, TEST, TRAIN[:1000] + noise * draw(1000, 3).tanh())
    assert result.copy_fraction > 0.99
    assert result.expected_copy_fraction < 0.01
    assert result.z > 40
    assert result.p_value < 1e-300


@pytest.mark.parametrize(
    "others",
    [MORE[:950], 1000 * draw(950, 5), MORE[:950] / 2 + MORE.flip(0)[:950] / 2],
    ids=["real", "noise", "blends"],
)
def test_one_copy_in_twenty_samples_is_detected(others):
    result = memorization(TRAIN, TEST, torch.cat((others, TRAIN[:50])))
    assert result.copy_fraction == pytest.approx(0.05, abs=0.005)
    assert result.p_value < 1e-9


def test_held_out_images_are_not_copies():
    result = memorization(TRAIN, TEST, MORE)
    assert result.copy_fraction < 0.01
    assert result.p_value > 0.05
    assert result.z < 2


def test_the_p_value_is_valid_without_copies():
    """Over 300 draws of all sets it is below α in at most a fraction α."""
    values = []
    for seed in range(0, 900, 3):
        train, test, samples = (draw(n, seed + i, 2) for i, n in enumerate((150, 300, 300)))
        values.append(memorization(train, test, samples).p_value)
    for level in (0.01, 0.05, 0.2):
        chance = 3 * math.sqrt(level * (1 - level) / 300)
        assert np.mean(np.array(values) < level) < level + chance


@pytest.mark.parametrize("pull", [0.5, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_blurred_samples_are_not_copies(pull, seed):
    """They are nearer to training images than held-out ones are, but to several of them."""
    train, test, more = (
        torch.randn(1000, 40, generator=torch.Generator().manual_seed(10 * seed + s))
        for s in range(3)
    )
    blurred = pull * more.mean(0) + (1 - pull) * more
    assert nearest(blurred, train)[0].mean() < nearest(test, train)[0].mean()
    result = memorization(train, test, blurred)
    assert (result.copy_fraction, result.z, result.p_value) == (0, 0, 1)


def test_missing_modes_are_not_copying():
    """Images of the densest cluster are near each other, too."""
    dense = draw(4000, 7)
    assert memorization(TRAIN, TEST, dense[dense.mean(1) < 8]).p_value > 0.05


def test_copies_of_a_repeated_image_are_detected():
    result = memorization(torch.cat((TRAIN, TRAIN)), TEST, TRAIN[:100])
    assert (result.copy_fraction, result.n_train) == (1, 2000)


def test_order_does_not_matter():
    result = memorization(TRAIN, TEST, torch.cat((MORE, TRAIN[:30])))
    repeated = memorization(TRAIN.flip(0), TEST.flip(0), torch.cat((TRAIN[:30], MORE)))
    assert repeated == result


@pytest.mark.parametrize(
    ("train", "samples", "message"),
    [
        (torch.zeros(5, 12), MORE, "all 5 training images have the same features; give at"),
        (TRAIN, MORE[:0], r"samples features have shape \(0, 12\)"),
        (TRAIN, MORE[:, :5], "samples features have 5 columns and train ones 12"),
        (TRAIN, MORE * math.nan, "samples features hold numbers that are not finite"),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(train, samples, message):
    with pytest.raises(DataError, match=message):
        memorization(train, TEST, samples)


@pytest.mark.parametrize("near", [0.0, 1.0])
def test_an_invalid_distance_ratio_is_refused(near):
    with pytest.raises(
        UsageError, match=f"distance_ratio is {near:g}; expected a ratio above 0 and below"
    ):
        memorization(TRAIN, TEST, MORE, distance_ratio=near)


def test_copies_of_images_close_together_are_detected():
    """Points of a small square far from 0, which float32 products do not resolve."""
    train = 100 + torch.rand(3000, 2, generator=torch.Generator().manual_seed(0)) / 10
    result = memorization(train, train[:500] + 1e-3, train[:500])
    assert result.copy_fraction > 0.99


def test_copies_in_two_small_distant_squares_are_detected():
    """No center is near both squares."""
    square = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0)) / 10
    train = torch.cat((square[:2000] + 100, square[2000:] - 100))
    assert memorization(train, train[:500] + 1e-3, train[::8]).copy_fraction == 1
    held_out = train[1::8] + (train[2::8] - train[1::8]).sign() * 0.03
    assert memorization(train, held_out, held_out).copy_fraction < 0.5


@pytest.mark.parametrize("scale", [2.0**-90, 2.0**70])
def test_the_unit_of_features_changes_nothing(scale):
    train, test = draw(200, 0).float(), draw(100, 1).float()
    samples = torch.cat((train[:10] + 1e-3, draw(90, 2).float()))
    result = memorization(train, test, samples)
    assert result.copy_fraction >= 0.1
    assert memorization(scale * train, scale * test, scale * samples) == result
