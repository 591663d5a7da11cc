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
    """Return the definition, pair by pair."""
    a, b = x.double().numpy(), y.double().numpy()

    def k(u, v):
        return (np.dot(u, v) / len(u) + 1) ** 3

    within = 2 * pdist(a, k).mean() / 2 + 2 * pdist(b, k).mean() / 2
    return within - 2 * np.mean([k(u, v) for u in a for v in b])


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_one_subset_of_all_images_gives_the_definition(shift):
    x, y = draw(30, 7, 0), draw(30, 7, 1, shift)
    result = polynomial_mmd(x, y, subsets=1)
    assert result.value == pytest.approx(by_pairs(x, y), rel=1e-9)
    assert (result.std, result.subsets, result.subset_size) == (None, 1, 30)


def test_the_value_equals_that_of_torchmetrics(peer):
    x, y = draw(200, 50, 0).double(), draw(200, 50, 1, 0.1).double()
    reference = float(peer("torchmetrics.image.kid").poly_mmd(x, y))
    assert polynomial_mmd(x, y, subsets=1).value == pytest.approx(reference, rel=1e-6)


def test_the_value_equals_that_of_torch_fidelity_for_equal_subsets(fidelity, monkeypatch):
    x, y = draw(300, 20, 0).double(), draw(250, 20, 1, 0.1).double()
    reference = fidelity("metric_kid").kid_features_to_metric(
        x, y, kid_subsets=12, kid_subset_size=60, rng_seed=5, verbose=False
    )
    rng = np.random.RandomState(5)
    monkeypatch.setattr("advnets.metrics.mmd.shuffle_by_content", lambda points: points)
    monkeypatch.setattr(RNG, "permutation", lambda self, purpose, n: rng.permutation(n))
    actual = polynomial_mmd(x, y, subsets=12, size=60)
    assert actual.value == pytest.approx(reference["kernel_inception_distance_mean"], rel=1e-6)
    assert actual.std == pytest.approx(reference["kernel_inception_distance_std"], rel=1e-6)


def test_the_estimate_is_unbiased():
    """For equal distributions the mean over draws is 0 within its error, for every subset size."""
    for n, options in ((40, {}), (300, {"subsets": 20, "size": 10})):
        values = torch.tensor(
            [
                polynomial_mmd(draw(n, 5, s), draw(n, 5, 900 + s), seed=s, **options).value
                for s in range(400)
            ]
        )
        error = float(values.std()) / 20
        assert abs(float(values.mean())) < 3 * error
        # Nearer to 0 than the biased estimate, which includes pairs of an image with itself.
        size = options.get("size", n)
        kernel = float(((draw(2000, 5, 0).double().square().mean(1) + 1) ** 3).mean())
        assert error < 0.1 * kernel / size


def test_the_mean_does_not_depend_on_the_size_of_subsets():
    x, y = draw(2000, 5, 0), draw(2000, 5, 1, 0.2)
    small, large = (polynomial_mmd(x, y, subsets=n, size=s) for n, s in ((400, 50), (20, 1000)))
    over_subsets = math.hypot(small.std / 20, large.std / math.sqrt(20))
    assert small.value == pytest.approx(large.value, abs=4 * over_subsets)
    assert large.value > 10 * large.standard_error
    # For equal sets the deviation over subsets depends on their size alone.
    assert over_subsets < 0.5 * small.standard_error


@pytest.mark.parametrize(
    ("n", "m", "options"),
    [
        (400, 400, {}),
        (200, 500, {}),
        (500, 200, {}),
        (1000, 1000, {"subsets": 50, "size": 100}),
        (1000, 1000, {"subsets": 5, "size": 50}),
        (1000, 1000, {"subsets": 1, "size": 100}),
    ],
)
def test_the_standard_error_equals_the_deviation_over_draws(n, m, options):
    """Over 200 draws of different sets, within three times its own error."""
    results = [
        polynomial_mmd(draw(n, 3, s), draw(m, 3, 1000 + s, 0.5), seed=s, **options)
        for s in range(200)
    ]
    deviation = np.std([estimate.value for estimate in results], ddof=1)
    errors = np.sqrt(np.mean([estimate.standard_error**2 for estimate in results]))
    assert errors == pytest.approx(deviation, rel=3 / math.sqrt(2 * 200))


