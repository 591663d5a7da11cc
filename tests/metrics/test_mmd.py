from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from advnets.errors import DataError, UsageError
from advnets.metrics.mmd import polynomial_mmd
from advnets.metrics.validation import shuffle_by_content
from advnets.rng import RNG


def draw(n: int, d: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, d, generator=generator) * 2 + shift


def by_pairs(x: torch.Tensor, y: torch.Tensor) -> float:
    """The definition, pair by pair, with no matrix of kernels and no diagonal to leave out."""
    a, b = x.double().numpy(), y.double().numpy()

    def k(u, v):
        return (np.dot(u, v) / len(u) + 1) ** 3

    within = 2 * pdist(a, k).mean() / 2 + 2 * pdist(b, k).mean() / 2
    return within - 2 * np.mean([k(u, v) for u in a for v in b])


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_of_one_subset_of_all_it_is_the_definition(shift):
    x, y = draw(30, 7, 0), draw(30, 7, 1, shift)
    found = polynomial_mmd(x, y, subsets=1)
    assert found.value == pytest.approx(by_pairs(x, y), rel=1e-9)
    assert (found.std, found.subsets, found.subset_size) == (None, 1, 30)


def test_torchmetrics_computes_the_same(peer):
    x, y = draw(200, 50, 0).double(), draw(200, 50, 1, 0.1).double()
    theirs = float(peer("torchmetrics.image.kid").poly_mmd(x, y))
    assert polynomial_mmd(x, y, subsets=1).value == pytest.approx(theirs, rel=1e-6)


def test_torch_fidelity_computes_the_same_of_the_same_subsets(fidelity, monkeypatch):
    x, y = draw(300, 20, 0).double(), draw(250, 20, 1, 0.1).double()
    theirs = fidelity("metric_kid").kid_features_to_metric(
        x, y, kid_subsets=12, kid_subset_size=60, rng_seed=5, verbose=False
    )
    rng = np.random.RandomState(5)
    monkeypatch.setattr("advnets.metrics.mmd.shuffle_by_content", lambda points: points)
    monkeypatch.setattr(RNG, "permutation", lambda self, purpose, n: rng.permutation(n))
    ours = polynomial_mmd(x, y, subsets=12, size=60)
    assert ours.value == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    assert ours.std == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-6)


def test_subsets_of_one_distribution_are_about_zero_apart():
    """Unbiased: whatever the size of a subset, the mean over draws is 0 within its error."""
    for n, asked in ((40, {}), (300, {"subsets": 20, "size": 10})):
        values = torch.tensor(
            [
                polynomial_mmd(draw(n, 5, s), draw(n, 5, 900 + s), seed=s, **asked).value
                for s in range(400)
            ]
        )
        error = float(values.std()) / 20
        assert abs(float(values.mean())) < 3 * error
        # Nearer to 0 than the biased estimate is, which keeps the pairs of an image with itself.
        size = asked.get("size", n)
        kernel = float(((draw(2000, 5, 0).double().square().mean(1) + 1) ** 3).mean())
        assert error < 0.1 * kernel / size


def test_the_mean_does_not_hang_on_the_size_of_subsets():
    x, y = draw(2000, 5, 0), draw(2000, 5, 1, 0.2)
    small, large = (polynomial_mmd(x, y, subsets=n, size=s) for n, s in ((400, 50), (20, 1000)))
    over_subsets = math.hypot(small.std / 20, large.std / math.sqrt(20))
    assert small.value == pytest.approx(large.value, abs=4 * over_subsets)
    assert large.value > 10 * large.standard_error
    # Both are of the same sets: their deviation over subsets is that of the subsets' size alone.
    assert over_subsets < 0.5 * small.standard_error


@pytest.mark.parametrize(
    ("n", "m", "asked"),
    [
        (400, 400, {}),
        (200, 500, {}),
        (500, 200, {}),
        (1000, 1000, {"subsets": 50, "size": 100}),
        (1000, 1000, {"subsets": 5, "size": 50}),
        (1000, 1000, {"subsets": 1, "size": 100}),
    ],
)
def test_the_standard_error_is_the_deviation_over_draws(n, m, asked):
    """Of 200 draws of sets that are apart, within three times what is known of it by chance."""
    found = [
        polynomial_mmd(draw(n, 3, s), draw(m, 3, 1000 + s, 0.5), seed=s, **asked)
        for s in range(200)
    ]
    deviation = np.std([one.value for one in found], ddof=1)
    errors = np.sqrt(np.mean([one.standard_error**2 for one in found]))
    assert errors == pytest.approx(deviation, rel=3 / math.sqrt(2 * 200))


