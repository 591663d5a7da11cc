"""Source specifications: names, options and locations, without importing any parser.

A source is the name or path of a dataset, optionally with options: `ring:modes=8,sd=0.1`.
"""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from advnets.config import Data
from advnets.errors import UnknownNameError, UsageError, by_interface, printable
from advnets.files import shell_quote

# Names of sources.

IMAGE_DATASETS = (
    *("digits", "mnist", "fashion-mnist", "kmnist", "emnist", "stacked-mnist"),
    *("cifar10", "cifar100", "svhn", "tfd"),
)
"""The names of published datasets of images."""
DISTRIBUTION_NAMES = (
    *("gaussian", "mixture", "uniform", "ring", "grid", "spiral", "moons", "pinwheel"),
)
"""The names of distributions of points."""
DATASET_NAMES = (*IMAGE_DATASETS, *DISTRIBUTION_NAMES)
"""The names of all datasets, which take precedence over paths."""
POINT_FILE_SUFFIXES = (".csv", ".npy")
"""The suffixes of files of points."""
MEMORY_PREFIX = "memory"
"""The prefix of the sources of runs on data in memory, before the colon and their digest."""
HUB_PREFIX = "hf"
"""The prefix of Hugging Face names, before the colon."""
RUN_FILES = ("config.json", "events.jsonl")
"""The files that identify a run directory."""
_RUN_SUBFOLDERS = ("samples", "views", "checkpoints")

_OPTION = re.compile(r"\s*[\w-]+\s*=")
_OPTIONS = re.compile(rf"{_OPTION.pattern}[^=,]*(?:,{_OPTION.pattern}[^=,]*)*,?\s*")


@dataclass(frozen=True)
class SkippedFile:
    """The name of a file that is not used, and the reason, a phrase that follows the name."""

    name: str
    reason: str


def split_source(source: str) -> tuple[str, str]:
    r"""Split a source into its name or path and the text of its options.

    The options start after the first colon that is followed by nothing but a list of NAME=VALUE,
    so that values may contain colons (`mixture:means=0:1/2:3`). A colon without such a list, as in
    `C:\images`, belongs to the path. If no list is complete, as in `ring:modes=8,sd`, the options
    start after the last colon that is followed by NAME=.
    """
    colons = [match.start() for match in re.finditer(":", source)]
    starts = [colon for colon in colons if _OPTION.match(source, colon + 1)]
    complete = [colon for colon in starts if _OPTIONS.fullmatch(source, colon + 1)]
    if not starts:
        return source, ""
    colon = (complete[:1] or starts[-1:])[0]
    return source[:colon], source[colon + 1 :]


def is_source(text: str) -> bool:
    """Return whether a text is the name of a source, or the path of an existing file or folder."""
    name, _ = split_source(text)
    is_name = is_dataset_name(text) or name.startswith(f"{HUB_PREFIX}:")
    return is_name or any(path_exists(path) for path in (text, name))


def check_source(source: str) -> None:
    """Check that there is a source of this name or path, without opening it.

    Raises:
        UnknownNameError: there is none.
        UsageError: the source is empty, or stands for data in memory.
    """
    if in_memory(source):
        raise UsageError(
            "the data of this config was passed from Python, in memory; pass it again from "
            "Python, advnets.train(…, data=…), or set --data to other data"
        )
    if not source:
        raise UsageError("no data was set; set --data to a path or to the name of a dataset")
    if not is_source(source):
        listed = "`advnets data list` lists the datasets"
        raise UnknownNameError("dataset, folder or file", source, DATASET_NAMES, listed=listed)


def check_labels(data: object, labels: object) -> None:
    """Refuse labels that are given without data in memory.

    Raises:
        UsageError: labels are given, and the data is a name, a path, a config or None.
    """
    if labels is not None and (data is None or isinstance(data, str | Path | Data)):
        raise UsageError(
            "labels apply to data in memory, and data is not in memory; give the images as data, "
            "or leave labels out"
        )


def in_memory(source: str) -> bool:
    """Return whether a run with this source was trained on data that Python had in memory."""
    return source.startswith(f"{MEMORY_PREFIX}:")


def is_dataset_name(source: str) -> bool:
    """Return whether a source is a published dataset or distribution, which keep their size."""
    name, _ = split_source(source)
    return name in DATASET_NAMES


def has_own_images(source: str) -> bool:
    """Return whether a source has image files of the user, which are resized."""
    is_array = split_source(source)[0].lower().endswith((".npy", ".npz"))
    return not (is_dataset_name(source) or in_memory(source) or is_array)


