"""The options of training data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import arg

from advnets.config.validation import LARGEST_IMAGE, ValidatedConfig, check_sizes, check_values


@dataclass(frozen=True)
class ImagePreprocessing(ValidatedConfig):
    """The options that bring a user's own images to one shape."""

    size: int = 32
    """Height in pixels to which your own images are resized; also the width, unless --width is
    given. Not for named datasets, whose size is fixed."""
    width: int | None = None
    """Width in pixels to which your own images are resized; None: equal to the height."""
    channels: Literal[1, 3] = 3
    """Channels of your own images: 1 (gray) or 3 (RGB). Not for named datasets."""
    crop: Literal["center", "pad", "random"] = "center"
    """Treatment of your own images of another aspect ratio: cropped at the center, padded to
    show the whole image, or cropped at a new random place every time."""
    background: str = "white"
    """Color behind transparent and padded images: a name, or '#rrggbb' in quotes."""
    white_level: float | None = None
    """Value of your own 16-bit images that becomes white, for example 4095 for 12-bit data;
    larger values become white too. None: 65,535."""
    follow_links: bool = False
    """Also read files that symbolic links in an image folder point to outside that folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "size", "width", max_size=LARGEST_IMAGE)
        check_values(self, "positive", lambda level: level > 0, "white_level")


@dataclass(frozen=True)
class Data(ImagePreprocessing):
    """The training data, and how they are preprocessed."""

    source: Annotated[str, arg(name="data", metavar="SOURCE")] = "digits"
    """Name of a dataset or distribution (see `advnets data list`), or a path to your own data."""
    directory: Annotated[str | None, arg(name="data-dir", metavar="DIR")] = None
    """Folder of the named datasets. None: the environment variable ADVNETS_DATA, else the user's
    cache folder."""
    hflip: bool = False
    """Flip each training image horizontally with probability 0.5 every time it is used."""
    stream: bool = False
    """Read shards or a Hugging Face dataset during training, instead of packing them first."""
    normalize: Literal["unit", "symmetric", "contrast", "none", "standard"] = "unit"
    """Range of the data that the models see. Images: [0, 1] (unit), [-1, 1] (symmetric), or global
    contrast normalization, mean 0 and norm 55 for each image (contrast). Points: unchanged (none),
    or mean 0 and standard deviation 1 (standard)."""
    batch_size: int = 100
    """Number of images in a batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "batch_size")
