"""What a training will take, found by playing a few rounds; nothing is written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from advnets import config
from advnets.data.places import cached_folders
from advnets.experiment import setup
from advnets.experiment.custom_game import check_trusted
from advnets.experiment.data_summary import data_summary
from advnets.experiment.memory_needed import SMALLER, check_memory
from advnets.experiment.pretrained import adopted
from advnets.training import devices
from advnets.training.memory import explained, memory_limit, peak_bytes
from advnets.training.step import play_round

WARM_UP = 3
TIMED_SECONDS = 2.0
MOST_ROUNDS = 200


@dataclass(frozen=True)
class StagePlan:
    """One stage: sizes and time."""

    parameters: dict[str, int]
    steps: int
    seconds_per_step: float

    @property
    def seconds(self) -> float:
        """Of the whole stage."""
        return self.steps * self.seconds_per_step


@dataclass(frozen=True)
class Plan:
    """A dry run's findings."""

    config: config.Config
    data: dict[str, Any]
    """As `data_summary` has it."""
    stages: tuple[StagePlan, ...]
    peak_bytes: int | None
    """None: the system does not tell."""
    packed: tuple[Path, ...] = ()
    """Folders of the cache that opening the data has written."""

    @property
    def seconds(self) -> float:
        """Of the whole training, without evaluation on the way."""
        return sum(stage.seconds for stage in self.stages)


def plan(run_config: config.Config, *, trust_code: bool = False) -> Plan:
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
    run_config = adopted(run_config)
    before = cached_folders()
    data = setup.open_new_data(run_config.data)
    new = cached_folders() - before
    packed = tuple(sorted(folder for folder in new if folder.parent not in new))
    resolved = setup.resolved(run_config, data.facts, devices.resolve(run_config.runtime))
    device = devices.prepare(resolved.runtime)
    check_memory(resolved, data.facts, device)
    with explained(SMALLER), memory_limit(device, resolved.runtime.threads):
        stages = tuple(
            _stage_plan(resolved, data, number, device, trust_code=trust_code)
            for number in range(len(resolved.stages))
        )
    summary = data_summary(data.splits, resolved.stages[-1].game)
    return Plan(resolved, summary, stages, peak_bytes(device), packed)


def _stage_plan(
    run_config: config.Config,
    data: setup.PreparedData,
    number: int,
    device: torch.device,
    *,
    trust_code: bool,
) -> StagePlan:
    table = setup.table(run_config, data, number, device, trust_code=trust_code)
    for _ in range(WARM_UP):
        play_round(table)
    rounds, start = 0, _now(device)
    while rounds < MOST_ROUNDS and (rounds == 0 or _now(device) - start < TIMED_SECONDS):
        play_round(table)
        rounds += 1
    seconds = (_now(device) - start) / rounds
    counts: dict[str, Any] = {
        name: setup.parameter_count(net) for name, net in table.players.items()
    }
    return StagePlan(counts, run_config.stages[number].steps or 0, seconds)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
