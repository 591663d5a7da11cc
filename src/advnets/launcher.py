"""The environment variables by which torchrun and other launchers number the processes they start.

Nothing here imports torch.
"""

from __future__ import annotations

import os

from advnets.errors import UsageError


def rank() -> int:
    """Return the rank of this process, 0 to `world_size()` - 1; 0 without a launcher.

    Raises:
        UsageError: the variable is not such a number.
    """
    number, size = _variable("RANK", 0), world_size()
    if size > 1 and not 0 <= number < size:
        raise UsageError(
            f"the environment variable RANK is {number}, expected 0 to {size - 1}, as WORLD_SIZE "
            f"is {size}; start with torchrun, or correct them"
        )
    return number if size > 1 else 0


def world_size() -> int:
    """Return the number of processes on all hosts; 1 without a launcher."""
    return _variable("WORLD_SIZE", 1)


def local_rank() -> int:
    """Return the rank of this process among those of its host; 0 without a launcher."""
    return _variable("LOCAL_RANK", 0)


def local_world_size() -> int:
    """Return the number of processes on this host; 1 without a launcher."""
    return _variable("LOCAL_WORLD_SIZE", 1)


def _variable(name: str, default: int) -> int:
    """Return a number of the environment.

    Raises:
        UsageError: it is not a number.
    """
    value = os.environ.get(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise UsageError(
            f"the environment variable {name} is {value!r}, expected the number that a launcher "
            "such as torchrun sets; unset it, or start with torchrun"
        ) from None
