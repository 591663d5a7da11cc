"""The least memory of a training, computed from shapes alone, without any allocation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call

from advnets import config, launcher
from advnets.config.overrides import option_names
from advnets.data.prepared import DatasetInfo
from advnets.data.spec import has_own_images
from advnets.distributed import world_size
from advnets.errors import AdvnetsError, OutOfMemoryError
from advnets.experiment import setup
from advnets.experiment.stored_run import FLOAT_BYTES, meta_players, parameter_count
from advnets.training.memory import available_bytes, format_bytes

_MAX_WEIGHTS = 1 << 24
"""The number of weights above which networks are counted on torch's device "meta"."""


@dataclass(frozen=True)
class MemoryEstimate:
    """The least memory that one stage needs, in bytes."""

    state: int
    """The weights, their gradients, the optimizer states, and EMAs."""
    batch: int
    """A batch of images, one of samples, and the activations of the networks."""

    @property
    def total(self) -> int:
        """The sum of both."""
        return self.state + self.batch

    def fitting_fraction(self, available: int) -> float:
        """Return the fraction of the batch with which this needs half of the available memory."""
        return max(0.0, min(0.5, (available / 2 - self.state) / self.batch))


def check_memory(run: config.Config, info: DatasetInfo, device: torch.device) -> None:
    """Refuse a training that needs more memory than is free on its device.

    Raises:
        OutOfMemoryError: a stage needs more.
    """
    available = available_bytes(device)
    for number in range(len(run.stages)):
        needed = estimate_memory(run, number, info)
        # Each process has the networks and its share of the batch; those of a host share its RAM.
        sharing = 1 if device.type == "cuda" else launcher.local_world_size()
        rows = needed.batch * sharing // world_size()
        needed = MemoryEstimate(needed.state * sharing, rows)
        if available is not None and needed.total > available:
            raise OutOfMemoryError(
                f"the training needs at least {format_bytes(needed.total)} of memory "
                f"({format_bytes(needed.state)} for the networks, {format_bytes(needed.batch)} for "
                f"a batch), and {device} has {format_bytes(available)} free; "
                f"{memory_advice(run, needed.fitting_fraction(available))}"
            )


def images_per_pack(game: config.GameConfig) -> int:
    """Return the number of images that D sees at once."""
    return game.pac if isinstance(game, config.GANGame) else 1


def memory_advice(run: config.Config, fraction: float = 0.5) -> str:
    """Return the advice to train with this fraction of the batch, smaller images or networks."""
    pac = images_per_pack(run.stage.game)
    rows = int(run.batch_size * fraction) // pac * pac
    batch = f"a smaller --batch-size (such as {rows}), " if rows else ""
    own = run.data.size > 1 and has_own_images(run.data.source)
    size = f"a smaller --size (such as {run.data.size // 2}), " if own else ""
    either = "or " if batch or size else ""
    sizes = ("hidden_sizes", "base_channels", "latent_dim")
    flags = [
        f"--{name.replace('_', '-')}"
        for name in option_names(run)
        if name.startswith(("generator.", "discriminator.")) and name.endswith(sizes)
    ]
    *others, last = flags or [""]
    named = f"{', '.join(others)} or {last}" if others else last
    return f"give {batch}{size}{either}smaller networks" + (named and f" ({named})")


def estimate_memory(run: config.Config, stage_index: int, info: DatasetInfo) -> MemoryEstimate:
    """Return the least memory that a stage needs.

    Raises:
        OutOfMemoryError: a tensor would have more elements than torch can count.
    """
    stage, rows = run.stages[stage_index], run.batch_size
    if isinstance(stage.game, config.SemiSupervisedGame):
        rows = max(rows, stage.game.labeled_batch, stage.game.generated_batch)
    players = meta_players(run, stage_index, info)
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
    return 2 if isinstance(setup.optimizer_config(stage, player), config.Adam) else 1


def _input_shape(
    name: str, net: nn.Module, stage: config.Stage, info: DatasetInfo
) -> tuple[int, ...]:
    if name == "generator":
        return (getattr(net, "latent_dim", 1),)
    channels, height, width = info.shape
    pac = images_per_pack(stage.game) if name == "discriminator" else 1
    return (pac * channels, height, width)


def _count_activations(net: nn.Module, rows: int, shape: tuple[int, ...]) -> int:
    """Return the number of activations for a batch; 0 for networks with several inputs.

    Large networks get a batch on torch's device "meta", whose first operation imports torch's
    compiler for a second; small ones get one image, and weights of 0.
    """
    total, values = 0, {}
    if parameter_count(net) <= _MAX_WEIGHTS:
        tensors = chain(net.named_parameters(), net.named_buffers())
        values = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in tensors}
    examples, device = (1, "cpu") if values else (rows, "meta")

    def count(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal total
        total += output.numel() if isinstance(output, Tensor) else 0

    leaves = [module for module in net.modules() if not any(module.children())]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    net.eval()
    try:
        with torch.no_grad():
            functional_call(net, values, (torch.zeros(examples, *shape, device=device),))
    except (AdvnetsError, RuntimeError, TypeError, ValueError, AttributeError):
        return 0
    finally:
        for hook in hooks:
            hook.remove()
    return total * rows // examples
