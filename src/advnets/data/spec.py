"""What sources are called; known without importing what opens them."""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from advnets.config import Data
from advnets.errors import UnknownNameError, UsageError, printable
from advnets.files import shell_quote

IMAGE_DATASETS = (
    *("digits", "mnist", "fashion-mnist", "kmnist", "emnist", "stacked-mnist"),
    *("cifar10", "cifar100", "svhn", "tfd"),
)
"""Published sets of images."""
DISTRIBUTION_NAMES = (
    "gaussian",
    "mixture",
    "uniform",
    "ring",
    "grid",
    "spiral",
    "moons",
    "pinwheel",
)
"""Distributions of points."""
POINT_FILE_SUFFIXES = (".csv", ".npy")
"""Endings of files of points."""
HUB_PREFIX = "hf"
"""Before the colon of a Hugging Face set's name."""
RUN_FILES = ("config.json", "events.jsonl")
"""Files by which a folder is known as a run directory."""
_RUN_SUBFOLDERS = ("samples", "views", "checkpoints")


@dataclass(frozen=True)
class SkippedFile:
    """The name of a file that is not used, and the reason, a phrase that follows the name."""

    name: str
    reason: str


def is_source(text: str) -> bool:
    """Whether a text names a source or is the path of a file or folder that is there."""
    name, _ = split_source(text)
    known = (
        name in IMAGE_DATASETS or name in DISTRIBUTION_NAMES or name.startswith(f"{HUB_PREFIX}:")
    )
    return known or any(path_exists(path) for path in (text, name))


def is_dataset_name(source: str) -> bool:
    """Whether a source is a published set or a distribution: no frame is laid about these."""
    name, _ = split_source(source)
    return name in IMAGE_DATASETS or name in DISTRIBUTION_NAMES


def source_path(source: str) -> tuple[Path | None, str]:
    """Return the path that a source is, if it is there, and the text of its options.

    A named set comes before a path of its name, and a path before one with options.
    """
    for name, text in (source, ""), split_source(source):
        if name in IMAGE_DATASETS or name in DISTRIBUTION_NAMES:
            break
        if path_exists(name):
            return Path(name).expanduser(), text
    return None, split_source(source)[1]


def resolve_data_paths(data: Data) -> Data:
    """Return the same data with absolute paths, so that they are found from any directory."""
    path, text = source_path(data.source)
    source = data.source
    if path is not None:
        source = ":".join(filter(None, (str(_absolute_path(path)), text)))
    directory = data.directory
    if directory is not None:
        directory = str(_absolute_path(Path(os.path.expanduser(directory))))  # noqa: PTH111
    return replace(data, source=source, directory=directory)


def _absolute_path(path: Path) -> Path:
    # A link keeps its name: what it leads to may be called otherwise, without the ending of a kind.
    path = path.absolute()
    return path.resolve() if ".." in path.parts else path


def shadowing_warning(name: str, what: str = "data set") -> str | None:
    """Return what to say where a name is taken although a file or folder is called so too."""
    name, _ = split_source(name)
    if not path_exists(name):
        return None
    return (
        f"{name} is the {what} of that name, and the {_kind(Path(name))} ./{name} here is not "
        f"used; to use it, give ./{name}"
    )


def _kind(path: Path) -> str:
    return "folder" if path.is_dir() else "file"


def is_run_directory(path: Path) -> bool:
    """Whether a path is a run directory, which training has begun in."""
    return all((path / name).is_file() for name in RUN_FILES)


def reject_run_directory(source: str) -> None:
    """Refuse a run directory, or the images that a run draws, as data.

    Raises:
        UsageError: the source is one.
    """
    path, _ = source_path(source)
    if path is None:
        return
    if path.name in _RUN_SUBFOLDERS and is_run_directory(path.absolute().parent):
        path = path.absolute().parent
    if is_run_directory(path):
        raise UsageError(
            f"{printable(source)} is a run directory and not data: its images are plots; to "
            f"continue that run, type: advnets train --resume --out {shell_quote(path)}"
        )


def path_exists(text: str) -> bool:
    """Whether there is a file or folder of that name."""
    try:
        return bool(text) and Path(text).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False  # a name too long, a home nobody has: no path either


def is_point_data(source: str) -> bool:
    """Whether a source is of points, not of images."""
    name, _ = split_source(source)
    return name in DISTRIBUTION_NAMES or name.lower().endswith(POINT_FILE_SUFFIXES)


def with_fold(source: str, fold: int) -> str:
    """The same source, split by that fold of it; the first, being the default, goes unsaid."""
    name, text = (source, "") if path_exists(source) else split_source(source)
    told = [option for option in text.split(",") if option.partition("=")[0].strip() != "fold"]
    if fold > 1:
        told.append(f"fold={fold}")
    return ":".join(filter(None, (name, ",".join(filter(None, told)))))


def short_name(source: str) -> str:
    """A name for what is made of a source: for a path its last part, for a name itself."""
    name, _ = split_source(source)
    stem = Path(name).expanduser().resolve().stem if path_exists(name) else name.rpartition("/")[2]
    return re.sub(r"[^\w.-]+", "-", stem)


