"""The exceptions and warnings of advnets, and text that is safe to print.

A message is one sentence: what was wrong (expected, got), then what to do.

AdvnetsError
├── UsageError            an invalid value or combination of options
│   └── UnknownNameError  an unknown name; the message suggests the nearest ones
├── MissingExtraError     an optional library is not installed; the message has the command
├── DataError             data are absent, broken or unsuitable
│   └── DownloadError     no mirror provided the file
├── WriteError            a file could not be written; its previous content is unchanged
├── RunError              a run directory cannot be used as requested
│   ├── RunBusyError      another process holds the lock of the run directory
│   ├── ConfigDiffersError  a run is resumed with another config than it was started with
│   └── CheckpointError   a checkpoint is absent, cannot be read, or is of another version
│       └── UnusableCheckpointError  a checkpoint is damaged or of another run
├── CallbackError         a callback of a training raised an exception; the training is saved
├── CustomCodeError       a game, model or metric of the user raised an exception
├── StoppedError          a training that is part of another command was stopped
├── RemoteError           another process of a distributed training failed
│   └── LostProcessError  another process has ended or cannot be reached
├── OutOfMemoryError      memory ran out, or would; the message says what to make smaller
└── DivergedError         training diverged, or that had no effect

KeyboardInterrupt
└── StoppedBySignal       a signal ended the process before there was anything to save

UserWarning
├── DivergedWarning       a training that was started from Python diverged
├── FewImagesWarning      a score is computed of too few images to be meaningful
└── RunWarning            a run is used although a file is damaged, other versions wrote it, its
                          directory cannot be locked or written, or its data cannot be checked
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType, NoneType, SimpleNamespace, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

__all__ = [
    "AdvnetsError",
    "CallbackError",
    "CheckpointError",
    "ConfigDiffersError",
    "CustomCodeError",
    "DataError",
    "DivergedError",
    "DivergedWarning",
    "DownloadError",
    "FewImagesWarning",
    "LostProcessError",
    "MissingExtraError",
    "OutOfMemoryError",
    "RemoteError",
    "RunBusyError",
    "RunError",
    "RunWarning",
    "StoppedBySignal",
    "StoppedError",
    "UnknownNameError",
    "UnusableCheckpointError",
    "UsageError",
    "WriteError",
]

P = ParamSpec("P")
R = TypeVar("R")

_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that control a terminal, end or reorder a line, or cannot be encoded."""


def __dir__() -> list[str]:
    return __all__


