"""Digits: those of scikit-learn, MNIST, datasets of the same format, and stacked MNIST.

The 8x8 digits included in scikit-learn (Alpaydin and Kaynak, 1998) are the default dataset. MNIST
is by LeCun, Cortes and Burges (1998). Datasets in its format are Fashion-MNIST (Xiao, Rasul and
Vollgraf, 2017), KMNIST (Clanuwat et al., 2018) and EMNIST (Cohen et al., 2017).
Stacked MNIST has three MNIST digits as the channels of an image, and 1,000 modes: Metz, Poole, Pfau
and Sohl-Dickstein (2017), "Unrolled generative adversarial networks", section 3.3.1; sizes as in
Lin, Khetan, Fanti and Oh (2018), "PacGAN", section 4.1.
"""

from __future__ import annotations

import gzip
import hashlib
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from advnets.config import check_min, check_values
from advnets.data.dataset import ArraySplit, Dataset, Gather, Index, Shape, Split
from advnets.data.datasets.idx import decompressed_md5, find_idx, hold_out_sixth, read_images
from advnets.data.spec import fetch_command, join_words
from advnets.errors import DataError, MissingExtraError
from advnets.files import open_data_file
from advnets.rng import RNG

_DIGITS_WHITE_LEVEL, _DIGITS_HELD_OUT = 16, 300


def open_digits() -> Dataset:
    """Open the 1,797 digits: the first 1,197 for training, 300 for validation, 300 for testing.

    Images are (1, 8, 8) with values 0 to 16; labels are the digits.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    # Only the file is read, as an import of scikit-learn takes a second.
    library = find_spec("sklearn")
    if library is None or library.origin is None:
        raise MissingExtraError("sklearn", "digits")
    path = Path(library.origin).parent / "datasets/data/digits.csv.gz"
    with open_data_file(path) as file, gzip.open(file) as text:
        table = np.loadtxt(text, dtype=np.uint8, delimiter=",")
    pixels = np.ascontiguousarray(table[:, :-1]).reshape(-1, 1, 8, 8)
    split = ArraySplit(pixels, table[:, -1].astype(np.int64), _DIGITS_WHITE_LEVEL)
    n = len(split)
    bounds = (0, n - 2 * _DIGITS_HELD_OUT, n - _DIGITS_HELD_OUT, n)
    train, valid, test = (split.subset(slice(a, b)) for a, b in pairwise(bounds))
    return Dataset("digits", train, valid, test)


TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""The MD5s of MNIST's files after decompression; the gzipped files differ between mirrors."""
FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
KMNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "bdb82020997e1d708af4cf47b453dcf7",
    "train-labels-idx1-ubyte.gz": "e144d726b3acfaa3e44228e80efcd344",
    "t10k-images-idx3-ubyte.gz": "5c965bf0a639b31b8f53240b1b52f4d7",
    "t10k-labels-idx1-ubyte.gz": "7320c461ea6c1c855c0b718fb2a4b134",
}

EMNISTSplit = Literal["balanced", "byclass", "bymerge", "digits", "letters", "mnist"]


@dataclass(frozen=True)
class EMNIST:
    """The options of EMNIST."""

    split: EMNISTSplit = "balanced"
    """The name of one of EMNIST's six splits, which differ in their characters."""


@dataclass(frozen=True)
class MNISTVariant:
    """A dataset in the format of MNIST.

    `train` and `test` are the names of the files of images and labels. `md5s` are the MD5s of the
    decompressed files, by name. `first_label` is the smallest label in the files.
    """

    title: str
    name: str
    classes: tuple[str, ...]
    train: tuple[str, str] = TRAIN
    test: tuple[str, str] = TEST
    md5s: Mapping[str, str] = field(default_factory=dict[str, str])
    first_label: int = 0
    transposed: bool = False


_DIGITS = tuple(string.digits)
_FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
# In the merged splits, a lowercase letter that looks like its capital has the capital's class.
_MERGED = (*_DIGITS, *string.ascii_uppercase, *"abdefghnqrt")
_EMNIST_CLASSES: Mapping[EMNISTSplit, tuple[str, ...]] = {
    "balanced": _MERGED,
    "byclass": (*_DIGITS, *string.ascii_uppercase, *string.ascii_lowercase),
    "bymerge": _MERGED,
    "digits": _DIGITS,
    "letters": tuple(string.ascii_lowercase),
    "mnist": _DIGITS,
}


