"""Which images, and how they are shown to the nets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import arg

from advnets.config.validation import LARGEST_IMAGE, ValidatedConfig, check, sizes


@dataclass(frozen=True)
class Framing(ValidatedConfig):
    """What own images are brought to; named sets keep their size and channels."""

    size: int = 32
    """Height that own images are brought to, and width unless --width says it."""
    width: int | None = None
    """Width of own images; None: as their height."""
    channels: Literal[1, 3] = 3
    """Gray (1) or color (3), for own images; named sets keep theirs."""
    crop: Literal["center", "pad", "random"] = "center"
    """Own images of other shapes: cut about the center, fitted whole, or cut anew each time."""
    background: str = "white"
    """Color behind transparent and fitted images: a name, or '#rrggbb' in quotes."""
    white_level: float | None = None
    """Value of 16-bit own images that becomes white; None: 65,535. 4095 is that of 12-bit data.
    Larger values become white too."""
    follow_links: bool = False
    """Read also what symbolic links in a folder of own images lead to outside of that folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "size", "width", most=LARGEST_IMAGE)
        check(self, "positive", lambda level: level > 0, "white_level")


@dataclass(frozen=True)
class Data(Framing):
    """Which images, and how they are shown to the nets."""

    source: Annotated[str, arg(name="data", metavar="SOURCE")] = "digits"
    """A named set or distribution (see `advnets data list`), or the path of your own data."""
    directory: Annotated[str | None, arg(name="data-dir", metavar="DIR")] = None
    """Where named sets lie; else the environment variable ADVNETS_DATA, else the user's cache."""
    hflip: bool = False
    """Mirror training images left to right, each time with probability 1/2."""
    stream: bool = False
    """Read shards or a Hugging Face set as they come, and do not pack them first."""
    normalize: Literal["unit", "symmetric", "contrast", "none", "standard"] = "unit"
    """The nets' range: [0, 1] (unit), [-1, 1], or each image less its mean at norm 55 (contrast).
    Of points: none, or mean 0 and deviation 1 (standard)."""
    batch_size: int = 100
    """Images in a batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes(self, "batch_size")
