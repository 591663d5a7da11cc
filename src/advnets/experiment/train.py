"""Train a run: from a config to a run directory, or on from where one stopped."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from advnets import config
from advnets.config.serialize import differences, to_json
from advnets.data.dataset import Split
from advnets.data.prepared import PreparedData, open_run_data, open_training_data
from advnets.errors import (
    ConfigDiffersError,
    DivergedError,
    RunError,
    StoppedBySignal,
    UsageError,
)
from advnets.evaluation.modes import default_metric
from advnets.evaluation.training_eval import check_eval_metric, evaluate_during_training
from advnets.experiment import setup
from advnets.experiment.dry_run import data_summary
from advnets.experiment.memory_estimate import SMALLER, check_memory
from advnets.experiment.pretrained import pretrained_generator, with_absolute_paths, with_pretrained
from advnets.experiment.stored_run import StoredRun, identity, players_of_run
from advnets.games.custom import check_trusted, custom_games, with_files_of
from advnets.plots.image_grid import grid, save_grid
from advnets.plots.points import points_image
from advnets.report.run_report import write_report
from advnets.run_directory import RunDirectory
from advnets.sampling.sampler import ComputeSettings, draw_samples, grid_classes
from advnets.training import devices
from advnets.training.checkpoint import Checkpoint
from advnets.training.ema import EMA
from advnets.training.final_state import Problem
from advnets.training.memory import explained, memory_limit
from advnets.training.step import TrainState
from advnets.training.trainer import Callback, Callbacks, Trainer

GRID, POINTS = 100, 2500
"""Samples in a grid of images, and in one of points."""


@dataclass(frozen=True)
class TrainResult:
    """How a training ended."""

    run: Path
    complete: bool
    signal: int | None
    step: int
    problem: Problem | None = None
    """Why the last state of a complete training is not usable; None: it is within plain bounds."""
    warnings: tuple[str, ...] = ()
    score: str = "parzen"
    """The metric to look at first; "" where the data has none held out."""


def train(
    run_config: config.Config,
    out: Path,
    callback: Callback,
    *,
    resume: bool = False,
    trust_code: bool = False,
) -> TrainResult:
    """Train as the config says and leave everything in the run directory `out`.

    With `resume`, go on from the newest checkpoint to the bit; `run_config` must be the stored
    one, save that steps, ticks and runtime may differ. With another device, precision or number of
    threads the run is marked as no longer bit-exact from there on. A game in a file of Python runs
    that file's code, which `trust_code` allows.

    Raises:
        RunError: the directory holds a run already, none to resume, or is in use; the game is a
            file's, whose code is not trusted or has changed.
        StoppedBySignal: a signal came before there was anything to save.
        ConfigDiffersError: resumed with another config.
        DataError: the data is absent or wrong, or has changed since the run began.
        DivergedError: numbers that are not finite were met for the third time.
        OutOfMemoryError: the training needs more memory than there is.
    """
    check_trusted(run_config, trust_code=trust_code)
    run = RunDirectory(out)
    with run.lock(), devices.interruptible() as interruption:
        if run.exists and not resume:
            raise RunError(
                f"{out} holds a run already; add --resume to go on, or give another --out"
            )
        session = _resumed(run, run_config) if resume else _begun(run, run_config)
        session.trust_code = trust_code
        try:
            with explained(SMALLER):
                return _play(run, session, interruption, callback, resume=resume)
        except DivergedError:
            run.append_event({"kind": "end", "step": session.step, "reason": "diverged"})
            raise
        except (Exception, StoppedBySignal):
            if session.step == 0 and not resume:
                run.remove_unstarted()  # a start that failed does not block its name
            raise


def _play(
    run: RunDirectory,
    session: Session,
    interruption: devices.Interruption,
    watcher: Callback,
    *,
    resume: bool,
) -> TrainResult:
    """Play what is left of a run, and write down how it began and ended."""
    device = devices.setup_process(session.config.runtime)
    opening = {"kind": "resume" if resume else "start", "time": time.time()}
    chosen: dict[str, Any] = {
        "device": str(device),
        "precision": session.config.runtime.precision,
        "threads": session.config.runtime.threads,
    }
    if session.changed:
        chosen["changed"] = session.changed
    summary = data_summary(session.data.dataset, session.config.stages[-1].game)
    facts = {"step": session.step, "steps": session.steps, **chosen, "data": summary}
    run.append_event(opening | facts)
    watcher.on_event(opening | facts)
    if files := {file.name: file.reason for file in session.data.dataset.skipped_files}:
        left_out = {"kind": "skipped_files", "step": session.step, "files": files}
        run.append_event(left_out)
        watcher.on_event(left_out)
    with memory_limit(device, session.config.runtime.threads):
        complete = _play_stages(run, session, device, interruption, watcher)
    ending = TrainResult(
        run.path,
        complete,
        None if complete else interruption.signal and int(interruption.signal),
        session.step,
        session.problem,
        score=default_metric(session.data),
    )
    event = {"kind": "end", "step": session.step, "reason": "done"}
    if ending.problem is not None:
        event |= {"reason": ending.problem.reason, "problem": ending.problem.detail}
    run.append_event(event if complete else event | {"reason": "stopped"})
    return replace(ending, warnings=write_report(run.path).warnings)


@dataclass
class Session:
    """One process's part in a run."""

    config: config.Config
    data: PreparedData
    stage: int
    identity: str
    restore: Checkpoint | None = None
    step: int = 0
    trust_code: bool = False
    changed: Mapping[str, tuple[object, object]] = field(default_factory=dict[str, Any])
    """Fields of the runtime that differ from the stored ones: from what, to what."""
    problem: Problem | None = None
    """Why the last state of the last stage is not usable."""

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.config.steps_before(len(self.config.stages))


