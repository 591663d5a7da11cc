"""Training a run from a config to a run directory, and resuming one."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from advnets import config
from advnets.config.serialize import differences, to_json
from advnets.data.dataset import Dataset, Split
from advnets.data.prepared import (
    PreparedData,
    open_run_data,
    open_training_data,
    prepare,
)
from advnets.data.spec import check_source
from advnets.errors import (
    ConfigDiffersError,
    DivergedError,
    RunError,
    StoppedBySignal,
    UnusableCheckpointError,
    UsageError,
)
from advnets.evaluation.modes import default_metric
from advnets.evaluation.training_eval import (
    check_eval_metric,
    eval_metric,
    evaluate_during_training,
    selection,
)
from advnets.experiment import setup
from advnets.experiment.dry_run import SMALLER, check_memory, data_summary
from advnets.experiment.stored_run import StoredRun, identity, players_of_run
from advnets.games.custom import check_trusted, custom_games, update_game_paths
from advnets.plots.image_grid import grid, save_grid
from advnets.plots.points import points_image
from advnets.report.run_report import write_report
from advnets.run_directory import RunDirectory
from advnets.sampling.sampler import ComputeSettings, draw_samples, grid_classes
from advnets.training import devices
from advnets.training.callback import Callback, CallbackList
from advnets.training.checkpoint import (
    WEIGHTS_ONLY,
    Checkpoint,
    read_checkpoint,
    weights_only,
    write_checkpoint,
)
from advnets.training.ema import EMA
from advnets.training.memory import explain_errors, memory_limit
from advnets.training.selection import best_step
from advnets.training.step import TrainState
from advnets.training.trainer import Hooks, Problem, Trainer

GRID_IMAGES, PLOT_POINTS = 100, 2500
"""The number of samples in a grid of images, and in a plot of points."""


@dataclass(frozen=True)
class TrainResult:
    """The end of a training."""

    run: Path
    complete: bool
    signal: int | None
    step: int
    problem: Problem | None = None
    """Why the last state of a complete training is not usable; None: it passes the checks."""
    warnings: tuple[str, ...] = ()
    ended_early: str = ""
    """Why the training ended before its last step; "": it did not."""
    best_step: int | None = None
    """The step of the best checkpoint that is kept; None: none is."""
    score: str = "parzen"
    """The main metric of the data; "" for data without test images."""

    def __repr__(self) -> str:
        state = f"stopped by signal {self.signal}" if self.signal else self.problem or "complete"
        return f"TrainResult({str(self.run)!r}, step={self.step:,}, {state})"


def train(
    run_config: config.Config,
    out: Path,
    callbacks: Sequence[Callback] = (),
    *,
    resume: bool = False,
    trust_code: bool = False,
    dataset: Dataset | None = None,
) -> TrainResult:
    """Train as a config specifies, and write everything to the run directory `out`.

    With `resume`, continue from the newest checkpoint, bit-exactly; `run_config` must be the stored
    one, except for the length, intervals and runtime. With another device, precision or number of
    threads the run is marked as no longer bit-exact from there on. A custom game runs the code of
    its file, which needs `trust_code`. `dataset` is the data itself, where it is in memory.

    Raises:
        RunError: the directory already holds a run, has none to resume, or is in use; the file of
            the game is not trusted or has changed.
        StoppedBySignal: a signal arrived before anything could be saved.
        ConfigDiffersError: the run was started with another config.
        DataError: the data is missing or invalid, or has changed since the run started.
        DivergedError: NaN or infinite values occurred for the third time.
        OutOfMemoryError: the training needs more memory than there is.
        CallbackError: a callback raised an exception; the training was saved before it stopped.
    """
    # Check the values of a new run that need neither data nor the run directory.
    check_trusted(run_config, trust_code=trust_code)
    if not resume:
        if dataset is None:
            check_source(run_config.data.source)
        selection(run_config.intervals)
        eval_metric(run_config.intervals)
        setup.gradient_function(devices.resolve(run_config.runtime), run_config.stage.game)

    run = RunDirectory(out)
    with run.lock(), devices.catch_stop_signals() as interruption:
        if run.exists and not resume:
            raise RunError(
                f"{out} already holds a run; add --resume to continue it, or give another --out"
            )
        session = (_resume_session if resume else _start_session)(run, run_config, dataset)
        session.trust_code = trust_code
        try:
            with explain_errors(SMALLER):
                listed = CallbackList(callbacks)
                return _run_session(run, session, interruption, listed, resume=resume)
        except DivergedError:
            run.append_event({"kind": "end", "step": session.step, "reason": "diverged"})
            raise
        except (Exception, StoppedBySignal):
            if session.step == 0 and not resume:
                run.remove_unstarted()  # so that the name can be used again
            raise


def _run_session(
    run: RunDirectory,
    session: Session,
    interruption: devices.StopRequest,
    callbacks: CallbackList,
    *,
    resume: bool,
) -> TrainResult:
    """Train what is left of a run, and log its start and end as events."""
    device = devices.setup_process(session.config.runtime)
    callbacks.on_start(run.path, session.config, session.step)
    callbacks.check()

    # Log the start.
    event: dict[str, Any] = {
        "kind": "resume" if resume else "start",
        "time": time.time(),
        "step": session.step,
        "steps": session.steps,
        "device": str(device),
        "precision": session.config.runtime.precision,
        "threads": session.config.runtime.threads,
    }
    if session.changed:
        event["changed"] = session.changed
    if session.repeated:
        event["repeated"] = session.repeated
    event["data"] = data_summary(session.data.dataset, session.config)
    run.append_event(event)
    callbacks.on_event(event)
    if files := {file.name: file.reason for file in session.data.dataset.skipped_files}:
        event = {"kind": "skipped_files", "step": session.step, "files": files}
        run.append_event(event)
        callbacks.on_event(event)

    # Train.
    with memory_limit(device, session.config.runtime.threads):
        complete = _train_stages(run, session, device, interruption, callbacks)

    # Keep what was asked for.
    if complete and session.problem is None and session.config.intervals.weights_only:
        _keep_weights_only(run)

    # Log the end, and write the report.
    event = {"kind": "end", "step": session.step, "reason": "done"}
    if session.ended_early:
        event |= {"reason": "early stop", "detail": session.ended_early}
    if session.problem is not None:
        event |= {"reason": session.problem.reason, "problem": session.problem.detail}
    if not complete:
        event["reason"] = "stopped"
    run.append_event(event)
    callbacks.on_event(event)
    callbacks.on_end(session.step, event["reason"])
    callbacks.check()
    return TrainResult(
        run=run.path,
        complete=complete,
        signal=None if complete else interruption.signal and int(interruption.signal),
        step=session.step,
        problem=session.problem,
        warnings=write_report(run.path).warnings,
        ended_early=session.ended_early,
        best_step=best_step(run.events(), run.checkpoints_by_step()),
        score=default_metric(session.data),
    )


def _keep_weights_only(run: RunDirectory) -> None:
    """Replace the checkpoints of a run by their weights; the newest last, as it can be resumed."""
    for path in run.checkpoint_files():
        with suppress(UnusableCheckpointError):  # it stays as it is
            write_checkpoint(path, weights_only(read_checkpoint(path)))


@dataclass
class Session:
    """The part of a run that one process trains."""

    config: config.Config
    data: PreparedData
    stage: int
    identity: str
    restore: Checkpoint | None = None
    step: int = 0
    trust_code: bool = False
    changed: Mapping[str, tuple[object, object]] = field(default_factory=dict[str, Any])
    """The fields of the runtime that differ from the stored run: the stored and the new value."""
    repeated: int = 0
    """The number of steps after `step` that were logged before, and are trained again."""
    problem: Problem | None = None
    """Why the last state of the last stage is not usable."""
    ended_early: str = ""
    """Why the last stage ended before its last step; "": it did not."""

    @property
    def steps(self) -> int:
        """The number of steps of the whole run."""
        return self.config.steps_before(len(self.config.stages))


def _start_session(
    run: RunDirectory, run_config: config.Config, dataset: Dataset | None
) -> Session:
    """Start a run: open its data, resolve its config, and write both to config.json."""
    resolved_runtime = devices.resolve(run_config.runtime)
    run_config = setup.with_pretrained(setup.with_absolute_paths(run_config))
    if Path(run_config.data.source).resolve() == run.path.resolve():
        raise UsageError(f"{run.path} is the directory of the data; give another --out for the run")
    data = (
        open_training_data(run_config.data)
        if dataset is None
        else prepare(dataset, run_config.data)
    )
    check_eval_metric(run_config.intervals, data)
    resolved = setup.resolve_config(run_config, data.info, resolved_runtime)
    check_memory(resolved, data.info, torch.device(resolved.runtime.device))
    nets = players_of_run(resolved, len(resolved.stages) - 1, data.info)
    session = Session(resolved, data, stage=0, identity=identity(resolved, data.info))
    run.write_config(setup.run_record(resolved, data.info, nets, shlex.join(sys.argv)))
    return session


def _resume_session(
    run: RunDirectory, requested: config.Config, dataset: Dataset | None
) -> Session:
    """Continue a run from its newest checkpoint."""
    stored = StoredRun.read(run.path)

    # Resolve the config: the stored one, with the requested length, intervals and runtime.
    merged = _merge_configs(stored.config, requested, run.path)
    if merged.runtime.device == stored.config.runtime.device:
        _require_device(merged.runtime, run.path)
    merged = replace(merged, runtime=devices.resolve(merged.runtime))
    data = open_run_data(run.path, merged.data, stored.info, dataset)
    check_eval_metric(merged.intervals, data)
    merged = setup.resolve_config(merged, data.info, merged.runtime)
    stored.players(len(merged.stages) - 1)  # refuses networks that cannot be built
    check_memory(merged, data.info, torch.device(merged.runtime.device))

    # Find the newest usable checkpoint; there is none if the run was killed before its first one.
    session, unusable = Session(merged, data, stage=0, identity=stored.identity), ()
    if run.checkpoint_files():
        newest = stored.newest_checkpoint()
        metadata, unusable = newest.checkpoint.metadata, newest.unusable
        if metadata.get(WEIGHTS_ONLY):
            raise RunError(
                f"{newest.path} holds weights only, without what training needs; start a new run "
                f"from them with --init-from {run.path}"
            )
        session.stage, session.step = metadata["stage"], metadata["step"]
        session.restore = newest.checkpoint
    if session.step > session.steps:
        raise UsageError(
            f"{run.path} is at step {session.step:,}, but {session.steps:,} steps were requested; "
            "give more --steps or --epochs"
        )
    for path in unusable:
        run.quarantine_checkpoint(path)

    # Record the config, and from where on the run is not bit-exact.
    record, before = {**stored.record, "config": to_json(merged)}, stored.config.runtime
    if session.step < session.steps:
        old, new = asdict(before), asdict(merged.runtime)
        session.changed = {name: (old[name], new[name]) for name in new if old[name] != new[name]}
    if session.changed:
        record.setdefault("bit_exact_until_step", session.step)
    else:
        record["config"]["runtime"] = to_json(before)
    run.write_config(record)
    repeated = run.truncate_events(session.step)
    session.repeated = min(repeated, session.steps - session.step)
    return session


def _require_device(runtime: config.Runtime, path: Path) -> None:
    """Refuse to continue if the device that a run was trained on is not available.

    Raises:
        UsageError: it is not; the message says how to continue without it.
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
    # A runtime value that is not given stays as stored.
    old, new = stored.runtime, requested.runtime
    device = old.device if new.device == "auto" else new.device
    requested = replace(
        requested,
        runtime=replace(
            new,
            device=device,
            precision=old.precision if new.precision == "auto" else new.precision,
            threads=new.threads or old.threads,
            # Other devices have no CUDA graph; the computation is the same without it.
            cuda_graph=new.cuda_graph and (device == old.device or device.startswith("cuda")),
        ),
    )

    # The locations of data and of a game's file may change: their digests are compared.
    stored, requested = setup.with_absolute_paths(stored), setup.with_absolute_paths(requested)
    requested = _with_schedule_steps_of(stored, requested)
    stored = update_game_paths(stored, custom_games(requested))
    merged = replace(
        stored.with_stage(
            replace(stored.stage, steps=requested.stage.steps, epochs=requested.stage.epochs)
        ),
        intervals=requested.intervals,
        runtime=requested.runtime,
        data=replace(stored.data, source=requested.data.source, directory=requested.data.directory),
    )
    if others := differences(merged, requested):
        raise ConfigDiffersError(
            f"{path} was started with another config (stored, requested): {'; '.join(others)}; "
            "resume without these options, or start a new run with another --out"
        )
    return merged


