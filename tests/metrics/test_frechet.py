import math

import numpy as np
import pytest
import scipy.linalg
import torch

from advnets.errors import DataError, FewImagesWarning
from advnets.metrics import frechet as module
from advnets.metrics.frechet import frechet_distance, frechet_standard_error


def draw(n: int, d: int, seed: int) -> torch.Tensor:
    """Return correlated features of different scales."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=torch.Generator().manual_seed(9))
    return torch.randn(n, d, generator=generator) @ mixing * (1 + 0.1 * seed) + 0.2 * seed


def by_scipy(x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the formula with SciPy's matrix root of the product, which is not symmetric."""
    a, b = x.double().numpy(), y.double().numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(scipy.linalg.sqrtm(cov_a @ cov_b))
    gap = a.mean(0) - b.mean(0)
    return float(gap @ gap + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(root))


@pytest.mark.parametrize(("n", "m", "d"), [(200, 300, 2), (500, 400, 20), (700, 600, 515)])
def test_the_distance_equals_the_formula(n, m, d):
    x, y = draw(n, d, 1), draw(m, d, 2)
    assert frechet_distance(x, y) == pytest.approx(by_scipy(x, y), rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(by_scipy(x, y), rel=1e-9)


def test_large_samples_have_the_distance_of_their_gaussians():
    """N(0, 1) and N(1, 4) in each of three independent columns: 3 (1 + (2 - 1)²)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200_000, 3, generator=generator, dtype=torch.float64)
    y = 1 + 2 * torch.randn(200_000, 3, generator=generator, dtype=torch.float64)
    assert frechet_distance(x, y) == pytest.approx(6, rel=0.02)


def test_equal_sets_have_distance_zero():
    x = draw(300, 40, 1)
    assert 0 <= frechet_distance(x, x.clone()) < 1e-9
    flat = torch.cat((x, x[:, :5]), dim=1)  # singular: repeated columns
    assert 0 <= frechet_distance(flat, flat.clone()) < 1e-9


def test_order_and_shift_do_not_matter():
    x, y = draw(300, 8, 1).double(), draw(300, 8, 2).double()
    distance = frechet_distance(x, y)
    assert frechet_distance(x.flip(0), y) == pytest.approx(distance, rel=1e-12)
    assert frechet_distance(x + 1000, y + 1000) == pytest.approx(distance, rel=1e-8)


def test_the_distance_equals_that_of_torchmetrics(peer):
    x, y = draw(400, 20, 1).double(), draw(500, 20, 2).double()
    moments = (value for features in (x, y) for value in (features.mean(0), features.T.cov()))
    reference = float(peer("torchmetrics.image.fid")._compute_fid(*moments))
    assert frechet_distance(x, y) == pytest.approx(reference, rel=1e-6)


def test_the_distance_equals_that_of_torch_fidelity(fidelity):
    x, y = draw(400, 20, 1).double(), draw(500, 20, 2).double()
    module = fidelity("metric_fid")
    statistics = (module.fid_features_to_statistics(features) for features in (x, y))
    torch_result = module.fid_statistics_to_metric(*statistics, verbose=False)
    expected = torch_result["frechet_inception_distance"]
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("fall", [1, 3, 5, 7])
@pytest.mark.parametrize("turned", ["not", "together", "apart"])
def test_features_of_different_scales_are_accurate(fall, turned):
    """Compared with NumPy's singular values of the roots, for variances i^-fall, smallest first.

    The last matrix is nearly singular and takes another branch.
    """
    rng = np.random.default_rng(fall)
    scales = np.arange(1, 101.0)[::-1] ** (-fall / 2)
    turns = [np.linalg.qr(rng.normal(size=(100, 100)))[0] for _ in range(2)]
    first, second = {"not": [np.eye(100)] * 2, "together": turns[:1] * 2, "apart": turns}[turned]
    x = rng.normal(size=(1000, 100)) * scales @ first
    y = 1.05 * rng.normal(size=(1000, 100)) * scales @ second

    def root(points):
        _, s, basis = np.linalg.svd((points - points.mean(0)) / np.sqrt(999), full_matrices=False)
        return s[:, None] * basis

    overlap = np.linalg.svd(root(x) @ root(y).T, compute_uv=False).sum()
    traces = x.var(0, ddof=1).sum() + y.var(0, ddof=1).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + traces - 2 * overlap
    result = frechet_distance(torch.from_numpy(x), torch.from_numpy(y))
    assert result == pytest.approx(expected, rel=1e-8)


@pytest.mark.filterwarnings("ignore::advnets.errors.FewImagesWarning")
def test_small_distances_of_singular_gaussians_are_accurate():
    """Fewer images than features, moved by 1.4e-3: the distance is 1.9e-6.

    Roots of eigenvalues that are 0 up to rounding would have larger errors.
    """
    x = torch.randn(50, 200, generator=torch.Generator().manual_seed(0))
    step = torch.randn(1, 200, generator=torch.Generator().manual_seed(1))
    y = x + 1e-4 * step
    a, b = ((s.double() - s.double().mean(0)) / 7 for s in (x, y))
    gap = (x.double().mean(0) - y.double().mean(0)).square().sum()
    spread = a.square().sum() + b.square().sum() - 2 * torch.linalg.svdvals(a @ b.T).sum()
    assert 1e-6 < frechet_distance(x, y) == pytest.approx(float(gap + spread), rel=1e-5)


@pytest.mark.filterwarnings("ignore::advnets.errors.FewImagesWarning")
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_distance_of_any_sets_is_finite_and_at_least_0(scale):
    for n, m, d in ((2, 2, 50), (3, 90, 30), (60, 60, 60), (80, 5, 2)):
        x, y = scale * draw(n, d, 1), scale * draw(m, d, 2)
        distance = frechet_distance(x, y)
        assert isinstance(distance, float)
        assert math.isfinite(distance)
        assert distance > 0
        assert frechet_distance(x, x) <= 1e-9 * scale**2 * 1e3


@pytest.mark.parametrize("n", [10, 20])
def test_no_more_images_than_features_give_a_warning(n):
    """n images span n - 1 dimensions about their mean."""
    message = f"{n} fake images are too few for 20 features"
    with pytest.warns(FewImagesWarning, match=message):
        frechet_distance(draw(30, 20, 1), draw(n, 20, 2))
    frechet_distance(draw(30, 20, 1), draw(21, 20, 2))


def flat(x: np.ndarray) -> np.ndarray:
    """Return features of which some are constant in one set."""
    return np.hstack((x[:, :3], np.zeros((len(x), 1))))


WIDER = np.random.default_rng(1).normal(size=(4, 7))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.copy, np.copy),
        (lambda x: x @ WIDER, lambda x: x @ WIDER),
        (np.copy, flat),
        (flat, np.copy),
        (flat, flat),
        (flat, lambda x: flat(x)[:, ::-1].copy()),
    ],
    ids=["full", "both in a plane", "fake flat", "real flat", "both flat", "flat, each elsewhere"],
)
def test_the_standard_error_equals_the_deviation_over_draws(first, second):
    """Over 300 draws of two normal sets with different, rotated covariances."""
    rng = np.random.default_rng(0)
    factors = [rng.normal(size=(4, 4)) for _ in range(2)]
    results = []
    for _ in range(300):
        x, y = (
            torch.from_numpy(spanning(rng.normal(size=(n, 4)) @ factor + shift))
            for n, factor, shift, spanning in zip(
                (400, 700), factors, (0.0, 0.7), (first, second), strict=True
            )
        )
        results.append((frechet_distance(x, y), frechet_standard_error(x, y)))
    distances, errors = np.array(results).T
    assert np.mean(errors) == pytest.approx(np.std(distances, ddof=1), rel=0.12)
    assert np.std(errors) < 0.1 * np.mean(errors)


def test_the_standard_error_ignores_constant_features_and_needs_enough_images():
    x, y = draw(300, 5, 1), draw(200, 5, 2)
    error = frechet_standard_error(x, y)
    dead = (torch.cat((features, torch.full((len(features), 2), 0.1)), 1) for features in (x, y))
    assert frechet_standard_error(*dead) == pytest.approx(error, rel=1e-9)
    twice = (torch.cat((features, features), 1) for features in (x, y))
    assert frechet_standard_error(*twice) == pytest.approx(2 * error, rel=1e-9)
    assert frechet_standard_error(torch.ones(300, 5), torch.zeros(200, 5)) == 0
    for n, known in ((4, False), (5, False), (6, True)):  # n rows about their mean span n - 1
        assert (frechet_standard_error(x, draw(n, 5, 3)) is not None) == known
        assert (frechet_standard_error(draw(n, 5, 3), x) is not None) == known


def test_the_standard_error_of_one_feature_equals_its_formula():
    """Influence of y: 2 (y - m) (m - m') + (y - m)² (1 - s' / s), with s over n - 1."""
    x, y = draw(12, 1, 1).double(), draw(9, 1, 2).double() + 1

    def part(points, others):
        a, b = points[:, 0].numpy(), others[:, 0].numpy()
        deviations, mean_difference = a - a.mean(), a.mean() - b.mean()
        influence = 2 * deviations * mean_difference + deviations**2 * (
            1 - b.std(ddof=1) / a.std(ddof=1)
        )
        return influence.var(ddof=1) / len(a)

    expected = math.sqrt(part(x, y) + part(y, x))
    assert frechet_standard_error(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("of", [frechet_distance, frechet_standard_error])
def test_features_of_different_shapes_are_refused(of):
    with pytest.raises(DataError, match="fake features have 4 columns and real ones 5"):
        of(draw(30, 5, 1), draw(30, 4, 2))
    with pytest.raises(DataError, match="fake features hold numbers that are not finite"):
        of(draw(30, 5, 1), draw(30, 5, 2) * math.nan)
    with pytest.raises(DataError, match="real features have shape"):
        of(draw(1, 5, 1), draw(30, 5, 2))


@pytest.mark.filterwarnings("ignore::advnets.errors.FewImagesWarning")
def test_few_images_of_many_features_need_no_covariance(monkeypatch):
    """With 20,000 features it would have 3.2 GB, and its roots would take hours."""
    monkeypatch.setattr(module, "_gram", lambda _: pytest.fail("a covariance was filled"))
    x, y = draw(8, 20_000, 1), draw(300, 20_000, 2)
    a, b = ((s - s.mean(0)) / math.sqrt(len(s) - 1) for s in (x.numpy(), y.numpy()))
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    gap = ((x.numpy().mean(0) - y.numpy().mean(0)) ** 2).sum()
    expected = gap + (a**2).sum() + (b**2).sum() - 2 * overlap
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)
    assert frechet_standard_error(x, y) is None
