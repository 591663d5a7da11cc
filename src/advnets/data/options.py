"""A source in one string: NAME or PATH, and after a colon what else it is told.

ring:modes=8,sd=0.01     tfd:size=96,fold=2     points.csv:sd=0.1     mixture:means=0:1/2:3
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

from advnets.errors import UnknownNameError, UsageError

T = TypeVar("T")

_OPTION = re.compile(r"\s*[\w-]+\s*=")
_OPTIONS = re.compile(rf"{_OPTION.pattern}[^=,]*(?:,{_OPTION.pattern}[^=,]*)*,?\s*")


def split(source: str) -> tuple[str, str]:
    r"""Split a source into its name or path and the text of its options.

    Options begin after the first colon that is followed by a list of NAME=VALUE alone, so that
    values may hold colons (`mixture:means=0:1/2:3`). A colon that no such list follows, as in
    `C:\pictures`, belongs to the path. Where no list is whole, as in `ring:modes=8,sd`, the last
    colon that NAME= follows counts.
    """
    colons = [match.start() for match in re.finditer(":", source)]
    begins = [colon for colon in colons if _OPTION.match(source, colon + 1)]
    whole = [colon for colon in begins if _OPTIONS.fullmatch(source, colon + 1)]
    if not begins:
        return source, ""
    colon = (whole[:1] or begins[-1:])[0]
    return source[:colon], source[colon + 1 :]


def read(text: str, kind: type[T], source: str) -> T:
    """Options such as "modes=8,sd=0.01" as an instance of a dataclass, whose fields they name.

    A tuple is written 0/1/2, a tuple of tuples 0:1/2:3.

    Raises:
        UnknownNameError: the dataclass has no field of that name.
        UsageError: an option has no value, comes twice, or is not of the field's type.
    """
    hints = typing.get_type_hints(kind)
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for option in filter(None, text.split(",")):
        name, equals, value = (part.strip() for part in option.partition("="))
        if name not in known:
            if not known:
                raise UsageError(f"{source} takes no options, but {name!r} came; leave it out")
            raise UnknownNameError(f"option of {source}", name, known)
        if not equals or name in values:
            raise UsageError(f"{source}: {name} must come once, as {name}=VALUE; {text!r} came")
        values[name] = _value(f"{source}: {name}", value, hints[name])
    return kind(**values)


def shown(kind: type) -> str:
    """The options that a dataclass has, with their defaults, as one would type them."""
    return ",".join(f"{field.name}={_text(field.default)}" for field in fields(kind))


def _value(what: str, text: str, kind: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        item = typing.get_args(kind)[0]
        inner = typing.get_origin(item) is not tuple and "/" not in text and ":" in text
        separator = ":" if inner else "/"
        return tuple(_value(what, part, item) for part in text.split(separator))
    if typing.get_origin(kind) is typing.Literal:
        known = [str(choice) for choice in typing.get_args(kind)]
        if text not in known:
            raise UnknownNameError(f"value of {what}", text, known)
        return typing.get_args(kind)[known.index(text)]
    try:
        return _SCALARS[kind](text)
    except (ValueError, KeyError, OverflowError):
        expected = {int: "a whole number", float: "a number", bool: "yes or no"}[kind]
        raise UsageError(f"{what} is {text!r}; expected {expected}") from None


def _number(text: str) -> float:
    value = float(text)
    if value - value != 0:  # infinite, or not a number
        raise ValueError(text)
    return value


_SCALARS: dict[Any, Callable[[str], Any]] = {
    int: int,
    float: _number,
    str: str,
    bool: {"yes": True, "true": True, "no": False, "false": False}.__getitem__,
}


def _text(value: object) -> str:
    if isinstance(value, tuple):
        nested = any(isinstance(item, tuple) for item in value)
        return "/".join(
            ":".join(map(str, item)) if nested else str(item)  # type: ignore[arg-type]
            for item in value
        )
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
