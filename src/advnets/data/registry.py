"""A source of data by its name or path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from advnets.config import Data
from advnets.data import spec
from advnets.data.dataset import Dataset
from advnets.data.datasets.cifar import (
    CIFAR100,
    is_cifar10_folder,
    is_cifar100_folder,
    open_cifar10,
    open_cifar10_folder,
    open_cifar100,
    open_cifar100_folder,
)
from advnets.data.datasets.digits import open_digits
from advnets.data.datasets.formats.idx import is_idx_folder, open_idx_folder
from advnets.data.datasets.formats.mat import is_mat
from advnets.data.datasets.matlab import open_mat
from advnets.data.datasets.mnist import (
    EMNIST,
    open_emnist,
    open_fashion_mnist,
    open_kmnist,
    open_mnist,
)
from advnets.data.datasets.stacked import StackedMNIST, open_stacked_mnist
from advnets.data.datasets.svhn import SVHN, is_svhn_folder, open_svhn, open_svhn_folder
from advnets.data.datasets.tfd import TFD, Fold, open_tfd
from advnets.data.huggingface.open import (
    Hub,
    find_hub_name,
    find_hub_path,
    is_hub_path,
    open_dataset,
)
from advnets.data.image_folder.files import ImageFiles
from advnets.data.image_folder.open import find_images, is_image_source, to_dataset
from advnets.data.image_folder.pack import is_pack, open_pack
from advnets.data.spec import HUB, folders_of, path_of, refuse_run
from advnets.data.synthetic.base import Synthetic
from advnets.data.synthetic.kde import PointsOptions, is_points, open_points
from advnets.data.synthetic.registry import DISTRIBUTIONS, open_distribution
from advnets.errors import DataError, UnknownNameError, UsageError
from advnets.files import require_regular_file


@dataclass(frozen=True)
class NoOptions:
    """Of a source that takes none."""


@dataclass(frozen=True)
class NamedDataset:
    """A source with a name: `opener` is given its options and the folders to look in.

    `lies_in` is the set whose files it is made of, where that is another.
    """

    description: str
    open_fn: Callable[[Any, Sequence[Path]], Dataset]
    options: type = NoOptions
    lies_in: str | None = None


@dataclass(frozen=True)
class FileKind:
    """A kind of file or folder, told by what it holds.

    `opener` is given the path, its options, and what else is asked; where it gives files that are
    found but not yet read, these are packed and opened.
    """

    description: str
    holds: Callable[[Path], bool]
    open_fn: Callable[[Path, Any, Data], Dataset | ImageFiles]
    options: type = NoOptions


def _drawn(name: str, kind: type[Synthetic]) -> NamedDataset:
    return NamedDataset(
        kind.about, lambda distribution, _: open_distribution(name, distribution), kind
    )


NAMED: dict[str, NamedDataset] = {
    "digits": NamedDataset(
        "scikit-learn's 8x8 digits; they need no file", lambda _, __: open_digits()
    ),
    "mnist": NamedDataset("MNIST, to the bit", lambda _, folders: open_mnist(folders)),
    "fashion-mnist": NamedDataset(
        "Fashion-MNIST: ten kinds of clothes", lambda _, folders: open_fashion_mnist(folders)
    ),
    "kmnist": NamedDataset(
        "Kuzushiji-MNIST: ten cursive characters", lambda _, folders: open_kmnist(folders)
    ),
    "emnist": NamedDataset("EMNIST: letters and digits, by one of its splits", open_emnist, EMNIST),
    "stacked-mnist": NamedDataset(
        "three MNIST digits in red, green and blue: 1,000 modes",
        open_stacked_mnist,
        StackedMNIST,
        lies_in="mnist",
    ),
    "cifar10": NamedDataset("CIFAR-10, its binary or Python version", lambda _, f: open_cifar10(f)),
    "cifar100": NamedDataset("CIFAR-100, its binary or Python version", open_cifar100, CIFAR100),
    "svhn": NamedDataset("Street View House Numbers, cropped", open_svhn, SVHN),
    "tfd": NamedDataset("the Toronto Face Database", open_tfd, TFD),
    **{name: _drawn(name, kind) for name, kind in DISTRIBUTIONS.items()},
}
"""Sources that go by a name."""

KINDS: tuple[FileKind, ...] = (
    FileKind(
        "a table of points (.csv, .npy)",
        is_points,
        lambda path, chosen, _: open_points(path, chosen),
        PointsOptions,
    ),
    FileKind("a pack that `advnets data pack` made", is_pack, lambda path, _, __: open_pack(path)),
    FileKind(
        "a MATLAB file in the layout of TFD or of SVHN",
        is_mat,
        lambda path, chosen, _: open_mat(path, chosen),
        Fold,
    ),
    FileKind(
        "a folder of IDX files, gzipped or not",
        is_idx_folder,
        lambda path, _, __: open_idx_folder(path),
    ),
    FileKind(
        "a folder of CIFAR-10's batches",
        is_cifar10_folder,
        lambda path, _, __: open_cifar10_folder(path),
    ),
    FileKind(
        "a folder of CIFAR-100's files",
        is_cifar100_folder,
        lambda path, chosen, _: open_cifar100_folder(path, chosen),
        CIFAR100,
    ),
    FileKind(
        "a folder of SVHN's files",
        is_svhn_folder,
        lambda path, chosen, _: open_svhn_folder(path, chosen),
        SVHN,
    ),
    FileKind(
        "Parquet files, WebDataset tars, or a saved Hugging Face set",
        is_hub_path,
        find_hub_path,
        Hub,
    ),
    FileKind(
        "a folder or zip of images, flat, by class, or by split and class",
        is_image_source,
        lambda path, _, data: find_images(path, follow_links=data.follow_links),
    ),
)
"""What a path may be; the first kind that holds opens it."""


def open_source(data: Data | str | object, **fields: Any) -> Dataset:
    """Open what `data.source` names: a published set, a distribution, own files, a hub's set.

    `data` may be the source alone; `fields` are then further ones of `config.Data`:
    `open_source("photos", size=64, crop="pad")`, `open_source("ring:modes=8")`. It may also be a
    set of the datasets library, or a dict of such by split. Image files are packed when they are
    first opened, and mapped into memory from then on.

    Raises:
        UnknownNameError: no source is called so, and no path is; or it has no option of that name.
        UsageError: an option has a value that cannot be.
        DataError: the data is absent, broken or of no known kind; the message has the cure.
        MissingExtraError: a library that this source needs is not installed.
        WriteError: the cache, in which images are packed, cannot be written.
    """
    if not isinstance(data, str | Data):
        return open_dataset(data, Data(**fields))
    data = Data(source=data, **fields) if isinstance(data, str) else replace(data, **fields)
    return to_dataset(find_source(data), data)


def find_source(data: Data) -> Dataset | ImageFiles:
    """The same, but leave image files as they are found.

    Raises:
        UnknownNameError, UsageError, DataError, MissingExtraError: as for `open_source`.
    """
    try:
        return _found(data)
    except OSError as error:  # mostly a folder that is another user's
        raise DataError(
            f"{error.filename or data.source} cannot be read ({error.strerror}); "
            f"see that it is yours to read"
        ) from None


def _found(data: Data) -> Dataset | ImageFiles:
    if not data.source:
        raise UsageError("no images were given; say --data PATH, or --data NAME of a set")
    refuse_run(data.source)
    path, text = path_of(data.source)
    if path is None:
        name, text = spec.split(data.source)
        if name.startswith(f"{HUB}:"):
            chosen = spec.read(text, Hub, name)
            return find_hub_name(name.removeprefix(f"{HUB}:"), chosen, data)
        if name in NAMED:
            named = NAMED[name]
            chosen = spec.read(text, named.options, name)
            return named.open_fn(chosen, folders_of(named.lies_in or name, data.directory))
        raise UnknownNameError("data set, folder or file", data.source, NAMED)
    if not path.is_dir():
        require_regular_file(path)
    for kind in KINDS:
        if kind.holds(path):
            return kind.open_fn(path, spec.read(text, kind.options, str(path)), data)
    known = "; ".join(kind.description for kind in KINDS)
    raise DataError(f"{path} is a file of no known kind; give one of these: {known}")
