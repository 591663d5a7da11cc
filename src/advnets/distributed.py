"""Several processes: the process group, differentiable collectives, and lost processes.

`torchrun` starts the processes and sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.
Without a process group every function here is the identity, at no cost.

Gradients of second order exist through all collectives, which DistributedDataParallel and
SyncBatchNorm of torch do not support.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from advnets import launcher
from advnets.errors import (
    AdvnetsError,
    LostProcessError,
    RemoteError,
    UsageError,
    by_interface,
    printable,
)

T = TypeVar("T")

_COLLECTIVE_TIMEOUT = timedelta(days=7)
"""The timeout of a collective: lost processes are detected by heartbeats; packing takes hours."""
_START_TIMEOUT = timedelta(minutes=5)
"""The time in which all processes must have started."""
HEARTBEAT_SECONDS, MISSED_HEARTBEATS = 1.0, 12
"""The interval of heartbeats, and the number of missing ones after which a process is lost."""
_STORE_TIMEOUT = timedelta(seconds=10)
_ERROR_WAIT_SECONDS = 3.0
"""The time in which a process that fails tells the others why."""


def rank() -> int:
    """Return the rank of this process, 0 to `world_size()` - 1; 0 without a process group."""
    return dist.get_rank() if _is_initialized() else 0


def world_size() -> int:
    """Return the number of processes; 1 without a process group."""
    return dist.get_world_size() if _is_initialized() else 1


def is_main() -> bool:
    """Return whether this is the process of rank 0, which alone writes files and prints."""
    return rank() == 0


def _is_initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def process_group() -> Generator[None]:
    """Join the other processes that the launcher has started, for the duration of the block.

    The backend is gloo for tensors on the CPU, and nccl for those on GPUs. A process that is lost
    during the block ends all others with a message within 20 seconds. Without a launcher, within
    another `process_group` and with a single process it does nothing.

    Raises:
        RemoteError: a process cannot be reached, or has failed.
    """
    if launcher.world_size() == 1 or _is_initialized():
        yield
        return
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK"):
        if name not in os.environ:
            raise UsageError(
                f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the environment variable {name} is "
                "not set; start with torchrun, or unset WORLD_SIZE"
            )
    if not os.environ["MASTER_PORT"].isdigit():
        raise UsageError(
            f"the environment variable MASTER_PORT is {os.environ['MASTER_PORT']!r}, expected the "
            "number of a port; start with torchrun, or correct it"
        )
    try:
        store, number, size = next(iter(dist.rendezvous("env://", timeout=_START_TIMEOUT)))
        dist.init_process_group(
            _backend(), store=store, rank=number, world_size=size, timeout=_COLLECTIVE_TIMEOUT
        )
        heartbeat = Heartbeat()
    except (RuntimeError, ValueError) as error:
        raise LostProcessError(
            f"the {launcher.world_size()} processes cannot be connected "
            f"({_first_line(error)}); check MASTER_ADDR and MASTER_PORT, and that every host "
            "reaches them"
        ) from None
    try:
        yield
        barrier()
    except BaseException as error:
        lost = heartbeat.explain(error)
        heartbeat.stop()
        _abort()
        if lost is None:
            raise
        raise lost from error
    heartbeat.stop()
    dist.destroy_process_group()


def _backend() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


def _abort() -> None:
    """Leave the process group without waiting for the others, which see a closed connection."""
    with suppress(RuntimeError):
        dist.destroy_process_group()


def _first_line(error: BaseException) -> str:
    return printable(str(error).strip().splitlines()[0] if str(error).strip() else repr(error))


class Heartbeat:
    """Threads of all processes that count up in a shared store, and see when one no longer does.

    A collective of gloo fails at once when a process ends, but waits forever for one that hangs or
    whose connection is cut; a collective of nccl waits in all these cases. Rounds without progress
    are counted, not seconds, so that a job that was suspended as a whole can continue.
    """

    def __init__(self) -> None:
        self._rank, self._world_size = rank(), world_size()
        self._stop = threading.Event()
        self._store = self._connect()
        self._store.set(f"advnets/host/{self._rank}", socket.gethostname())
        barrier()
        self._hosts = [
            self._store.get(f"advnets/host/{number}").decode() for number in range(self._world_size)
        ]
        self._store.set(self._key(self._rank), "0")
        self._missed = [0] * self._world_size
        """The number of heartbeats that each process has missed."""
        self._rounds = 0
        # Other threads do not know the interface.
        self._resume = by_interface("with --resume", "with resume=True")
        self._threads = [
            threading.Thread(target=target, name=f"advnets-{target.__name__}", daemon=True)
            for target in (self._exchange, self._watch)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the threads."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * HEARTBEAT_SECONDS)

    def explain(self, error: BaseException) -> AdvnetsError | None:
        """Return the error of another process that is the cause of this one, if there is one.

        If this process failed by itself, the others are told its message.
        """
        if isinstance(error, RemoteError):
            return None
        if not is_connection_error(error):
            text = printable(str(error)) or type(error).__name__
            self._try(lambda: self._store.set(f"advnets/error/{self._rank}", text))
            return None
        # Wait until a process reports an error or misses heartbeats.
        deadline = time.monotonic() + _ERROR_WAIT_SECONDS
        while time.monotonic() < deadline:
            for number in self._others():
                key = f"advnets/error/{number}"
                if self._try(lambda key=key: self._store.check([key])):
                    message = self._store.get(key).decode()
                    return RemoteError(f"{self._name(number)} failed: {message}")
            time.sleep(0.2)
        missed = max(self._others(), key=lambda number: self._missed[number])
        name = self._name(missed) if self._missed[missed] else "another process"
        return LostProcessError(self._lost(name, "has ended"))

    def _others(self) -> list[int]:
        return [number for number in range(self._world_size) if number != self._rank]

    def _name(self, number: int) -> str:
        return f"process {number} on {self._hosts[number]}"

    def _key(self, number: int) -> str:
        return f"advnets/heartbeat/{number}"

    def _connect(self) -> dist.Store:
        """Return a connection of its own: one that is shared waits while another thread waits."""
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        return dist.TCPStore(host, port, is_master=False, timeout=_STORE_TIMEOUT)

    def _try(self, function: Callable[[], T]) -> T | None:
        try:
            return function()
        except RuntimeError:  # the host of the store has ended
            return None

    def _exchange(self) -> None:
        """Count up in the store, and count the heartbeats that the others miss."""
        seen = [b""] * self._world_size
        keys = [self._key(number) for number in range(self._world_size)]
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                self._store.set(self._key(self._rank), str(self._rounds))
                values = self._store.multi_get(keys)
            except RuntimeError:  # the host of the store has ended, which `_watch` notices
                return
            for number, value in enumerate(values):
                self._missed[number] = self._missed[number] + 1 if value == seen[number] else 0
                seen[number] = value
            self._rounds += 1

    def _watch(self) -> None:
        """End this process once another one, or the store, has not responded for long enough."""
        seconds = round(MISSED_HEARTBEATS * HEARTBEAT_SECONDS)
        what, stalled, last = f"has not responded for {seconds} seconds", 0, -1
        while not self._stop.wait(HEARTBEAT_SECONDS):
            # On a cut connection a call of the store never returns, whatever its timeout.
            stalled, last = stalled + 1 if self._rounds == last else 0, self._rounds
            if stalled >= MISSED_HEARTBEATS:
                self._end(self._lost(f"the host of process 0, {self._hosts[0]},", what))
            for number in self._others():
                if self._missed[number] >= MISSED_HEARTBEATS:
                    self._end(self._lost(self._name(number), what))

    def _lost(self, name: str, what: str) -> str:
        return (
            f"{name} {what}, and process {self._rank} stops too; start the same command again "
            f"{self._resume} to continue from the last checkpoint, with any number of processes"
        )

    def _end(self, message: str) -> None:
        """End this process, whose main thread may wait in a collective that never returns."""
        if self._stop.wait(_ERROR_WAIT_SECONDS):  # the main thread has seen it too
            return
        print(f"advnets: {message}", file=sys.stderr, flush=True)
        os._exit(1)


def is_connection_error(error: BaseException) -> bool:
    """Return whether a collective failed, as one does when another process has ended."""
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        part in text for part in ("gloo", "Connection", "NCCL", "ncclS", "TCPStore", "Broken pipe")
    )


def barrier() -> None:
    """Wait for all processes."""
    gather_objects(None)


def broadcast_object(value: T) -> T:
    """Return the object of rank 0, which is pickled; the values of other processes are ignored."""
    if world_size() == 1:
        return value
    content: list[Any] = [value]
    dist.broadcast_object_list(content, src=0, device=torch.device("cpu"))
    return content[0]


def receive_object(kind: type[T]) -> T:  # noqa: ARG001 - for type checkers
    """Return the object that rank 0 passes to `broadcast_object`."""
    return cast(T, broadcast_object(cast(Any, None)))


def gather_objects(value: T) -> list[T]:
    """Return the objects of all processes, in the order of ranks; they are pickled."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