def check_own_images(source: str, option: str) -> None:
    """Refuse an option of the images of users, such as --size, for a named dataset.

    Raises:
        UsageError: the source is a named dataset, or an array in a file.
    """
    if is_dataset_name(source):
        raise UsageError(
            f"{option} applies to your own images, and {source} is a dataset of fixed size; leave "
            f"{option} out"
        )
    if split_source(source)[0].lower().endswith((".npy", ".npz")):
        raise UsageError(
            f"{option} applies to image files, and {source} is an array, whose images keep their "
            f"size; leave {option} out"
        )


def is_point_data(source: str) -> bool:
    """Return whether a source consists of points, not images."""
    name, _ = split_source(source)
    if name.lower().endswith(".npy"):
        from advnets.data.array_file import is_image_array  # imports numpy

        return not is_image_array(Path(name).expanduser())
    return name in DISTRIBUTION_NAMES or name.lower().endswith(POINT_FILE_SUFFIXES)


def short_name(source: str) -> str:
    """Return a short name of a source, for output folders: a path's stem, or the name itself."""
    name, _ = split_source(source)
    stem = Path(name).expanduser().resolve().stem if path_exists(name) else name.rpartition("/")[2]
    return re.sub(r"[^\w.-]+", "-", stem)


def with_fold(source: str, fold: int) -> str:
    """Return the source with the option `fold`, or without it for fold 1, the default."""
    name, text = (source, "") if path_exists(source) else split_source(source)
    options = [option for option in text.split(",") if option.partition("=")[0].strip() != "fold"]
    if fold > 1:
        options.append(f"fold={fold}")
    return ":".join(filter(None, (name, ",".join(filter(None, options)))))


# Paths of sources.


def path_exists(text: str) -> bool:
    """Return whether there is a file or folder at a path."""
    try:
        return bool(text) and Path(text).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False  # the name is too long, or the home directory of an unknown user


def source_path(source: str) -> tuple[Path | None, str]:
    """Return the path of a source (None if it has none) and the text of its options.

    The name of a dataset takes precedence over a path of that name, and a path that contains a
    colon over a path with options.
    """
    for name, text in (source, ""), split_source(source):
        if is_dataset_name(name):
            break
        if path_exists(name):
            return Path(name).expanduser(), text
    return None, split_source(source)[1]


def resolve_data_paths(data: Data) -> Data:
    """Return a data config with absolute paths, which do not depend on the working directory."""
    path, text = source_path(data.source)
    source = data.source
    if path is not None:
        source = ":".join(filter(None, (str(_absolute_path(path)), text)))
    directory = data.directory
    if directory is not None:
        directory = str(_absolute_path(Path(os.path.expanduser(directory))))  # noqa: PTH111
    return replace(data, source=source, directory=directory)


def _absolute_path(path: Path) -> Path:
    # Do not follow links: the name of a target may lack the suffix that determines its format.
    path = path.absolute()
    return path.resolve() if ".." in path.parts else path


def shadowing_warning(name: str, kind_of_name: str = "dataset") -> str | None:
    """Return a warning if a name takes precedence over a file or folder; None otherwise."""
    name, _ = split_source(name)
    if not path_exists(name):
        return None
    kind = "folder" if Path(name).is_dir() else "file"
    return (
        f"{name} is the {kind_of_name} of that name, and the {kind} ./{name} is not used; to "
        f"use it, set ./{name}"
    )


def is_run_directory(path: Path) -> bool:
    """Return whether a path is a run directory."""
    return all((path / name).is_file() for name in RUN_FILES)


def reject_run_directory(source: str) -> None:
    """Reject a run directory, or a folder of its images, as a data source.

    Raises:
        UsageError: the source is one.
    """
    path, _ = source_path(source)
    if path is None:
        return
    if path.name in _RUN_SUBFOLDERS and is_run_directory(path.absolute().parent):
        path = path.absolute().parent
    if is_run_directory(path):
        way = by_interface(
            f"use: advnets train --resume --out {shell_quote(path)}",
            f"set resume to True, and out to {str(path)!r}",
        )
        raise UsageError(
            f"{printable(source)} is a run directory, expected data: its images are figures; to "
            f"continue the run, {way}"
        )


# Options of sources.

T = TypeVar("T")


