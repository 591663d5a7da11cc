"""Numbers that cannot be are refused where they are written."""

from __future__ import annotations

from collections.abc import Callable

from advnets.errors import UsageError


def check(config: object, expected: str, holds: Callable[[float], bool], *names: str) -> None:
    """Refuse numbers, or numbers in a list, that cannot be; a field that is None is left.

    Raises:
        UsageError: one does not hold.
    """
    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if number is not None and not holds(number):
                raise UsageError(f"{name} is {number}; it must be {expected}")


def at_least(config: object, bound: int, *names: str) -> None:
    """Refuse numbers below a bound."""
    check(config, f"at least {bound}", lambda number: number >= bound, *names)


def probabilities(config: object, *names: str) -> None:
    """Refuse numbers that are no probability of keeping something."""
    check(config, "above 0 and at most 1", lambda number: 0 < number <= 1, *names)