T = TypeVar("T")

_OPTION = re.compile(r"\s*[\w-]+\s*=")
_OPTIONS = re.compile(rf"{_OPTION.pattern}[^=,]*(?:,{_OPTION.pattern}[^=,]*)*,?\s*")


def split_source(source: str) -> tuple[str, str]:
    r"""Split a source into its name or path and the text of its options.

    Options begin after the first colon that is followed by a list of NAME=VALUE alone, so that
    values may hold colons (`mixture:means=0:1/2:3`). A colon that no such list follows, as in
    `C:\images`, belongs to the path. Where no list is whole, as in `ring:modes=8,sd`, the last
    colon that NAME= follows counts.
    """
    colons = [match.start() for match in re.finditer(":", source)]
    begins = [colon for colon in colons if _OPTION.match(source, colon + 1)]
    whole = [colon for colon in begins if _OPTIONS.fullmatch(source, colon + 1)]
    if not begins:
        return source, ""
    colon = (whole[:1] or begins[-1:])[0]
    return source[:colon], source[colon + 1 :]


def parse_options(text: str, kind: type[T], source: str) -> T:
    """Options such as "modes=8,sd=0.01" as an instance of a dataclass, whose fields they name.

    A tuple is written 0/1/2, a tuple of tuples 0:1/2:3.

    Raises:
        UnknownNameError: the dataclass has no field of that name.
        UsageError: an option has no value, comes twice, or is not of the field's type.
    """
    hints = typing.get_type_hints(kind)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for option in filter(None, text.split(",")):
        name, equals, value = (part.strip() for part in option.partition("="))
        if name not in known:
            if not known:
                raise UsageError(f"{source} takes no options, but {name!r} came; leave it out")
            raise UnknownNameError(f"option of {source}", name, known)
        if not equals or name in values:
            raise UsageError(f"{source}: {name} must come once, as {name}=VALUE; {text!r} came")
        values[name] = _parse_value(f"{source}: {name}", value, hints[name])
    return kind(**values)


def format_options(kind: type) -> str:
    """The options that a dataclass has, with their defaults, as one would type them."""
    return ",".join(f"{field.name}={_format_value(field.default)}" for field in fields(kind))


def _parse_value(what: str, text: str, kind: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        inner = typing.get_origin(item) is not tuple and "/" not in text and ":" in text
        separator = ":" if inner else "/"
        return tuple(_parse_value(what, part, item) for part in text.split(separator))
    if typing.get_origin(kind) is typing.Literal:
        known = [str(choice) for choice in typing.get_args(kind)]
        if text not in known:
            raise UnknownNameError(f"value of {what}", text, known)
        return typing.get_args(kind)[known.index(text)]
    try:
        return _SCALARS[kind](text)
    except (ValueError, KeyError, OverflowError):
        expected = {int: "a whole number", float: "a number", bool: "yes or no"}[kind]
        raise UsageError(f"{what} is {text!r}; expected {expected}") from None


def _parse_float(text: str) -> float:
    value = float(text)
    if value - value != 0:  # infinite, or not a number
        raise ValueError(text)
    return value


_SCALARS: dict[Any, Callable[[str], Any]] = {
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


def data_directory(directory: str | None = None) -> Path:
    """Where named sets lie: `directory`, else ADVNETS_DATA, else the user's cache."""
    chosen = directory or os.environ.get("ADVNETS_DATA")
    if chosen:
        return Path(os.path.expanduser(chosen))  # noqa: PTH111 - leaves ~stranger as it is
    return _user_cache()


def cache_directory() -> Path:
    """Where packed images are kept: ADVNETS_CACHE, else the user's cache."""
    chosen = os.environ.get("ADVNETS_CACHE")
    return Path(os.path.expanduser(chosen)) if chosen else _user_cache()  # noqa: PTH111


def cached_dataset_folders() -> set[Path]:
    """Return the folders of the cache in which data lie packed, or unpacked from shards."""
    found = (
        path for name in ("packs", "datasets") for path in (cache_directory() / name).rglob("*")
    )
    return {path for path in found if path.is_dir() and not path.name.endswith(".part")}


def dataset_folders(name: str, directory: str | None = None) -> tuple[Path, ...]:
    """The folders in which the files of a named set are looked for, first to last."""
    base = data_directory(directory)
    return base / name, base


def fetch_command(name: str, folders: Sequence[Path]) -> str:
    """Return the command that brings a named set to where `folders_of` looks for it.

    Of other folders it names none: a set is fetched into a folder of its own name.
    """
    base = folders[0].parent
    usual = base not in folders or base == data_directory()
    elsewhere = "" if usual else f" --data-dir {shell_quote(base)}"
    return f"advnets data fetch {name}{elsewhere}"


def first_existing(paths: Iterable[Path]) -> Path | None:
    """The first of the paths that exists."""
    return next((path for path in paths if path.exists()), None)


def join_words(things: Iterable[object], word: str = "nor") -> str:
    """The things in one phrase: a, b nor c."""
    *most, last = map(str, things)
    return f"{', '.join(most)} {word} {last}" if most else last


def _user_cache() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "advnets"