def parse_options(text: str, options_class: type[T], source: str) -> T:
    """Parse options such as "modes=8,sd=0.01" into an instance of a dataclass, by field name.

    A tuple is written 0/1/2, a tuple of tuples 0:1/2:3.

    Raises:
        UnknownNameError: the dataclass has no field of that name.
        UsageError: an option has no value, is repeated, or has a value of a wrong type.
    """
    hints = typing.get_type_hints(options_class)
    known = [field.name for field in fields(options_class)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for option in filter(None, text.split(",")):
        name, equals, value = (part.strip() for part in option.partition("="))
        if name not in known:
            if not known:
                raise UsageError(f"{source} takes no options, got {name!r}; remove it")
            raise UnknownNameError(f"option of {source}", name, known)
        if not equals or name in values:
            raise UsageError(f"{source}: expected {name}=VALUE once, got {text!r}; correct it")
        values[name] = _parse_value(f"{source}: {name}", value, hints[name])
    return options_class(**values)


def format_options(options_class: type) -> str:
    """Format the options of a dataclass with their defaults, as they are typed."""
    return ",".join(
        f"{field.name}={_format_value(field.default)}" for field in fields(options_class)
    )


def _parse_value(option: str, text: str, value_type: Any) -> Any:
    if typing.get_origin(value_type) is tuple:
        item = typing.get_args(value_type)[0]
        is_inner = typing.get_origin(item) is not tuple and "/" not in text and ":" in text
        separator = ":" if is_inner else "/"
        return tuple(_parse_value(option, part, item) for part in text.split(separator))
    if typing.get_origin(value_type) is typing.Literal:
        known = [str(choice) for choice in typing.get_args(value_type)]
        if text not in known:
            raise UnknownNameError(f"value of {option}", text, known)
        return typing.get_args(value_type)[known.index(text)]
    try:
        return _PARSERS[value_type](text)
    except (ValueError, KeyError, OverflowError):
        expected = {int: "an integer", float: "a number", bool: "yes or no"}[value_type]
        raise UsageError(f"{option} must be {expected}, got {text!r}; correct it") from None


def _parse_float(text: str) -> float:
    value = float(text)
    if value - value != 0:  # infinite or NaN
        raise ValueError(text)
    return value


_PARSERS: dict[Any, Callable[[str], Any]] = {
    int: int,
    float: _parse_float,
    str: str,
    bool: {"yes": True, "true": True, "no": False, "false": False}.__getitem__,
}


def _format_value(value: object) -> str:
    if isinstance(value, tuple):
        nested = any(isinstance(item, tuple) for item in value)
        return "/".join(
            ":".join(map(str, item)) if nested else str(item)  # type: ignore[arg-type]
            for item in value
        )
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


# Locations of data.


def data_directory(directory: str | None = None) -> Path:
    """Return the directory of named datasets: `directory`, ADVNETS_DATA, or the user's cache."""
    path = directory or os.environ.get("ADVNETS_DATA")
    if path:
        return Path(os.path.expanduser(path))  # noqa: PTH111 - keeps ~user of an unknown user
    return _user_cache()


def cache_directory() -> Path:
    """Return the directory of packed images: ADVNETS_CACHE, or the user's cache."""
    path = os.environ.get("ADVNETS_CACHE")
    return Path(os.path.expanduser(path)) if path else _user_cache()  # noqa: PTH111


def _user_cache() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "advnets"


def cached_dataset_folders() -> set[Path]:
    """Return the folders of packed or extracted datasets in the cache."""
    paths = (
        path for name in ("packs", "datasets") for path in (cache_directory() / name).rglob("*")
    )
    return {path for path in paths if path.is_dir() and not path.name.endswith(".part")}


def dataset_folders(name: str, directory: str | None = None) -> tuple[Path, ...]:
    """Return the folders in which the files of a named dataset are searched, in order."""
    base = data_directory(directory)
    return base / name, base


def fetch_command(name: str, folders: Sequence[Path]) -> str:
    """Return the command that downloads a named dataset to where `dataset_folders` searches it.

    A dataset is downloaded into a folder of its own name; other folders cannot be named.
    """
    base = folders[0].parent
    is_default = base not in folders or base == data_directory()
    option = "" if is_default else f" --data-dir {shell_quote(base)}"
    return f"advnets data fetch {name}{option}"


def first_existing(paths: Iterable[Path]) -> Path | None:
    """Return the first path that exists, or None."""
    return next((path for path in paths if path.exists()), None)


def join_words(items: Iterable[object], conjunction: str = "and") -> str:
    """Join items to a phrase: a, b and c."""
    *rest, last = map(str, items)
    return f"{', '.join(rest)} {conjunction} {last}" if rest else last
