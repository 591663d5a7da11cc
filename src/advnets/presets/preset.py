"""The type of a preset."""

from __future__ import annotations

from dataclasses import dataclass

from advnets.config import Config

IMAGE_FOLDER_STEPS = 10_000
"""The number of training steps in presets for a user's own images."""


@dataclass(frozen=True)
class Preset:
    """A complete configuration, with a one-line description."""

    config: Config
    description: str
