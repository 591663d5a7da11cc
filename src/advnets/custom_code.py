"""Python files of the user, as FILE.py:NAME: their content, digest and execution.

A file is run only if the command or call names it or sets `trust_code`, never merely because the
config.json of a run names it.
"""

from __future__ import annotations

import hashlib
import re
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from advnets.errors import AdvnetsError, CustomCodeError, RunError, UsageError
from advnets.files import shell_quote

_SPEC = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)")
_names: dict[tuple[Path, str], str] = {}
"""The last name that was requested of each file whose code was run, by path and digest."""


class InvalidResultError(Exception):
    """A result of the user's code of a wrong type, shape or name; the message has its file."""


def is_code_spec(text: str) -> bool:
    """Return whether a text is FILE.py:NAME."""
    return _SPEC.fullmatch(text) is not None


@dataclass(frozen=True)
class CustomCode:
    """An object in a Python file, by name, with the content of the file when it was read."""

    source: str
    """FILE.py:NAME, with the absolute path of the file."""
    digest: str
    """BLAKE2b digest of the content, in hex."""
    file: Path
    name: str
    content: bytes

    @classmethod
    def read(cls, spec: str, what: str = "game") -> CustomCode:
        """Read FILE.py:NAME without running it; messages call it a custom `what`.

        Raises:
            UsageError: `spec` is not FILE.py:NAME, or the file does not exist or cannot be read.
        """
        match = _SPEC.fullmatch(spec)
        if match is None:
            raise UsageError(f"{spec!r} does not name a custom {what}; give FILE.py:NAME")
        file = Path(match["file"]).expanduser()
        content = _read_content(file, f"the {what} {spec!r}")
        name = match["name"]
        return cls(f"{file.resolve()}:{name}", digest(content), file, name, content)

    def check_digest(self, expected: str) -> None:
        """Check that the file has not changed since a run was started.

        Raises:
            RunError: its digest is not the expected one.
        """
        if self.digest != expected:
            raise RunError(
                f"{self.source} has changed since the run started (digest {expected[:12]} then, "
                f"{self.digest[:12]} now); restore the old file, or start a new run"
            )

    def run(self) -> object:
        """Run the code, after a line on stderr that says so; return the object of that name.

        The content that was read is compiled, since an import could run a cached version instead.

        Raises:
            UsageError: the code fails, or does not define the name.
        """
        if (self.file.resolve(), self.digest) not in _names:
            print(f"advnets: running the code of {self.file.resolve()}", file=sys.stderr)
        _names[self.file.resolve(), self.digest] = self.name
        module = ModuleType(f"custom_{self.file.stem}")
        module.__file__ = str(self.file)
        try:
            exec(compile(self.content, self.file, "exec", dont_inherit=True), vars(module))
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"{self.file} failed ({type(error).__name__}: {error}); correct it, and test it "
                f"with `python {shell_quote(self.file)}`"
            ) from error
        if not hasattr(module, self.name):
            names = sorted(n for n in vars(module) if not n.startswith("_"))
            raise UsageError(
                f"{self.file} does not define {self.name!r}; it defines {', '.join(names)}"
            )
        return getattr(module, self.name)


def custom_code_error(error: BaseException) -> CustomCodeError | None:
    """Return an error that names the file and line of the user's code that raised an exception.

    The message of an `InvalidResultError` has them already, or the call of the user's code. Return
    None for an error of advnets, or if no file of the traceback was run by `CustomCode`.
    """
    if isinstance(error, AdvnetsError):
        return None
    if isinstance(error, InvalidResultError):
        return CustomCodeError(str(error))
    names = {file: name for (file, _), name in _names.items()}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if (file := Path(frame.filename).resolve()) in names:
            return CustomCodeError(
                f"{file}:{names[file]} failed in line {frame.lineno} ({describe_exception(error)})"
            )
    return None


def describe_exception(error: BaseException) -> str:
    """Return the type and the message of an exception."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


def describe_value(value: object) -> str:
    """Return a value that the user's code returned, in a few words."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        array = cast(Any, value)
        kind, _, dtype = str(array.dtype).rpartition(".")
        return f"{'a tensor' if kind else 'an array'} of shape {tuple(array.shape)} of {dtype}"
    plain = value is None or isinstance(value, str | int | float)
    return f"{value!r:.40}" if plain else f"an object of {type(value).__name__}"


def untrusted_code_error(what: str, source: str, remedy: str = "") -> RunError:
    """Return the error for code that the command does not name; `remedy` says how to name it."""
    return RunError(
        f"the config uses the custom {what} {source!r}, whose Python code would run, but the "
        f"command does not name it; read that file, then {remedy}add --trust-code"
    )


def digest(content: bytes) -> str:
    """Return the BLAKE2b digest of a file's content, in hex."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _read_content(file: Path, what: str) -> bytes:
    """Return the content of a file.

    Raises:
        UsageError: there is no such file, or it cannot be read.
    """
    try:
        if file.is_file():
            return file.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{file} of {what} cannot be read ({error.strerror}); give FILE.py:NAME"
        ) from None
    raise UsageError(f"the file {file} of {what} does not exist; give FILE.py:NAME")
