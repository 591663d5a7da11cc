"""Draw from a generator and score it, on the way and at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from advnets import config
from advnets.data.scaling import Scaling
from advnets.data.source import Part, Stream
from advnets.errors import DataError
from advnets.experiment.build import OpenedData
from advnets.metrics.parzen import GRIDS, ParzenScore, parzen_score
from advnets.noise import Noise
from advnets.training.runtime import PRECISIONS, products
from advnets.types import Folding, Generator

BLOCK = 500
"""Samples that are drawn at once: the n-th sample of a seed is the same however many are asked."""
SAMPLES = 10_000
"""Samples that the Parzen window is laid on (Goodfellow et al. 2014)."""
VALIDATION = 1_000
"""Validation pictures that choose sigma."""
TEST = 10_000
"""Test pictures that are scored, at most: the first, as many as MNIST has."""


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn: on which device, and in which precision products are taken."""

    device: torch.device
    precision: torch.dtype = torch.float32

    @classmethod
    def of(cls, runtime: config.Runtime, device: torch.device) -> Drawing:
        """As the run trains."""
        return cls(device, PRECISIONS[runtime.precision])


def draw_samples(
    generator: nn.Module, scaling: Scaling, n: int, seed: int, drawing: Drawing
) -> Float[Tensor, "n channels height width"]:
    """Draw n samples as pixels in [0, 1], on the host, in eval mode.

    The first samples of a seed are the same whatever n is.
    """
    return torch.cat(list(sample_blocks(generator, scaling, n, seed, drawing)))[:n]


@torch.no_grad()
def sample_blocks(
    generator: nn.Module, scaling: Scaling, n: int, seed: int, drawing: Drawing
) -> Iterator[Float[Tensor, "block channels height width"]]:
    """The same, a block at a time; the last block is cut at n."""
    training = generator.training
    generator.eval()  # running statistics, which sampling leaves as they are
    net = cast(Generator, generator.folded() if isinstance(generator, Folding) else generator)
    try:
        for start in range(0, n, BLOCK):
            noise = Noise(seed, step=start // BLOCK, purpose="samples", device=drawing.device)
            with products(drawing.device, drawing.precision):
                pictures = net(net.latent(BLOCK, noise))
            yield scaling.to_pixels(pictures).float().cpu()[: n - start]
    finally:
        generator.train(training)


def pixels(pictures: Part, which: slice | np.ndarray) -> Float[Tensor, "n features"]:
    """Some pictures as rows of pixels in [0, 1]."""
    return torch.from_numpy(pictures.read(which)).flatten(1).float() / pictures.white


def real_pixels(train: Part | Stream, n: int, seed: int) -> Float[Tensor, "n features"]:
    """At most n training pictures, drawn without repetition; of a stream the first ones."""
    part = train if isinstance(train, Part) else train.head(n)
    return pixels(part, Noise(seed).permutation("real row", len(part))[:n])


def parzen_on_the_way(
    generator: nn.Module, data: OpenedData, seed: int, drawing: Drawing
) -> dict[str, Any]:
    """The Parzen log-likelihood on the paper's grid, as an event.

    Where several folds of a file share these training pictures, it is in `folds` for each of them.
    """
    samples = draw_samples(generator, data.scaling, SAMPLES, seed, drawing)
    own, served = data.splits.fold, data.splits.served
    folds = {n: parzen_by(samples, held.valid, held.test, "paper") for n, held in served.items()}
    score = folds[own] if own in folds else _parzen(samples, data, "paper")
    event: dict[str, Any] = {"metric": "parzen", **_briefly(score)}
    if folds:
        event["folds"] = [{"fold": n, **_briefly(score)} for n, score in folds.items()]
    return event


def parzen_records(
    generator: nn.Module,
    data: OpenedData,
    *,
    seed: int,
    step: int,
    weights: str,
    drawing: Drawing,
) -> list[dict[str, Any]]:
    """Parzen log-likelihoods on both grids, of samples and, beside them, of real pictures.

    The real-data row takes as many training pictures, drawn without repetition, for samples.
    """
    samples = draw_samples(generator, data.scaling, SAMPLES, seed, drawing)
    real = real_pixels(data.splits.train, SAMPLES, seed)
    records: list[dict[str, Any]] = []
    for grid in GRIDS:
        for name, centres, which in (
            ("generator", samples, weights),
            ("real training pictures", real, None),
        ):
            score = _parzen(centres, data, grid)
            records.append(
                {
                    "metric": "parzen",
                    "samples": name,
                    "weights": which,
                    "split": "test",
                    "seed": seed,
                    "step": step,
                    "data": data.facts.name,
                    **asdict(score),
                }
            )
    return records


def parzen_by(centres: Tensor, valid: Part, test: Part, grid: str) -> ParzenScore:
    """The Parzen log-likelihood of test pictures under samples, σ by the validation pictures."""
    points, tests = pixels(valid, slice(VALIDATION)), pixels(test, slice(TEST))
    return parzen_score(centres.flatten(1), points, tests, grid)


def _briefly(score: ParzenScore) -> dict[str, float]:
    return {
        "mean": score.mean,
        "valid_mean": score.valid_mean,
        "standard_error": score.standard_error,
        "sigma": score.sigma,
    }


def _parzen(centres: Tensor, data: OpenedData, grid: str) -> ParzenScore:
    valid, test = data.splits.valid, data.splits.test
    if valid is None or test is None:
        raise DataError(
            f"{data.facts.name} has no validation and test pictures, which the Parzen window "
            "needs; give a folder of at least 50 pictures or a named set"
        )
    return parzen_by(centres, valid, test, grid)
