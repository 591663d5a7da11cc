"""What sources are called; known without importing what opens them."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

from advnets.config import Data
from advnets.data import options
from advnets.errors import UsageError, printable
from advnets.shell import shell_word

PICTURES = (
    *("digits", "mnist", "fashion-mnist", "kmnist", "emnist", "stacked-mnist"),
    *("cifar10", "cifar100", "svhn", "tfd"),
)
"""Published sets of pictures."""
POINTS = ("gaussian", "mixture", "uniform", "ring", "grid", "spiral", "moons", "pinwheel")
"""Distributions of points."""
TABLES = (".csv", ".npy")
"""Endings of files of points."""
HUB = "hf"
"""Before the colon of a Hugging Face set's name."""
RUN_FILES = ("config.json", "events.jsonl")
"""Files by which a folder is known as a run directory."""
_IMAGES_OF_RUNS = ("samples", "views", "checkpoints")


def is_source(text: str) -> bool:
    """Whether a text names a source or is the path of a file or folder that is there."""
    name, _ = options.split(text)
    known = name in PICTURES or name in POINTS or name.startswith(f"{HUB}:")
    return known or any(is_path(path) for path in (text, name))


def is_named(source: str) -> bool:
    """Whether a source is a published set or a distribution: no frame is laid about these."""
    name, _ = options.split(source)
    return name in PICTURES or name in POINTS


def path_of(source: str) -> tuple[Path | None, str]:
    """Return the path that a source is, if it is there, and the text of its options.

    A named set comes before a path of its name, and a path before one with options.
    """
    for name, text in (source, ""), options.split(source):
        if name in PICTURES or name in POINTS:
            break
        if is_path(name):
            return Path(name).expanduser(), text
    return None, options.split(source)[1]


def located(data: Data) -> Data:
    """Return the same data with absolute paths, so that they are found from any directory."""
    path, text = path_of(data.source)
    source = data.source
    if path is not None:
        source = ":".join(filter(None, (str(_absolute(path)), text)))
    directory = data.directory
    if directory is not None:
        directory = str(_absolute(Path(os.path.expanduser(directory))))  # noqa: PTH111
    return replace(data, source=source, directory=directory)


def _absolute(path: Path) -> Path:
    # A link keeps its name: what it leads to may be called otherwise, without the ending of a kind.
    path = path.absolute()
    return path.resolve() if ".." in path.parts else path


def shadowed(name: str, what: str = "data set") -> str | None:
    """Return what to say where a name is taken although a file or folder is called so too."""
    name, _ = options.split(name)
    if not is_path(name):
        return None
    return (
        f"{name} is the {what} of that name, and the {_kind(Path(name))} ./{name} here is not "
        f"used; to use it, give ./{name}"
    )


def _kind(path: Path) -> str:
    return "folder" if path.is_dir() else "file"


def is_run(path: Path) -> bool:
    """Whether a path is a run directory, which training has begun in."""
    return all((path / name).is_file() for name in RUN_FILES)


def refuse_run(source: str) -> None:
    """Refuse a run directory, or the pictures that a run draws, as data.

    Raises:
        UsageError: the source is one.
    """
    path, _ = path_of(source)
    if path is None:
        return
    if path.name in _IMAGES_OF_RUNS and is_run(path.absolute().parent):
        path = path.absolute().parent
    if is_run(path):
        raise UsageError(
            f"{printable(source)} is a run directory and not data: its images are plots; to "
            f"continue that run, type: advnets train --resume --out {shell_word(path)}"
        )


def is_path(text: str) -> bool:
    """Whether there is a file or folder of that name."""
    try:
        return bool(text) and Path(text).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False  # a name too long, a home nobody has: no path either


def gives_points(source: str) -> bool:
    """Whether a source is of points, not of pictures."""
    name, _ = options.split(source)
    return name in POINTS or name.lower().endswith(TABLES)


def by_fold(source: str, fold: int) -> str:
    """The same source, split by that fold of it; the first, being the default, goes unsaid."""
    name, text = (source, "") if is_path(source) else options.split(source)
    told = [option for option in text.split(",") if option.partition("=")[0].strip() != "fold"]
    if fold > 1:
        told.append(f"fold={fold}")
    return ":".join(filter(None, (name, ",".join(filter(None, told)))))


def short(source: str) -> str:
    """A name for what is made of a source: for a path its last part, for a name itself."""
    name, _ = options.split(source)
    stem = Path(name).expanduser().resolve().stem if is_path(name) else name.rpartition("/")[2]
    return re.sub(r"[^\w.-]+", "-", stem)