def _with_schedule_steps_of(stored: config.Config, requested: config.Config) -> config.Config:
    """Return the requested config with the stored lengths of schedules, where it has none."""
    steps = {number: stage.schedule_steps for number, stage in enumerate(stored.stages)}
    stages = tuple(
        replace(stage, schedule_steps=stage.schedule_steps or steps.get(number))
        for number, stage in enumerate(requested.stages)
    )
    return replace(requested, stages=stages)


def _train_stages(
    run: RunDirectory,
    session: Session,
    device: torch.device,
    interruption: devices.StopRequest,
    callbacks: CallbackList,
) -> bool:
    """Train the remaining stages; return whether the run is complete."""
    complete, previous = True, None
    hooks = _make_hooks(run, session, device, callbacks)
    for number in range(session.stage, len(session.config.stages)):
        # Build the stage; its generator may start from a trained one.
        state = setup.make_train_state(
            session.config, session.data, number, device, trust_code=session.trust_code
        )
        generator = state.players["generator"]
        if session.restore is None:
            _load_trained_weights(generator, session.config.stages[number], previous)
        trainer = _make_trainer(run, session, number, state, hooks, interruption)
        if session.restore is not None:
            trainer.restore(session.restore)
            session.restore = None

        # Train it.
        try:
            complete = trainer.run()
        finally:
            session.step = trainer.step
            session.ended_early = str(trainer.selection) if trainer.ends_early else ""
        if not complete:
            break
        session.problem = trainer.problem()
        previous = generator
    return complete


