"""The registry of data sources: named datasets and file formats, opened by `open_dataset`.

The parser of a source is imported when that source is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advnets.config import Data
from advnets.data.spec import (
    DISTRIBUTION_NAMES,
    HUB_PREFIX,
    check_source,
    dataset_folders,
    parse_options,
    reject_run_directory,
    source_path,
    split_source,
)
from advnets.errors import DataError
from advnets.files import require_regular_file

if TYPE_CHECKING:
    from advnets.data.dataset import Dataset
    from advnets.data.image_folder.files import ImageFiles


@dataclass(frozen=True)
class NoOptions:
    """The options of a source that has none."""


@dataclass(frozen=True)
class NamedDataset:
    """A dataset with a name.

    `open_fn` takes an instance of `options` and the folders to search for the dataset's files.
    `files_of` is the dataset that provides its files, if that is another one.
    """

    description: str
    open_fn: Callable[[Any, Sequence[Path]], Dataset]
    options: type = NoOptions
    files_of: str | None = None


@dataclass(frozen=True)
class FileFormat:
    """A format of a file or folder, recognized by its name or content.

    `open_fn` takes the path, an instance of `options`, and the data config; it returns a dataset,
    or the image files it found, which have not been decoded.
    """

    description: str
    matches: Callable[[Path], bool]
    open_fn: Callable[[Path, Any, Data], Dataset | ImageFiles]
    options: type = NoOptions


def _digits() -> NamedDataset:
    from advnets.data.datasets.digits import open_digits

    description = "scikit-learn's 8x8 handwritten digits; need no download"
    return NamedDataset(description, lambda _, __: open_digits())


def _mnist() -> NamedDataset:
    from advnets.data.datasets.mnist import open_mnist

    description = "MNIST: handwritten digits, checked to be the original files"
    return NamedDataset(description, lambda _, folders: open_mnist(folders))


def _fashion_mnist() -> NamedDataset:
    from advnets.data.datasets.mnist import open_fashion_mnist

    description = "Fashion-MNIST: ten kinds of clothing"
    return NamedDataset(description, lambda _, folders: open_fashion_mnist(folders))


def _kmnist() -> NamedDataset:
    from advnets.data.datasets.mnist import open_kmnist

    description = "Kuzushiji-MNIST: ten cursive Japanese characters"
    return NamedDataset(description, lambda _, folders: open_kmnist(folders))


def _emnist() -> NamedDataset:
    from advnets.data.datasets.mnist import EMNIST, open_emnist

    description = "EMNIST: handwritten letters and digits, in one of its six splits"
    return NamedDataset(description, open_emnist, EMNIST)


def _stacked_mnist() -> NamedDataset:
    from advnets.data.datasets.stacked import StackedMNIST, open_stacked_mnist

    description = "stacked MNIST: three digits in the red, green and blue channels, 1,000 modes"
    return NamedDataset(description, open_stacked_mnist, StackedMNIST, files_of="mnist")


def _cifar10() -> NamedDataset:
    from advnets.data.datasets.cifar import open_cifar10

    description = "CIFAR-10, binary or Python version"
    return NamedDataset(description, lambda _, folders: open_cifar10(folders))


def _cifar100() -> NamedDataset:
    from advnets.data.datasets.cifar import CIFAR100, open_cifar100

    return NamedDataset("CIFAR-100, binary or Python version", open_cifar100, CIFAR100)


def _svhn() -> NamedDataset:
    from advnets.data.datasets.svhn import SVHN, open_svhn

    return NamedDataset("SVHN: Street View House Numbers, cropped digits", open_svhn, SVHN)


def _tfd() -> NamedDataset:
    from advnets.data.datasets.tfd import TFD, open_tfd

    return NamedDataset("TFD: the Toronto Face Database", open_tfd, TFD)


def _distribution(name: str) -> NamedDataset:
    from advnets.data.synthetic.registry import DISTRIBUTIONS, open_distribution

    distribution_class = DISTRIBUTIONS[name]
    return NamedDataset(
        distribution_class.description,
        lambda distribution, _: open_distribution(name, distribution),
        distribution_class,
    )


NAMED_DATASETS: Mapping[str, Callable[[], NamedDataset]] = {
    "digits": _digits,
    "mnist": _mnist,
    "fashion-mnist": _fashion_mnist,
    "kmnist": _kmnist,
    "emnist": _emnist,
    "stacked-mnist": _stacked_mnist,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "svhn": _svhn,
    "tfd": _tfd,
    **{name: partial(_distribution, name) for name in DISTRIBUTION_NAMES},
}
"""Functions that import and return a named dataset, by its name."""


def _point_file() -> FileFormat:
    from advnets.data.synthetic.kde import PointsOptions, is_point_file, open_point_file

    return FileFormat(
        "a table of points (.csv, .npy)",
        is_point_file,
        lambda path, options, _: open_point_file(path, options),
        PointsOptions,
    )


def _pack() -> FileFormat:
    from advnets.data.image_folder.pack import is_pack, open_pack

    description = "a pack written by `advnets data pack`"
    return FileFormat(description, is_pack, lambda path, _, __: open_pack(path))


def _matlab_file() -> FileFormat:
    from advnets.data.datasets.formats.mat import is_mat
    from advnets.data.datasets.matlab import open_mat
    from advnets.data.datasets.tfd import Fold

    return FileFormat(
        "a MATLAB file in the layout of TFD or SVHN",
        is_mat,
        lambda path, options, _: open_mat(path, options),
        Fold,
    )


def _idx_folder() -> FileFormat:
    from advnets.data.datasets.formats.idx import is_idx_folder, open_idx_folder

    description = "a folder of IDX files, gzipped or not"
    return FileFormat(description, is_idx_folder, lambda path, _, __: open_idx_folder(path))


def _cifar10_folder() -> FileFormat:
    from advnets.data.datasets.cifar import is_cifar10_folder, open_cifar10_folder

    description = "a folder of CIFAR-10 batches"
    return FileFormat(description, is_cifar10_folder, lambda path, _, __: open_cifar10_folder(path))


def _cifar100_folder() -> FileFormat:
    from advnets.data.datasets.cifar import CIFAR100, is_cifar100_folder, open_cifar100_folder

    return FileFormat(
        "a folder of CIFAR-100 files",
        is_cifar100_folder,
        lambda path, options, _: open_cifar100_folder(path, options),
        CIFAR100,
    )


def _svhn_folder() -> FileFormat:
    from advnets.data.datasets.svhn import SVHN, is_svhn_folder, open_svhn_folder

    return FileFormat(
        "a folder of SVHN files",
        is_svhn_folder,
        lambda path, options, _: open_svhn_folder(path, options),
        SVHN,
    )


def _huggingface_files() -> FileFormat:
    from advnets.data.huggingface.open import Hub, find_hub_path, is_hub_path

    description = "Parquet files, WebDataset tars, or a saved Hugging Face dataset"
    return FileFormat(description, is_hub_path, find_hub_path, Hub)


def _image_folder() -> FileFormat:
    from advnets.data.image_folder.pack import find_images, is_image_source

    return FileFormat(
        "a folder or zip of images: flat, by class, or by split and class",
        is_image_source,
        lambda path, _, data: find_images(path, follow_links=data.follow_links),
    )


FILE_FORMATS: Sequence[Callable[[], FileFormat]] = (
    _point_file,
    _pack,
    _matlab_file,
    _idx_folder,
    _cifar10_folder,
    _cifar100_folder,
    _svhn_folder,
    _huggingface_files,
    _image_folder,
)
"""Functions that import and return a file format; a path is opened by the first that matches."""


def open_dataset(data: Data | str | object, **fields: Any) -> Dataset:
    """Open a dataset by its name, its path, or its Hugging Face name.

    `data` is a data config or its source alone; `fields` replace further fields of the config:
    `open_dataset("photos", size=64, crop="pad")`, `open_dataset("ring:modes=8")`. `data` may also
    be an object of the datasets library, or a dict of them by split. Image files are packed into
    the cache when they are first opened, and memory-mapped from then on.

    Raises:
        UnknownNameError: there is no source or path of that name, or no option of that name.
        UsageError: an option has an invalid value.
        DataError: the data is missing, damaged or of an unknown format.
        MissingExtraError: a library that this source needs is not installed.
        WriteError: the cache cannot be written.
    """
    if not isinstance(data, str | Data):
        from advnets.data.huggingface.open import open_huggingface_dataset

        return open_huggingface_dataset(data, Data(**fields))
    data = Data(source=data, **fields) if isinstance(data, str) else replace(data, **fields)
    source = find_source(data)
    from advnets.data.image_folder.pack import to_dataset

    return to_dataset(source, data)


def find_source(data: Data) -> Dataset | ImageFiles:
    """Open a source as `open_dataset` does, but return image files without decoding them.

    Raises:
        UnknownNameError, UsageError, DataError, MissingExtraError: as for `open_dataset`.
    """
    try:
        return _find_source(data)
    except OSError as error:  # mostly a folder of another user
        raise DataError(
            f"{error.filename or data.source} cannot be read ({error.strerror}); "
            "check its permissions"
        ) from None


def _find_source(data: Data) -> Dataset | ImageFiles:
    check_source(data.source)
    reject_run_directory(data.source)
    path, options_text = source_path(data.source)
    # Open a named dataset.
    if path is None:
        name, options_text = split_source(data.source)
        if name.startswith(f"{HUB_PREFIX}:"):
            from advnets.data.huggingface.open import Hub, find_hub_name

            options = parse_options(options_text, Hub, name)
            return find_hub_name(name.removeprefix(f"{HUB_PREFIX}:"), options, data)
        named = NAMED_DATASETS[name]()
        options = parse_options(options_text, named.options, name)
        return named.open_fn(options, dataset_folders(named.files_of or name, data.directory))
    # Open a file or folder in the first format that matches.
    if not path.is_dir():
        require_regular_file(path)
    for load_format in FILE_FORMATS:
        file_format = load_format()
        if file_format.matches(path):
            options = parse_options(options_text, file_format.options, str(path))
            return file_format.open_fn(path, options, data)
    known = "; ".join(load_format().description for load_format in FILE_FORMATS)
    raise DataError(f"{path} has an unknown file format; use one of: {known}")
