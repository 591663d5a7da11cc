"""Conversion of configs to JSON and back, with strict checks of types and names."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from cattrs import BaseValidationError, Converter, transform_error
from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union, configure_union_passthrough
from cattrs.v import format_exception

from advnets.config.games import GameConfig
from advnets.config.models import DiscriminatorConfig, GeneratorConfig
from advnets.config.run import OptimizerConfig
from advnets.errors import AdvnetsError, RunError

T = TypeVar("T")


@cache
def _converter() -> Converter:
    return _configure(make_converter(forbid_extra_keys=True))


@cache
def _brief_converter() -> Converter:
    return _configure(make_converter(omit_if_default=True))


def _configure(converter: Converter) -> Converter:
    for kind in (str, bool, int, float):
        converter.register_structure_hook(kind, _exact_type)
    converter.register_structure_hook_func(lambda kind: get_origin(kind) is Literal, _literal)
    converter.register_structure_hook_factory(
        lambda kind: get_origin(kind) is tuple, lambda kind: _tuple_hook(converter, kind)
    )
    for union in (GeneratorConfig, DiscriminatorConfig, OptimizerConfig, GameConfig):
        configure_tagged_union(union, converter, tag_name="kind")
    configure_union_passthrough(str | bool | int | float | None, converter)
    converter.register_structure_hook_func(_is_int_or_literal, _int_or_literal)
    return converter


def _exact_type(value: Any, expected_type: type) -> Any:
    """Return a value of exactly this type; an integer is also accepted as a float.

    Raises:
        TypeError: the value has another type ("16", true and 16.5 are not int), or is not finite.
    """
    if expected_type is float and type(value) is int:
        value = float(value)
    if type(value) is not expected_type or (expected_type is float and not math.isfinite(value)):
        raise TypeError(_truncated_repr(value))
    return value


def _literal(value: Any, literal_type: Any) -> Any:
    """Return a value of a Literal, which must also have its type: true is not 1."""
    if not any(
        type(value) is type(option) and value == option for option in get_args(literal_type)
    ):
        raise ValueError(f"{_truncated_repr(value)}, expected one of {get_args(literal_type)}")
    return value


def _is_int_or_literal(kind: Any) -> bool:
    kinds = [get_origin(part) or part for part in get_args(kind)]
    return get_origin(kind) is Union and kinds == [int, Literal]


def _int_or_literal(value: Any, union: Any) -> Any:
    """Return an integer, which True is not, or a value of the Literal in a union of both."""
    choices = get_args(get_args(union)[1])
    if type(value) is not int and value not in choices:
        raise ValueError(f"{_truncated_repr(value)}, expected an integer or one of {choices}")
    return value


def _tuple_hook(converter: Converter, tuple_type: Any) -> Callable[[Any, Any], Any]:
    """Return a hook that converts lists, but no other iterable such as a string, to tuples.

    All values of a tuple have the same type, as in every config.
    """
    first, *rest = get_args(tuple_type)
    assert set(rest) in ({...}, {first}), tuple_type
    length = None if rest == [...] else 1 + len(rest)

    def structure(value: Any, _: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise TypeError(_truncated_repr(value))
        items = cast(list[Any], value)
        if length is not None and len(items) != length:
            raise ValueError(f"{_truncated_repr(value)}, expected {length} values")
        return tuple(converter.structure(items, list[first]))

    return structure


def _truncated_repr(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def to_json(record: object) -> dict[str, Any]:
    """Return a dataclass as JSON values, with the class of members of unions as `kind`."""
    return _converter().unstructure(record)


def without_defaults(record: object) -> dict[str, Any]:
    """Return a dataclass as `to_json` does, without fields that have their default value."""
    return _brief_converter().unstructure(record)


def from_json(record: object, expected_type: type[T], file: str = "config.json") -> T:
    """Return the dataclass that `to_json` wrote to a file.

    Raises:
        RunError: a field is missing, unknown, of another type, or has an invalid value.
    """
    try:
        return structure(record, expected_type)
    except ValueError as error:
        raise RunError(
            f"{file} does not fit this version of advnets ({error}); "
            "restore the file or use the version that wrote it"
        ) from None


def structure(value: object, expected_type: Any) -> Any:
    """Return JSON values as a dataclass, or as another type of plain values.

    Raises:
        ValueError: they do not fit; the message names the field and the problem.
    """
    try:
        return _converter().structure(value, expected_type)
    except BaseValidationError as error:
        raise ValueError(transform_error(error, format_exception=_error_message)[0]) from None
    except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
        raise ValueError(_error_message(error, expected_type)) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _error_message(error: BaseException, expected_type: Any) -> str:
    """Return the message for an error in one field."""
    if isinstance(error, AdvnetsError):
        return str(error)
    message = format_exception(error, expected_type)
    if type(error) in (TypeError, ValueError) and error.args:
        return f"{message}, got {str(error)[:120]}"
    return message


def flat(record: object, prefix: str = "") -> dict[str, Any]:
    """Return the values of nested dicts and lists of dicts by dotted names, as `stages.0.steps`."""
    value = list_to_dict(record)
    if not isinstance(value, dict):
        return {prefix: value}
    items = cast(dict[str, object], value).items()
    return {
        name: content
        for key, item in items
        for name, content in flat(item, f"{prefix}.{key}".lstrip(".")).items()
    }


def list_to_dict(value: object) -> object:
    """Return a list of dicts, such as stages, as a dict by number; anything else as it is."""
    if isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        return {str(number): item for number, item in enumerate(value)}
    return value