def _load_trained_weights(
    generator: nn.Module, stage: config.Stage, previous: nn.Module | None
) -> None:
    """Load the previous stage's weights into the top of a generator, or those of another run."""
    top = getattr(generator, "top", None)
    if previous is not None and isinstance(top, nn.Module):
        top.load_state_dict(previous.state_dict())
    elif previous is None and (pretrained := setup.pretrained_generator(stage)) is not None:
        generator.load_state_dict(pretrained.state_dict())


def _make_trainer(
    run: RunDirectory,
    session: Session,
    number: int,
    state: TrainState,
    hooks: Hooks,
    interruption: devices.StopRequest,
) -> Trainer:
    """Return the trainer of a stage, with EMAs that start at the players' weights."""
    run_config = session.config
    stage, batch_size = run_config.stages[number], run_config.data.batch_size
    emas = {
        name: EMA(state.players[name], stage.ema_half_life, batch_size, stage.ema_rampup)
        for name in stage.ema_players
    }
    return Trainer(
        state=state,
        directory=run,
        intervals=run_config.intervals,
        steps=stage.steps or 0,
        hooks=hooks,
        stop_request=interruption,
        emas=emas,
        stage=number,
        steps_before=run_config.steps_before(number),
        batch_size=batch_size,
        selection=selection(run_config.intervals),
        loss_limit=stage.game.loss_limit(math.prod(session.data.info.shape)),
        identity=session.identity,
    )