def _begun(run: RunDirectory, run_config: config.Config) -> Session:
    """Begin a run: open its data, resolve its config, write both down."""
    resolved_runtime = devices.resolve(run_config.runtime)
    run_config = with_pretrained(with_absolute_paths(run_config))
    if Path(run_config.data.source).resolve() == run.path.resolve():
        raise UsageError(f"{run.path} holds the data; give another --out for the run")
    data = open_training_data(run_config.data)
    check_eval_metric(run_config.intervals, data)
    resolved = setup.resolve_config(run_config, data.info, resolved_runtime)
    check_memory(resolved, data.info, torch.device(resolved.runtime.device))
    nets = players_of_run(resolved, len(resolved.stages) - 1, data.info)
    session = Session(resolved, data, stage=0, identity=identity(resolved, data.info))
    run.write_config(setup.run_record(resolved, data.info, nets, shlex.join(sys.argv)))
    return session


def _resumed(run: RunDirectory, asked: config.Config) -> Session:
    """Take up a run where its newest checkpoint left it."""
    stored = StoredRun.read(run.path)
    facts = stored.info
    agreed = _agreed(stored.config, asked, run.path)
    if agreed.runtime.device == stored.config.runtime.device:
        _require_device(agreed.runtime, run.path)
    agreed = replace(agreed, runtime=devices.resolve(agreed.runtime))
    data = open_run_data(run.path, agreed.data, facts)
    check_eval_metric(agreed.intervals, data)
    agreed = setup.resolve_config(agreed, data.info, agreed.runtime)
    stored.players(len(agreed.stages) - 1)  # what cannot be built is refused here
    check_memory(agreed, data.info, torch.device(agreed.runtime.device))
    session, unusable = Session(agreed, data, stage=0, identity=stored.identity), ()
    if run.checkpoint_files():  # none where a run was killed before its first save
        newest = stored.newest_checkpoint()
        session, unusable = _at_checkpoint(session, newest.checkpoint), newest.unusable
    if session.step > session.steps:
        raise UsageError(
            f"{run.path} has played {session.step:,} steps already and {session.steps:,} were "
            "asked for; ask for more"
        )
    for path in unusable:
        run.quarantine_checkpoint(path)
    record, before = {**stored.record, "config": to_json(agreed)}, stored.config.runtime
    if session.step < session.steps:
        session.changed = _changed(before, agreed.runtime)
    if session.changed:
        record.setdefault("bit_exact_until_step", session.step)
    else:
        record["config"]["runtime"] = to_json(before)  # nothing is computed otherwise
    run.write_config(record)
    run.truncate_events(session.step)
    return session


def _require_device(chosen: config.Runtime, path: Path) -> None:
    """Refuse to go on where the device that a run was trained on is absent.

    Raises:
        UsageError: it is; the message says how to go on without it.
    """
    try:
        devices.resolve(chosen)
    except UsageError:
        here = devices.resolve(config.Runtime()).device
        raise UsageError(
            f"{path} was trained on {chosen.device}, which this machine lacks; say --device {here} "
            "to go on here, from where it is no longer bit-exact"
        ) from None


def _changed(stored: config.Runtime, chosen: config.Runtime) -> dict[str, tuple[object, object]]:
    """Return the fields in which the runtime differs from the stored one: from what, to what."""
    before, now = asdict(stored), asdict(chosen)
    return {name: (before[name], now[name]) for name in now if before[name] != now[name]}


def _at_checkpoint(session: Session, checkpoint: Checkpoint) -> Session:
    """The session that begins where a checkpoint stands."""
    stage, step = checkpoint.metadata["stage"], checkpoint.metadata["step"]
    return replace(session, stage=stage, restore=checkpoint, step=step)


