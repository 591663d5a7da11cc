"""Atomic writes, safe reads of untrusted paths, locks, and quoting for shells."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import shlex
import stat
import sys
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

from advnets.errors import DataError, UsageError, WriteError

_LOCKING_UNSUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
"""The error numbers of file systems that cannot lock files, such as some network mounts."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a temporary file, flush it, and rename it: `path` is the old file or the new one.

    Raises:
        WriteError: the disk is full or the folder cannot be written; `path` is unchanged.
    """
    try:
        with created_folder(path.parent):
            handle, name = tempfile.mkstemp(
                dir=path.parent, prefix=f".{path.name}.", suffix=".part"
            )
            os.close(handle)
            part = Path(name)
            try:
                write(part)
                part.chmod(0o644)
                replace_durably(part, path)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise WriteError(path, error) from None


@contextmanager
def created_folder(folder: Path) -> Generator[None]:
    """Create a folder and its parents; after an error remove those it created that are empty.

    Raises:
        OSError: the folder cannot be created.
    """
    absent = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in absent:
            with suppress(OSError):
                path.rmdir()
        raise


def check_output(path: Path, name: str = "--out", *, folder: bool = False) -> None:
    """Raise a UsageError if an output path is the current directory or of the wrong type.

    `name` is the option or argument that the message names. An empty path, as of an unset shell
    variable, means the current directory.

    Raises:
        UsageError: the path is the current directory or one above it; it is a folder where a file
            is to be written, or a file where a folder is; no file can have that name.
    """
    current = Path.cwd()
    if "\0" not in str(path) and path.resolve() in (current, *current.parents):
        raise UsageError(
            f"{name} is '{path}', the current directory or one above it; give the name of "
            f"a new {'folder' if folder else 'file'}"
        )
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{name} is {str(path)[:100]!r}, which cannot be written "
            f"({getattr(error, 'strerror', error)}); give another name"
        ) from None
    if folder and is_file:
        raise UsageError(f"{name} is {path}, which is a file; give the name of a folder")
    if not folder and is_folder:
        raise UsageError(f"{name} is {path}, which is a folder; give the name of a file")


def write_json(path: Path, record: object) -> None:
    """Write a JSON file atomically."""
    text = json.dumps(record, indent=2) + "\n"
    write_atomically(path, lambda part: part.write_text(text, "utf-8"))


@contextmanager
def file_lock(path: Path, *, timeout: float = -1.0) -> Generator[bool]:
    """Hold an exclusive lock between processes; yield whether the file system supports locks.

    The lock ends with the process that holds it. `timeout` is in seconds; if it is negative, wait
    as long as another process holds the lock.

    Raises:
        filelock.Timeout: another process held the lock throughout the timeout.
        OSError: the lock's file cannot be opened.
    """
    from filelock import FileLock  # imported late to keep --help fast

    lock = FileLock(path, timeout=timeout)
    try:
        lock.acquire()
    except OSError as error:
        if isinstance(error, TimeoutError) or error.errno not in _LOCKING_UNSUPPORTED:
            raise
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def replace_durably(part: Path, path: Path) -> None:
    """Rename a finished file to its final name, so that the change survives a power failure."""
    fsync(part)
    part.replace(path)
    if sys.platform != "win32":  # Windows cannot open folders
        fsync(path.parent)


def fsync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk."""
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


_FILE_TYPES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def require_regular_file(path: Path) -> os.stat_result:
    """Return the status of a regular file that a library will open by its path.

    Opening a named pipe or reading a device could block forever.

    Raises:
        OSError: the file is absent or not a regular file; `strerror` says which.
    """
    status = path.stat()
    _require_regular(path, status)
    return status


def open_regular_file(path: Path) -> io.BufferedReader:
    """Open a regular file to read its bytes.

    Raises:
        OSError: the file cannot be opened or is not a regular file; `strerror` says which.
    """
    require_regular_file(path)
    # It may have been replaced since: O_NONBLOCK keeps a named pipe from blocking.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    try:
        _require_regular(path, os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file of at most `max_bytes` bytes.

    Raises:
        OSError: the file cannot be read, is larger, or is not a regular file; `strerror` says why.
    """
    with open_regular_file(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes:,} bytes", str(path))
    return content


def _require_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _FILE_TYPES.get(stat.S_IFMT(status.st_mode), "a special file")
        raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))


def shell_quote(text: str | Path) -> str:
    r"""Return a path or a data source as one word of a shell's command line.

    A leading dash, which would make it an option, is written after `./`. Characters that cannot be
    printed, such as a newline, are written as bash and zsh read them: $'a\x0ab'.
    """
    word = str(text)
    if word.startswith("-"):
        word = f"./{word}"
    if word.isprintable():
        return shlex.quote(word)
    return f"$'{''.join(map(_escape_character, word))}'"


def _escape_character(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    return char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))


@contextmanager
def open_data_file(path: Path) -> Generator[io.BufferedIOBase]:
    """Open a file to read its bytes; convert errors of reading to DataErrors.

    Raises:
        DataError: the file is absent, cannot be read, or is not a regular file.
    """
    try:
        with open_regular_file(path) as file:
            yield file
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); check that it exists and is readable"
        ) from None


# Limits on the sizes that file headers declare, against damaged and malicious files.

MIB = 1 << 20
GIB = 1 << 30
RATIO = 100
"""The maximum ratio of decompressed to compressed bytes of a large file."""
_CHUNK = MIB
_MAX_ELEMENTS = 1 << 62


@runtime_checkable
class Readable(Protocol):
    """A stream of bytes."""

    def read(self, n: int, /) -> bytes:
        """Read at most n bytes; none at the end."""
        ...


def is_decompression_bomb(compressed: int, decompressed: int, max_bytes: int) -> bool:
    """Return whether decompressed data is larger than `max_bytes` and too compressible for images.

    Images are compressed to about 1/2 to 1/10 of their size, decompression bombs to 1/1000.
    """
    return decompressed > max_bytes and decompressed > RATIO * compressed


def is_shape(shape: Sequence[int]) -> bool:
    """Return whether numpy arrays can have a shape; it limits the axes even if one is 0."""
    return (
        len(shape) <= 32
        and all(0 <= length < _MAX_ELEMENTS for length in shape)
        and math.prod(length or 1 for length in shape) < _MAX_ELEMENTS
    )


def read_up_to(stream: Readable, max_bytes: int) -> bytearray:
    """Read at most `max_bytes` bytes in chunks, so that memory grows only with actual content."""
    content = bytearray()
    while chunk := stream.read(min(_CHUNK, max_bytes - len(content))):
        content += chunk
    return content