def printable(text: str) -> str:
    r"""Return a line of text that is safe to print: control characters become escapes such as \x1b.

    For all text that comes from data or from a disk, such as file names.
    """
    return _UNPRINTABLE.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Return the text with each of its lines safe to print."""
    return "\n".join(map(printable, text.split("\n")))


def _escape(match: re.Match[str]) -> str:
    # Escape characters above ASCII as JSON does; json.dumps escapes those below itself.
    code = ord(match[0])
    return f"\\u{code:04x}" if code >= 0x7F else match[0].encode("unicode_escape").decode()


SYNONYMS = {
    **dict.fromkeys(("learning-rate", "learningrate", "step-size"), "lr"),
    **dict.fromkeys(("iterations", "iters", "num-iterations", "max-iters", "niter"), "steps"),
    **dict.fromkeys(("num-steps", "max-steps", "train-steps", "total-steps"), "steps"),
    **dict.fromkeys(("num-epochs", "n-epochs", "max-epochs"), "epochs"),
    **dict.fromkeys(("batch", "bs", "minibatch-size"), "batch-size"),
    **dict.fromkeys(("dataset", "dataroot", "data-path", "data-root", "train-dir"), "data"),
    **dict.fromkeys(("output", "outdir", "output-dir", "save-dir", "logdir", "run-dir"), "out"),
    **dict.fromkeys(("image-size", "img-size", "resolution"), "size"),
    **dict.fromkeys(("gpu", "gpus", "cuda"), "device"),
    **dict.fromkeys(("manual-seed", "random-seed"), "seed"),
    **dict.fromkeys(("amp", "fp16", "bf16", "mixed-precision", "dtype"), "precision"),
    **dict.fromkeys(("workers", "num-workers", "num-threads"), "threads"),
    **dict.fromkeys(("mirror", "flip", "horizontal-flip"), "hflip"),
    **dict.fromkeys(("nz", "z-dim", "latent-size", "noise-dim"), "latent-dim"),
    **dict.fromkeys(("ngf", "ndf", "cbase"), "base-channels"),
    **dict.fromkeys(("loss", "gan-mode", "criterion"), "objective"),
    **dict.fromkeys(("n-critic", "critic-iters", "d-steps"), "k"),
    **dict.fromkeys(("lambda-gp", "gp", "gp-lambda"), "gp-weight"),
    **dict.fromkeys(("ema-decay", "ema-kimg"), "ema-half-life"),
    **dict.fromkeys(("save-every", "save-interval", "snap", "ckpt-every"), "checkpoint-every"),
    **dict.fromkeys(("wgan", "wgan-gp", "earth-mover"), "wasserstein"),
    **dict.fromkeys(("lsgan", "ls", "mse", "l2"), "least-squares"),
    **dict.fromkeys(("hinge-gan", "hinge-loss"), "hinge"),
    **dict.fromkeys(("vanilla", "standard", "bce", "nsgan", "ns", "logistic"), "non-saturating"),
    **dict.fromkeys(("saturating", "mm"), "minimax"),
}
"""The names that others use for options and objectives of this library."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the question "did you mean …?" for the nearest known names; "" if none is near.

    A synonym, or the name in another case, comes before names that are spelled alike. Words may be
    joined by _ or by -.
    """
    names = list(known)
    synonym = SYNONYMS.get(name.lower().replace("_", "-"), "")
    near = [n for n in names if n.replace("_", "-") == synonym or n.lower() == name.lower()]
    if not near:
        cutoff = 0.6 if len(name) < 6 else 0.7  # photos is not a typo of points
        near = difflib.get_close_matches(name, names, n=3, cutoff=cutoff)
        # Keep the nearest name, and names that are about as near.
        ratios = {n: difflib.SequenceMatcher(None, n, name).ratio() for n in near}
        near = [n for n in near if ratios[n] > max(ratios.values()) - 0.1]
    return f"did you mean {' or '.join(near)}?" if near else ""


ON_COMMAND_LINE: ContextVar[bool] = ContextVar("ON_COMMAND_LINE", default=False)
"""Whether a command is running: messages then have flags, otherwise the names of keywords."""


def by_interface(command: str, call: str) -> str:
    """Return the command while a command is running, otherwise the call of Python."""
    return command if ON_COMMAND_LINE.get() else call


_SWITCHES = (
    *("resume", "trust_code", "overwrite", "follow_links", "stream"),
    "separate_columns",
)
_COMMAND = r"`[^`]*`|\badvnets [a-z]+ [^;)]*"
_FLAG = (
    r"(?<!')--(?P<name>[a-z][\w.-]*)"
    r"(?: (?P<value>-?\d[\d.e-]*(?<![.-])|[A-Z]+\b|(?!(?:out|and|or|alone|to)\b)[a-z][\w:-]*"
    r"(?=[,;.)]|$| or | and | to | --)))?"
)


def in_python_words(message: str) -> str:
    """Return a message with keywords of Python, `name=value`, in place of flags, `--name value`.

    Whole commands, such as `advnets data fetch`, stay as they are.
    """

    def keyword(match: re.Match[str]) -> str:
        if match["name"] is None:
            return match[0]
        name, value = match["name"].replace("-", "_"), match["value"]
        prefix, dot, field = name.rpartition(".")
        if field.startswith("no_"):
            name, value = f"{prefix}{dot}{field.removeprefix('no_')}", "False"
        elif name in _SWITCHES:
            return f"{name}=True"
        elif value is not None and value[0].islower():
            value = repr(value)
        return name if value is None else f"{name}={value}"

    return re.sub(f"{_COMMAND}|{_FLAG}", keyword, message)


def public_function(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function of the Python interface, so that its errors are in the words of Python.

    The TypeError for an unknown keyword names the nearest one, an argument of another type than its
    annotation is a UsageError, and the errors of advnets name keywords and not flags. Numbers of
    NumPy and torch become Python's. The text of an annotation `Annotated[type, text]` is what the
    error of another type says to do.
    """
    signature = inspect.signature(function)
    parameters = signature.parameters
    known = [name for name in parameters if name != "self"]
    variable = {p.name for p in parameters.values() if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    annotations = {p.name: p.annotation for p in parameters.values() if p.name in known}

    @functools.cache
    def hints() -> dict[str, Any]:
        module = sys.modules[function.__module__]
        described = SimpleNamespace(__annotations__=annotations)
        return get_type_hints(described, vars(module), include_extras=True)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs:
            if name not in known and not variable:
                raise unknown_keyword(function.__name__, name, known)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # raises it, with the name of the function
        for name in bound.arguments.keys() & hints().keys() - variable:
            value = bound.arguments[name]
            if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
                bound.arguments[name] = value = value.item()
            check_type(name, value, hints()[name])
        try:
            return function(*bound.args, **bound.kwargs)
        except AdvnetsError as error:
            if not ON_COMMAND_LINE.get():
                error.args = (in_python_words(str(error)),)
            raise

    return call


def check_type(name: str, value: object, hint: Any) -> None:
    """Check that an argument has the type of an annotation.

    Raises:
        UsageError: the argument has another type.
    """
    if not _is_of_type(value, hint):
        raise UsageError(_wrong_type(name, value, hint))


def _is_of_type(value: Any, hint: Any) -> bool:
    """Return whether an argument has the type of an annotation."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint in (Any, object):
        return True
    if origin is Annotated:
        return _is_of_type(value, parts[0])
    if origin in (Union, UnionType):
        return any(_is_of_type(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin is Callable:
        return callable(value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_is_of_type(key, parts[0]) for key in value)
    if origin in (Sequence, tuple):
        return _is_list(value) and all(_is_of_type(item, parts[0]) for item in value)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, NoneType if hint is None else hint)


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _wrong_type(name: str, value: object, hint: Any) -> str:
    """Return the message about an argument, or an item of it, of another type than annotated."""
    if get_origin(hint) is Annotated:
        annotated, advice = get_args(hint)
        return f"{_wrong_type(name, value, annotated)}; {advice}"

    # Name the first wrong item of a list, or the first wrong key of a mapping.
    for part in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        origin, items = get_origin(part), get_args(part)
        if origin is Mapping and isinstance(value, Mapping):
            key = next(key for key in value if not _is_of_type(key, items[0]))
            return _wrong_type(f"a key of {name}", key, items[0])
        if origin in (Sequence, tuple) and _is_list(value):
            index = next(i for i, item in enumerate(value) if not _is_of_type(item, items[0]))
            return _wrong_type(f"{name}[{index}]", value[index], items[0])
    plain = value is None or isinstance(value, str | int | float)
    is_what = f"{value!r:.80}" if plain else f"of type {type(value).__name__}"
    *others, last = _phrases(hint)
    expected = f"{', '.join(others)} or {last}" if others else last
    return f"{name} is {is_what}; expected {expected}"


_TYPE_NAMES = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "a string",
    object: "an object",
}


def _phrases(hint: Any) -> list[str]:
    """Return a phrase for each type of an annotation."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return [phrase for part in parts for phrase in _phrases(part)]
    if origin is Literal:
        return list(map(repr, parts))
    if origin in (Sequence, tuple):
        return [f"several values, each {' or '.join(_phrases(parts[0]))}"]
    if origin is Callable:
        return ["a function"]
    if origin is Mapping:
        return ["a mapping with names as keys"]
    if hint in (None, NoneType):
        return ["None"]
    if hasattr(hint, "array_type"):  # of jaxtyping
        kind, shape = hint.__name__.partition("[")[0].lower(), ", ".join(hint.dim_str.split())
        return [f"a {kind} {hint.array_type.__name__} of shape ({shape})"]
    return [_TYPE_NAMES.get(hint) or hint.__name__]


def unknown_keyword(function: str, name: str, known: Sequence[str]) -> TypeError:
    """Return the error for a keyword that a function does not have."""
    hint = suggestion(name, known) or f"its arguments are {', '.join(known)}"
    return TypeError(f"{function} has no argument {name!r}; {hint}")


class AdvnetsError(Exception):
    """The base class of all errors of advnets; its message is safe to print."""

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(AdvnetsError):
    """An invalid value or combination of options."""


class UnknownNameError(UsageError):
    """An unknown name; the message suggests the nearest known ones.

    Where none is near, it has `listed`, a clause that says what lists the known names, or else the
    names themselves.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        known: Iterable[str],
        aliases: Iterable[str] = (),
        listed: str = "",
    ) -> None:
        names = sorted(known)
        hint = suggestion(name, [*names, *aliases]) or listed or f"known: {', '.join(names)}"
        super().__init__(f"no {kind} is called {name!r}; {hint}")


class MissingExtraError(AdvnetsError):
    """A missing optional library; the message has the command that installs it."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(
            f"{library} is not installed; install it with: pip install 'advnets[{extra}]'"
        )


