"""Metrics take what they are given where it lies."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass

import pytest
import torch

from advnets.data.synthetic.mixtures import Ring
from advnets.metrics.frechet import frechet_distance
from advnets.metrics.inception import inception_score
from advnets.metrics.kernel import kernel_distance
from advnets.metrics.manifold import nearest_neighbour_test, prdc
from advnets.metrics.memorisation import memorisation
from advnets.metrics.modes import mode_coverage
from advnets.metrics.parzen import parzen_log_likelihoods
from advnets.metrics.points import mixture_quality
from advnets.metrics.sliced import sliced_wasserstein


def drawn(seed: int, n: int = 1300) -> torch.Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))


SETS = (drawn(1), drawn(2))
CENTRES = torch.from_numpy(Ring().components()[0])
POINTS = CENTRES.repeat(20, 1) + 0.01 * drawn(3, 160)[:, :2]
METRICS = {
    "frechet": (frechet_distance, SETS),
    "kernel": (kernel_distance, SETS),
    "sliced": (sliced_wasserstein, SETS),
    "prdc": (prdc, SETS),
    "neighbour": (nearest_neighbour_test, SETS),
    "memorisation": (memorisation, (*SETS, drawn(4))),
    "inception": (inception_score, (drawn(1),)),
    "modes": (lambda x: mode_coverage(x, 6), (drawn(1).argmax(1),)),
    "parzen": (lambda x, y: parzen_log_likelihoods(x, y, (0.5, 1.0)), SETS),
    "points": (lambda x, y: mixture_quality(x, y, 0.01), (POINTS, CENTRES)),
}


def numbers(found: object) -> list[float]:
    if isinstance(found, torch.Tensor):
        return found.flatten().tolist()
    values = asdict(found).values() if is_dataclass(found) else [found]  # pyright: ignore
    return [float(v) for v in values if isinstance(v, int | float)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", METRICS)
def test_on_cuda_they_come_to_the_same(name):
    of, given = METRICS[name]
    there = numbers(of(*(some.cuda() for some in given)))
    assert there == pytest.approx(numbers(of(*given)), rel=1e-4, abs=1e-6)
