"""What a preset is."""

from __future__ import annotations

from dataclasses import dataclass

from advnets.config import Config


@dataclass(frozen=True)
class Preset:
    """A config and the sentence that says what it is."""

    config: Config
    about: str
