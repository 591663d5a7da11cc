"""A file that was left out, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SkippedFile:
    """A file's name, and the reason why it is left out, in words that follow the name."""

    name: str
    reason: str