def _agreed(stored: config.Config, asked: config.Config, path: Path) -> config.Config:
    """The stored config, with the asked one's steps, epochs, ticks and runtime, which may differ.

    Schedules stay as they were counted out: a run that is made longer goes on at their ends.

    Raises:
        ConfigDiffersError: anything else differs.
    """
    chosen, wanted = stored.runtime, asked.runtime
    device = chosen.device if wanted.device == "auto" else wanted.device
    asked = replace(
        asked,
        runtime=replace(
            wanted,
            device=device,
            precision=chosen.precision if wanted.precision == "auto" else wanted.precision,
            threads=wanted.threads or chosen.threads,
            # On another device there is no graph to record; what is computed stays the same.
            cuda_graph=wanted.cuda_graph and (device == chosen.device or device.startswith("cuda")),
        ),
    )
    stored, asked = with_absolute_paths(stored), with_absolute_paths(asked)
    asked = _counted_as(stored, asked)
    # Where a game's file lies is not what it is: its digest decides, and the asked one is run.
    stored = with_files_of(stored, custom_games(asked))
    agreed = replace(
        stored.with_stage(
            replace(stored.stage, steps=asked.stage.steps, epochs=asked.stage.epochs)
        ),
        intervals=asked.intervals,
        runtime=asked.runtime,
        # Where the data lies is not what it is: the digest decides.
        data=replace(stored.data, source=asked.data.source, directory=asked.data.directory),
    )
    if others := differences(agreed, asked):
        raise ConfigDiffersError(
            f"{path} was begun with another config (stored, asked): {'; '.join(others)}; "
            "resume without these flags, or begin a new run with another --out"
        )
    return agreed


def _counted_as(stored: config.Config, asked: config.Config) -> config.Config:
    """A config that was not counted out yet, with the rounds that the stored one was."""
    counted = {number: stage.schedule_steps for number, stage in enumerate(stored.stages)}
    stages = tuple(
        replace(stage, schedule_steps=stage.schedule_steps or counted.get(number))
        for number, stage in enumerate(asked.stages)
    )
    return replace(asked, stages=stages)


def _play_stages(
    run: RunDirectory,
    session: Session,
    device: torch.device,
    interruption: devices.Interruption,
    watcher: Callback,
) -> bool:
    """Play the stages that are left; say whether the run is complete."""
    complete, trained, hooks = True, None, _hooks(run, session, device, watcher)
    for number in range(session.stage, len(session.config.stages)):
        state = setup.make_train_state(
            session.config, session.data, number, device, trust_code=session.trust_code
        )
        generator = state.players["generator"]
        if session.restore is None:
            _begin(generator, session.config.stages[number], trained)
        loop = _loop(run, session, number, state, hooks, interruption)
        if session.restore is not None:
            loop.restore(session.restore)
            session.restore = None
        try:
            complete = loop.run()
        finally:
            session.step = loop.step
        if not complete:
            break
        session.problem = loop.problem()
        trained = generator
    return complete


def _begin(generator: nn.Module, stage: config.Stage, trained: nn.Module | None) -> None:
    """Put in what is trained already: the stage before's as the new one's top, or a fixed one."""
    top = getattr(generator, "top", None)
    if trained is not None and isinstance(top, nn.Module):
        top.load_state_dict(trained.state_dict())
    elif trained is None and (begun := pretrained_generator(stage)) is not None:
        generator.load_state_dict(begun.state_dict())


def _loop(
    run: RunDirectory,
    session: Session,
    number: int,
    state: TrainState,
    hooks: Callbacks,
    interruption: devices.Interruption,
) -> Trainer:
    """The loop around one stage's table; weight averages begin where the players stand."""
    run_config = session.config
    stage, batch_size = run_config.stages[number], run_config.data.batch_size
    averages = {
        name: EMA(state.players[name], stage.ema_half_life, batch_size, stage.ema_rampup)
        for name in stage.ema_players
    }
    return Trainer(
        state=state,
        directory=run,
        intervals=run_config.intervals,
        steps=stage.steps or 0,
        callbacks=hooks,
        interruption=interruption,
        emas=averages,
        stage=number,
        steps_before=run_config.steps_before(number),
        batch_size=batch_size,
        loss_limit=stage.game.loss_limit(math.prod(session.data.info.shape)),
        identity=session.identity,
    )


def _hooks(
    run: RunDirectory, session: Session, device: torch.device, watcher: Callback
) -> Callbacks:
    """What the loop calls: images and scores are none of its business."""
    data, seed = session.data, session.config.seed
    drawing = ComputeSettings.of(session.config.runtime, device)
    conditional = session.config.stage.game.conditional
    classes = data.info.class_proportions().present if conditional else torch.arange(0)
    columns = classes[grid_classes(len(classes))]

    def samples(generator: nn.Module, step: int) -> None:
        n = POINTS if data.normalizer.for_points else GRID
        told = columns[torch.arange(n) % len(columns)] if conditional else None
        drawn = draw_samples(generator, data.normalizer, n, seed, drawing, told)
        save_grid(sheet(drawn, data.dataset.test), run.sample_file(step))

    def sheet(drawn: Tensor, real: Split | None) -> Image.Image:
        if not data.normalizer.for_points:
            return grid(drawn, columns=len(columns) or None)
        return points_image(drawn, None if real is None else real.read(slice(POINTS)))

    def evaluate(generator: nn.Module) -> Mapping[str, Any]:
        return evaluate_during_training(generator, data, session.config, drawing)

    return Callbacks(callback=watcher, save_samples=samples, evaluate=evaluate)
