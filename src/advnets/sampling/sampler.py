"""Samples of a generator, samples of the data, and the Parzen score of samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from advnets import config
from advnets.data.class_proportions import ClassProportions, Labels, check_labels
from advnets.data.dataset import Split, StreamingSplit
from advnets.data.normalization import Normalizer
from advnets.distributed import gather_own, own_rows
from advnets.errors import STABILITY_ADVICE, DataError, DivergedError, UsageError
from advnets.protocols import ConditionalGenerator, Fusable, Generator
from advnets.rng import RNG
from advnets.training.devices import PRECISIONS

if TYPE_CHECKING:
    from advnets.data.prepared import PreparedData
    from advnets.metrics.parzen import ParzenScore

BLOCK = 500
"""The number of samples in a batch; the n-th sample of a seed does not depend on the total."""
NUM_SAMPLES = 10_000
"""The number of samples in a Parzen window (Goodfellow et al. 2014)."""
MAX_VALID_IMAGES = 1_000
"""The largest number of validation images that select sigma."""
MAX_TEST_IMAGES = 10_000
"""The largest number of test images, the first ones; as many as MNIST has."""

MAX_COLUMNS = 20
"""The largest number of classes in a grid of class-conditional samples, one per column."""


@dataclass(frozen=True)
class ComputeSettings:
    """The device and the precision of matrix products that samples are drawn with."""

    device: torch.device
    precision: torch.dtype = torch.float32

    @classmethod
    def from_runtime(cls, runtime: config.Runtime, device: torch.device) -> ComputeSettings:
        """Return the settings that a run was trained with.

        Args:
            runtime: the resolved runtime of the run.
            device: the device to draw on.
        """
        return cls(device, PRECISIONS[runtime.precision])


def draw_samples(
    generator: nn.Module,
    normalizer: Normalizer,
    n: int,
    seed: int,
    settings: ComputeSettings,
    labels: Labels | None = None,
) -> Float[Tensor, "n channels height width"]:
    """Draw n samples as pixels in [0, 1], on the host, in eval mode.

    The first samples of a seed are the same whatever n is. A conditional generator needs
    `labels`: class indices, or class proportions to draw them from.

    Args:
        generator: the generator, on the device of `settings`.
        normalizer: the scaling of its images to pixels.
        n: number of images, at least 1.
        seed: random seed of z.
        settings: device and precision.
        labels: class indices, (n,), or class proportions, for a conditional generator.

    Raises:
        UsageError: a conditional generator is given neither, or not n class indices.

    Example:
        >>> model = advnets.load("runs/digits")
        >>> settings = model.compute_settings
        >>> advnets.sampling.draw_samples(model.generator, model.normalizer, 4, 0, settings).shape
        torch.Size([4, 1, 8, 8])
    """
    starts = torch.arange(0, n, BLOCK)
    own = starts[own_rows(len(starts))].tolist()
    size = sum(min(BLOCK, n - start) for start in own)
    blocks = sample_blocks(generator, normalizer, n, seed, settings, labels, own)
    parts = gather_own(concatenate_blocks(blocks, size) if own else None)
    images = [part for part in parts if part is not None]
    return images[0] if len(images) == 1 else torch.cat(images)


def concatenate_blocks(
    blocks: Iterable[Float[Tensor, "_ channels height width"]], n: int
) -> Float[Tensor, "n channels height width"]:
    """Concatenate blocks of n images in total; memory holds the result and one block."""
    images: Tensor | None = None
    start = 0
    for block in blocks:
        if images is None:
            images = block.new_empty((n, *block.shape[1:]))
        images[start : start + len(block)] = block
        start += len(block)
    assert images is not None and start == n
    return images


def sample_blocks(
    generator: nn.Module,
    normalizer: Normalizer,
    n: int,
    seed: int,
    settings: ComputeSettings,
    labels: Labels | None = None,
    starts: Sequence[int] | None = None,
) -> Iterator[Float[Tensor, "block channels height width"]]:
    """Yield n samples as pixels in [0, 1], a block at a time; the last block may be smaller.

    Args:
        generator: the generator, on the device of `settings`.
        normalizer: the scaling of its images to pixels.
        n: number of images, at least 1.
        seed: random seed of z.
        settings: device and precision.
        labels: class indices, (n,), or class proportions, for a conditional generator.
        starts: indices of the first samples of blocks to yield, multiples of `BLOCK`; None: all.
    """
    starts = range(0, n, BLOCK) if starts is None else starts
    latents = latent_blocks(generator, n, seed, settings.device, labels, starts)
    for start, images in zip(
        starts, image_blocks(generator, normalizer, latents, settings), strict=True
    ):
        yield images[: n - start]


def latent_blocks(
    generator: nn.Module,
    n: int,
    seed: int,
    device: torch.device,
    labels: Labels | None = None,
    starts: Sequence[int] | None = None,
) -> Iterator[Float[Tensor, "block latent"]]:
    """Yield the latents of the first n samples of a seed, in blocks of `BLOCK` each.

    Raises:
        UsageError: a conditional generator is given neither labels nor proportions, or labels of
            another number than n.
    """
    classes: int = getattr(generator, "classes", 0)
    if isinstance(labels, Tensor):
        check_labels(labels, n, classes)
    elif labels is None and classes:
        raise UsageError(
            f"a generator of {classes} classes needs labels, got none; give a class index for each "
            "sample, or class proportions"
        )
    for start in range(0, n, BLOCK) if starts is None else starts:
        rng = RNG(seed, step=start // BLOCK, purpose="samples", device=device)
        if labels is None:
            yield cast(Generator, generator).latent(BLOCK, rng)
            continue
        if isinstance(labels, ClassProportions):
            classes_drawn = labels.draw(rng.uniform("class", BLOCK))
        else:
            block_labels = labels[start : start + BLOCK].long()
            classes_drawn = F.pad(block_labels, (0, BLOCK - len(block_labels)))
        yield cast(ConditionalGenerator, generator).latent(BLOCK, rng, classes_drawn.to(device))


def image_blocks(
    generator: nn.Module,
    normalizer: Normalizer,
    latents: Iterable[Float[Tensor, "_ latent"]],
    settings: ComputeSettings,
) -> Iterator[Float[Tensor, "_ channels height width"]]:
    """Yield G(z) as pixels in [0, 1] on the CPU, for each block of latents."""
    for images in generate_batches(generator, latents, settings):
        yield normalizer.to_pixels(images).float().cpu()


def generate_batches(
    generator: nn.Module, latents: Iterable[Float[Tensor, "_ latent"]], settings: ComputeSettings
) -> Iterator[Float[Tensor, "_ channels height width"]]:
    """Yield G(z) in eval mode, in the range of the networks and on their device.

    Raises:
        DivergedError: the generator's output is not finite.
    """
    training = generator.training
    generator.eval()  # batch norm uses its running statistics and does not update them
    net = generator.fused() if isinstance(generator, Fusable) else generator
    if net is not generator:  # convert the weights once, not in each pass as autocast does
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.weight.data = layer.weight.data.to(settings.precision)
    try:
        for z in latents:
            with (
                torch.no_grad(),
                torch.autocast(
                    settings.device.type,
                    settings.precision,
                    enabled=settings.precision != torch.float32,
                ),
            ):
                images = net(z)
            # A finite sum has finite terms, and takes less time.
            if not bool(images.sum().isfinite()) and not bool(images.isfinite().all()):
                raise DivergedError(
                    "the generator's output is not finite, as its weights have diverged; "
                    f"{STABILITY_ADVICE}"
                )
            yield images
    finally:
        generator.train(training)


def read_images(
    split: Split, index: slice | np.ndarray
) -> Float[Tensor, "n channels height width"]:
    """Return the images at these indices, in [0, 1]."""
    return torch.from_numpy(split.read(index)).float() / split.white_level


def read_pixel_rows(split: Split, index: slice | np.ndarray) -> Float[Tensor, "n features"]:
    """Return the images at these indices as rows of pixels in [0, 1]."""
    return read_images(split, index).flatten(1)


def real_images(
    train: Split | StreamingSplit, n: int, seed: int
) -> Float[Tensor, "n channels height width"]:
    """Return up to n distinct random training images in [0, 1]; of a stream, the first ones.

    Args:
        train: the training images.
        n: largest number of images.
        seed: random seed.
    """
    split = train if isinstance(train, Split) else train.head(n)
    return read_images(split, RNG(seed).permutation("real row", len(split))[:n])


def parzen_score_on_data(
    samples: Float[Tensor, "n channels height width"], data: PreparedData, grid: str
) -> ParzenScore:
    """Compute the Parzen score of samples in [0, 1] on the validation and test images of data.

    Raises:
        DataError: the data has no validation and test images.
    """
    return parzen_score_on_splits(samples, *require_held_out(data), grid)


def require_held_out(data: PreparedData) -> tuple[Split, Split]:
    """Return the validation and the test images.

    Raises:
        DataError: the data has none.
    """
    valid, test = data.dataset.valid, data.dataset.test
    if valid is None or test is None:
        raise DataError(
            f"{data.info.name} has no validation and test images, which the Parzen window "
            "needs; give a folder of at least 50 images or a named dataset"
        )
    return valid, test


def parzen_score_on_splits(
    samples: Float[Tensor, "n *shape"], valid: Split, test: Split, grid: str
) -> ParzenScore:
    """Compute the Parzen log-likelihood of test images, σ selected on validation images."""
    from advnets.metrics.parzen import parzen_score

    valid_rows = read_pixel_rows(valid, slice(MAX_VALID_IMAGES))
    test_rows = read_pixel_rows(test, slice(MAX_TEST_IMAGES))
    return parzen_score(samples.flatten(1), valid_rows, test_rows, grid)


def grid_classes(classes: int, columns: int | None = None) -> Int[Tensor, " columns"]:
    """Return the class that each column of a grid of class-conditional samples shows.

    All classes in their order where there are at most 20, else 20 spread evenly over them;
    `columns` sets another number of columns, which begins again with the first class when it
    exceeds the number of classes.
    """
    columns = min(classes, MAX_COLUMNS) if columns is None else columns
    if columns >= classes:
        return torch.arange(columns) % classes
    return torch.arange(columns) * classes // columns