def test_the_error_from_subsets_equals_the_deviation_over_seeds():
    """For one pair of large sets, with few and small subsets."""
    x, y = draw(20_000, 3, 0), draw(20_000, 3, 1, 0.3)
    results = [polynomial_mmd(x, y, subsets=4, size=20, seed=seed) for seed in range(200)]
    deviation = np.std([estimate.value for estimate in results], ddof=1)
    over_subsets = np.sqrt(np.mean([estimate.std**2 * 4 / 3 / 4 for estimate in results]))
    assert over_subsets == pytest.approx(deviation, rel=0.15)
    assert all(estimate.standard_error**2 > estimate.std**2 / 3 for estimate in results)


def test_subsets_depend_on_their_index_and_the_seed(monkeypatch):
    """Without repetition within a subset."""
    purposes = []
    permutation = RNG.permutation

    def noted(self, purpose, n):
        result = permutation(self, purpose, n)
        if purpose in ("real", "fake"):
            purposes.append(tuple(result[:20].tolist()))
        return result

    monkeypatch.setattr(RNG, "permutation", noted)
    x, y = draw(200, 3, 0), draw(200, 3, 1)
    for seed in (0, 1):
        polynomial_mmd(x, y, subsets=6, size=20, seed=seed)
    assert len(set(purposes)) == len(purposes) == 2 * 2 * 6
    assert all(len(set(rows)) == 20 for rows in purposes)


def test_the_size_of_subsets_is_at_most_that_of_the_smaller_set():
    assert polynomial_mmd(draw(40, 3, 0), draw(25, 3, 1), subsets=2).subset_size == 25


def test_order_and_batches_do_not_matter_and_the_seed_does():
    x, y = draw(300, 4, 0), draw(300, 4, 1)
    result = polynomial_mmd(x, y, subsets=5, size=50)
    batches = torch.cat(list(reversed(y.split(7))))
    assert polynomial_mmd(x.flip(0), batches, subsets=5, size=50) == result
    assert polynomial_mmd(x.double(), y, subsets=5, size=50) == result
    assert polynomial_mmd(x, y, subsets=5, size=50, seed=1).value != result.value
    assert torch.equal(shuffle_by_content(x).sort(0).values, x.double().sort(0).values)


def test_close_sets_are_distinguished_in_float64():
    """Far from 0, where kernels are near 1e9, the difference is not lost in rounding."""
    x = draw(100, 3, 0).double() + 1000
    y = x + 1e-3
    assert polynomial_mmd(x.float(), x.float(), subsets=1).value == pytest.approx(
        by_pairs(x.float(), x.float()), rel=1e-6
    )
    assert polynomial_mmd(x, y, subsets=1).value == pytest.approx(by_pairs(x, y), rel=1e-6)


@pytest.mark.parametrize("options", [{"subsets": 0}, {"size": 1}])
def test_invalid_subsets_are_refused(options):
    with pytest.raises(UsageError, match="were requested; give at least 1 subset of at least 2"):
        polynomial_mmd(draw(5, 2, 0), draw(5, 2, 1), **options)


def test_blocks_of_rows_do_not_change_the_value(monkeypatch):
    x, y = draw(90, 4, 0), draw(70, 4, 1, 0.1)
    result = polynomial_mmd(x, y, subsets=3)
    monkeypatch.setattr("advnets.metrics.mmd._ROWS", 11)
    repeated = polynomial_mmd(x, y, subsets=3)
    assert repeated.value == pytest.approx(result.value, rel=1e-9)
    assert repeated.standard_error == pytest.approx(result.standard_error, rel=1e-9)


def test_rounding_of_features_changes_it_by_less_than_its_error():
    """As when an extractor gets batches of another size."""
    x, y = draw(2000, 20, 0), draw(2000, 20, 1)
    moved = y * (1 + 2e-7 * draw(2000, 20, 2, shift=-1.0))
    result, repeated = (
        polynomial_mmd(x, features, size=200, subsets=20) for features in (y, moved)
    )
    assert abs(repeated.value - result.value) < 0.02 * result.standard_error


def test_subsets_of_the_whole_sets_are_one():
    """Several would be equal, with a deviation of 0."""
    x, y = draw(60, 4, 0), draw(60, 4, 1)
    result = polynomial_mmd(x, y)
    assert (result.subsets, result.subset_size, result.std) == (1, 60, None)
    assert result.value == pytest.approx(by_pairs(x, y), rel=1e-9)


def test_features_whose_kernels_overflow_are_refused():
    x, y = draw(60, 4, 0).double(), draw(60, 4, 1).double()
    with pytest.raises(DataError, match=r"values up to .e\+30, whose kernels overflow"):
        polynomial_mmd(1e30 * x, 1e30 * y)
    with pytest.raises(DataError, match=r"values up to .e\+160, whose squares overflow"):
        polynomial_mmd(1e160 * x, 1e160 * y)
