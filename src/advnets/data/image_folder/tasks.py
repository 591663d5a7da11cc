"""What a process does with each file's content: decode it into its place, or look at it.

Nothing here imports torch, for which each of the processes would wait.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import UInt8

from advnets.data.image_folder.decode import Frame, Look, decode, look

T = TypeVar("T")
THUMB = (16, 18)
"""Height and width of what pictures are compared by: grey, values 0 to 255."""
_COLOURED = 12
"""Levels by which red, green and blue differ somewhere in a thumb of a picture in colour."""


class Job(Generic[T]):
    """What is done with each file's content; pickled and sent to the processes."""

    def do(self, number: int, content: bytes) -> T:
        """Deal with one file.

        Raises:
            DataError: its content is broken; the message is the reason alone.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Place(Job[bytes]):
    """Decodes into the picture's own row of images.npy."""

    frame: Frame
    images: Path
    rows: np.ndarray

    def do(self, number: int, content: bytes) -> bytes:
        """Write the picture and return the digest of its file."""
        _mapped(self.images)[self.rows[number]] = decode(content, self.frame)
        return content_digest(content)


@lru_cache(maxsize=1)
def _mapped(images: Path) -> np.ndarray:
    return np.load(images, mmap_mode="r+")


@dataclass(frozen=True)
class Piece:
    """Where a picture was written: a process's file, the first byte, and its height and width.

    `digest` is that of the file it was decoded from.
    """

    part: str
    start: int
    height: int
    width: int
    digest: bytes


@dataclass(frozen=True)
class Append(Job[Piece]):
    """Decodes to the end of the process's own file."""

    frame: Frame
    folder: Path

    def do(self, number: int, content: bytes) -> Piece:  # noqa: ARG002 - it finds its own place
        """Write the picture, say where."""
        picture = decode(content, self.frame)
        with (self.folder / f"{os.getpid()}.part").open("ab") as file:
            start = file.tell()
            file.write(picture.tobytes())
        _, height, width = picture.shape
        return Piece(Path(file.name).name, start, height, width, content_digest(content))


@dataclass(frozen=True)
class Seen:
    """What an audit keeps of a picture."""

    look: Look
    digest: bytes
    thumb: bytes
    coloured: bool


@dataclass(frozen=True)
class Inspect(Job[Seen]):
    """Looks at a picture; `white_level` is the value of 16-bit images that is white."""

    white_level: float | None = None

    def do(self, number: int, content: bytes) -> Seen:  # noqa: ARG002 - a picture is a picture
        """Say what it is."""
        found, picture = look(content, Frame(*THUMB, white_level=self.white_level))
        return seen(found, content_digest(content), picture)


@dataclass(frozen=True)
class Small(Job[bytes]):
    """Decodes into a small frame."""

    frame: Frame

    def do(self, number: int, content: bytes) -> bytes:  # noqa: ARG002 - a picture is a picture
        """The picture's bytes, (channels, height, width)."""
        return decode(content, self.frame).tobytes()


def content_digest(content: bytes) -> bytes:
    """Return 16 bytes of BLAKE2b, by which copies are known."""
    return hashlib.blake2b(content, digest_size=16).digest()


def seen(found: Look, digest: bytes, picture: UInt8[np.ndarray, "channels 16 18"]) -> Seen:
    """What an audit keeps of a picture that was brought to the size of a thumb."""
    spread = np.ptp(picture.astype(np.int16), axis=0).max()
    thumb = picture.mean(0).round().astype(np.uint8)
    return Seen(found, digest, thumb.tobytes(), bool(spread > _COLOURED))
