"""Configs as JSON and back, strictly: what does not fit is refused, never guessed at."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from cattrs import BaseValidationError, Converter, transform_error
from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union, configure_union_passthrough
from cattrs.v import format_exception

from advnets.config.games import GameConfig, GANGame
from advnets.config.models import DiscriminatorConfig, GeneratorConfig
from advnets.config.run import Config, OptimizerConfig
from advnets.errors import AdvnetsError, RunError

T = TypeVar("T")


@cache
def _converter() -> Converter:
    return _configured(make_converter(forbid_extra_keys=True))


@cache
def _brief_converter() -> Converter:
    return _configured(make_converter(omit_if_default=True))


def _configured(converter: Converter) -> Converter:
    for kind in (str, bool, int, float):
        converter.register_structure_hook(kind, _exactly)
    converter.register_structure_hook_func(lambda kind: get_origin(kind) is Literal, _one_of)
    converter.register_structure_hook_factory(
        lambda kind: get_origin(kind) is tuple, lambda kind: _tuple_hook(converter, kind)
    )
    for union in (GeneratorConfig, DiscriminatorConfig, OptimizerConfig):
        configure_tagged_union(union, converter, tag_name="kind")
    # The plain game is what runs of before there were others say nothing of.
    configure_tagged_union(GameConfig, converter, tag_name="kind", default=GANGame)
    configure_union_passthrough(str | bool | int | float | None, converter)
    return converter


def _exactly(value: Any, kind: type) -> Any:
    """Return a value of this very type; a whole number also stands for a float.

    Raises:
        TypeError: it is of another type: "16", true and 16.5 are no int; or it is not finite.
    """
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise TypeError(_shortened(value))
    return value


def _one_of(value: Any, kind: Any) -> Any:
    """Return a value that is one of a Literal's and of its type: true is not 1."""
    if not any(type(value) is type(known) and value == known for known in get_args(kind)):
        raise ValueError(f"{_shortened(value)}, expected one of {get_args(kind)}")
    return value


def _tuple_hook(converter: Converter, kind: Any) -> Callable[[Any, Any], Any]:
    """Return a hook that makes tuples of lists, and of no other iterable: a text is none.

    All values of a tuple are of one type, as in every config.
    """
    first, *rest = get_args(kind)
    assert set(rest) in ({...}, {first}), kind
    length = None if rest == [...] else 1 + len(rest)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise TypeError(_shortened(value))
        items = cast(list[Any], value)
        if length is not None and len(items) != length:
            raise ValueError(f"{_shortened(value)}, expected {length} of them")
        return tuple(converter.structure(items, list[first]))

    return structure


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def to_json(record: object) -> dict[str, Any]:
    """A frozen dataclass as JSON values; nets, optimizers and games carry their class as `kind`."""
    return _converter().unstructure(record)


def without_defaults(record: object) -> dict[str, Any]:
    """Return a dataclass as `to_json` does, without what is as the class has it by default."""
    return _brief_converter().unstructure(record)


def from_json(record: object, kind: type[T], file: str = "config.json") -> T:
    """The dataclass that `to_json` wrote, as it stands in a file.

    Raises:
        RunError: a field is missing, unknown, of another type, or has a value that cannot be.
    """
    try:
        return structured(record, kind)
    except ValueError as error:
        raise RunError(
            f"{file} does not fit this advnets ({error}); "
            "restore the file or use the advnets that wrote it"
        ) from None


def structured(value: object, kind: Any) -> Any:
    """Return JSON values as a dataclass, or another type of plain values, strictly.

    Raises:
        ValueError: they do not fit; the message says what and where.
    """
    try:
        return _converter().structure(value, kind)
    except BaseValidationError as error:
        raise ValueError(transform_error(error, format_exception=_worded)[0]) from None
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
        raise ValueError(_worded(error, kind)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _worded(error: BaseException, kind: Any) -> str:
    """What is wrong with one field, in a few words."""
    if isinstance(error, AdvnetsError):
        return str(error)
    words = format_exception(error, kind)
    if type(error) in (TypeError, ValueError) and error.args:
        return f"{words}, got {str(error)[:120]}"
    return words


def differences(ours: Config, theirs: Config) -> list[str]:
    """Every field in which two configs differ, as `path: ours, theirs`."""
    return _differences("", to_json(ours), to_json(theirs))


def _differences(path: str, ours: object, theirs: object) -> list[str]:
    ours, theirs = union_by_name(ours), union_by_name(theirs)
    if ours == theirs:
        return []
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        return [f"{path}: {ours!r}, {theirs!r}"]
    mine, others = cast(dict[str, object], ours), cast(dict[str, object], theirs)
    return [
        line
        for key in dict.fromkeys((*mine, *others))
        for line in _differences(f"{path}.{key}".lstrip("."), mine.get(key), others.get(key))
    ]


def union_by_name(value: object) -> object:
    """A list of stages as a mapping by number; anything else as it is."""
    if isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        return {str(number): item for number, item in enumerate(value)}
    return value
