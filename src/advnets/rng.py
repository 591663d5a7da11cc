"""Randomness without memory.

Every draw is a pure function of (seed, step, purpose, row): nothing is carried from one step to the
next, so a resumed run needs no hidden state, and a process that holds rows 25 to 49 of a batch
draws exactly the numbers that a process holding all rows would have given them.
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

from advnets.schedules import RAMPS

_PHILOX_BLOCK = 32  # bytes that one increment of the Philox counter yields


@dataclass(frozen=True)
class RNG:
    """A counter-based source of noise, masks and order, keyed by (seed, step, purpose, row).

    `draws` made under two purposes, two steps or two seeds are independent; made twice under the
    same key they are equal to the bit. The generator is Philox (Salmon et al., 2011, "Parallel
    random numbers: as easy as 1, 2, 3"); numbers are made on the host, so every device sees the
    same ones.
    """

    seed: int
    step: int = 0
    purpose: str = ""
    first_row: int = 0
    device: torch.device | str = "cpu"
    streams: tuple[str, ...] = ("",)
    sizes: tuple[int, ...] = ()
    """Rows of each stream; none given: as many of each."""
    ramp_steps: int = 0
    """Steps over which what changes in the course of a run does so; 0: nothing changes."""

    @property
    def progress(self) -> float:
        """The share of these steps that lies before this one, at most 1."""
        return min(1.0, self.step / self.ramp_steps) if self.ramp_steps else 0.0

    def fold_in(self, purpose: str) -> RNG:
        """The source for a purpose within this one."""
        return replace(self, purpose=f"{self.purpose}/{purpose}")

    def attempt(self, number: int) -> RNG:
        """The source for another try at steps that went wrong; the first try is number 0."""
        root = self.purpose.partition("#")[0]
        return replace(self, purpose=f"{root}#{number}" if number else root)

    def at_step(self, step: int) -> RNG:
        """The source at another step."""
        return replace(self, step=step)

    def split_streams(self, *streams: str, sizes: Sequence[int] = ()) -> RNG:
        """A source for a batch that is several batches on top of each other.

        Each part draws from a stream of its own, so that a discriminator shown real and generated
        images in one pass draws what two passes would have drawn. Parts have these sizes; without
        them, one size.
        """
        return replace(self, streams=streams, sizes=tuple(sizes))

    def uniform(
        self, purpose: str, rows: int, *shape: int, low: float = 0.0, high: float = 1.0
    ) -> Float[Tensor, "rows ..."]:
        """Uniform numbers in [low, high), shape (rows, *shape)."""
        # 24 bits are what a float32 in [0, 1) resolves evenly.
        bits = self._integers(purpose, rows, shape, np.dtype("<u4")) >> 8
        shares = bits * np.float32(2**-24)
        return self._tensor(low + (high - low) * shares if (low, high) != (0.0, 1.0) else shares)

    def normal(self, purpose: str, rows: int, *shape: int) -> Float[Tensor, "rows ..."]:
        """Standard normal numbers, shape (rows, *shape), by Box and Muller (1958).

        The transform takes a fixed number of bits per number, which is what lets a row be drawn
        without those before it; a rejection method would not.
        """
        bits = self._integers(purpose, rows, (*shape, 2), np.dtype("<u4"))
        # 1 - u lies in (0, 1]: its logarithm is finite.
        radius = np.sqrt(-2.0 * np.log1p(bits[..., 0] * -(2.0**-32)))
        # In float32, whose cosine is vectorized.
        angle = bits[..., 1].astype(np.float32) * np.float32(2.0 * math.pi * 2.0**-32)
        return self._tensor(radius * np.cos(angle))

    def fast_normal(self, purpose: str, rows: int, *shape: int) -> Float[Tensor, "rows ..."]:
        """Standard normal numbers, shape (rows, *shape), in a third of the time of `normal`.

        Both numbers that the transform makes of a pair are used, and all is float32, so that none
        is larger than 5.8: enough for noise on a net's inputs.
        """
        width = math.prod(shape)
        half = -(-width // 2)
        bits = self._integers(purpose, rows, (2, half), np.dtype("<u4")) >> 8
        shares = bits.astype(np.float32)
        shares *= np.float32(2**-24)
        radius = np.sqrt(np.float32(-2.0) * np.log(np.float32(1.0) - shares[:, 0]))
        angle = shares[:, 1] * np.float32(2.0 * math.pi)
        both = np.empty((len(shares), 2, half), np.float32)
        np.cos(angle, out=both[:, 0])
        np.sin(angle, out=both[:, 1])
        both *= radius[:, None]
        return self._tensor(both.reshape(len(both), 2 * half)[:, :width].reshape(-1, *shape))

    def dropout_mask(
        self, purpose: str, rows: int, *shape: int, keep_prob: float
    ) -> Float[Tensor, "rows ..."]:
        """A dropout mask: 1 with probability `keep` (in steps of 2^-16), else 0."""
        if keep_prob == 0.5:  # one bit decides one unit: a sixteenth of the numbers
            width = math.prod(shape)
            packed = self._integers(purpose, rows, (-(-width // 8),), np.dtype("u1"))
            bits = np.unpackbits(packed, axis=1, count=width)
            return self._tensor(bits.reshape(len(bits), *shape))
        return self._tensor(
            self._integers(purpose, rows, shape, np.dtype("<u2")) < round(keep_prob * 2**16)
        )

    def ramp(self, first: float, last: float | None, kind: str = "cosine") -> Float[Tensor, ""]:
        """Where a number that goes from first to last, by a ramp of this kind, is at this step.

        No chance is in it; it is asked for as noise is, so that recorded turns are handed it anew.
        """
        return self._tensor(np.asarray(RAMPS[kind](first, last, self.progress)))

    def permutation(self, purpose: str, n: int) -> np.ndarray:
        """A random order of 0 … n - 1."""
        return np.random.Generator(self._philox(purpose)).permutation(n)

    def _philox(self, purpose: str) -> np.random.Philox:
        key = f"{self.seed}/{self.step}{self.purpose}/{purpose}".encode()
        digest = hashlib.blake2b(key, digest_size=16).digest()
        return np.random.Philox(key=int.from_bytes(digest, "little"))

    def _integers(
        self, purpose: str, rows: int, shape: tuple[int, ...], dtype: np.dtype
    ) -> np.ndarray:
        row_bytes = math.prod(shape) * dtype.itemsize
        sizes = self.sizes or (rows // len(self.streams),) * len(self.streams)
        if sum(sizes) != rows:
            raise ValueError(f"{rows} rows cannot be split over {len(self.streams)} streams")
        start = self.first_row * row_bytes
        parts: list[np.ndarray] = []
        for stream, size in zip(self.streams, (n * row_bytes for n in sizes), strict=True):
            philox = self._philox(f"{purpose}/{stream}" if stream else purpose)
            philox.advance(start // _PHILOX_BLOCK)
            skip = start % _PHILOX_BLOCK
            # The same bytes as Generator.bytes, in a fifth of the time.
            words = philox.random_raw(-(-(skip + size) // 8)).astype("<u8", copy=False)
            parts.append(words.view(np.uint8)[skip : skip + size])
        return np.concatenate(parts).view(dtype).reshape(rows, *shape)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(array, dtype=np.float32)).to(self.device)


@dataclass(frozen=True)
class RandomDraw:
    """One request for noise, without seed, step and place: it can be made again at another's."""

    kind: str
    purpose: str
    streams: tuple[str, ...]
    sizes: tuple[int, ...]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]

    def replay(self, rng: RNG) -> Tensor:
        """The numbers that the same request gets of this source."""
        purpose = rng.purpose + self.purpose
        source = replace(rng, purpose=purpose, streams=self.streams, sizes=self.sizes)
        return getattr(source, self.kind)(*self.arguments, **self.options)


