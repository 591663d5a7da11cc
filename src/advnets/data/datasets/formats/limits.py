"""Limits on the sizes that file headers declare, against damaged and malicious files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

MIB = 1 << 20
GIB = 1 << 30
RATIO = 100
"""The maximal ratio of decompressed to compressed bytes of a large file."""
_CHUNK = MIB
_MAX_ELEMENTS = 1 << 62


@runtime_checkable
class Readable(Protocol):
    """A stream of bytes."""

    def read(self, n: int, /) -> bytes:
        """Read at most n bytes; none at the end."""
        ...


def is_decompression_bomb(compressed: int, decompressed: int, max_bytes: int) -> bool:
    """Return whether decompressed data is larger than `max_bytes` and too compressible for images.

    Images are compressed to about 1/2 to 1/10 of their size, decompression bombs to 1/1000.
    """
    return decompressed > max_bytes and decompressed > RATIO * compressed


def is_shape(shape: Sequence[int]) -> bool:
    """Return whether numpy arrays can have a shape; it limits the axes even if one is 0."""
    return (
        len(shape) <= 32
        and all(0 <= length < _MAX_ELEMENTS for length in shape)
        and math.prod(length or 1 for length in shape) < _MAX_ELEMENTS
    )


def read_up_to(stream: Readable, max_bytes: int) -> bytearray:
    """Read at most `max_bytes` bytes in chunks, so that memory grows only with actual content."""
    content = bytearray()
    while chunk := stream.read(min(_CHUNK, max_bytes - len(content))):
        content += chunk
    return content
