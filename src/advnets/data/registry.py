"""The registry of data sources: named datasets and file formats, opened by `open_dataset`.

Parsers are imported when a source is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

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
from advnets.errors import DataError, UsageError, public_function
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


def named_dataset(name: str) -> NamedDataset:
    """Return the dataset of that name, one of `DATASET_NAMES`."""
    if name not in DISTRIBUTION_NAMES:
        return image_datasets()[name]
    from advnets.data.synthetic.registry import DISTRIBUTIONS, open_distribution

    distribution_class = DISTRIBUTIONS[name]
    return NamedDataset(
        distribution_class.description,
        lambda distribution, _: open_distribution(name, distribution),
        distribution_class,
    )


def image_datasets() -> dict[str, NamedDataset]:
    """Return the published datasets of images by name."""
    from advnets.data.datasets import cifar, matlab, mnist

    return {
        "digits": NamedDataset(
            "scikit-learn's 8x8 handwritten digits; need no download",
            lambda _, __: mnist.open_digits(),
        ),
        "mnist": NamedDataset(
            "MNIST: handwritten digits, checked to be the original files",
            lambda _, folders: mnist.open_mnist(folders),
        ),
        "fashion-mnist": NamedDataset(
            "Fashion-MNIST: ten kinds of clothing",
            lambda _, folders: mnist.open_fashion_mnist(folders),
        ),
        "kmnist": NamedDataset(
            "Kuzushiji-MNIST: ten cursive Japanese characters",
            lambda _, folders: mnist.open_kmnist(folders),
        ),
        "emnist": NamedDataset(
            "EMNIST: handwritten letters and digits, in one of its six splits",
            mnist.open_emnist,
            mnist.EMNIST,
        ),
        "stacked-mnist": NamedDataset(
            "stacked MNIST: three digits in the red, green and blue channels, 1,000 modes",
            mnist.open_stacked_mnist,
            mnist.StackedMNIST,
            files_of="mnist",
        ),
        "cifar10": NamedDataset(
            "CIFAR-10, binary or Python version", lambda _, folders: cifar.open_cifar10(folders)
        ),
        "cifar100": NamedDataset(
            "CIFAR-100, binary or Python version", cifar.open_cifar100, cifar.CIFAR100
        ),
        "svhn": NamedDataset(
            "SVHN: Street View House Numbers, cropped digits", matlab.open_svhn, matlab.SVHN
        ),
        "tfd": NamedDataset("TFD: the Toronto Face Database", matlab.open_tfd, matlab.TFD),
    }


def file_formats() -> tuple[FileFormat, ...]:
    """Return the formats of files and folders; a path is opened by the first that matches."""
    from advnets.data import array_file
    from advnets.data.datasets import cifar, idx, mat, matlab
    from advnets.data.huggingface import open as huggingface
    from advnets.data.image_folder import pack
    from advnets.data.synthetic import kde

    return (
        FileFormat(
            "an array of images (.npy, .npz)",
            array_file.is_image_array,
            lambda path, _, data: array_file.open_image_array(path, stream=data.stream),
        ),
        FileFormat(
            "a table of points (.csv, .npy)",
            kde.is_point_file,
            lambda path, options, _: kde.open_point_file(path, options),
            kde.PointsOptions,
        ),
        FileFormat(
            "a pack written by `advnets data pack`",
            pack.is_pack,
            lambda path, _, __: pack.open_pack(path),
        ),
        FileFormat(
            "a MATLAB file in the layout of TFD or SVHN",
            mat.is_mat,
            lambda path, options, _: matlab.open_mat(path, options),
            matlab.Fold,
        ),
        FileFormat(
            "a folder of IDX files, gzipped or not",
            idx.is_idx_folder,
            lambda path, _, __: idx.open_idx_folder(path),
        ),
        FileFormat(
            "a folder of CIFAR-10 batches",
            cifar.is_cifar10_folder,
            lambda path, _, __: cifar.open_cifar10_folder(path),
        ),
        FileFormat(
            "a folder of CIFAR-100 files",
            cifar.is_cifar100_folder,
            lambda path, options, _: cifar.open_cifar100_folder(path, options),
            cifar.CIFAR100,
        ),
        FileFormat(
            "a folder of SVHN files",
            matlab.is_svhn_folder,
            lambda path, options, _: matlab.open_svhn_folder(path, options),
            matlab.SVHN,
        ),
        FileFormat(
            "Parquet files, WebDataset tars, or a saved Hugging Face dataset",
            huggingface.is_hub_path,
            huggingface.find_hub_path,
            huggingface.Hub,
        ),
        FileFormat(
            "a folder or zip of images: flat, by class, or by split and class",
            pack.is_image_source,
            lambda path, _, data: pack.find_images(path, follow_links=data.follow_links),
        ),
    )


@public_function
def open_dataset(data: Data | str | object, labels: object = None, **fields: Any) -> Dataset:
    """Open a dataset by its name, its path, or its Hugging Face name.

    `data` is a data config or its source alone; `fields` replace further fields of the config:
    `open_dataset("photos", size=64, crop="pad")`, `open_dataset("ring:modes=8")`. `data` may also
    be an object of the datasets library or a dict of them by split, or images in memory: an array,
    a tensor, a dataset of torch, a list of paths or of PIL images, with `labels`. Image files are
    packed into the cache when they are first opened, and memory-mapped from then on.

    Args:
        data: name, path, data config, or images in memory.
        labels: the class of each image in memory.
        fields: further fields of the data config.

    Raises:
        UnknownNameError: there is no source or path of that name, or no option of that name.
        UsageError: an option has an invalid value.
        DataError: the data is missing, damaged or of an unknown format.
        MissingExtraError: a library that this source needs is not installed.
        WriteError: the cache cannot be written.

    Example:
        >>> dataset = advnets.data.open_dataset("digits")
        >>> dataset.train.read(slice(5)).shape
        (5, 1, 8, 8)
    """
    if not isinstance(data, str | Data):
        if not _is_huggingface(data):
            from advnets.data.memory import open_in_memory

            return open_in_memory(data, labels, Data(**fields))
        from advnets.data.huggingface.open import open_huggingface_dataset

        if labels is not None:
            raise UsageError(
                "labels was given, and a Hugging Face dataset has its own; leave it out"
            )
        return open_huggingface_dataset(data, Data(**fields))
    if labels is not None:
        raise UsageError(
            "labels belong to images in memory, and files have their own; leave it out"
        )
    data = Data(source=data, **fields) if isinstance(data, str) else replace(data, **fields)
    source = find_source(data)
    from advnets.data.image_folder.pack import to_dataset

    return to_dataset(source, data)


def _is_huggingface(data: object) -> bool:
    """Return whether an object is of the datasets library, or a dict of such objects."""
    values = cast(dict[object, object], data).values() if isinstance(data, dict) else (data,)
    return isinstance(data, dict) or any(
        type(value).__module__.partition(".")[0] == "datasets" for value in values
    )


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
        named = named_dataset(name)
        options = parse_options(options_text, named.options, name)
        return named.open_fn(options, dataset_folders(named.files_of or name, data.directory))
    # Open a file or folder in the first format that matches.
    if not path.is_dir():
        require_regular_file(path)
    formats = file_formats()
    for file_format in formats:
        if file_format.matches(path):
            options = parse_options(options_text, file_format.options, str(path))
            return file_format.open_fn(path, options, data)
    known = "; ".join(file_format.description for file_format in formats)
    raise DataError(f"{path} has an unknown file format; use one of: {known}")
