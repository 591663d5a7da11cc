"""What a preset is."""

from __future__ import annotations

from dataclasses import dataclass

from advnets.config import Config

ANY_FOLDER = 10_000
"""Steps of presets for images of one's own: as many for hundreds of them as for millions."""


@dataclass(frozen=True)
class Preset:
    """A config and the sentence that says what it is."""

    config: Config
    description: str
