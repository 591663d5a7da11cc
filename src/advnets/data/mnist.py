"""MNIST, to the bit (LeCun, Cortes and Burges, 1998)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from advnets.data.idx import find_idx, read_pictures
from advnets.data.places import listed
from advnets.data.source import Splits, hold_out_last
from advnets.errors import DataError

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""Of the files' unpacked content: the gzip around it differs from mirror to mirror."""
_VALID = 10_000


def open_mnist(folders: Sequence[Path]) -> Splits:
    """Open MNIST: the first 50,000 of its training digits, the last 10,000, and its test digits.

    Pictures are (1, 28, 28); labels are the digits.

    Raises:
        DataError: a file is in none of the folders, is broken, or is not MNIST's.
    """
    found = {name: _find(folders, name) for name in MD5}
    if absent := [name for name, path in found.items() if path is None]:
        raise DataError(
            f"no {listed(absent, 'or')} (as such or .gz) lies in {listed(folders, 'or')}; "
            f"to bring MNIST, type: advnets data fetch mnist"
        )
    files = {name: path for name, path in found.items() if path is not None}
    train, test = (
        read_pictures(files[images], files[labels], (MD5[images], MD5[labels]))
        for images, labels in (TRAIN, TEST)
    )
    return Splits("mnist", *hold_out_last(train, _VALID), test)


def _find(folders: Sequence[Path], name: str) -> Path | None:
    return next((path for folder in folders if (path := find_idx(folder, name))), None)
