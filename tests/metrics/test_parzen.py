import gzip
import math
import os
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import logsumexp

from advnets.errors import DataError, UnknownNameError, UsageError
from advnets.metrics.parzen import (
    FINE_GRID,
    PAPER_GRID,
    parzen_log_likelihood,
    parzen_log_likelihoods,
    parzen_score,
    select_sigma,
)


def exact(points: torch.Tensor, centers: torch.Tensor, sigma: float) -> np.ndarray:
    """Return log p by SciPy's distances (by differences) and logsumexp, in float64."""
    squares = cdist(points.double().numpy(), centers.double().numpy(), "sqeuclidean")
    mean = logsumexp(-0.5 * squares / sigma**2, axis=1) - math.log(len(centers))
    return mean - log_volume(points.shape[1], sigma)


def log_volume(d: int, sigma: float) -> float:
    return d * math.log(sigma * math.sqrt(2 * math.pi))


def draw(n: int, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def strokes(n: int, seed: int) -> torch.Tensor:
    """Return images of 784 pixels, mostly 0 or 1, like digits."""
    layout = 8 * draw(10, 784, seed=99) - 5
    picked = layout[torch.randint(10, (n,), generator=torch.Generator().manual_seed(seed))]
    return (picked + 2 * draw(n, 784, seed=seed) - 1).clamp(0, 1)


class TestLogLikelihood:
    def test_accuracy(self):
        """Each point is within 0.02 nats of float64, the mean within 0.001."""
        points, centers = strokes(1000, seed=1), strokes(1000, seed=2)
        computed = parzen_log_likelihoods(points, centers, (0.1, PAPER_GRID[2], 1.0)).numpy()
        for actual, sigma in zip(computed, (0.1, PAPER_GRID[2], 1.0), strict=True):
            error = actual - exact(points, centers, sigma)
            assert abs(error).max() < 0.02
            assert abs(error.mean()) < 0.001

    def test_float64_points_are_scored_in_float64(self):
        points, centers = draw(50, 20, dtype=torch.float64), draw(40, 20, seed=1).double()
        actual = parzen_log_likelihood(points, centers, 0.1).numpy()
        assert actual == pytest.approx(exact(points, centers, 0.1), rel=1e-12)

    def test_one_center_gives_its_gaussian(self):
        """With one center, log p is the log density of N(μ, σ² I)."""
        points, center = draw(7, 5).double(), draw(1, 5, seed=1).double()
        density = torch.distributions.Normal(center[0], 0.3).log_prob(points).sum(1)
        actual = parzen_log_likelihood(points, center, 0.3)
        torch.testing.assert_close(actual, density, rtol=1e-12, atol=1e-12)

    def test_the_density_integrates_to_one(self):
        """In one dimension, over a fine grid."""
        centers = draw(30, 1, dtype=torch.float64)
        axis = torch.linspace(-3, 4, 20_001, dtype=torch.float64)
        density = parzen_log_likelihood(axis[:, None], centers, 0.2).exp()
        assert float(torch.trapezoid(density, axis)) == pytest.approx(1, abs=1e-9)

    def test_blocks_do_not_matter(self):
        """Sets larger than a block, or not a multiple of one, give the exact sum."""
        points, centers = draw(1030, 6), draw(2100, 6, seed=1)
        actual = parzen_log_likelihood(points, centers, 0.2).numpy()
        assert actual == pytest.approx(exact(points, centers, 0.2), abs=1e-4)

    def test_order_does_not_matter(self):
        """The order of the centers changes only rounding."""
        points = draw(5, 9)
        centers = points[:1] + torch.linspace(3, 0, 3000)[:, None]
        forward = parzen_log_likelihood(points, centers, 0.1)
        backward = parzen_log_likelihood(points, centers.flip(0), 0.1)
        torch.testing.assert_close(forward, backward, rtol=0, atol=2e-3)

    def test_far_points_stay_finite(self):
        """A point a thousand σ from every center has its analytic log p."""
        actual = parzen_log_likelihood(torch.full((1, 4), 100.0), torch.zeros(3, 4), 0.1)
        assert float(actual) == pytest.approx(-0.5 * 4e4 / 0.01 - log_volume(4, 0.1), rel=1e-6)

    def test_each_row_is_the_score_of_its_sigma(self):
        """Row k of several σ equals the score with the k-th σ alone."""
        points, centers = draw(20, 8), draw(30, 8, seed=1)
        joint = parzen_log_likelihoods(points, centers, (0.5, 0.2))
        separate = [parzen_log_likelihood(points, centers, sigma) for sigma in (0.5, 0.2)]
        assert torch.equal(joint, torch.stack(separate))

    def test_inputs_are_not_modified(self):
        """Points and centers are unchanged, and no gradient is kept."""
        points, centers = draw(4, 3).requires_grad_(), draw(5, 3, seed=1)
        before = centers.clone()
        result = parzen_log_likelihood(points, centers, 0.2)
        assert torch.equal(points, draw(4, 3))
        assert torch.equal(centers, before)
        assert not result.requires_grad

    @pytest.mark.parametrize("precision", ["highest", "medium"])
    def test_autocast_and_matmul_precision_have_no_effect(self, precision):
        """Under bfloat16 autocast and reduced matmul precision the score is that of float32."""
        points, centers = strokes(200, seed=1), strokes(200, seed=2)
        plain = parzen_log_likelihood(points, centers, 0.1)
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(precision)
        try:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                lowered = parzen_log_likelihood(points, centers, 0.1)
            assert torch.get_float32_matmul_precision() == precision
        finally:
            torch.set_float32_matmul_precision(before)
        torch.testing.assert_close(lowered, plain, rtol=0, atol=0.02)

    def test_half_precision_images_are_scored_in_float32(self):
        """Float16 images give the score of the same numbers in float32."""
        points, centers = draw(20, 30).half(), draw(20, 30, seed=1).half()
        actual = parzen_log_likelihood(points, centers, 0.3)
        assert torch.equal(actual, parzen_log_likelihood(points.float(), centers.float(), 0.3))

    @pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
    def test_an_invalid_width_is_refused(self, sigma):
        with pytest.raises(
            UsageError, match=r"^σ is .*; expected 1e-09 to 1e\+09, and 0.1 to 1 is"
        ):
            parzen_log_likelihood(draw(3, 2), draw(3, 2), sigma)

    def test_an_empty_list_of_widths_is_refused(self):
        with pytest.raises(UsageError, match="grid of σ is empty; give at least one positive"):
            parzen_log_likelihoods(draw(3, 2), draw(3, 2), ())

    def test_an_empty_set_of_centers_is_refused(self):
        with pytest.raises(DataError, match=r"^0 centers came; the Parzen score needs 1 or more$"):
            parzen_log_likelihood(draw(3, 2), draw(0, 2), 1.0)


class TestGrids:
    def test_paper(self):
        """The paper's grid is numpy's logspace(-1, 0, 10)."""
        assert np.logspace(-1, 0, 10) == pytest.approx(PAPER_GRID, rel=1e-15)

    def test_fine(self):
        """The fine grid is numpy's arange(.1, .3, .01)."""
        assert np.arange(0.1, 0.3, 0.01) == pytest.approx(FINE_GRID, rel=1e-15)


class TestSelectSigma:
    def test_the_best_sigma_of_the_grid_is_selected(self):
        """It has the largest exact mean log-likelihood."""
        valid, samples = draw(60, 12), draw(80, 12, seed=1)
        means = [exact(valid, samples, sigma).mean() for sigma in PAPER_GRID]
        sigma, mean = select_sigma(valid, samples)
        assert sigma == PAPER_GRID[int(np.argmax(means))]
        assert mean == pytest.approx(max(means), abs=1e-3)

    def test_only_the_first_thousand_validation_points_count(self):
        valid, samples = draw(1100, 3), draw(50, 3, seed=1)
        spoiled = torch.cat([valid[:1000], 50 + valid[1000:]])
        assert select_sigma(spoiled, samples) == select_sigma(valid[:1000], samples)
        assert select_sigma(spoiled.flip(0), samples) != select_sigma(valid[:1000], samples)


class TestScore:
    def test_the_protocol_is_that_of_the_authors(self):
        """Mean and standard error over all test points, at the σ that validation points select."""
        samples, valid, test = draw(90, 1, 3, 3), draw(70, 1, 3, 3, seed=1), draw(50, 1, 3, 3)
        score = parzen_score(samples, valid, test)
        flat = [images.flatten(1) for images in (samples, valid, test)]
        sigma, valid_mean = select_sigma(flat[1], flat[0])
        expected = exact(flat[2], flat[0], sigma)
        assert asdict(score) == {
            "mean": pytest.approx(expected.mean(), abs=1e-3),
            "standard_error": pytest.approx(np.std(expected) / math.sqrt(50), rel=1e-3),
            "valid_mean": valid_mean,
            "sigma": sigma,
            "sigma_on_edge": False,
            "grid": "paper",
            "n_samples": 90,
            "n_valid": 70,
            "n_test": 50,
        }

    @pytest.mark.parametrize(("spread", "edge"), [(1e-4, 0.1), (30.0, 1.0)])
    def test_sigma_on_the_edge_of_the_grid_is_reported(self, spread, edge):
        """For data much finer or coarser than the grid."""
        score = parzen_score(*(spread * draw(20, 4, seed=seed) for seed in range(3)))
        assert (score.sigma, score.sigma_on_edge) == (edge, True)

    def test_the_number_of_validation_points_is_reported(self):
        """1,000 of 1,200."""
        assert parzen_score(draw(9, 2), draw(1200, 2), draw(9, 2), "fine").n_valid == 1000

    def test_unknown_grid(self):
        with pytest.raises(UnknownNameError, match="no Parzen grid is called 'finer'; did you"):
            parzen_score(draw(3, 2), draw(3, 2), draw(3, 2), "finer")

    @pytest.mark.parametrize("few", ["samples", "validation images", "test images"])
    def test_too_few_points_are_refused(self, few):
        """One test point has no standard error; the other sets need one point at least."""
        sets = ("samples", "validation images", "test images")
        with pytest.raises(DataError, match=f"^1 {few} came; the Parzen score needs 2 or more$"):
            parzen_score(*(draw(1 if name == few else 3, 2) for name in sets))

    def test_sets_of_different_shapes_are_refused(self):
        with pytest.raises(DataError) as error:
            parzen_score(draw(3, 1, 8, 8), draw(3, 1, 8, 8), draw(3, 1, 28, 28))
        assert str(error.value) == (
            "test images have shape (1, 28, 28) and samples (1, 8, 8); "
            "give both the same height, width and channels"
        )

    @pytest.mark.parametrize("broken", [math.nan, math.inf, 1e30])
    def test_non_finite_points_are_refused(self, broken):
        samples = draw(3, 2)
        samples[1, 1] = broken
        with pytest.raises(DataError, match=r"^samples hold numbers that are not finite, or too "):
            parzen_score(samples, draw(3, 2), draw(3, 2))


@pytest.fixture(scope="module")
def mnist() -> tuple[torch.Tensor, torch.Tensor]:
    """Return MNIST's training and test images as rows of 784 pixels in [0, 1]."""
    if "ADVNETS_DATA" not in os.environ:
        pytest.skip("the environment variable ADVNETS_DATA names no folder with MNIST in it")
    folder = Path(os.environ["ADVNETS_DATA"])

    def read(name: str) -> torch.Tensor:
        results = [path for path in (folder / "mnist" / name, folder / name) if path.exists()]
        if not results:
            pytest.skip(f"{name} is not in ADVNETS_DATA")
        pixels = np.frombuffer(gzip.decompress(results[0].read_bytes()), np.uint8, offset=16)
        return torch.from_numpy(pixels.reshape(-1, 784).astype(np.float32) / 255)

    return read("train-images-idx3-ubyte.gz"), read("t10k-images-idx3-ubyte.gz")


@pytest.mark.slow
class TestOnMnist:
    @pytest.mark.parametrize(
        ("grid", "mean", "sigma"), [("paper", 242.7, PAPER_GRID[2]), ("fine", 244.0, 0.18)]
    )
    def test_real_digits_score_243_nats(self, mnist, grid, mean, sigma):
        """10,000 of the 50,000 training digits."""
        train, test = mnist
        chosen = torch.randperm(50_000, generator=torch.Generator().manual_seed(0))[:10_000]
        score = parzen_score(train[chosen], train[50_000:], test, grid)
        assert score.sigma == sigma
        assert score.mean == pytest.approx(mean, abs=1)
        assert score.standard_error == pytest.approx(2, abs=0.3)

    def test_accuracy(self, mnist):
        """On real digits no point is off by more than .02 nats, the mean by no more than .001."""
        train, test = mnist
        computed = parzen_log_likelihoods(test[:1000], train[:1000], PAPER_GRID).numpy()
        for actual, sigma in zip(computed, PAPER_GRID, strict=True):
            error = actual - exact(test[:1000], train[:1000], sigma)
            assert abs(error).max() < 0.02
            assert abs(error.mean()) < 0.001

    def test_speed(self, mnist):
        """Ten σ take at most twice the time of one matrix product and the exponentials."""
        train, test = mnist
        centers, exponents = train[:10_000].contiguous(), -30 * draw(1000, 1000)
        products, terms, ratios = torch.empty(10_000, 10_000), torch.empty(1000, 1000), []

        def seconds(work) -> float:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start

        def exponentials() -> None:
            for _ in range(10 * 100):
                torch.exp(exponents, out=terms)

        for _ in range(3):
            floor = seconds(lambda: torch.mm(test, centers.T, out=products))
            floor += seconds(exponentials)
            actual = seconds(lambda: parzen_log_likelihoods(test, centers, PAPER_GRID))
            ratios.append(actual / floor)
        assert min(ratios) < 2
