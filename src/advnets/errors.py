"""Every error a user can meet.

Each message is one sentence: what came, what was expected, what to do.

AdvnetsError
├── UsageError            a value or a combination of flags that cannot be
│   └── UnknownNameError  a name nobody has; the nearest ones are in the message
├── MissingExtraError     an optional library is not installed; the message has its cure
├── DataError             data that is absent, broken or wrong as a whole
│   └── DownloadError     no mirror gave the file
├── WriteError            a file that could not be written; what was there before is still there
├── RunError              a run directory that cannot be used as asked
│   ├── RunBusyError      another process holds it
│   ├── ConfigDiffersError  resumed with another config than it was begun with
│   └── CheckpointError   a checkpoint that is absent, cannot be read, or is of another version
│       └── UnusableCheckpointError  it is damaged or another run's; the one before may serve
├── StoppedError          a training that others wait for was asked to stop
├── OutOfMemoryError      memory ran out, or would; the message says what to make smaller
└── DivergedError         training ended in a state that is not usable

and two warnings:

FewImagesWarning    a score is computed, of too few images to mean much
RunWarning            a run is used although a file of it is damaged, other versions wrote it, or
                      its directory cannot be locked or written
"""

from __future__ import annotations

import difflib
import importlib
import re
import signal
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that command a terminal, end or reorder a line, or cannot be encoded."""


def printable(text: str) -> str:
    r"""Return one line of text that is safe to print: control characters as escapes such as \x1b.

    For every text that comes from data or from a disk, such as the name of a file.
    """
    return _UNPRINTABLE.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Return the text with each of its lines safe to print."""
    return "\n".join(map(printable, text.split("\n")))


def _escape(found: re.Match[str]) -> str:
    # Above ASCII in a form that is legal within JSON, which escapes the ones below itself.
    code = ord(found[0])
    return f"\\u{code:04x}" if code >= 0x7F else found[0].encode("unicode_escape").decode()


class AdvnetsError(Exception):
    """Base of every error that advnets raises on purpose; its message is safe to print."""

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(AdvnetsError):
    """A value or a combination of flags that cannot be."""


class UnknownNameError(UsageError):
    """A name nobody has, with the nearest ones that exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
        # Keep the nearest name, and names that are about as near.
        ratios = {n: difflib.SequenceMatcher(None, n, name).ratio() for n in near}
        near = [n for n in near if ratios[n] > max(ratios.values()) - 0.1]
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}."
        super().__init__(f"no {kind} is called {name!r}; {hint}")


class MissingExtraError(AdvnetsError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed; type: pip install 'advnets[{extra}]'")


class DataError(AdvnetsError):
    """Data that is absent, broken or wrong as a whole."""


class DownloadError(DataError):
    """No mirror gave the file."""


class WriteError(AdvnetsError):
    """A file that could not be written; what was there before is still there."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"{path} could not be written ({error.strerror or error}) and is as it was before; "
            "free some space or mend the folder's permissions, then try again"
        )


class RunError(AdvnetsError):
    """A run directory that cannot be used as asked."""


class RunBusyError(RunError):
    """Another process holds the run directory."""


class ConfigDiffersError(RunError):
    """A run is resumed with another config than it was begun with."""


class CheckpointError(RunError):
    """A checkpoint that is absent, cannot be read, or is of another version."""


class UnusableCheckpointError(CheckpointError):
    """A checkpoint that is damaged or another run's; the one before it may serve."""


class StoppedError(AdvnetsError):
    """A training that others wait for was asked to stop; what it has done is saved."""


class OutOfMemoryError(AdvnetsError):
    """Memory ran out, or would; the message says what to make smaller."""


class DivergedError(AdvnetsError):
    """Training ended in a state that is not usable: it diverged, or has learned nothing."""


class DivergedWarning(UserWarning):
    """A training that was started from Python ended in a state that is not usable."""


class StoppedBySignal(KeyboardInterrupt):
    """A signal that asked the process to end before there was anything to save.

    `signal` says which one; `detail` is what the message adds.
    """

    def __init__(self, number: int, detail: str = "") -> None:
        self.signal = signal.Signals(number)
        super().__init__(f"stopped by {self.signal.name}{detail}")


class FewImagesWarning(UserWarning):
    """A score is computed of too few images to mean what it should."""


class RunWarning(UserWarning):
    """A run is used although a file is damaged, or its directory cannot be locked or written."""


def require(library: str, extra: str) -> ModuleType:
    """Import an optional library, or say which extra brings it.

    Raises:
        MissingExtraError: the library is not installed.
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        # A library that is there and misses one of its own parts is another fault: let it speak.
        if error.name != library.partition(".")[0]:
            raise
        raise MissingExtraError(library.partition(".")[0], extra) from None
