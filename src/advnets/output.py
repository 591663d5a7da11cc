"""Console output whose failure never stops the program.

A closed terminal, a pipe whose reader has exited, a full disk behind stdout, or an encoding without
Greek letters must not lose a training or its scores.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class TextStream(Protocol):
    """A text stream that can be printed to."""

    def write(self, text: str, /) -> int:
        """Write text and return its length."""
        ...

    def flush(self) -> None:
        """Write buffered text."""
        ...

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        ...


class TolerantStream:
    r"""A text stream whose writes never raise.

    Characters that the stream's encoding lacks are written as escapes (`\u03c3`). After the first
    write that fails, the error is stored in `error` and later writes are dropped. Other attributes
    (`fileno`, `encoding`, …) are those of the wrapped stream.
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
        """Flush the stream, or do nothing when it is broken."""
        if self.error is None:
            try:
                self.stream.flush()
            except (OSError, ValueError) as error:
                self._break(error)

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
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
    """The process's stdout or stderr; once broken, its descriptor is redirected to the null device.

    Then what libraries and the interpreter's exit still flush to it cannot fail either.
    """

    def _break(self, error: OSError | ValueError) -> None:
        super()._break(error)
        with suppress(OSError, ValueError):  # a closed stream has no descriptor
            descriptor = self.stream.fileno()
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(null, descriptor)
            finally:
                os.close(null)


def make_tolerant(stream: TextStream) -> TolerantStream:
    """Wrap a stream so that its writes never raise."""
    return stream if isinstance(stream, TolerantStream) else TolerantStream(stream)


def protect_standard_streams() -> None:
    """Make writes to this process's stdout and stderr safe, even where they are closed."""
    # Reopen closed descriptors: otherwise the next file that is opened, such as a checkpoint, would
    # get the descriptor of stdout and receive what is printed.
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
    """Return the error by which output to stdout was lost, or None.

    A pipe whose reader has exited (`| head`) counts as no loss.
    """
    sys.stdout.flush()
    error: object = getattr(sys.stdout, "error", None)
    if isinstance(error, BrokenPipeError):
        return None
    return error if isinstance(error, OSError) else None
