"""A stateless random number generator.

Every draw is a pure function of (seed, step, purpose, row). A resumed run therefore needs no
generator state, and a process with rows 25 to 49 of a minibatch draws exactly the numbers that a
process with all rows draws for them, whatever the number of rows of a draw.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

_PHILOX_BLOCK = 32
"""Bytes of output for each value of the Philox counter."""


@dataclass(frozen=True)
class RNG:
    """A counter-based random number generator, keyed by (seed, step, purpose, row).

    Draws with different seeds, steps or purposes are independent; draws with equal keys are
    bit-identical. The generator is Philox (Salmon et al. 2011, "Parallel random numbers: as easy as
    1, 2, 3"). Numbers are computed on the CPU and moved to `device`, so that they are the same on
    all devices.
    """

    seed: int
    step: int = 0
    purpose: str = ""
    first_row: int = 0
    """The first row of every draw, of those of one process."""
    rank: int = 0
    """The rank of the process among several that draw equally many rows of every batch."""
    device: torch.device | str = "cpu"
    streams: tuple[str, ...] = ("",)
    """Names of the independent streams from which the parts of a batch are drawn."""
    sizes: tuple[int, ...] = ()
    """Rows of each stream; empty: equally many."""
    rows: tuple[int, ...] = ()
    """Rows to draw, among those of all streams, which are then `sizes`; empty: all of them."""

    def fold_in(self, purpose: str) -> RNG:
        """Return the generator for a purpose within this one's."""
        return replace(self, purpose=f"{self.purpose}/{purpose}")

    def attempt(self, number: int) -> RNG:
        """Return the generator for an attempt (0, 1, …) at the same steps, after a roll-back."""
        root = self.purpose.partition("#")[0]
        return replace(self, purpose=f"{root}#{number}" if number else root)

    def at_step(self, step: int) -> RNG:
        """Return the generator for another step."""
        return replace(self, step=step)

    def split_streams(self, *streams: str, sizes: Sequence[int] = ()) -> RNG:
        """Return a generator for a concatenation of batches, each with a stream of its own.

        A discriminator that is applied to real and generated images in one pass then draws the
        numbers that two passes draw. `sizes` are the rows of the batches; empty: equally many.
        """
        return replace(self, streams=streams, sizes=tuple(sizes), rows=())

    def take_rows(self, rows: Sequence[int], total: int) -> RNG:
        """Return a generator that draws these of the `total` rows of all streams."""
        sizes = self.sizes or (total // len(self.streams),) * len(self.streams)
        return replace(self, rows=tuple(rows), sizes=sizes)

    def uniform(
        self, purpose: str, rows: int, *shape: int, low: float = 0.0, high: float = 1.0
    ) -> Float[Tensor, "rows ..."]:
        """Draw uniform numbers in [low, high), shape (rows, *shape)."""
        # A float32 in [0, 1) resolves 24 bits uniformly.
        bits = self._integers(purpose, rows, shape, np.dtype("<u4")) >> 8
        unit = bits * np.float32(2**-24)
        return self._tensor(low + (high - low) * unit if (low, high) != (0.0, 1.0) else unit)

    def normal(self, purpose: str, rows: int, *shape: int) -> Float[Tensor, "rows ..."]:
        """Draw standard normal numbers, shape (rows, *shape), by the Box-Muller transform (1958).

        It uses a fixed number of bits for each number, so that a row can be drawn without those
        before it; a rejection method does not.
        """
        bits = self._integers(purpose, rows, (*shape, 2), np.dtype("<u4"))
        # 1 - u is in (0, 1], so that its logarithm is finite.
        radius = np.sqrt(-2.0 * np.log1p(bits[..., 0] * -(2.0**-32)))
        # The cosine of float32 is vectorized.
        angle = bits[..., 1].astype(np.float32) * np.float32(2.0 * math.pi * 2.0**-32)
        return self._tensor(radius * np.cos(angle))

    def fast_normal(self, purpose: str, rows: int, *shape: int) -> Float[Tensor, "rows ..."]:
        """Draw standard normal numbers, shape (rows, *shape), in a third of the time of `normal`.

        Both outputs of the Box-Muller transform are used, and everything is float32, so that no
        number exceeds 5.8 in absolute value: enough for noise on the inputs of layers.
        """
        width = math.prod(shape)
        half = -(-width // 2)
        bits = self._integers(purpose, rows, (2, half), np.dtype("<u4")) >> 8
        unit = bits.astype(np.float32)
        unit *= np.float32(2**-24)
        radius = np.sqrt(np.float32(-2.0) * np.log(np.float32(1.0) - unit[:, 0]))
        angle = unit[:, 1] * np.float32(2.0 * math.pi)
        pairs = np.empty((len(unit), 2, half), np.float32)
        np.cos(angle, out=pairs[:, 0])
        np.sin(angle, out=pairs[:, 1])
        pairs *= radius[:, None]
        return self._tensor(pairs.reshape(len(pairs), 2 * half)[:, :width].reshape(-1, *shape))

    def dropout_mask(
        self, purpose: str, rows: int, *shape: int, keep_prob: float
    ) -> Float[Tensor, "rows ..."]:
        """Draw a dropout mask: 1 with probability `keep_prob` (rounded to 2^-16), else 0."""
        if keep_prob == 0.5:  # one bit for each unit, not 16
            width = math.prod(shape)
            packed = self._integers(purpose, rows, (-(-width // 8),), np.dtype("u1"))
            bits = np.unpackbits(packed, axis=1, count=width)
            return self._tensor(bits.reshape(len(bits), *shape))
        return self._tensor(
            self._integers(purpose, rows, shape, np.dtype("<u2")) < round(keep_prob * 2**16)
        )

    def permutation(self, purpose: str, n: int) -> np.ndarray:
        """Draw a random permutation of 0 … n - 1."""
        return np.random.Generator(self._philox(purpose)).permutation(n)

    def torch_seed(self, purpose: str) -> int:
        """Return a seed for torch's own random numbers, 0 to 2^63 - 1, for all rows together.

        Each rank has another seed, as its rows are others.
        """
        ranks = (f"rank {self.rank}",) if self.rank else ()
        return self._key("/".join((purpose, *self.streams, *ranks)), 8) >> 1

    def _philox(self, purpose: str) -> np.random.Philox:
        return np.random.Philox(key=self._key(purpose, 16))

    def _key(self, purpose: str, size: int) -> int:
        key = f"{self.seed}/{self.step}{self.purpose}/{purpose}".encode()
        return int.from_bytes(hashlib.blake2b(key, digest_size=size).digest(), "little")

    def _integers(
        self, purpose: str, rows: int, shape: tuple[int, ...], dtype: np.dtype
    ) -> np.ndarray:
        row_bytes = math.prod(shape) * dtype.itemsize
        sizes = self.sizes or (rows // len(self.streams),) * len(self.streams)
        if (len(self.rows) or sum(sizes)) != rows:
            raise ValueError(f"{rows} rows cannot be split over {len(self.streams)} streams")
        parts: list[np.ndarray] = []
        for stream, n in zip(self.streams, sizes, strict=True):
            start, size = (self.first_row + self.rank * n) * row_bytes, n * row_bytes
            philox = self._philox(f"{purpose}/{stream}" if stream else purpose)
            philox.advance(start // _PHILOX_BLOCK)
            skip = start % _PHILOX_BLOCK
            # These are the bytes of Generator.bytes, in a fifth of the time.
            words = philox.random_raw(-(-(skip + size) // 8)).astype("<u8", copy=False)
            parts.append(words.view(np.uint8)[skip : skip + size])
        values = np.concatenate(parts).view(dtype).reshape(sum(sizes), *shape)
        return values[list(self.rows)] if self.rows else values

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(array, dtype=np.float32)).to(self.device)


@dataclass(frozen=True)
class RandomDraw:
    """A call of one of the drawing methods of `RNG`, which can be repeated for another step."""

    method: str
    purpose: str
    """The purpose of the generator, relative to that of the recording one."""
    streams: tuple[str, ...]
    sizes: tuple[int, ...]
    rows: tuple[int, ...]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]

    def replay(self, rng: RNG) -> Tensor:
        """Return the tensor that the same call draws from `rng`, for its seed and step."""
        purpose = rng.purpose + self.purpose
        generator = replace(
            rng, purpose=purpose, streams=self.streams, sizes=self.sizes, rows=self.rows
        )
        return getattr(generator, self.method)(*self.arguments, **self.options)


@dataclass(frozen=True)
class RecordingRNG(RNG):
    """An `RNG` that records the calls of its drawing methods."""

    root: str = ""
    draws: list[RandomDraw] = field(default_factory=list[RandomDraw], compare=False)

    @classmethod
    def from_rng(cls, rng: RNG) -> RecordingRNG:
        """Return a recording generator that draws the numbers of `rng`."""
        return cls(**{f.name: getattr(rng, f.name) for f in fields(RNG)}, root=rng.purpose)

    def uniform(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: D102
        return self._record("uniform", arguments, options)

    def normal(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: D102
        return self._record("normal", arguments, options)

    def fast_normal(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: D102
        return self._record("fast_normal", arguments, options)

    def dropout_mask(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: D102
        return self._record("dropout_mask", arguments, options)

    def _record(self, method: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
        purpose = self.purpose.removeprefix(self.root)
        self.draws.append(
            RandomDraw(method, purpose, self.streams, self.sizes, self.rows, arguments, options)
        )
        return getattr(RNG, method)(self, *arguments, **options)


@dataclass(frozen=True)
class ReplayRNG(RNG):
    """An `RNG` that returns recorded tensors, in their order, in place of new draws."""

    values: Iterator[Tensor] = field(default_factory=lambda: iter(()), compare=False)

    def uniform(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: ARG002, D102
        return next(self.values)

    def normal(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: ARG002, D102
        return next(self.values)

    def fast_normal(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: ARG002, D102
        return next(self.values)

    def dropout_mask(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: ARG002, D102
        return next(self.values)
