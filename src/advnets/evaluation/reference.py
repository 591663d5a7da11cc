"""Real images that replace the test images of a run in an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from advnets import config
from advnets.data.dataset import Dataset, Shape, Split
from advnets.data.memory import open_images
from advnets.data.normalization import Normalizer
from advnets.data.prepared import DatasetInfo, PreparedData
from advnets.data.registry import open_dataset
from advnets.errors import UsageError

REFERENCE_METRICS = ("frechet", "mmd", "swd", "prdc", "two-sample-1nn", "inception-score")
"""The metrics that compare samples with test images and need no other data."""


def reference_data(
    real: object,
    metrics: Sequence[str],
    data: config.Data,
    info: DatasetInfo,
    normalizer: Normalizer,
) -> PreparedData:
    """Return a dataset whose test images are those to compare samples with.

    For a dataset or a path they are its test images, or its training images if it has none; for
    images in memory they are all images.

    Raises:
        UsageError: a metric needs other data as well, or the images have another shape than the
            run's.
        DataError: the dataset or an image cannot be read.
    """
    if others := [name for name in metrics if name not in REFERENCE_METRICS]:
        raise UsageError(
            f"real replaces the test images, and {others[0]} needs other images of the run too; "
            f"leave real out, or give metrics among {', '.join(REFERENCE_METRICS)}"
        )
    if isinstance(real, str | Path):
        real = open_dataset(replace(data, source=str(real), stream=False))
    if isinstance(real, Dataset):
        name, images = real.name, real.test or real.train
    else:
        name, images = "images", open_images(real, data, "real")
    if not isinstance(images, Split) or images.shape != info.shape:
        raise UsageError(
            f"real has {_describe(images.shape)}, expected {_describe(info.shape)} as in the run; "
            "give those"
        )
    dataset = Dataset(name=name, train=images, valid=None, test=images)
    recorded = replace(info, name=name, digest=dataset.digest())
    return PreparedData(dataset, normalizer, recorded)


def _describe(shape: Shape) -> str:
    """Return a phrase for images or points of a shape."""
    dims, height, width = shape
    if height == width == 1:
        return f"points of {dims} coordinate{'s' if dims > 1 else ''}"
    return f"images of shape {shape}"
