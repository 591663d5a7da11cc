"""The type of a preset."""

from __future__ import annotations

from dataclasses import dataclass

from advnets.config import Config

IMAGE_FOLDER_STEPS = 10_000
"""The number of steps of presets for a user's own images, whatever their number."""


@dataclass(frozen=True)
class Preset:
    """A complete configuration with a description of one line."""

    config: Config
    description: str
