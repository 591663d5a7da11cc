"""MNIST, to the bit (LeCun, Cortes and Burges, 1998), and the sets that took its shape.

Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017), KMNIST (Clanuwat et al., 2018) and EMNIST (Cohen,
Afshar, Tapson and van Schaik, 2017).
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from advnets.data.dataset import ArraySplit, Dataset
from advnets.data.datasets.formats.idx import find_idx, hold_out_sixth, read_images, unpacked_md5
from advnets.data.spec import fetch_command, join_words
from advnets.errors import DataError
from advnets.files import open_data_file

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""Of MNIST's files, unpacked: the gzip around them differs from mirror to mirror."""
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
    """Which of EMNIST's six ways to choose among its characters."""

    split: EMNISTSplit = "balanced"


@dataclass(frozen=True)
class MNISTVariant:
    """A set in MNIST's shape: its names, its files (images, labels), and what is known of them.

    `unpacked` are MD5s of unpacked files; `first_label` is what its labels begin at; `upright` says
    that its images are not stored transposed.
    """

    title: str
    name: str
    classes: tuple[str, ...]
    train: tuple[str, str] = TRAIN
    test: tuple[str, str] = TEST
    unpacked: Mapping[str, str] = field(default_factory=dict[str, str])
    first_label: int = 0
    upright: bool = True


_DIGITS = tuple(string.digits)
_FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
# Where a small letter looks as its capital, the merged splits count both as the capital.
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
    """Open MNIST: the first 50,000 of its training digits, the last 10,000, and its test digits.

    Images are (1, 28, 28); labels are the digits.

    Raises:
        DataError: a file is in none of the folders, is broken, or is not MNIST's.
    """
    return _open(MNISTVariant("MNIST", "mnist", _DIGITS, unpacked=MD5), folders)


def open_fashion_mnist(folders: Sequence[Path]) -> Dataset:
    """Open Fashion-MNIST, split as MNIST: images of clothes, (1, 28, 28), in ten classes.

    Raises:
        DataError: a file is in none of the folders, is broken, or is another set's.
    """
    return _open(MNISTVariant("Fashion-MNIST", "fashion-mnist", _FASHION), folders)


def open_kmnist(folders: Sequence[Path]) -> Dataset:
    """Open KMNIST, split as MNIST: cursive Japanese characters, (1, 28, 28), in ten classes.

    Raises:
        DataError: a file is in none of the folders, is broken, or is another set's.
    """
    return _open(MNISTVariant("KMNIST", "kmnist", _KUZUSHIJI), folders)


def open_emnist(options: EMNIST, folders: Sequence[Path]) -> Dataset:
    """Open a split of EMNIST: letters and digits, (1, 28, 28), turned upright.

    The last sixth of its training images is for validation. Labels begin at 0, also those of
    "letters", which the files number from 1.

    Raises:
        DataError: a file is in none of the folders (or their `gzip`), or is broken.
    """
    train, test = (
        (f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte")
        for stem in (f"emnist-{options.split}-{part}" for part in ("train", "test"))
    )
    kin = MNISTVariant(
        "EMNIST",
        "emnist",
        _EMNIST_CLASSES[options.split],
        train,
        test,
        first_label=1 if options.split == "letters" else 0,
        upright=False,
    )
    return _open(kin, [place for folder in folders for place in (folder, folder / "gzip")])


def _open(kin: MNISTVariant, folders: Sequence[Path]) -> Dataset:
    found = {name: _find(folders, name) for name in (*kin.train, *kin.test)}
    if absent := [name for name, path in found.items() if path is None]:
        raise DataError(
            f"no {join_words(absent, 'or')} (as such or .gz) lies in {join_words(folders, 'or')}; "
            f"to bring {kin.title}, type: {fetch_command(kin.name, folders)}"
        )
    files = {name: path for name, path in found.items() if path is not None}
    if not kin.unpacked:
        for labels in (kin.train[1], kin.test[1]):
            _refuse_others(kin, files[labels])
    train, test = (_read(kin, *names, files) for names in (kin.train, kin.test))
    return Dataset(kin.name, *hold_out_sixth(train), test, classes=kin.classes)


def _read(kin: MNISTVariant, images: str, labels: str, files: Mapping[str, Path]) -> ArraySplit:
    md5s = kin.unpacked.get(images), kin.unpacked.get(labels)
    split = read_images(files[images], files[labels], md5s)
    classes = np.asarray(split.labels) - kin.first_label
    if classes.min() < 0 or classes.max() >= len(kin.classes):
        first, last = kin.first_label, kin.first_label + len(kin.classes) - 1
        raise DataError(
            f"{files[labels]} has labels from {classes.min() + first} to {classes.max() + first}, "
            f"but {first} to {last} were expected; put the right file there"
        )
    if not kin.upright:
        turned = np.ascontiguousarray(split.images.transpose(0, 1, 3, 2))
        split = replace(split, images=turned)
    return replace(split, labels=classes)


def _refuse_others(kin: MNISTVariant, path: Path) -> None:
    """Refuse a file of labels that is known as another set's: all go by the same names."""
    name = path.name.removesuffix(".gz")
    own = {"fashion-mnist": FASHION_MD5, "kmnist": KMNIST_MD5}
    known = {other: md5s.get(f"{name}.gz") for other, md5s in own.items() if other != kin.name}
    with open_data_file(path) as file:
        packed = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    others = [other for other, md5 in known.items() if md5 == packed.hexdigest()]
    if MD5.get(name) == unpacked_md5(path):
        others.append("mnist")
    if others:
        raise DataError(
            f"{path} is that of {others[0]}, not of {kin.title}; give each set a folder of its own"
        )


def _find(folders: Sequence[Path], name: str) -> Path | None:
    return next((path for folder in folders if (path := find_idx(folder, name))), None)
