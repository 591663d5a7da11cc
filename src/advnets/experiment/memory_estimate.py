"""The memory that a training needs at least, from shapes alone: nothing is allocated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advnets import config
from advnets.data.prepared import DatasetInfo
from advnets.errors import AdvnetsError, OutOfMemoryError
from advnets.experiment.setup import optimizer_config
from advnets.experiment.stored_run import FLOAT_BYTES, meta_players, parameter_count
from advnets.training.memory import available_bytes, gibibytes

SMALLER = (
    "make smaller: --batch-size, the nets (their units, width, channels or latent_dim), or what "
    "--game.* asks of a step"
)


@dataclass(frozen=True)
class MemoryEstimate:
    """Least bytes that one stage needs."""

    state: int
    """Weights, their gradients, and what optimizers and weight averages remember of them."""
    batch: int
    """A batch of images and of samples, and what the nets make of them on the way."""

    @property
    def total(self) -> int:
        """The sum."""
        return self.state + self.batch


def check_memory(run: config.Config, facts: DatasetInfo, device: torch.device) -> None:
    """Refuse a training that needs more memory than its device has free, before it is asked for.

    Raises:
        OutOfMemoryError: a stage needs more.
    """
    available = available_bytes(device)
    for number in range(len(run.stages)):
        needed = estimate_memory(run, number, facts)
        if available is not None and needed.total > available:
            raise OutOfMemoryError(
                f"the training needs at least {gibibytes(needed.total)} of memory "
                f"({gibibytes(needed.state)} for the nets, {gibibytes(needed.batch)} for a batch), "
                f"and {device} has {gibibytes(available)} free; {SMALLER}"
            )


def estimate_memory(run: config.Config, number: int, facts: DatasetInfo) -> MemoryEstimate:
    """Return the memory that a stage needs at least.

    Raises:
        OutOfMemoryError: a tensor would have more numbers than can be counted.
    """
    stage, rows = run.stages[number], run.data.batch_size
    if isinstance(stage.game, config.SemiSupervisedGame):
        rows = max(rows, stage.game.labeled_batch, stage.game.generated_batch)
    nets = meta_players(run, number, facts)
    weights = {name: parameter_count(net) for name, net in nets.items()}
    state = sum(
        count * (2 + _remembered(stage, name) + (name in stage.ema_players))
        for name, count in weights.items()
    )
    batch = 2 * rows * math.prod(facts.shape)
    for name, net in nets.items():
        batch += _made(net, rows, _input_shape(name, net, stage, facts))
    return MemoryEstimate(state * FLOAT_BYTES, batch * FLOAT_BYTES)


def _remembered(stage: config.Stage, player: str) -> int:
    """Return how many numbers a player's optimizer remembers of each weight."""
    return 2 if isinstance(optimizer_config(stage, player), config.Adam) else 1


def _input_shape(
    name: str, net: nn.Module, stage: config.Stage, facts: DatasetInfo
) -> tuple[int, ...]:
    if name == "generator":
        return (getattr(net, "latent_dim", 1),)
    channels, height, width = facts.shape
    pack = (
        stage.game.pac if name == "discriminator" and isinstance(stage.game, config.GANGame) else 1
    )
    return (pack * channels, height, width)


def _made(net: nn.Module, rows: int, shape: tuple[int, ...]) -> int:
    """Return how many numbers the layers of a net make of one input each; 0: not known.

    Nets that are told more than one input are not asked.
    """
    made = 0

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal made
        made += output.numel() if isinstance(output, Tensor) else 0

    leaves = [module for module in net.modules() if not any(module.children())]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    net.eval()
    try:
        with torch.no_grad():
            net(torch.empty(rows, *shape, device="meta"))
    except (AdvnetsError, RuntimeError, TypeError, ValueError, AttributeError):
        return 0
    finally:
        for hook in hooks:
            hook.remove()
    return made