def open_mnist(folders: Sequence[Path]) -> Dataset:
    """Open MNIST; the last 10,000 of its 60,000 training images are the validation split.

    Images are (1, 28, 28); labels are the digits.

    Raises:
        DataError: a file is missing, damaged, or not the original.
    """
    return _open(MNISTVariant("MNIST", "mnist", _DIGITS, md5s=MD5), folders)


def open_fashion_mnist(folders: Sequence[Path]) -> Dataset:
    """Open Fashion-MNIST, split as MNIST: images of clothes, (1, 28, 28), in ten classes.

    Raises:
        DataError: a file is missing, damaged, or one of another dataset.
    """
    return _open(MNISTVariant("Fashion-MNIST", "fashion-mnist", _FASHION), folders)


def open_kmnist(folders: Sequence[Path]) -> Dataset:
    """Open KMNIST, split as MNIST: cursive Japanese characters, (1, 28, 28), in ten classes.

    Raises:
        DataError: a file is missing, damaged, or one of another dataset.
    """
    return _open(MNISTVariant("KMNIST", "kmnist", _KUZUSHIJI), folders)


def open_emnist(options: EMNIST, folders: Sequence[Path]) -> Dataset:
    """Open a split of EMNIST: letters and digits, (1, 28, 28).

    The last sixth of the training images is the validation split. Labels start at 0, also for
    "letters", where the files number them from 1. The files may be in a subfolder `gzip`.

    Raises:
        DataError: a file is missing or damaged.
    """
    train, test = (
        (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
        for stem in (f"emnist-{options.split}-{part}" for part in ("train", "test"))
    )
    variant = MNISTVariant(
        "EMNIST",
        "emnist",
        _EMNIST_CLASSES[options.split],
        train,
        test,
        first_label=1 if options.split == "letters" else 0,
        transposed=True,
    )
    return _open(variant, [path for folder in folders for path in (folder, folder / "gzip")])


def _open(variant: MNISTVariant, folders: Sequence[Path]) -> Dataset:
    # Find the files, and check that they are not those of another dataset.
    paths = {name: _find(folders, name) for name in (*variant.train, *variant.test)}
    if missing := [name for name, path in paths.items() if path is None]:
        raise DataError(
            f"{variant.title} ({join_words(missing)}, gzipped or not) is missing from "
            f"{join_words(folders)}; download it with: {fetch_command(variant.name, folders)}"
        )
    files = {name: path for name, path in paths.items() if path is not None}
    if not variant.md5s:
        for labels in (variant.train[1], variant.test[1]):
            _reject_other_dataset(variant, files[labels])
    # Read images and labels.
    train, test = (_read(variant, *names, files) for names in (variant.train, variant.test))
    return Dataset(variant.name, *hold_out_sixth(train), test, classes=variant.classes)


def _read(variant: MNISTVariant, images: str, labels: str, files: Mapping[str, Path]) -> ArraySplit:
    md5s = variant.md5s.get(images), variant.md5s.get(labels)
    split = read_images(files[images], files[labels], md5s)
    classes = np.asarray(split.labels) - variant.first_label
    if classes.min() < 0 or classes.max() >= len(variant.classes):
        first, last = variant.first_label, variant.first_label + len(variant.classes) - 1
        raise DataError(
            f"{files[labels]} must have labels from {first} to {last}, got "
            f"{classes.min() + first} to {classes.max() + first}; replace it with the original file"
        )
    if variant.transposed:
        split = replace(split, images=np.ascontiguousarray(split.images.transpose(0, 1, 3, 2)))
    return replace(split, labels=classes)


def _reject_other_dataset(variant: MNISTVariant, path: Path) -> None:
    """Reject a file of labels of another dataset whose files have the same names."""
    name = path.name.removesuffix(".gz")
    md5s_by_name = {"fashion-mnist": FASHION_MD5, "kmnist": KMNIST_MD5}
    known = {
        other: md5s.get(f"{name}.gz")
        for other, md5s in md5s_by_name.items()
        if other != variant.name
    }
    with open_data_file(path) as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    others = [other for other, md5 in known.items() if md5 == digest.hexdigest()]
    if MD5.get(name) == decompressed_md5(path):
        others.append("mnist")
    if others:
        raise DataError(
            f"{path} must be a file of {variant.title}, got one of {others[0]}; use a separate "
            "folder for each dataset"
        )


def _find(folders: Sequence[Path], name: str) -> Path | None:
    return next((path for folder in folders if (path := find_idx(folder, name))), None)


_STACKED_VALID, _STACKED_TEST = 10_000, 26_000
_MAX_STACKED = 10_000_000


@dataclass(frozen=True)
class StackedMNIST:
    """The options of stacked MNIST.

    Raises:
        UsageError: `n` is not between 1 and 10,000,000.
    """

    n: int = 128_000
    """The number of training images."""
    seed: int = 0
    """The random seed of the digits of all splits."""

    def __post_init__(self) -> None:
        check_min(self, 1, "n")
        check_values(self, f"at most {_MAX_STACKED:,}", lambda number: number <= _MAX_STACKED, "n")


class StackedSplit:
    """A split of images of shape (3, H, W), stacked from gray images on access.

    The red, green and blue channels of image k are the gray images indices[k, 0], indices[k, 1] and
    indices[k, 2]; its label (0 to 999) is 100 r + 10 g + b, where r, g and b are their labels.
    """

    def __init__(self, gray: ArraySplit, indices: Int32[np.ndarray, "n 3"]) -> None:
        if gray.labels is None:
            raise ValueError("the gray images must have labels")
        self._gray = gray
        self.indices: np.ndarray = indices
        self.shape: Shape = (3, *gray.shape[1:])
        self.white_level: int = gray.white_level
        self.labels: Int64[np.ndarray, " n"] = gray.labels[indices] @ np.array([100, 10, 1])

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: Index) -> np.ndarray:
        """Return some of the images, shape (rows, 3, H, W)."""
        return self._gray.images[self.indices[index], 0]

    def gather_fn(self, device: torch.device) -> Gather:
        """Return the function that gathers images by index on a device."""
        gather_gray, indices = self._gray.gather_fn(device), torch.from_numpy(self.indices)

        def gather(rows: Int64[Tensor, " rows"], rng: RNG) -> Tensor:
            gray_rows = indices.index_select(0, rows).long()
            return gather_gray(gray_rows.reshape(-1), rng).reshape(-1, *self.shape)

        return gather

    def digest(self) -> str:
        """Return the BLAKE2b digest of the gray images and the indices in hex."""
        digest = hashlib.blake2b(f"stacked/{self._gray.digest()}".encode(), digest_size=16)
        digest.update(np.ascontiguousarray(self.indices).data)
        return digest.hexdigest()


