"""A source of pictures by its name or path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from advnets.config import Data
from advnets.data.cifar import is_cifar10_folder, open_cifar10, open_cifar10_folder
from advnets.data.digits import open_digits
from advnets.data.idx import is_idx_folder, open_idx_folder
from advnets.data.images import open_picture_folder
from advnets.data.mnist import open_mnist
from advnets.data.places import folders_of
from advnets.data.source import Splits
from advnets.data.tfd import is_mat, open_mat, open_tfd
from advnets.errors import DataError, UnknownNameError

NAMED: dict[str, Callable[[Sequence[Path]], Splits]] = {
    "digits": lambda _: open_digits(),
    "mnist": open_mnist,
    "cifar10": open_cifar10,
    "tfd": open_tfd,
}
"""Openers of the named sets, each given the folders to look in."""

# The first that says yes opens the path; a folder of nothing else is one of pictures.
_KINDS: tuple[tuple[Callable[[Path], bool], Callable[[Path, Data], Splits]], ...] = (
    (is_mat, lambda path, _: open_mat(path)),
    (is_idx_folder, lambda path, _: open_idx_folder(path)),
    (is_cifar10_folder, lambda path, _: open_cifar10_folder(path)),
    (Path.is_dir, open_picture_folder),
)


def open_source(data: Data) -> Splits:
    """Open the named set, or the folder or file, that `data.source` is.

    Raises:
        UnknownNameError: no set is called so, and no path is.
        DataError: the data is absent, broken or of no known kind; the message has the cure.
        MissingExtraError: a library that this source needs is not installed.
    """
    try:
        if data.source in NAMED:
            return NAMED[data.source](folders_of(data.source, data.directory))
        return _open_path(_existing(data.source), data)
    except OSError as error:  # mostly a folder that is another user's
        raise DataError(
            f"{error.filename or data.source} cannot be read ({error.strerror}); "
            f"see that it is yours to read"
        ) from None


def _open_path(path: Path, data: Data) -> Splits:
    for is_kind, opener in _KINDS:
        if is_kind(path):
            return opener(path, data)
    raise DataError(
        f"{path} is a file of no known kind; give a .mat file in TFD's layout, or a folder with "
        f"pictures, IDX files or CIFAR-10's binary batches"
    )


def _existing(source: str) -> Path:
    try:
        path = Path(source).expanduser()
        if source and path.exists():
            return path
    except (OSError, RuntimeError, ValueError):
        pass  # a name too long, a home nobody has: no path either
    raise UnknownNameError("data set, folder or file", source, NAMED)
