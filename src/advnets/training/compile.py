"""Other ways to take a turn than as it is written: compiled, or recorded as a graph of the device.

Both hand the turn its batch and its noise from outside, and leave the same numbers as the written
one, up to the rounding of operations that were joined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from advnets.protocols import Batch, Phase, Players
from advnets.rng import RNG, RandomDraw, RecordingRNG, ReplayRNG
from advnets.training.step import StepFn, StepOutput, compute_gradients

_WARM_UP = 3
"""Turns that are taken before one is recorded: libraries choose and allocate in the first ones."""

Tensors = list[Tensor]
Function = Callable[..., Tensors]
Recording = tuple[Tensors, Callable[[], None]]
"""The places of a function's results, and what fills them anew."""


@dataclass(frozen=True)
class Form:
    """How a flat list of tensors becomes a turn again."""

    counts: dict[str, int]
    losses: tuple[str, ...]
    observed: tuple[str, ...]

    @classmethod
    def of(cls, turn: StepOutput) -> Form:
        """The form of this one."""
        counts = {name: len(gradients) for name, gradients in turn.gradients.items()}
        return cls(counts, tuple(turn.losses), tuple(turn.metrics))

    def turn(self, flat: Sequence[Tensor]) -> StepOutput:
        """The turn that `flattened` took apart."""
        rest = iter(flat)
        gradients = {
            name: tuple(next(rest) for _ in range(count)) for name, count in self.counts.items()
        }
        losses = {name: next(rest) for name in self.losses}
        return StepOutput(gradients, losses, {name: next(rest) for name in self.observed})


def flattened(turn: StepOutput) -> Tensors:
    """Gradients, losses and what is observed, one after the other."""
    gradients = [gradient for some in turn.gradients.values() for gradient in some]
    return [*gradients, *turn.losses.values(), *turn.metrics.values()]


@dataclass(frozen=True)
class Prepared:
    """A phase as a function of tensors alone."""

    run: Function
    draws: tuple[RandomDraw, ...]
    form: Form


class CompiledStep:
    """Takes turns by a form of the phase that `prepare` makes when it is first met.

    `prepare` is given a function of (images, labels or nothing, noise …), and an example of its
    arguments.
    """

    def __init__(self, prepare: Callable[[Function, Tensors], Function]) -> None:
        self._prepare = prepare
        self._known: dict[tuple[Any, ...], Prepared] = {}

    def __call__(
        self, players: Players, phase: Phase, batch: Batch, rng: RNG, precision: torch.dtype
    ) -> StepOutput:
        """Take a turn."""
        inputs = _tensors(batch)
        key = (phase.name, batch.labels is None, *(tensor.shape for tensor in inputs))
        if key not in self._known:
            self._known[key] = self._made(players, phase, batch, rng, precision)
        known = self._known[key]
        given = [draw.replay(rng) for draw in known.draws]
        return known.form.turn(known.run(*inputs, *given))

    def _made(
        self, players: Players, phase: Phase, batch: Batch, rng: RNG, precision: torch.dtype
    ) -> Prepared:
        inputs = _tensors(batch)
        kept = [buffer.clone() for buffer in _buffers(players)]
        recorder = RecordingRNG.of(rng)
        form = Form.of(compute_gradients(players, phase, batch, recorder, precision))
        n = len(inputs)

        def function(*tensors: Tensor) -> Tensors:
            source = ReplayRNG(rng.seed, device=rng.device, values=iter(tensors[n:]))
            given = _batch(tensors[:n], like=batch)
            return flattened(compute_gradients(players, phase, given, source, precision))

        example = [*inputs, *(draw.replay(rng) for draw in recorder.draws)]
        run = self._prepare(function, example)
        for buffer, before in zip(_buffers(players), kept, strict=True):
            buffer.copy_(before)  # batch statistics have seen trials that were no turns
        return Prepared(run, tuple(recorder.draws), form)


def _tensors(batch: Batch) -> Tensors:
    tensors = [batch.images] if batch.labels is None else [batch.images, batch.labels]
    return tensors if batch.labeled is None else [*tensors, *_tensors(batch.labeled)]


def _batch(tensors: Sequence[Tensor], like: Batch) -> Batch:
    images, *rest = tensors
    labels = None if like.labels is None else rest.pop(0)
    beside = None if like.labeled is None else _batch(rest, like.labeled)
    return Batch(images, labels, labeled=beside)


def _buffers(players: Players) -> Tensors:
    return [buffer for player in players.values() for buffer in player.buffers()]


def compiled() -> StepFn:
    """Turns traced once, backward passes included, and compiled: element-wise work is joined."""
    return CompiledStep(_compile)


def _compile(function: Function, example: Tensors) -> Function:
    from torch.fx.experimental.proxy_tensor import make_fx  # with torch's compiler, at use

    traced = make_fx(function)(*example)
    program = cast(Function, torch.compile(traced))

    @torch.no_grad()
    def run(*tensors: Tensor) -> Tensors:
        return program(*tensors)

    run(*example)
    return run


def captured(record: Callable[[Callable[[], Tensors]], Recording]) -> StepFn:
    """Turns recorded once and played again: the host then starts one graph and not each operation.

    `record` makes a recording of a function without arguments; `on_cuda` is the one of CUDA.
    """

    def prepare(function: Function, example: Tensors) -> Function:
        places = [tensor.clone() for tensor in example]
        results, replay = record(lambda: function(*places))

        def run(*tensors: Tensor) -> Tensors:
            for place, tensor in zip(places, tensors, strict=True):
                place.copy_(tensor, non_blocking=True)
            replay()
            # What is logged outlives the next replay; gradients are used before it.
            return [result.clone() if result.dim() == 0 else result for result in results]

        return run

    return CompiledStep(prepare)


def on_cuda(function: Callable[[], Tensors]) -> Recording:
    """Record a CUDA graph, after turns on a stream of their own as the library asks for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return results, graph.replay
