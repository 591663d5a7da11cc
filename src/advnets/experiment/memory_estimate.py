"""A lower bound of the memory that a training needs, from shapes alone; nothing is allocated."""

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
from advnets.training.memory import available_bytes, format_bytes

SMALLER = (
    "give a smaller --batch-size, or smaller networks (hidden_sizes, base_channels or latent_dim)"
)


@dataclass(frozen=True)
class MemoryEstimate:
    """The least memory that one stage needs, in bytes."""

    state: int
    """Weights, their gradients, the states of the optimizers, and EMAs."""
    batch: int
    """A batch of images and one of samples, and the activations of the networks."""

    @property
    def total(self) -> int:
        """The sum of both."""
        return self.state + self.batch


def check_memory(run: config.Config, info: DatasetInfo, device: torch.device) -> None:
    """Refuse a training that needs more memory than is free on its device.

    Raises:
        OutOfMemoryError: a stage needs more.
    """
    available = available_bytes(device)
    for number in range(len(run.stages)):
        needed = estimate_memory(run, number, info)
        if available is not None and needed.total > available:
            raise OutOfMemoryError(
                f"the training needs at least {format_bytes(needed.total)} of memory "
                f"({format_bytes(needed.state)} for the networks, {format_bytes(needed.batch)} for "
                f"a batch), and {device} has {format_bytes(available)} free; {SMALLER}"
            )


def estimate_memory(run: config.Config, number: int, info: DatasetInfo) -> MemoryEstimate:
    """Return the least memory that a stage needs.

    Raises:
        OutOfMemoryError: a tensor would have more elements than torch can count.
    """
    stage, rows = run.stages[number], run.data.batch_size
    if isinstance(stage.game, config.SemiSupervisedGame):
        rows = max(rows, stage.game.labeled_batch, stage.game.generated_batch)
    players = meta_players(run, number, info)
    weights = {name: parameter_count(net) for name, net in players.items()}
    state = sum(
        count * (2 + _optimizer_values(stage, name) + (name in stage.ema_players))
        for name, count in weights.items()
    )
    batch = 2 * rows * math.prod(info.shape)
    for name, net in players.items():
        batch += _count_activations(net, rows, _input_shape(name, net, stage, info))
    return MemoryEstimate(state * FLOAT_BYTES, batch * FLOAT_BYTES)


def _optimizer_values(stage: config.Stage, player: str) -> int:
    """Return the number of values that a player's optimizer stores for each weight."""
    return 2 if isinstance(optimizer_config(stage, player), config.Adam) else 1


def _input_shape(
    name: str, net: nn.Module, stage: config.Stage, info: DatasetInfo
) -> tuple[int, ...]:
    if name == "generator":
        return (getattr(net, "latent_dim", 1),)
    channels, height, width = info.shape
    pac = (
        stage.game.pac if name == "discriminator" and isinstance(stage.game, config.GANGame) else 1
    )
    return (pac * channels, height, width)


def _count_activations(net: nn.Module, rows: int, shape: tuple[int, ...]) -> int:
    """Return the number of activations of a batch; 0 for networks with several inputs."""
    total = 0

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal total
        total += output.numel() if isinstance(output, Tensor) else 0

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
    return total