@contextmanager
def all_succeed() -> Generator[None]:
    """Wait at the end of the block until all processes are there; all fail if one fails.

    Raises:
        RemoteError: the block raised an exception in another process.
    """
    if world_size() == 1:
        yield
        return
    try:
        yield
    except Exception as error:
        if not isinstance(error, RemoteError) and not is_connection_error(error):
            gather_objects((str(error) or type(error).__name__, socket.gethostname()))
        raise
    for number, failure in enumerate(gather_objects(cast("tuple[str, str] | None", None))):
        if failure is not None:
            message, host = failure
            raise RemoteError(f"process {number} on {host} failed: {message}")


_shares_work: ContextVar[bool] = ContextVar("shares_work", default=False)


@contextmanager
def shared_work() -> Generator[None]:
    """Divide the evaluations in the block over the processes, all of which must run it.

    Outside of such a block, `map_rows` and `sum_over_rows` compute everything in each process.
    """
    token = _shares_work.set(world_size() > 1)
    try:
        yield
    finally:
        _shares_work.reset(token)


def own_rows(n: int, block: int = 1) -> slice:
    """Return the slice of n rows that this process computes: blocks of `block` rows, in order."""
    if not _shares_work.get():
        return slice(0, n)
    blocks = -(-n // block)
    first, last = (blocks * number // world_size() * block for number in (rank(), rank() + 1))
    return slice(first, min(last, n))


def map_rows(
    function: Callable[[Tensor], Tensor], rows: Float[Tensor, "n ..."], block: int = 1
) -> Float[Tensor, "n ..."]:
    """Return `function(rows)`, which maps each row by itself; each process computes its own rows.

    They are divided into blocks of `block` rows, the number that `function` computes at once, so
    that the result is the same to the bit as in one process.
    """
    if not _shares_work.get():
        return function(rows)
    part = rows[own_rows(len(rows), block)]
    results = gather_own(function(part) if len(part) else None)
    return torch.cat([result for result in results if result is not None])


def map_tasks(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Return the results of functions, each of which one of the processes calls."""
    if not _shares_work.get():
        return [task() for task in tasks]
    own = {i: task() for i, task in enumerate(tasks) if i % world_size() == rank()}
    results: dict[int, T] = {}
    for part in gather_objects(own):
        results |= part
    return [results[i] for i in range(len(tasks))]


def gather_own(value: T) -> list[T]:
    """Return what the processes have computed of their own rows, in the order of ranks."""
    return gather_objects(value) if _shares_work.get() else [value]


def sum_over_rows(
    function: Callable[[Tensor], Tensor], rows: Float[Tensor, "n ..."]
) -> Float[Tensor, "..."]:
    """Return `function(rows)`, a sum over rows; each process sums over its own rows."""
    if not _shares_work.get():
        return function(rows)
    return all_reduce_sum(function(rows[own_rows(len(rows))]))


class _AllReduceSum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of the gradients of all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        """Return the sum, the same in every process to the bit."""
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:  # noqa: ARG004
        """Return the gradient of x, which is differentiable in its turn."""
        return cast(Tensor, _AllReduceSum.apply(gradients[0]))


def all_reduce_sum(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the sum of x over all processes; it can be differentiated any number of times.

    A loss that depends on x in all processes must be computed in all of them: the gradient in x is
    that of the sum of their losses.
    """
    return x if world_size() == 1 else cast(Tensor, _AllReduceSum.apply(x))


def all_reduce_mean(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the mean of x over all processes, as `all_reduce_sum`."""
    return x if world_size() == 1 else all_reduce_sum(x) / world_size()


def average(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the means of tensors over all processes, by one all-reduce; without gradients.

    The order and the shapes of the tensors must be the same in every process. They are summed in
    the widest of their types.
    """
    if world_size() == 1:
        return list(tensors)
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat /= world_size()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [
        torch.empty_like(tensor).copy_(part.view(tensor.shape))
        for tensor, part in zip(tensors, parts, strict=True)
    ]


@torch.no_grad()
def broadcast_tensors(tensors: Sequence[Tensor]) -> None:
    """Overwrite tensors with those of rank 0, so that all processes are equal to the bit."""
    if world_size() == 1:
        return
    for tensor in tensors:
        received = tensor.contiguous()
        dist.broadcast(received, src=0)
        tensor.copy_(received)


class _SyncBatchNorm(nn.modules.batchnorm._BatchNorm):  # pyright: ignore[reportPrivateUsage]
    """Batch normalization whose statistics in training are those of the batches of all processes.

    All processes must have equally many rows.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalized input."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        x = input.float() if input.dtype in (torch.bfloat16, torch.float16) else input
        # Compute mean and variance of all rows from those of each process, in one all-reduce.
        dims = [0, *range(2, x.ndim)]
        own = torch.stack(torch.var_mean(x, dims, correction=0))
        slots = own.new_zeros(world_size(), *own.shape)
        slots = torch.cat((slots[: rank()], own[None], slots[rank() + 1 :]))
        variances, means = all_reduce_sum(slots).unbind(1)
        mean = means.mean(0)
        variance = variances.mean(0) + (means - mean).square().mean(0)
        # Update the running statistics.
        if self.running_mean is not None and self.running_var is not None:
            self._update(mean.detach(), variance.detach(), x.numel() // x.shape[1] * world_size())
        # Normalize.
        shape = (1, -1, *(1 for _ in range(2, x.ndim)))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        shift = -mean * scale
        if self.affine:
            shift = shift + self.bias
        return (x * scale.view(shape) + shift.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor, n: int) -> None:
        assert self.running_mean is not None and self.running_var is not None
        factor = self.momentum or 0.0
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                factor = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean), factor)
        self.running_var.lerp_((variance * (n / (n - 1))).to(self.running_var), factor)


class SyncBatchNorm1d(_SyncBatchNorm, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over the batches of all processes."""


class SyncBatchNorm2d(_SyncBatchNorm, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the batches of all processes."""


def convert_batch_norm(net: nn.Module) -> nn.Module:
    """Make every batch normalization of a network use the batches of all processes, in place."""
    if world_size() == 1:
        return net
    for module in net.modules():
        if type(module) is nn.BatchNorm1d:
            module.__class__ = SyncBatchNorm1d
        elif type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm2d
    return net