@dataclass(frozen=True)
class RecordingRNG(RNG):
    """Gives what `RNG` gives, and writes down what it was asked for."""

    root: str = ""
    draws: list[RandomDraw] = field(default_factory=list[RandomDraw], compare=False)

    @classmethod
    def of(cls, rng: RNG) -> RecordingRNG:
        """A recorder that stands where this source stands."""
        return cls(**{f.name: getattr(rng, f.name) for f in fields(RNG)}, root=rng.purpose)

    def uniform(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: D102
        return self._record("uniform", arguments, options)

    def normal(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: D102
        return self._record("normal", arguments, options)

    def fast_normal(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: D102
        return self._record("fast_normal", arguments, options)

    def dropout_mask(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: D102
        return self._record("dropout_mask", arguments, options)

    def ramp(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: D102
        return self._record("ramp", arguments, options)

    def _record(self, kind: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
        purpose = self.purpose.removeprefix(self.root)
        self.draws.append(RandomDraw(kind, purpose, self.streams, self.sizes, arguments, options))
        return getattr(RNG, kind)(self, *arguments, **options)


@dataclass(frozen=True)
class ReplayRNG(RNG):
    """Gives what it was given, in that order."""

    values: Iterator[Tensor] = field(default_factory=lambda: iter(()), compare=False)

    def uniform(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: ARG002, D102
        return next(self.values)

    def normal(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: ARG002, D102
        return next(self.values)

    def fast_normal(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: ARG002, D102
        return next(self.values)

    def dropout_mask(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: ARG002, D102
        return next(self.values)

    def ramp(self, *arguments: Any, **options: Any) -> Tensor:  # noqa: ARG002, D102
        return next(self.values)