def _make_hooks(
    run: RunDirectory, session: Session, device: torch.device, callbacks: CallbackList
) -> Hooks:
    """Return the functions of the trainer that save samples and evaluate, and its callbacks."""
    data, seed = session.data, session.config.seed
    settings = ComputeSettings.from_runtime(session.config.runtime, device)
    conditional = session.config.stage.game.conditional
    classes = data.info.class_proportions().present if conditional else torch.arange(0)
    columns = classes[grid_classes(len(classes))]

    def save_samples(generator: nn.Module, step: int) -> None:
        n = PLOT_POINTS if data.normalizer.for_points else GRID_IMAGES
        labels = columns[torch.arange(n) % len(columns)] if conditional else None
        samples = draw_samples(generator, data.normalizer, n, seed, settings, labels)
        save_grid(render(samples, data.dataset.test), run.sample_file(step))

    def render(samples: Tensor, real: Split | None) -> Image.Image:
        if not data.normalizer.for_points:
            return grid(samples, columns=len(columns) or None)
        return points_image(samples, None if real is None else real.read(slice(PLOT_POINTS)))

    def evaluate(generator: nn.Module) -> Mapping[str, Any]:
        return evaluate_during_training(generator, data, session.config, settings)

    return Hooks(callbacks, save_samples, evaluate)
