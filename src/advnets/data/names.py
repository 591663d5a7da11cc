"""What sources are called; known without importing what opens them."""

from __future__ import annotations

import re
from pathlib import Path

from advnets.data import options

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


def is_source(text: str) -> bool:
    """Whether a text names a source or is the path of a file or folder that is there."""
    name, _ = options.split(text)
    known = name in PICTURES or name in POINTS or name.startswith(f"{HUB}:")
    return known or any(is_path(path) for path in (text, name))


def is_named(source: str) -> bool:
    """Whether a source is a published set or a distribution: no frame is laid about these."""
    name, _ = options.split(source)
    return name in PICTURES or name in POINTS


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
