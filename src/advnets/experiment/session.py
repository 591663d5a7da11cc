"""Sessions: the start of a new run, the resumption of a run, and a branch of another run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advnets import config
from advnets.config.overrides import differences, option_names
from advnets.config.serialize import to_json
from advnets.data.dataset import Dataset
from advnets.data.prepared import (
    DatasetInfo,
    PreparedData,
    open_run_data,
    open_training_data,
    prepare,
)
from advnets.distributed import world_size
from advnets.errors import (
    CheckpointError,
    ConfigDiffersError,
    RunError,
    UsageError,
)
from advnets.experiment import setup
from advnets.experiment.autotune import resolve_batch_size, resolve_runtime
from advnets.experiment.eval_interval import resolve_intervals
from advnets.experiment.memory_estimate import check_memory
from advnets.experiment.stored_run import StoredRun, identity, players_of_run
from advnets.experiment.trained_model import Step
from advnets.run_directory import RunDirectory
from advnets.training import devices
from advnets.training.checkpoint import (
    WEIGHTS_ONLY,
    Checkpoint,
    NewestCheckpoint,
    load_tensors,
    read_run_checkpoint,
    write_checkpoint,
)
from advnets.training.optimizers import make_optimizer
from advnets.training.selection import best_step
from advnets.training.trainer import Problem


@dataclass
class Session:
    """The part of a run that one process trains."""

    config: config.Config
    data: PreparedData
    stage: int
    identity: str
    checkpoint: Checkpoint | None = None
    step: int = 0
    trust_code: bool = False
    changed_runtime: Mapping[str, tuple[object, object]] = field(default_factory=dict[str, Any])
    """The runtime fields that differ from the stored run: the stored and the new value of each."""
    choices: tuple[str, ...] = ()
    """A sentence for each option that was "auto": the choice of trials, and the reason."""
    repeated_steps: int = 0
    """The number of steps after `step` that were logged before and are trained again."""
    problem: Problem | None = None
    """Why the last state of the last stage is not usable."""
    ended_early: str = ""
    """Why the last stage ended before its last step; "": it did not."""
    eval_seconds: float = 0.0
    """The time of evaluations, in seconds."""
    intervals: config.Intervals = field(init=False)
    """The intervals of the config, with the metric and the interval of evaluations."""

    def __post_init__(self) -> None:
        self.intervals = resolve_intervals(self.config, self.data)

    @property
    def steps(self) -> int:
        """The number of steps of the whole run."""
        return self.config.steps_before(len(self.config.stages))

    def for_workers(self) -> WorkerSession:
        """Return what the other processes need in order to train the same."""
        return WorkerSession(
            self.config, self.data.info, self.stage, self.identity, self.checkpoint, self.step
        )


@dataclass(frozen=True)
class WorkerSession:
    """A session without its data, as the process of rank 0 sends it to the others."""

    config: config.Config
    info: DatasetInfo
    stage: int
    identity: str
    checkpoint: Checkpoint | None
    step: int

    def open(self, run: Path, dataset: Dataset | None) -> Session:
        """Return the session with the data of this process, which must be that of rank 0."""
        data = open_run_data(run, self.config.data, self.info, dataset)
        session = Session(self.config, data, self.stage, self.identity, self.checkpoint, self.step)
        session.trust_code = True
        return session


def start_session(run: RunDirectory, run_config: config.Config, dataset: Dataset | None) -> Session:
    """Start a run: open its data, resolve its config, and write both to config.json.

    `dataset` is the data itself if it is in memory.

    Raises:
        DataError: the data is missing or invalid.
        UsageError: options do not fit the data or each other, or the run is to be in the directory
            of its data.
        OutOfMemoryError: the training would need more memory than is free.
    """
    if Path(run_config.data.source).resolve() == run.path.resolve():
        raise UsageError(f"{run.path} is the directory of the data; give another --out for the run")
    session = resolve_session(run_config, dataset)

    # Write config.json last, since it makes the folder a run.
    nets = players_of_run(session.config, len(session.config.stages) - 1, session.data.info)
    record = setup.run_record(session.config, session.data.info, nets, shlex.join(sys.argv))
    run.write_config(record)
    return session


def resolve_session(
    run_config: config.Config, dataset: Dataset | None = None, processes: int = 1
) -> Session:
    """Return the session of a new run: open its data and resolve its config; write nothing.

    The code of its game and models must be trusted. A number of processes share the memory.

    Raises:
        DataError: the data is missing or invalid.
        UsageError: options do not fit the data or each other.
        OutOfMemoryError: the training would need more memory than is free.
    """
    devices.resolve(run_config.runtime)  # refuses a device that is missing before the data is read
    run_config = replace(run_config, branched_from=None)
    run_config = setup.with_pretrained_generator(setup.with_absolute_paths(run_config))
    data = _open_data(run_config.data, dataset)

    # Resolve the config by the data.
    run_config, runtime_choice = resolve_runtime(run_config, data)
    run_config, size_choice = resolve_batch_size(run_config, data, processes)
    resolved = setup.resolve_config(run_config, data.info, run_config.runtime)

    # Check that the training fits into memory, and that initial weights fit its networks.
    check_memory(resolved, data.info, torch.device(resolved.runtime.device))
    resolved = setup.with_init_digest(resolved, data.info)
    session = Session(resolved, data, stage=0, identity=identity(resolved, data.info))
    session.choices = tuple(filter(None, (runtime_choice, size_choice)))
    return session


def _open_data(spec: config.Data, dataset: Dataset | None) -> PreparedData:
    """Open the data of a new run; `dataset` is the data itself if it is in memory."""
    return open_training_data(spec) if dataset is None else prepare(dataset, spec)


def branch_session(
    run: RunDirectory,
    requested: config.Config,
    source: Path,
    step: Step | None,
    dataset: Dataset | None,
) -> Session:
    """Start a run from the state of another run, which does not change.

    Args:
        run: the directory of the new run.
        requested: the config of the new run.
        source: the directory of the other run.
        step: the step of a kept checkpoint of it, or "best"; None: the newest one.
        dataset: the data itself if it is in memory.

    Raises:
        RunError: there is no other run, or its checkpoint has weights alone.
        CheckpointError: the checkpoint cannot be used or read.
        DataError: the data is missing or invalid.
        UsageError: there is no checkpoint of the step, or its state does not fit the config.
        OutOfMemoryError: the training would need more memory than is free.
    """
    # Read the state to start from.
    stored = StoredRun.read(source)
    loaded = stored.checkpoint_of(step)
    _require_training_state(loaded, source)
    metadata = loaded.checkpoint.metadata

    # Resolve the config: what is "auto" or not given, such as schedules, is the other run's.
    requested = setup.with_absolute_paths(_with_resolved_of(stored.config, requested))
    requested = _with_schedule_steps_of(stored.config, requested)
    runtime = devices.resolve(requested.runtime)
    if requested.data.source == stored.config.data.source:
        data = open_run_data(source, requested.data, stored.info, dataset)
    else:
        data = _open_data(requested.data, dataset)
    resolved = setup.resolve_config(requested, data.info, runtime)
    resolved = replace(resolved, branched_from=stored.config.branched_from)
    point = config.BranchPoint(
        run=str(source.absolute()),
        step=metadata["step"],
        identity=stored.identity,
        differences=tuple(
            f"{name}: {values}" for name, values in differences(stored.config, resolved).items()
        ),
    )
    resolved = replace(resolved, branched_from=point)
    session = Session(
        resolved, data, metadata["stage"], identity(resolved, data.info), step=metadata["step"]
    )
    session.checkpoint = replace(loaded.checkpoint, identity=session.identity)

    # Check that the state fits.
    if len(resolved.stages) != len(stored.config.stages) or session.step > session.steps:
        raise UsageError(
            f"{source} is at step {session.step:,} of {len(stored.config.stages)} stages, and the "
            f"new run has {session.steps:,} steps in {len(resolved.stages)} stages; set steps to "
            "more than that, or step to an earlier one"
        )
    check_memory(resolved, data.info, torch.device(resolved.runtime.device))
    nets = players_of_run(resolved, session.stage, data.info)
    _check_branch(session.checkpoint, resolved.stages[session.stage], nets, source)

    # Write config.json last, since it makes the folder a run.
    run.checkpoints.mkdir(exist_ok=True)
    same_data = data.info.digest == stored.info.digest
    events = [
        event
        for event in stored.directory.events()
        if event.get("step", 0) <= session.step
        # Scores on other data are not comparable.
        and (same_data or event.get("kind") != "evaluate")
    ]
    for event in events:
        run.append_event(event)
    saved = stored.directory.checkpoints_by_step()
    best = best_step(events, saved)
    if best is not None and best != session.step:
        with suppress(CheckpointError):  # a damaged one is not the best of the branch
            kept = read_run_checkpoint(saved[best], stored.identity)
            write_checkpoint(run.checkpoint_file(best), replace(kept, identity=session.identity))
    write_checkpoint(run.checkpoint_file(session.step), session.checkpoint)
    run.write_config(setup.run_record(resolved, data.info, nets, shlex.join(sys.argv)))
    return session


def _check_branch(
    checkpoint: Checkpoint, stage: config.Stage, nets: Mapping[str, nn.Module], source: Path
) -> None:
    """Check that a checkpoint has the tensors of the networks, optimizers and EMAs of a stage.

    Raises:
        UsageError: a tensor is missing or has another shape; the message has both shapes.
    """
    try:
        for name, net in nets.items():
            optimizer = make_optimizer(setup.optimizer_config(stage, name), net.parameters())
            load_tensors(f"players/{name}", net, checkpoint.tensors)
            load_tensors(f"optimizers/{name}", optimizer.state, checkpoint.tensors)
            if name in stage.ema_players:
                load_tensors(f"ema/{name}", net, checkpoint.tensors)
    except CheckpointError as error:
        reason = str(error).partition("(")[2].rpartition(")")[0]
        raise UsageError(
            f"the state of {source} does not fit the new run ({reason}); keep its networks, "
            "optimizers and EMA, or take over weights alone: set init_from to that run"
        ) from None


def _require_training_state(loaded: NewestCheckpoint, run: Path) -> None:
    """Refuse a checkpoint that holds weights only.

    Raises:
        RunError: the checkpoint holds weights only.
    """
    if loaded.checkpoint.metadata.get(WEIGHTS_ONLY):
        raise RunError(
            f"{loaded.path} holds weights only, without the optimizer state that training needs; "
            f"start a new run from them: set init_from to {run}"
        )


def resume_session(run: RunDirectory, requested: config.Config, dataset: Dataset | None) -> Session:
    """Continue a run from its newest checkpoint.

    `requested` may differ from the stored config in its length, intervals and runtime; `dataset`
    is the data itself if it is in memory.

    Raises:
        RunError: there is no run, its newest checkpoint has weights alone, or the data has changed.
        ConfigDiffersError: `requested` differs in another field.
        CheckpointError: no checkpoint can be used, or one cannot be read.
        UsageError: the run has more steps than requested, or its device is missing.
        OutOfMemoryError: the training would need more memory than is free.
    """
    stored = StoredRun.read(run.path)

    # Resolve the config: the stored one, with the requested length, intervals and runtime.
    merged = _merge_configs(stored.config, requested, run.path)
    if merged.runtime.device == stored.config.runtime.device:
        _require_device(merged.runtime, run.path)
    merged = replace(merged, runtime=devices.resolve(merged.runtime))
    data = open_run_data(run.path, merged.data, stored.info, dataset, stored.config.data.source)
    merged = setup.resolve_config(merged, data.info, merged.runtime)
    stored.players(len(merged.stages) - 1)  # refuses networks that cannot be built
    check_memory(merged, data.info, torch.device(merged.runtime.device))

    # Find the newest usable checkpoint; there is none if the run was killed before its first one.
    session, unusable = Session(merged, data, stage=0, identity=stored.identity), ()
    if run.checkpoint_files():
        newest = stored.newest_checkpoint()
        metadata, unusable = newest.checkpoint.metadata, newest.unusable
        _require_training_state(newest, run.path)
        session.stage, session.step = metadata["stage"], metadata["step"]
        session.checkpoint = newest.checkpoint
    if session.step > session.steps:
        raise UsageError(
            f"{run.path} is at step {session.step:,}, but {session.steps:,} steps were requested; "
            "give more --steps or --epochs"
        )
    for path in unusable:
        run.quarantine_checkpoint(path)

    # Record the config, and the step from which the run is no longer bit-exact.
    record, before = {**stored.record, "config": to_json(merged)}, stored.config.runtime
    if session.step < session.steps:
        old, new = asdict(before), asdict(merged.runtime)
        changed = {name: (old[name], new[name]) for name in new if old[name] != new[name]}
        processes = stored.record.get("processes", 1)
        if processes != world_size():
            changed["processes"] = processes, world_size()
        session.changed_runtime = changed
    if session.changed_runtime:
        record.setdefault("bit_exact_until_step", session.step)
        record["processes"] = world_size()
    else:
        record["config"]["runtime"] = to_json(before)
    run.write_config(record)
    repeated = run.truncate_events(session.step)
    session.repeated_steps = min(repeated, session.steps - session.step)
    return session


def _require_device(runtime: config.Runtime, path: Path) -> None:
    """Refuse to continue if the device on which a run was trained is not available.

    Raises:
        UsageError: the device is missing; the message says how to continue without it.
    """
    try:
        devices.resolve(runtime)
    except UsageError:
        current_device = devices.resolve(config.Runtime()).device
        raise UsageError(
            f"{path} was trained on {runtime.device}, which this machine lacks; give "
            f"--device {current_device} to continue here, where the run will no longer be bit-exact"
        ) from None


def _merge_configs(stored: config.Config, requested: config.Config, path: Path) -> config.Config:
    """Return the stored config with the length, intervals and runtime of the requested one.

    Schedules keep their length in steps: a run that is extended continues at their final values.

    Raises:
        ConfigDiffersError: anything else differs.
    """
    requested = _with_resolved_of(stored, requested)

    # The locations of data and of a game's file may change: their digests are compared.
    stored, requested = setup.with_absolute_paths(stored), setup.with_absolute_paths(requested)
    requested = _with_schedule_steps_of(stored, requested)
    stored = config.update_custom_paths(stored, requested)
    merged = replace(
        stored.with_stage(
            replace(stored.stage, steps=requested.stage.steps, epochs=requested.stage.epochs)
        ),
        intervals=requested.intervals,
        runtime=requested.runtime,
        data=replace(stored.data, source=requested.data.source, directory=requested.data.directory),
    )
    if changed := differences(merged, requested):
        flags = {name: f"--{name.replace('_', '-')}" for name in option_names(requested)}
        listed = "; ".join(f"{flags.get(name, name)}: {v}" for name, v in changed.items())
        raise ConfigDiffersError(
            f"{path} was started with another config (stored, requested): {listed}; "
            "resume without these options, or set branch to the directory of a new run that "
            "continues with them"
        )
    return merged


def _with_resolved_of(stored: config.Config, requested: config.Config) -> config.Config:
    """Return the requested config, with the stored batch size and runtime fields for "auto"."""
    if requested.data.batch_size == "auto":
        data = replace(requested.data, batch_size=stored.batch_size)
        requested = replace(requested, data=data)
    old, new = stored.runtime, requested.runtime
    device = old.device if new.device == "auto" else new.device
    runtime = replace(
        new,
        device=device,
        precision=old.precision if new.precision == "auto" else new.precision,
        threads=new.threads or old.threads,
        # Other devices have no CUDA graph; the computation is the same without it.
        cuda_graph=new.cuda_graph and (device == old.device or device.startswith("cuda")),
    )
    return replace(requested, runtime=runtime)


def _with_schedule_steps_of(stored: config.Config, requested: config.Config) -> config.Config:
    """Return the requested config, with the stored lengths of schedules where it has none."""
    steps = {number: stage.schedule_steps for number, stage in enumerate(stored.stages)}
    stages = tuple(
        replace(stage, schedule_steps=stage.schedule_steps or steps.get(number))
        for number, stage in enumerate(requested.stages)
    )
    return replace(requested, stages=stages)
