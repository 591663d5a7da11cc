"""Checks of the numbers and names in configs, made when a config is created."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
from typing import Any, ClassVar, Literal, cast, get_args, get_origin, get_type_hints

from advnets.errors import UsageError, suggestion

LARGEST_FLOAT = 3.4028234663852886e38
"""The largest float32: a larger number would become infinite in the computation."""
SMALLEST_FLOAT = 1.1754943508222875e-38
"""The smallest normal float32: smaller numbers have few digits, or become 0."""
LARGEST_SIZE = 10**6
"""The largest number of units or channels: larger matrices exceed any memory."""
LARGEST_BATCH = 10**5
"""The largest number of images in a batch."""
LARGEST_IMAGE = 16_384
"""The largest height or width of an image, in pixels."""
LARGEST_KERNEL = 1000
"""The largest kernel size, stride or padding, in pixels, and the largest number of blocks."""


class ValidatedConfig:
    """The base of dataclasses that hold a user's values: finite numbers and known names.

    Floats are at most the largest float32 in absolute value, and integers at most
    `largest_integer`. Seeds may be any integer. The names in a field of a Literal are its values.

    Raises:
        UsageError: a number is too large or not finite, or a name is unknown.
    """

    largest_integer: ClassVar[int] = 10**15
    # `fields()` reads this attribute, which the dataclasses derived from this class have.
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __post_init__(self) -> None:
        for field in fields(self):
            for number in _numbers(getattr(self, field.name)):
                self._check_finite(field.name, number)
        for name, choices in _choices(type(self)).items():
            value = getattr(self, name)
            for item in cast(tuple[object, ...], value) if isinstance(value, tuple) else (value,):
                if isinstance(item, str) and item not in choices:
                    message = f"{name} is {item!r}; it must be one of {', '.join(choices)}"
                    hint = suggestion(item, choices)
                    raise UsageError(f"{message}; {hint}" if hint else message)

    def _check_finite(self, name: str, number: int | float) -> None:
        if isinstance(number, float) and not abs(number) <= LARGEST_FLOAT:
            raise UsageError(
                f"{name} is {number}; it must be finite, at most 3.4e38 in absolute value"
            )
        limit = self.largest_integer
        if isinstance(number, int) and abs(number) > limit and not name.endswith("seed"):
            raise UsageError(f"{name} is {number}; it must be at most {limit:,}")


@cache
def _choices(config_class: type[ValidatedConfig]) -> dict[str, tuple[str, ...]]:
    """Return the names that the fields of a config accept, for fields with a Literal."""
    hints = get_type_hints(config_class)
    choices = {field.name: tuple(_literals(hints[field.name])) for field in fields(config_class)}
    return {name: names for name, names in choices.items() if names}


def _literals(hint: object) -> Iterator[str]:
    """Yield the strings of a Literal, or of those in a union or tuple."""
    for argument in get_args(hint):
        if get_origin(hint) is not Literal:
            yield from _literals(argument)
        elif isinstance(argument, str):
            yield argument


def _numbers(value: object) -> Iterator[int | float]:
    """Yield a number, or every number in a tuple."""
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def check_values(
    config: object, expected: str, is_valid: Callable[[float], bool], *names: str
) -> None:
    """Check each number in the named fields; a field that is None is skipped.

    Raises:
        UsageError: a number is not valid; the message says that it must be `expected`.
    """
    for name in names:
        for number in _numbers(getattr(config, name)):
            if not is_valid(number):
                raise UsageError(f"{name} is {number}; it must be {expected}")


def check_min(config: object, minimum: int, *names: str) -> None:
    """Check that the named fields are at least `minimum`."""
    check_values(config, f"at least {minimum}", lambda number: number >= minimum, *names)


def check_rates(config: object, *names: str) -> None:
    """Check that the named fields are 0 or at least the smallest normal float32."""
    check_min(config, 0, *names)
    expected = "0, or at least 1.2e-38, the smallest normal float32"
    check_values(config, expected, lambda rate: rate == 0 or rate >= SMALLEST_FLOAT, *names)


def check_sizes(
    config: object, *names: str, min_size: int = 1, max_size: int = LARGEST_SIZE
) -> None:
    """Check that the named fields are within [min_size, max_size], before memory is allocated."""
    check_min(config, min_size, *names)
    check_values(config, f"at most {max_size:,}", lambda number: number <= max_size, *names)


def check_dropout(config: object, *names: str) -> None:
    """Check that the named fields are probabilities of dropping an input: at least 0, below 1."""
    check_values(config, "at least 0 and less than 1", lambda p: 0 <= p < 1, *names)
