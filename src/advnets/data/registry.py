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
    open_huggingface_dataset,
)
from advnets.data.image_folder.files import ImageFiles
from advnets.data.image_folder.pack import (
    find_images,
    is_image_source,
    is_pack,
    open_pack,
    to_dataset,
)
from advnets.data.spec import HUB_PREFIX, dataset_folders, reject_run_directory, source_path
from advnets.data.synthetic.base import SyntheticDistribution
from advnets.data.synthetic.kde import PointsOptions, is_point_file, open_point_file
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
    files_of: str | None = None


@dataclass(frozen=True)
class FileFormat:
    """A kind of file or folder, told by what it holds.

    `opener` is given the path, its options, and what else is asked; where it gives files that are
    found but not yet read, these are packed and opened.
    """

    description: str
    matches: Callable[[Path], bool]
    open_fn: Callable[[Path, Any, Data], Dataset | ImageFiles]
    options: type = NoOptions


def _drawn(name: str, kind: type[SyntheticDistribution]) -> NamedDataset:
    return NamedDataset(
        kind.description, lambda distribution, _: open_distribution(name, distribution), kind
    )


NAMED_DATASETS: dict[str, NamedDataset] = {
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
        files_of="mnist",
    ),
    "cifar10": NamedDataset("CIFAR-10, its binary or Python version", lambda _, f: open_cifar10(f)),
    "cifar100": NamedDataset("CIFAR-100, its binary or Python version", open_cifar100, CIFAR100),
    "svhn": NamedDataset("Street View House Numbers, cropped", open_svhn, SVHN),
    "tfd": NamedDataset("the Toronto Face Database", open_tfd, TFD),
    **{name: _drawn(name, kind) for name, kind in DISTRIBUTIONS.items()},
}
"""Sources that go by a name."""

FILE_FORMATS: tuple[FileFormat, ...] = (
    FileFormat(
        "a table of points (.csv, .npy)",
        is_point_file,
        lambda path, chosen, _: open_point_file(path, chosen),
        PointsOptions,
    ),
    FileFormat(
        "a pack that `advnets data pack` made", is_pack, lambda path, _, __: open_pack(path)
    ),
    FileFormat(
        "a MATLAB file in the layout of TFD or of SVHN",
        is_mat,
        lambda path, chosen, _: open_mat(path, chosen),
        Fold,
    ),
    FileFormat(
        "a folder of IDX files, gzipped or not",
        is_idx_folder,
        lambda path, _, __: open_idx_folder(path),
    ),
    FileFormat(
        "a folder of CIFAR-10's batches",
        is_cifar10_folder,
        lambda path, _, __: open_cifar10_folder(path),
    ),
    FileFormat(
        "a folder of CIFAR-100's files",
        is_cifar100_folder,
        lambda path, chosen, _: open_cifar100_folder(path, chosen),
        CIFAR100,
    ),
    FileFormat(
        "a folder of SVHN's files",
        is_svhn_folder,
        lambda path, chosen, _: open_svhn_folder(path, chosen),
        SVHN,
    ),
    FileFormat(
        "Parquet files, WebDataset tars, or a saved Hugging Face set",
        is_hub_path,
        find_hub_path,
        Hub,
    ),
    FileFormat(
        "a folder or zip of images, flat, by class, or by split and class",
        is_image_source,
        lambda path, _, data: find_images(path, follow_links=data.follow_links),
    ),
)
"""What a path may be; the first kind that holds opens it."""


def open_dataset(data: Data | str | object, **fields: Any) -> Dataset:
    """Open what `data.source` names: a published set, a distribution, own files, a hub's set.

    `data` may be the source alone; `fields` are then further ones of `config.Data`:
    `open_dataset("photos", size=64, crop="pad")`, `open_dataset("ring:modes=8")`. It may also be a
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
        return open_huggingface_dataset(data, Data(**fields))
    data = Data(source=data, **fields) if isinstance(data, str) else replace(data, **fields)
    return to_dataset(find_source(data), data)


def find_source(data: Data) -> Dataset | ImageFiles:
    """The same, but leave image files as they are found.

    Raises:
        UnknownNameError, UsageError, DataError, MissingExtraError: as for `open_dataset`.
    """
    try:
        return _find_source(data)
    except OSError as error:  # mostly a folder that is another user's
        raise DataError(
            f"{error.filename or data.source} cannot be read ({error.strerror}); "
            f"see that it is yours to read"
        ) from None


def _find_source(data: Data) -> Dataset | ImageFiles:
    if not data.source:
        raise UsageError("no images were given; say --data PATH, or --data NAME of a set")
    reject_run_directory(data.source)
    path, text = source_path(data.source)
    if path is None:
        name, text = spec.split_source(data.source)
        if name.startswith(f"{HUB_PREFIX}:"):
            chosen = spec.parse_options(text, Hub, name)
            return find_hub_name(name.removeprefix(f"{HUB_PREFIX}:"), chosen, data)
        if name in NAMED_DATASETS:
            named = NAMED_DATASETS[name]
            chosen = spec.parse_options(text, named.options, name)
            return named.open_fn(chosen, dataset_folders(named.files_of or name, data.directory))
        raise UnknownNameError("data set, folder or file", data.source, NAMED_DATASETS)
    if not path.is_dir():
        require_regular_file(path)
    for kind in FILE_FORMATS:
        if kind.matches(path):
            return kind.open_fn(path, spec.parse_options(text, kind.options, str(path)), data)
    known = "; ".join(kind.description for kind in FILE_FORMATS)
    raise DataError(f"{path} is a file of no known kind; give one of these: {known}")
