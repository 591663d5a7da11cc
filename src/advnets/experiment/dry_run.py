"""Estimates of the time and memory of a training, from a few steps; nothing is written.

`check_memory` uses shapes alone: its estimate is a lower bound, computed without any allocation.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from advnets import config
from advnets.config.overrides import option_names
from advnets.data.dataset import (
    Dataset,
    Split,
    count_distinct_images,
    few_images_warning,
    num_train_images,
)
from advnets.data.prepared import DatasetInfo, PreparedData, open_training_data
from advnets.data.spec import cached_dataset_folders, has_own_images
from advnets.errors import AdvnetsError, OutOfMemoryError
from advnets.experiment import setup
from advnets.experiment.stored_run import FLOAT_BYTES, meta_players, parameter_count
from advnets.games.custom import check_trusted
from advnets.models.custom import load_custom_models
from advnets.training import devices
from advnets.training.memory import (
    available_bytes,
    explain_errors,
    format_bytes,
    memory_limit,
    peak_bytes,
)
from advnets.training.step import train_step

WARMUP_STEPS = 3
_MAX_WEIGHTS = 1 << 24
TIMED_SECONDS = 2.0
MAX_TIMED_STEPS = 200


@dataclass(frozen=True)
class StageEstimate:
    """The size and the estimated time of one stage."""

    parameters: dict[str, int]
    steps: int
    seconds_per_step: float

    @property
    def seconds(self) -> float:
        """The estimated time of the whole stage, in seconds."""
        return self.steps * self.seconds_per_step


@dataclass(frozen=True)
class DryRunReport:
    """The result of a dry run."""

    config: config.Config
    data: dict[str, Any]
    """The return value of `data_summary`."""
    stages: tuple[StageEstimate, ...]
    peak_bytes: int | None
    """The peak memory of this process, or of the GPU, in bytes; None: unknown on this system."""
    packed_folders: tuple[Path, ...] = ()
    """The cache folders that were written when the data was opened."""

    @property
    def seconds(self) -> float:
        """The estimated time of the whole training in seconds, evaluations excluded."""
        return sum(stage.seconds for stage in self.stages)


def dry_run(run_config: config.Config, *, trust_code: bool = False) -> DryRunReport:
    """Resolve a config, build its networks, and time a few steps of each stage.

    Data that is opened for the first time is packed into the cache; nothing else is written.

    Raises:
        DataError: the data is missing or invalid.
        OutOfMemoryError: the training needs more memory than there is.
        RunError: the file of a custom game is not trusted (`trust_code`) or has changed.
    """
    check_trusted(run_config, trust_code=trust_code)
    load_custom_models(run_config, trust_code=False)
    run_config = setup.with_pretrained_generator(run_config, trust_code=trust_code)
    before = cached_dataset_folders()
    data = open_training_data(run_config.data)
    new = cached_dataset_folders() - before
    packed = tuple(sorted(folder for folder in new if folder.parent not in new))
    resolved = setup.resolve_config(run_config, data.info, devices.resolve(run_config.runtime))
    device = devices.setup_process(resolved.runtime)
    check_memory(resolved, data.info, device)
    with explain_errors(memory_advice(resolved)), memory_limit(device, resolved.runtime.threads):
        stages = tuple(
            _estimate_stage(resolved, data, number, device, trust_code=trust_code)
            for number in range(len(resolved.stages))
        )
    summary = data_summary(data.dataset, resolved)
    return DryRunReport(resolved, summary, stages, peak_bytes(device), packed)


def _estimate_stage(
    run_config: config.Config,
    data: PreparedData,
    stage_index: int,
    device: torch.device,
    *,
    trust_code: bool,
) -> StageEstimate:
    state = setup.make_train_state(run_config, data, stage_index, device, trust_code=trust_code)
    for _ in range(WARMUP_STEPS):
        train_step(state)
    steps, start = 0, _now(device)
    while steps < MAX_TIMED_STEPS and (steps == 0 or _now(device) - start < TIMED_SECONDS):
        train_step(state)
        steps += 1
    seconds = (_now(device) - start) / steps
    counts: dict[str, Any] = {name: parameter_count(net) for name, net in state.players.items()}
    return StageEstimate(counts, run_config.stages[stage_index].steps or 0, seconds)


def _now(device: torch.device) -> float:
    """Return the time in seconds, after all work on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


def data_summary(dataset: Dataset, run: config.Config) -> dict[str, Any]:
    """Return the sizes of the splits, training images per class, unused files, and warnings.

    `unit` is "images" or "points", `unlabeled` the number of images without labels, and
    `uses_unlabeled` whether the game trains on them.
    """
    train, count, game = dataset.train, num_train_images(dataset.train), run.stage.game
    held_out = {"valid": dataset.valid, "test": dataset.test, "unlabeled": dataset.unlabeled}
    unit = "images" if dataset.distribution is None else "points"
    warnings = [few_images_warning(count_distinct_images(train), count or 0)]
    if count is not None and run.data.batch_size > count:
        warnings.append(
            f"warning: a batch of {run.data.batch_size:,} contains the {count:,} training {unit} "
            f"more than once; use batches of at most {count:,}"
        )
    return {
        "name": dataset.name,
        "unit": unit,
        "shape": list(dataset.shape),
        "train": count,
        **{name: 0 if part is None else len(part) for name, part in held_out.items()},
        "uses_unlabeled": isinstance(game, config.SemiSupervisedGame) and game.unlabeled_loss,
        "classes": _class_counts(train, dataset.class_names()) if isinstance(train, Split) else {},
        "unsupported_files": dict(dataset.unsupported_files),
        "notes": [*dataset.notes, *filter(None, warnings)],
    }


def _class_counts(train: Split, classes: tuple[str, ...]) -> dict[str, int]:
    if train.labels is None:
        return {}
    counts = np.bincount(train.labels, minlength=len(classes))
    return dict(zip(classes, counts.tolist(), strict=True))


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
        if available is not None and needed.total > available:
            raise OutOfMemoryError(
                f"the training needs at least {format_bytes(needed.total)} of memory "
                f"({format_bytes(needed.state)} for the networks, {format_bytes(needed.batch)} for "
                f"a batch), and {device} has {format_bytes(available)} free; "
                f"{memory_advice(run, needed.fitting_fraction(available))}"
            )


def memory_advice(run: config.Config, fraction: float = 0.5) -> str:
    """Return the advice to train with this fraction of the batch, smaller images or networks."""
    pac = run.stage.game.pac if isinstance(run.stage.game, config.GANGame) else 1
    rows = int(run.data.batch_size * fraction) // pac * pac
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
    stage, rows = run.stages[stage_index], run.data.batch_size
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
    pac = (
        stage.game.pac if name == "discriminator" and isinstance(stage.game, config.GANGame) else 1
    )
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
