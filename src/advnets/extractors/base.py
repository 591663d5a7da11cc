"""The protocols of feature extractors, and helpers to check and process images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from advnets.errors import DataError

BATCH_SIZE = 500
"""The default number of images in a batch."""

_MAX_FEATURE = 1e12

InputShape = tuple[int | None, int | None, int | None]
"""Channels, height and width that an extractor expects; None: any."""


@runtime_checkable
class Extractor(Protocol):
    """A function from images to feature vectors, with a name and a digest."""

    @property
    def name(self) -> str:
        """Its name in records and on the command line."""
        ...

    @property
    def digest(self) -> str:
        """The SHA-256 of its weights or file, in hexadecimal; "" if it has none."""
        ...

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """Return the features of images in [0, 1], one row for each image.

        Args:
            pixels: images with pixels in [0, 1].
        """
        ...


@runtime_checkable
class ClassifierExtractor(Extractor, Protocol):
    """An extractor that also classifies images."""

    def logits(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n classes"]:
        """Return class logits: their softmax is p(class | image).

        Args:
            pixels: images with pixels in [0, 1].
        """
        ...


@runtime_checkable
class UsesLibraries(Protocol):
    """An extractor that depends on libraries other than torch."""

    @property
    def libraries(self) -> Mapping[str, str]:
        """The versions of these libraries, by name."""
        ...


ANY_SHAPE: InputShape = (None, None, None)


def check_pixels(name: str, pixels: Tensor, expected: InputShape) -> Tensor:
    """Return images as float32 on the CPU, after a check of their shape and range.

    Raises:
        DataError: their shape is not the expected one, or they are not in [0, 1].
    """
    images = check_image_shape(name, pixels, expected)
    if len(images) and (images.min() < 0 or images.max() > 1):  # NaN passes
        raise DataError(
            f"extractor {name!r} expects pixels in [0, 1], got {pixels.dtype} from "
            f"{images.min():.3g} to {images.max():.3g}; divide bytes by 255"
        )
    return images


def check_color_pixels(name: str, pixels: Tensor) -> Tensor:
    """Return images of any size as `check_pixels` does, for networks that take RGB images.

    Raises:
        DataError: they have not 1 or 3 channels, or are not in [0, 1].
    """
    images = check_pixels(name, pixels, (None, None, None))
    if images.shape[1] not in (1, 3):
        raise DataError(
            f"extractor {name!r} expects images of 1 or 3 channels, got {images.shape[1]}; choose "
            "another extractor"
        )
    return images


def check_image_shape(name: str, pixels: Tensor, expected: InputShape = ANY_SHAPE) -> Tensor:
    """Return images of any range as float32 on the CPU, after a check of their shape.

    Raises:
        DataError: they are not of shape (n, channels, height, width), or not of the expected one.
    """
    shape = tuple(pixels.shape[1:])
    if len(shape) != len(expected):
        raise DataError(
            f"extractor {name!r} expects images of shape (n, channels, height, width), got "
            f"{tuple(pixels.shape)}"
        )
    if any(
        size is not None and size != actual for size, actual in zip(expected, shape, strict=True)
    ):
        sizes = ", ".join("any" if size is None else str(size) for size in expected)
        raise DataError(
            f"extractor {name!r} expects images of shape ({sizes}), got {shape}; choose another "
            "extractor"
        )
    return pixels.to("cpu", torch.float32)


def weights_path(variable: str, file: str, network: str, source: str) -> Path:
    """Return the path of the user's weights: that in an environment variable, else torch's cache.

    Raises:
        DataError: there is no file; the message says from which source to download it.
    """
    value = os.environ.get(variable)
    path = Path(value).expanduser() if value else Path(torch.hub.get_dir()) / "checkpoints" / file
    if not path.is_file():
        raise DataError(
            f"the weights of {network} are not at {path}; download {file} from {source}, and set "
            f"the environment variable {variable} to its path"
        )
    return path


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shorten_error(error: Exception) -> str:
    """Return the message of another library's error on one line, at most 120 characters."""
    return " ".join(str(error).split())[:120]


@torch.no_grad()
def extract_in_batches(
    name: str,
    function: Callable[[Tensor], Tensor],
    pixels: Float[Tensor, "n channels height width"],
    *,
    min_batch: int = 1,
    max_batch: int = BATCH_SIZE,
) -> Float[Tensor, "n features"]:
    """Return the features that `function` computes of images, batch by batch, on the CPU.

    A last batch of fewer than `min_batch` images is padded with black images.

    Raises:
        DataError: `function` does not return a row for each image, or returns non-finite numbers.
    """
    # Compute the features of each batch, and check their shape.
    rows: list[Tensor] = []
    for block in pixels.split(max_batch):
        padding = max(min_batch - len(block), 0)
        row = function(F.pad(block, (0, 0, 0, 0, 0, 0, 0, padding)) if padding else block)
        if row.ndim != 2 or len(row) != len(block) + padding:
            raise DataError(
                f"extractor {name!r} returned shape {tuple(row.shape)} for "
                f"{len(block) + padding} images; expected (images, features): flatten the output "
                "of its last layer"
            )
        if not row.shape[1]:
            raise DataError(f"extractor {name!r} returned no features; expected at least one")
        rows.append(row[: len(block)].float().cpu())

    # Check that the features are finite, and not too large for distances.
    features = torch.cat(rows)
    largest = features.abs().max() if features.numel() else 0.0
    if _MAX_FEATURE < largest < torch.inf:
        raise DataError(
            f"extractor {name!r} returned numbers up to {largest:.1g}, whose distances overflow "
            f"float32; expected numbers below {_MAX_FEATURE:.0e}"
        )
    if not features.isfinite().all() and pixels.isfinite().all():
        raise DataError(
            f"extractor {name!r} returned numbers that are not finite for pixels in [0, 1]; "
            "check its weights"
        )
    return features
