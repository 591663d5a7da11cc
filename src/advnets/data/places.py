"""Where named sets lie on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from advnets.shell import shell_word


def data_directory(directory: str | None = None) -> Path:
    """Where named sets lie: `directory`, else ADVNETS_DATA, else the user's cache."""
    chosen = directory or os.environ.get("ADVNETS_DATA")
    if chosen:
        return Path(os.path.expanduser(chosen))  # noqa: PTH111 - leaves ~stranger as it is
    return _user_cache()


def cache_directory() -> Path:
    """Where packed pictures are kept: ADVNETS_CACHE, else the user's cache."""
    chosen = os.environ.get("ADVNETS_CACHE")
    return Path(os.path.expanduser(chosen)) if chosen else _user_cache()  # noqa: PTH111


def cached_folders() -> set[Path]:
    """Return the folders of the cache in which data lie packed, or unpacked from shards."""
    found = (
        path for name in ("packs", "datasets") for path in (cache_directory() / name).rglob("*")
    )
    return {path for path in found if path.is_dir() and not path.name.endswith(".part")}


def folders_of(name: str, directory: str | None = None) -> tuple[Path, ...]:
    """The folders in which the files of a named set are looked for, first to last."""
    base = data_directory(directory)
    return base / name, base


def fetch_command(name: str, folders: Sequence[Path]) -> str:
    """Return the command that brings a named set to where `folders_of` looks for it.

    Of other folders it names none: a set is fetched into a folder of its own name.
    """
    base = folders[0].parent
    usual = base not in folders or base == data_directory()
    elsewhere = "" if usual else f" --data-dir {shell_word(base)}"
    return f"advnets data fetch {name}{elsewhere}"


def first_existing(paths: Iterable[Path]) -> Path | None:
    """The first of the paths that exists."""
    return next((path for path in paths if path.exists()), None)


def listed(things: Iterable[object], word: str = "nor") -> str:
    """The things in one phrase: a, b nor c."""
    *most, last = map(str, things)
    return f"{', '.join(most)} {word} {last}" if most else last


def _user_cache() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "advnets"