class DataError(AdvnetsError):
    """Data that are absent, broken or unsuitable."""


class DownloadError(DataError):
    """A file that no mirror provided."""


class WriteError(AdvnetsError):
    """A file that could not be written; its previous content is unchanged."""

    def __init__(self, path: Path, error: OSError) -> None:
        unchanged = " and is unchanged" if os.path.lexists(path) else ""
        super().__init__(
            f"{path} could not be written ({error.strerror or error}){unchanged}; "
            "free some space or fix the folder's permissions, then try again"
        )


class RunError(AdvnetsError):
    """A run directory that cannot be used as requested."""


class RunBusyError(RunError):
    """A run directory whose lock another process holds."""


class ConfigDiffersError(RunError):
    """A run that is resumed with another config than it was started with."""


class CallbackError(AdvnetsError):
    """An exception that a callback raised; the training was saved and has stopped."""

    def __init__(self, callback: str, method: str, step: int, raised: str) -> None:
        started = step > 0 or method != "on_start"
        super().__init__(
            f"the callback {callback} raised {raised!r} in {method} at step {step:,}; "
            + (
                "the training is saved: correct the callback, and resume"
                if started
                else "nothing was trained: correct the callback"
            )
        )


class CustomCodeError(AdvnetsError):
    """An exception that a game, model or metric of the user raised."""


