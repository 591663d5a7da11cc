"""Properties of all metrics: independence of order and device, and refusals."""

from dataclasses import asdict, is_dataclass

import pytest
import torch

from advnets.data.synthetic.mixtures import Ring
from advnets.errors import DataError
from advnets.metrics.frechet import frechet_distance
from advnets.metrics.inception_score import inception_score
from advnets.metrics.memorization import memorization
from advnets.metrics.mixture import mixture_quality
from advnets.metrics.mmd import polynomial_mmd
from advnets.metrics.modes import mode_coverage
from advnets.metrics.parzen import parzen_log_likelihoods
from advnets.metrics.prdc import nearest_neighbor_test, prdc
from advnets.metrics.sliced_wasserstein import sliced_wasserstein


def draw(seed: int, n: int = 1300) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))


SETS = (draw(1), draw(2))
CENTERS = torch.from_numpy(Ring().components()[0])
POINTS = CENTERS.repeat(20, 1) + 0.01 * draw(3, 160)[:, :2]
METRICS = {
    "frechet": (frechet_distance, SETS),
    "mmd": (polynomial_mmd, SETS),
    "swd": (sliced_wasserstein, SETS),
    "prdc": (prdc, SETS),
    "two-sample-1nn": (nearest_neighbor_test, SETS),
    "memorization": (memorization, (*SETS, draw(4))),
    "inception-score": (inception_score, (draw(1),)),
    "modes": (lambda x: mode_coverage(x, 6), (draw(1).argmax(1),)),
    "parzen": (lambda x, y: parzen_log_likelihoods(x, y, (0.5, 1.0)), SETS),
    "points": (lambda x, y: mixture_quality(x, y, 0.01), (POINTS, CENTERS)),
}


def numbers(returned: object) -> list[float]:
    if isinstance(returned, torch.Tensor):
        return returned.flatten().tolist()
    values = asdict(returned).values() if is_dataclass(returned) else [returned]  # pyright: ignore
    return [float(v) for v in values if isinstance(v, int | float)]


def shuffled(x: torch.Tensor, seed: int) -> torch.Tensor:
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))]


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_images_does_not_matter(name):
    """Log-likelihoods are in the order of the points; all other values are single numbers."""
    metric, inputs = METRICS[name]
    result = numbers(metric(*(shuffled(features, seed) for seed, features in enumerate(inputs))))
    expected = numbers(metric(*inputs))
    if name == "parzen":
        result, expected = sorted(result), sorted(expected)
    assert result == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_non_finite_features_are_refused(name):
    """In any of the metric's sets, with one sentence."""
    metric, inputs = METRICS[name]
    if name == "modes":
        pytest.skip("modes are whole numbers: there is no NaN among them")
    for position in range(len(inputs)):
        broken = [features.clone() for features in inputs]
        broken[position][3, 1] = torch.nan
        with pytest.raises(DataError, match="not finite"):
            metric(*broken)


@pytest.mark.parametrize(
    ("name", "least"), [("frechet", 2), ("mmd", 2), ("swd", 1), ("prdc", 2), ("two-sample-1nn", 2)]
)
def test_sets_of_different_shapes_are_refused(name, least):
    of, (real, fake) = METRICS[name]
    with pytest.raises(DataError, match=rf"real features have shape \({least - 1}, 6\)"):
        of(real[: least - 1], fake)
    with pytest.raises(DataError, match="fake features have 4 columns and real ones 6"):
        of(real, fake[:, :4])
    with pytest.raises(DataError, match="fake features hold numbers that are not finite"):
        of(real, fake * torch.nan)
    with pytest.raises(DataError, match=r"real features have shape \(1300, 0\).* a column or more"):
        of(real[:, :0], fake[:, :0])


@pytest.mark.cuda
@pytest.mark.parametrize("name", METRICS)
def test_results_on_cuda_are_the_same(name):
    metric, inputs = METRICS[name]
    on_gpu = numbers(metric(*(features.cuda() for features in inputs)))
    assert on_gpu == pytest.approx(numbers(metric(*inputs)), rel=1e-4, abs=1e-6)
