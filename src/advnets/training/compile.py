"""Compiled versions of `compute_gradients`: by torch.compile, or as a captured CUDA graph.

Both turn a phase into a function of tensors alone: the minibatch, the values of its schedules and
the random numbers are inputs. Results equal those of `compute_gradients` up to the rounding of
fused operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from advnets.protocols import Batch, Phase, Players
from advnets.rng import RNG, RandomDraw, RecordingRNG, ReplayRNG
from advnets.training.step import GradientFn, StepOutput, compute_gradients

_WARM_UP = 3
"""Runs before a CUDA graph is recorded, in which libraries select kernels and allocate memory."""

Tensors = list[Tensor]
Function = Callable[..., Tensors]
Recording = tuple[Tensors, Callable[[], None]]
"""The output tensors of a function, and a function that recomputes them in place."""


@dataclass(frozen=True)
class OutputStructure:
    """The structure of a `StepOutput`, needed to rebuild it from a flat list of tensors."""

    counts: dict[str, int]
    """Number of parameter tensors of each player."""
    losses: tuple[str, ...]
    metrics: tuple[str, ...]

    @classmethod
    def from_output(cls, output: StepOutput) -> OutputStructure:
        """Return the structure of an output."""
        counts = {name: len(gradients) for name, gradients in output.gradients.items()}
        return cls(counts, tuple(output.losses), tuple(output.metrics))

    def unflatten(self, flat: Sequence[Tensor]) -> StepOutput:
        """Return the output that `flatten` turned into this list."""
        rest = iter(flat)
        gradients = {
            name: tuple(next(rest) for _ in range(count)) for name, count in self.counts.items()
        }
        losses = {name: next(rest) for name in self.losses}
        return StepOutput(gradients, losses, {name: next(rest) for name in self.metrics})


def flatten(output: StepOutput) -> Tensors:
    """Return the gradients, losses and metrics of an output as one list."""
    gradients = [tensor for tensors in output.gradients.values() for tensor in tensors]
    return [*gradients, *output.losses.values(), *output.metrics.values()]


@dataclass(frozen=True)
class CompiledPhase:
    """A phase as a function of tensors."""

    run: Function
    draws: tuple[RandomDraw, ...]
    """The random numbers that it takes as inputs, after the tensors of the minibatch."""
    structure: OutputStructure


class CompiledStep:
    """A `GradientFn` that compiles each phase when it first occurs.

    `compile_function` compiles a function of tensors, given an example of its arguments: the
    tensors of the minibatch (images, labels, scheduled values), then the random numbers.
    """

    def __init__(self, compile_function: Callable[[Function, Tensors], Function]) -> None:
        self._compile_function = compile_function
        self._phases: dict[tuple[Any, ...], CompiledPhase] = {}

    def __call__(
        self, players: Players, phase: Phase, batch: Batch, rng: RNG, precision: torch.dtype
    ) -> StepOutput:
        """Compute losses and gradients as `compute_gradients` does."""
        inputs = _batch_tensors(batch)
        key = (phase.name, batch.labels is None, *(tensor.shape for tensor in inputs))
        if key not in self._phases:
            self._phases[key] = self._compile_phase(players, phase, batch, rng, precision)
        compiled = self._phases[key]
        random = [draw.replay(rng) for draw in compiled.draws]
        return compiled.structure.unflatten(compiled.run(*inputs, *random))

    def _compile_phase(
        self, players: Players, phase: Phase, batch: Batch, rng: RNG, precision: torch.dtype
    ) -> CompiledPhase:
        # Run the phase once and record its random draws.
        buffers = [buffer for player in players.values() for buffer in player.buffers()]
        saved = [buffer.clone() for buffer in buffers]
        recorder = RecordingRNG.from_rng(rng)
        output = compute_gradients(players, phase, batch, recorder, precision)

        # Compile it as a function of the minibatch and the draws.
        inputs = _batch_tensors(batch)
        n = len(inputs)

        def function(*tensors: Tensor) -> Tensors:
            replay = ReplayRNG(rng.seed, device=rng.device, values=iter(tensors[n:]))
            replayed = _batch_from_tensors(iter(tensors[:n]), like=batch)
            return flatten(compute_gradients(players, phase, replayed, replay, precision))

        example = [*inputs, *(draw.replay(rng) for draw in recorder.draws)]
        run = self._compile_function(function, example)

        # Restore the batch-norm statistics, which these trial runs have changed.
        for buffer, value in zip(buffers, saved, strict=True):
            buffer.copy_(value)
        return CompiledPhase(run, tuple(recorder.draws), OutputStructure.from_output(output))


def _batch_tensors(batch: Batch) -> Tensors:
    """Return the tensors of a minibatch, without `carry`."""
    tensors = [batch.images] if batch.labels is None else [batch.images, batch.labels]
    tensors += batch.scheduled.values()
    return tensors if batch.labeled is None else [*tensors, *_batch_tensors(batch.labeled)]


def _batch_from_tensors(tensors: Iterator[Tensor], like: Batch) -> Batch:
    """Return a minibatch of these tensors, in the order of `_batch_tensors`."""
    images = next(tensors)
    labels = None if like.labels is None else next(tensors)
    scheduled = {name: next(tensors) for name in like.scheduled}
    labeled = None if like.labeled is None else _batch_from_tensors(tensors, like.labeled)
    return Batch(images, labels, labeled=labeled, scheduled=scheduled)


def compile_step() -> GradientFn:
    """Return `compute_gradients` compiled by torch.compile, backward passes included."""
    return CompiledStep(trace_and_compile)


def trace_and_compile(function: Function, example: Tensors) -> Function:
    """Return a function of tensors, derivatives that it takes included, compiled by torch.compile.

    The derivatives, also those of second order that gradient penalties need, are traced first, into
    a program that the compiler does not differentiate. torch.compile alone raises an error for
    second-order gradients, or omits them silently: pytorch's issues 91469, 181581 and 183603.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # imports torch's compiler

    traced = make_fx(function)(*example)
    program = cast(Function, torch.compile(traced))

    @torch.no_grad()
    def run(*tensors: Tensor) -> Tensors:
        return program(*tensors)

    run(*example)
    return run


def capture_step(record: Callable[[Callable[[], Tensors]], Recording]) -> GradientFn:
    """Return `compute_gradients` as a graph that is recorded once and then replayed.

    The host then launches one graph and not each operation. `record` records a function without
    arguments: `record_cuda_graph` on a CUDA device.
    """

    def compile_function(function: Function, example: Tensors) -> Function:
        inputs = [tensor.clone() for tensor in example]
        outputs, replay = record(lambda: function(*inputs))

        def run(*tensors: Tensor) -> Tensors:
            for static, tensor in zip(inputs, tensors, strict=True):
                static.copy_(tensor, non_blocking=True)
            replay()
            # Copy the scalars, which are read after the next replay; gradients are used before it.
            return [output.clone() if output.dim() == 0 else output for output in outputs]

        return run

    return CompiledStep(compile_function)


def record_cuda_graph(function: Callable[[], Tensors]) -> Recording:
    """Record a CUDA graph, after warm-up runs on a side stream."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = function()
    return outputs, graph.replay
