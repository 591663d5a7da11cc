"""What a file may claim: no more than its bytes can bear out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

MIB = 1 << 20
GIB = 1 << 30
RATIO = 100
"""Above this ratio of unpacked to packed bytes, what is large is taken for a bomb."""
_CHUNK = MIB
_INDEXABLE = 1 << 62


@runtime_checkable
class Readable(Protocol):
    """What gives bytes."""

    def read(self, n: int, /) -> bytes:
        """At most n bytes; none at the end."""
        ...


def is_bomb(packed: int, unpacked: int, most: int) -> bool:
    """Whether so many packed bytes that would become so many are more than `most` and no image.

    Images pack to a half or a tenth; a file that packs to a thousandth holds none.
    """
    return unpacked > most and unpacked > RATIO * packed


def is_shape(shape: Sequence[int]) -> bool:
    """Whether an array can have this shape: numpy bounds it even where an axis is 0."""
    return (
        len(shape) <= 32
        and all(0 <= length < _INDEXABLE for length in shape)
        and math.prod(length or 1 for length in shape) < _INDEXABLE
    )


def read_up_to(stream: Readable, most: int) -> bytearray:
    """At most so many bytes, in chunks: a lying header must not claim the memory it names."""
    content = bytearray()
    while chunk := stream.read(min(_CHUNK, most - len(content))):
        content += chunk
    return content