def open_stacked_mnist(options: StackedMNIST, folders: Sequence[Path]) -> Dataset:
    """Open stacked MNIST: n training, 10,000 validation and 26,000 test images.

    The digits of a split are drawn with replacement from the same split of MNIST; the first images
    do not depend on n.

    Raises:
        DataError: a file of MNIST is missing, damaged, or not the original.
    """
    digits = open_mnist(folders)
    train = stack(digits.train, options.n, options.seed, "train")
    valid = stack(digits.valid, _STACKED_VALID, options.seed, "valid")
    test = stack(digits.test, _STACKED_TEST, options.seed, "test")
    return Dataset(
        "stacked-mnist", train, valid, test, classes=tuple(f"{k:03}" for k in range(1000))
    )


def stack(gray: object, n: int, seed: int, purpose: str) -> Split:
    """Stack n triples of images, drawn with replacement by (seed, purpose)."""
    assert isinstance(gray, ArraySplit)  # the type of MNIST's splits
    # Compute exactly: uniform random numbers are multiples of 2^-24.
    uniform = RNG(seed, purpose="stacked").uniform(purpose, n, 3).numpy()
    indices = (uniform * 2**24).astype(np.int64) * len(gray) >> 24
    return StackedSplit(gray, indices.astype(np.int32))