class CheckpointError(RunError):
    """A checkpoint that is absent, cannot be read, or is of another version."""


class UnusableCheckpointError(CheckpointError):
    """A checkpoint that is damaged or of another run; an earlier one may be usable."""


class StoppedError(AdvnetsError):
    """A training, part of another command, that was stopped; its progress is saved."""


class RemoteError(AdvnetsError):
    """Another process of a distributed training failed; the message is that of its error."""


class LostProcessError(RemoteError):
    """Another process of a distributed training has ended, or cannot be reached."""


class OutOfMemoryError(AdvnetsError):
    """A lack of memory, observed or predicted; the message says what to make smaller."""


class DivergedError(AdvnetsError):
    """A training that diverged, or that had no effect."""


STABILITY_ADVICE = "start a new run with a lower learning rate or smaller initial weights"
"""The advice on a training that diverged."""


class DivergedWarning(UserWarning):
    """A training, started from Python, that diverged or had no effect."""


class StoppedBySignal(KeyboardInterrupt):
    """A signal that ended the process before there was anything to save.

    `signal` is the signal; `detail` is appended to the message.
    """

    def __init__(self, number: int, detail: str = "") -> None:
        self.signal: signal.Signals = signal.Signals(number)
        super().__init__(f"stopped by {self.signal.name}{detail}")


class FewImagesWarning(UserWarning):
    """A score of too few images to be meaningful."""


class RunWarning(UserWarning):
    """A problem of a run that is used nevertheless.

    A file is damaged, other versions wrote it, or its directory cannot be locked or written.
    """


def warn_user(message: str, category: type[Warning] = RunWarning) -> None:
    """Give a warning whose line is that of the user's code, which called this package."""
    frame, level, outside = inspect.currentframe(), 1, 1
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] == __package__:
            outside = level + 1
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=outside)


def require(library: str, extra: str) -> ModuleType:
    """Import an optional library of an extra, such as advnets[report].

    Raises:
        MissingExtraError: the library is not installed.
    """
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        # An installed library that lacks a dependency of its own is another error.
        if error.name != library.partition(".")[0]:
            raise
        raise MissingExtraError(library.partition(".")[0], extra) from None
