"""Files that are written whole or not at all, files that are safe to read, and locks."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import stat
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from advnets.errors import DataError, UsageError, WriteError

_LOCKING_UNSUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
"""Answers of a file system that cannot lock files, as some network mounts cannot."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside, flush it to disk, rename it: `path` is the old file or the new one.

    Raises:
        WriteError: the disk is full or the folder cannot be written; `path` is as it was.
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
    """Make a folder and those above it; after an error remove those that it made and are empty.

    Raises:
        OSError: it cannot be made.
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
    """Refuse to write into the current directory, or over a folder or file of the other kind.

    `name` is what the caller knows the path by. An empty path, as of a shell variable that is not
    set, means the current directory.

    Raises:
        UsageError: the path is the current directory or one above it; it is a folder where a file
            is to be written, or a file where a folder is; no file can have that name.
    """
    current = Path.cwd()
    if "\0" not in str(path) and path.resolve() in (current, *current.parents):
        raise UsageError(
            f"{name} is '{path}', the directory that you are in or one above it; give the name of "
            f"a new {'folder' if folder else 'file'}"
        )
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{name} is {str(path)[:100]!r}, where nothing can be written "
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
    """Hold an exclusive lock between processes; give whether the file system could lock.

    The lock ends with the process that holds it. `timeout` is in seconds; negative: wait as long
    as another process holds it.

    Raises:
        filelock.Timeout: another process held the lock throughout the timeout.
        OSError: the lock's file cannot be opened.
    """
    from filelock import FileLock  # not what --help should wait for

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
    """Give a finished file its name, in a way that outlasts a power cut."""
    fsync(part)
    part.replace(path)
    if sys.platform != "win32":  # where a folder cannot be opened
        fsync(path.parent)


def fsync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
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
    """Return the status of a regular file, for a library that opens it by its path.

    A named pipe or a device would be waited for, or read, without end.

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
    # It may have been replaced since: without O_NONBLOCK a named pipe waits for a writer.
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
        OSError: the file cannot be read, is larger, or is not a regular file; `strerror` says it.
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
    r"""Return a path or a source of data as one word of a shell's command line.

    A leading dash, which would make it an option, comes after `./`. What cannot be printed, such as
    a newline, is written as bash and zsh read it: $'a\x0ab'.
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
    """Open a file, whose faults of reading are DataErrors.

    Raises:
        DataError: the file is absent, cannot be read, or is not a regular file.
    """
    try:
        with open_regular_file(path) as file:
            yield file
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); see that the file is there and yours"
        ) from None
