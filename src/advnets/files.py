"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from advnets.errors import WriteError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside, flush it to disk, rename it: `path` is the old file or the new one.

    Raises:
        WriteError: the disk is full or the folder cannot be written; `path` is as it was.
    """
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
        part = Path(name)
        write(part)
        part.chmod(0o644)
        put_in_place(part, path)
    except OSError as error:
        raise WriteError(path, error) from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def write_json(path: Path, record: object) -> None:
    """Write a JSON file atomically."""
    text = json.dumps(record, indent=2) + "\n"
    write_atomically(path, lambda part: part.write_text(text, "utf-8"))


def put_in_place(part: Path, path: Path) -> None:
    """Give a finished file its name, in a way that outlasts a power cut."""
    flush(part)
    part.replace(path)
    if sys.platform != "win32":  # where a folder cannot be opened
        flush(path.parent)


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
