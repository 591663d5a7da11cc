"""What a training will take, found by playing a few rounds; nothing is written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from advnets import config
from advnets.data.dataset import (
    Dataset,
    Split,
    count_distinct_images,
    few_images_warning,
    num_train_images,
)
from advnets.data.prepared import PreparedData, open_training_data
from advnets.data.spec import cached_dataset_folders
from advnets.experiment import setup
from advnets.experiment.memory_estimate import SMALLER, check_memory
from advnets.experiment.pretrained import with_pretrained
from advnets.experiment.stored_run import parameter_count
from advnets.games.custom import check_trusted
from advnets.training import devices
from advnets.training.memory import explained, memory_limit, peak_bytes
from advnets.training.step import train_step

WARM_UP = 3
TIMED_SECONDS = 2.0
MOST_ROUNDS = 200


@dataclass(frozen=True)
class StageEstimate:
    """One stage: sizes and time."""

    parameters: dict[str, int]
    steps: int
    seconds_per_step: float

    @property
    def seconds(self) -> float:
        """Of the whole stage."""
        return self.steps * self.seconds_per_step


@dataclass(frozen=True)
class DryRunReport:
    """A dry run's findings."""

    config: config.Config
    data: dict[str, Any]
    """As `data_summary` has it."""
    stages: tuple[StageEstimate, ...]
    peak_bytes: int | None
    """None: the system does not tell."""
    packed: tuple[Path, ...] = ()
    """Folders of the cache that opening the data has written."""

    @property
    def seconds(self) -> float:
        """Of the whole training, without evaluation on the way."""
        return sum(stage.seconds for stage in self.stages)


def dry_run(run_config: config.Config, *, trust_code: bool = False) -> DryRunReport:
    """Resolve a config, build its nets, time a few rounds of each stage.

    Opening data for the first time packs them into the cache; nothing else is written.

    Peak memory is this process's own, of the device where there is one; a training that takes the
    same steps takes the same.

    Raises:
        DataError: the data is absent or wrong.
        OutOfMemoryError: the training needs more memory than there is.
        RunError: the game is a file's, whose code is not trusted (`trust_code`) or has changed.
    """
    check_trusted(run_config, trust_code=trust_code)
    run_config = with_pretrained(run_config)
    before = cached_dataset_folders()
    data = open_training_data(run_config.data)
    new = cached_dataset_folders() - before
    packed = tuple(sorted(folder for folder in new if folder.parent not in new))
    resolved = setup.resolve_config(run_config, data.info, devices.resolve(run_config.runtime))
    device = devices.setup_process(resolved.runtime)
    check_memory(resolved, data.info, device)
    with explained(SMALLER), memory_limit(device, resolved.runtime.threads):
        stages = tuple(
            _stage_plan(resolved, data, number, device, trust_code=trust_code)
            for number in range(len(resolved.stages))
        )
    summary = data_summary(data.dataset, resolved.stages[-1].game)
    return DryRunReport(resolved, summary, stages, peak_bytes(device), packed)


def _stage_plan(
    run_config: config.Config,
    data: PreparedData,
    number: int,
    device: torch.device,
    *,
    trust_code: bool,
) -> StageEstimate:
    state = setup.make_train_state(run_config, data, number, device, trust_code=trust_code)
    for _ in range(WARM_UP):
        train_step(state)
    rounds, start = 0, _now(device)
    while rounds < MOST_ROUNDS and (rounds == 0 or _now(device) - start < TIMED_SECONDS):
        train_step(state)
        rounds += 1
    seconds = (_now(device) - start) / rounds
    counts: dict[str, Any] = {name: parameter_count(net) for name, net in state.players.items()}
    return StageEstimate(counts, run_config.stages[number].steps or 0, seconds)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


def data_summary(splits: Dataset, game: config.GameConfig) -> dict[str, Any]:
    """Return counts of splits, of training classes and of unused files, and what to be warned of.

    `unlabeled` is the number of images without labels, and `uses_unlabeled` whether the game
    learns from them.
    """
    train, count = splits.train, num_train_images(splits.train)
    held_out = {"valid": splits.valid, "test": splits.test, "unlabeled": splits.unlabeled}
    warning = few_images_warning(count_distinct_images(train), count or 0)
    return {
        "name": splits.name,
        "shape": list(splits.shape),
        "train": count,
        **{name: 0 if part is None else len(part) for name, part in held_out.items()},
        "uses_unlabeled": isinstance(game, config.SemiSupervisedGame) and game.unlabeled_loss,
        "classes": _class_counts(train, splits.class_names()) if isinstance(train, Split) else {},
        "unused": dict(splits.unsupported_files),
        "notes": [*splits.notes, *([warning] if warning else [])],
    }


def _class_counts(train: Split, classes: tuple[str, ...]) -> dict[str, int]:
    if train.labels is None:
        return {}
    counts = np.bincount(train.labels, minlength=len(classes))
    return dict(zip(classes, counts.tolist(), strict=True))
