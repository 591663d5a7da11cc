"""Console output that never ends the work it reports.

A terminal that is closed, a pipe whose reader has left, a full disk behind stdout, or an encoding
without Greek letters must not lose a training or its scores.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class TextStream(Protocol):
    """Anything that text is printed to."""

    def write(self, text: str, /) -> int:
        """Write text and return its length."""
        ...

    def flush(self) -> None:
        """Hand on what is buffered."""
        ...

    def isatty(self) -> bool:
        """Return whether a terminal shows the text."""
        ...


class TolerantStream:
    r"""A text stream whose writes never raise.

    Characters that the stream's encoding lacks are written as escapes (`\u03c3`). After the first
    write that the system refuses, the error is kept in `error` and later writes are dropped.
    Everything else (`fileno`, `encoding`, …) is the wrapped stream's.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error: OSError | ValueError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write text, or drop it when the stream is broken; return its length."""
        if self.error is None:
            try:
                self._write(text)
            except (OSError, ValueError) as error:  # ValueError: the stream is closed
                self._break(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush, or do nothing when the stream is broken."""
        if self.error is None:
            try:
                self.stream.flush()
            except (OSError, ValueError) as error:
                self._break(error)

    def isatty(self) -> bool:
        """Return whether a terminal shows the text."""
        try:
            return self.stream.isatty()
        except (OSError, ValueError) as error:
            self._break(error)
            return False

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            encoding = self.stream.encoding or "ascii"
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def _break(self, error: OSError | ValueError) -> None:
        self.error = error


class _StandardStream(TolerantStream):
    """The process's stdout or stderr: once broken, its descriptor leads to the null device.

    What libraries and the interpreter's own exit still flush to it then cannot fail either.
    """

    def _break(self, error: OSError | ValueError) -> None:
        super()._break(error)
        with suppress(OSError, ValueError):  # a stream that is closed has no descriptor
            descriptor = self.stream.fileno()
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(null, descriptor)
            finally:
                os.close(null)


def make_tolerant(stream: TextStream) -> TolerantStream:
    """Return the stream wrapped so that its writes never raise."""
    return stream if isinstance(stream, TolerantStream) else TolerantStream(stream)


def protect_standard_streams() -> None:
    """Make writes to this process's stdout and stderr safe, also where they are closed."""
    # A closed standard descriptor would be given to the next file that is opened, and what is
    # printed would land in that file: a checkpoint, say.
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        setattr(sys, name, _StandardStream(stream))


def lost_output_error() -> OSError | None:
    """Return why something printed to stdout was lost, or None.

    A pipe whose reader has left (`| head`) is the reader's choice and no loss.
    """
    sys.stdout.flush()
    error: object = getattr(sys.stdout, "error", None)
    if isinstance(error, BrokenPipeError):
        return None
    return error if isinstance(error, OSError) else None
