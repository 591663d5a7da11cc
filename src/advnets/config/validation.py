"""Numbers that cannot be are refused where they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, ClassVar

from advnets.errors import UsageError

LARGEST_FLOAT = 3.4028234663852886e38
"""Largest number of float32, in which everything is computed; a larger one would be infinite."""
LARGEST_SIZE = 10**6
"""Most units, channels or images of a batch: beyond it one matrix would fill any memory."""
LARGEST_IMAGE = 16_384
"""Most pixels of an image's height or width."""
LARGEST_KERNEL = 1000
"""Most pixels of a kernel, a step or a margin, and most repeated blocks."""


class ValidatedConfig:
    """Base of dataclasses whose values are typed by a user: every number is finite.

    Floats are at most the largest of float32 in absolute value, and integers at most
    `largest_integer`, save seeds, which may be any.

    Raises:
        UsageError: a number is not.
    """

    largest_integer: ClassVar[int] = 10**15
    # Dataclass fields are looked for on the classes that derive from this one.
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __post_init__(self) -> None:
        for field in fields(self):
            for number in _numbers(getattr(self, field.name)):
                self._check_finite(field.name, number)

    def _check_finite(self, name: str, number: int | float) -> None:
        if isinstance(number, float) and not abs(number) <= LARGEST_FLOAT:
            raise UsageError(
                f"{name} is {number}; it must be finite, at most 3.4e38 in absolute value"
            )
        limit = self.largest_integer
        if isinstance(number, int) and abs(number) > limit and not name.endswith("seed"):
            raise UsageError(f"{name} is {number}; it must be at most {limit:,}")


def _numbers(value: object) -> Iterator[int | float]:
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def check(config: object, expected: str, holds: Callable[[float], bool], *names: str) -> None:
    """Refuse numbers, or numbers in a list, that cannot be; a field that is None is left.

    Raises:
        UsageError: one does not hold.
    """
    for name in names:
        for number in _numbers(getattr(config, name)):
            if not holds(number):
                raise UsageError(f"{name} is {number}; it must be {expected}")


def at_least(config: object, bound: int, *names: str) -> None:
    """Refuse numbers below a bound."""
    check(config, f"at least {bound}", lambda number: number >= bound, *names)


def sizes(config: object, *names: str, least: int = 1, most: int = LARGEST_SIZE) -> None:
    """Refuse sizes below `least`, and above `most` before memory is asked for."""
    at_least(config, least, *names)
    check(config, f"at most {most:,}", lambda number: number <= most, *names)


def probabilities(config: object, *names: str) -> None:
    """Refuse numbers that are no probability of keeping something."""
    check(config, "above 0 and at most 1", lambda number: 0 < number <= 1, *names)
