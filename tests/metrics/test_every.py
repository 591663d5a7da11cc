"""What holds for every metric: order, devices, and what is refused."""

from __future__ import annotations

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


def drawn(seed: int, n: int = 1300) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))


SETS = (drawn(1), drawn(2))
CENTERS = torch.from_numpy(Ring().components()[0])
POINTS = CENTERS.repeat(20, 1) + 0.01 * drawn(3, 160)[:, :2]
METRICS = {
    "frechet": (frechet_distance, SETS),
    "mmd": (polynomial_mmd, SETS),
    "swd": (sliced_wasserstein, SETS),
    "prdc": (prdc, SETS),
    "two-sample-1nn": (nearest_neighbor_test, SETS),
    "memorization": (memorization, (*SETS, drawn(4))),
    "inception-score": (inception_score, (drawn(1),)),
    "modes": (lambda x: mode_coverage(x, 6), (drawn(1).argmax(1),)),
    "parzen": (lambda x, y: parzen_log_likelihoods(x, y, (0.5, 1.0)), SETS),
    "points": (lambda x, y: mixture_quality(x, y, 0.01), (POINTS, CENTERS)),
}


def numbers(found: object) -> list[float]:
    if isinstance(found, torch.Tensor):
        return found.flatten().tolist()
    values = asdict(found).values() if is_dataclass(found) else [found]  # pyright: ignore
    return [float(v) for v in values if isinstance(v, int | float)]


def shuffled(x: torch.Tensor, seed: int) -> torch.Tensor:
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))]


@pytest.mark.parametrize("name", METRICS)
def test_the_order_of_images_does_not_matter(name):
    """Log-likelihoods come in the order of the points; all else is a number of the whole."""
    of, given = METRICS[name]
    found = numbers(of(*(shuffled(some, seed) for seed, some in enumerate(given))))
    expected = numbers(of(*given))
    if name == "parzen":
        found, expected = sorted(found), sorted(expected)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_nothing_but_numbers_comes_in(name):
    """One error of ours, a sentence, whatever of the metric's sets holds it."""
    of, given = METRICS[name]
    if name == "modes":
        pytest.skip("modes are whole numbers: there is no NaN among them")
    for position in range(len(given)):
        broken = [some.clone() for some in given]
        broken[position][3, 1] = torch.nan
        with pytest.raises(DataError, match="not finite"):
            of(*broken)


@pytest.mark.parametrize(
    ("name", "least"),
    [("frechet", 2), ("mmd", 2), ("swd", 1), ("prdc", 2), ("two-sample-1nn", 2)],
)
def test_sets_that_cannot_be_compared_are_refused(name, least):
    of, (real, fake) = METRICS[name]
    with pytest.raises(DataError, match=rf"real features have shape \({least - 1}, 6\)"):
        of(real[: least - 1], fake)
    with pytest.raises(DataError, match="fake features have 4 columns and real ones 6"):
        of(real, fake[:, :4])
    with pytest.raises(DataError, match="fake features hold numbers that are not finite"):
        of(real, fake * torch.nan)
    with pytest.raises(DataError, match=r"real features have shape \(1300, 0\).* a column or more"):
        of(real[:, :0], fake[:, :0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", METRICS)
def test_on_cuda_they_come_to_the_same(name):
    of, given = METRICS[name]
    there = numbers(of(*(some.cuda() for some in given)))
    assert there == pytest.approx(numbers(of(*given)), rel=1e-4, abs=1e-6)