def test_its_part_from_subsets_is_the_deviation_over_seeds():
    """Of one pair of sets so large that images add little: few and small subsets."""
    x, y = draw(20_000, 3, 0), draw(20_000, 3, 1, 0.3)
    found = [polynomial_mmd(x, y, subsets=4, size=20, seed=seed) for seed in range(200)]
    deviation = np.std([one.value for one in found], ddof=1)
    over_subsets = np.sqrt(np.mean([one.std**2 * 4 / 3 / 4 for one in found]))
    assert over_subsets == pytest.approx(deviation, rel=0.15)
    assert all(one.standard_error**2 > one.std**2 / 3 for one in found)


def test_subsets_differ_by_their_number_and_by_the_seed(monkeypatch):
    """Without repetition within a subset, and others of either set."""
    seen = []
    whole = RNG.permutation

    def noted(self, purpose, n):
        found = whole(self, purpose, n)
        if purpose in ("real", "fake"):
            seen.append(tuple(found[:20].tolist()))
        return found

    monkeypatch.setattr(RNG, "permutation", noted)
    x, y = draw(200, 3, 0), draw(200, 3, 1)
    for seed in (0, 1):
        polynomial_mmd(x, y, subsets=6, size=20, seed=seed)
    assert len(set(seen)) == len(seen) == 2 * 2 * 6
    assert all(len(set(rows)) == 20 for rows in seen)


def test_the_size_shrinks_to_the_smaller_set_and_is_told():
    assert polynomial_mmd(draw(40, 3, 0), draw(25, 3, 1), subsets=2).subset_size == 25


def test_order_and_batches_do_not_matter_and_the_seed_does():
    x, y = draw(300, 4, 0), draw(300, 4, 1)
    found = polynomial_mmd(x, y, subsets=5, size=50)
    batches = torch.cat(list(reversed(y.split(7))))
    assert polynomial_mmd(x.flip(0), batches, subsets=5, size=50) == found
    assert polynomial_mmd(x.double(), y, subsets=5, size=50) == found
    assert polynomial_mmd(x, y, subsets=5, size=50, seed=1).value != found.value
    assert torch.equal(shuffle_by_content(x).sort(0).values, x.double().sort(0).values)


def test_close_sets_are_told_apart_in_float64():
    """Far from 0, where kernels are near 1e9: the difference of sets is not lost in rounding."""
    x = draw(100, 3, 0).double() + 1000
    y = x + 1e-3
    assert polynomial_mmd(x.float(), x.float(), subsets=1).value == pytest.approx(
        by_pairs(x.float(), x.float()), rel=1e-6
    )
    assert polynomial_mmd(x, y, subsets=1).value == pytest.approx(by_pairs(x, y), rel=1e-6)


@pytest.mark.parametrize("asked", [{"subsets": 0}, {"size": 1}])
def test_subsets_that_cannot_be_are_refused(asked):
    with pytest.raises(UsageError, match="were requested; give at least 1 subset of at least 2"):
        polynomial_mmd(draw(5, 2, 0), draw(5, 2, 1), **asked)


def test_blocks_of_rows_come_to_the_same(monkeypatch):
    x, y = draw(90, 4, 0), draw(70, 4, 1, 0.1)
    found = polynomial_mmd(x, y, subsets=3)
    monkeypatch.setattr("advnets.metrics.mmd._ROWS", 11)
    again = polynomial_mmd(x, y, subsets=3)
    assert again.value == pytest.approx(found.value, rel=1e-9)
    assert again.standard_error == pytest.approx(found.standard_error, rel=1e-9)


def test_last_bits_of_features_move_it_by_less_than_its_error():
    """As they do where an extractor sees images in batches of another size."""
    x, y = draw(2000, 20, 0), draw(2000, 20, 1)
    moved = y * (1 + 2e-7 * draw(2000, 20, 2, shift=-1.0))
    found, again = (polynomial_mmd(x, some, size=200, subsets=20) for some in (y, moved))
    assert abs(again.value - found.value) < 0.02 * found.standard_error


def test_whole_sets_are_one_subset():
    """Any two would be the same, and the deviation over them 0 and no news."""
    x, y = draw(60, 4, 0), draw(60, 4, 1)
    found = polynomial_mmd(x, y)
    assert (found.subsets, found.subset_size, found.std) == (1, 60, None)
    assert found.value == pytest.approx(by_pairs(x, y), rel=1e-9)


def test_numbers_whose_kernels_are_lost_are_refused():
    x, y = draw(60, 4, 0).double(), draw(60, 4, 1).double()
    with pytest.raises(DataError, match=r"values up to .e\+30, whose kernels overflow"):
        polynomial_mmd(1e30 * x, 1e30 * y)
    with pytest.raises(DataError, match=r"values up to .e\+160, whose squares overflow"):
        polynomial_mmd(1e160 * x, 1e160 * y)
