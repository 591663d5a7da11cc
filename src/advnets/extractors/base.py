"""What an extractor is, and how images go through one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from advnets.errors import DataError

BATCH_SIZE = 500
"""Images that go through a net at once."""

_MAX_FEATURE = 1e12

InputShape = tuple[int | None, int | None, int | None]
"""Channels, height and width that an extractor takes; None: any."""


@runtime_checkable
class Extractor(Protocol):
    """From images to features."""

    @property
    def name(self) -> str:
        """What it is known by."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of its weights or of its file; "" if it has none."""
        ...

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """The features of images in [0, 1], one row for each."""
        ...


@runtime_checkable
class ClassifierExtractor(Extractor, Protocol):
    """An extractor that tells classes too."""

    def logits(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n classes"]:
        """Softmax of them is p(class | image)."""
        ...


@runtime_checkable
class UsesLibraries(Protocol):
    """An extractor that others run than torch."""

    @property
    def libraries(self) -> Mapping[str, str]:
        """Version of each, by its name."""
        ...


ANY_SHAPE: InputShape = (None, None, None)


def check_pixels(name: str, pixels: Tensor, expected: InputShape) -> Tensor:
    """Images as nets are handed them, in float32 on the processor.

    Raises:
        DataError: they are no images that the extractor takes, or not in [0, 1].
    """
    shares = check_image_shape(name, pixels, expected)
    if len(shares) and (shares.min() < 0 or shares.max() > 1):  # what is not finite passes
        raise DataError(
            f"images of {pixels.dtype} from {shares.min():.3g} to {shares.max():.3g} came; "
            f"extractor {name!r} takes numbers in [0, 1]: divide bytes by 255"
        )
    return shares


def check_image_shape(name: str, pixels: Tensor, expected: InputShape = ANY_SHAPE) -> Tensor:
    """The same of any range, as points are.

    Raises:
        DataError: they are no images, or their channels, height or width are others than it
            takes.
    """
    came = tuple(pixels.shape[1:])
    if len(came) != len(expected):
        raise DataError(
            f"images of shape {tuple(pixels.shape)} came; extractor {name!r} takes (images, "
            "channels, height, width)"
        )
    if any(want is not None and want != have for want, have in zip(expected, came, strict=True)):
        takes = ", ".join("any" if want is None else str(want) for want in expected)
        raise DataError(
            f"images of shape {came} came; extractor {name!r} knows images of ({takes}): "
            "choose another one"
        )
    return pixels.to("cpu", torch.float32)


def shorten_error(error: Exception) -> str:
    """What another library says went wrong, cut short."""
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
    """What `of` gives for images, `least` to `most` at a time; too few are filled up with black.

    Raises:
        DataError: it gives no row of numbers for each image, or some that are not finite.
    """
    rows: list[Tensor] = []
    for block in pixels.split(max_batch):
        lacking = max(min_batch - len(block), 0)
        row = function(F.pad(block, (0, 0, 0, 0, 0, 0, 0, lacking)) if lacking else block)
        if row.ndim != 2 or len(row) != len(block) + lacking:
            raise DataError(
                f"extractor {name!r} gave {tuple(row.shape)} for {len(block) + lacking} images; "
                "it must give (images, features): let it end in a flattened layer"
            )
        if not row.shape[1]:
            raise DataError(f"extractor {name!r} gave no features; it must give at least one")
        rows.append(row[: len(block)].float().cpu())
    features = torch.cat(rows)
    largest = features.abs().max() if features.numel() else 0.0
    if _MAX_FEATURE < largest < torch.inf:
        raise DataError(
            f"extractor {name!r} gave numbers up to {largest:.1g}, whose distances are too large "
            f"for float32; let it give numbers below {_MAX_FEATURE:.0e}"
        )
    if not features.isfinite().all() and pixels.isfinite().all():
        raise DataError(
            f"extractor {name!r} gave numbers that are not finite; it is handed pixels in [0, 1]"
        )
    return features
