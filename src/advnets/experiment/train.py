"""The training of a run, from a config to a run directory."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from advnets import config
from advnets.custom_code import custom_code_error
from advnets.data.dataset import (
    Dataset,
    Split,
    count_distinct_images,
    few_images_warning,
    num_train_images,
)
from advnets.data.spec import check_source
from advnets.distributed import (
    all_succeed,
    broadcast_object,
    is_connection_error,
    is_main,
    process_group,
    receive_object,
    world_size,
)
from advnets.errors import (
    CustomCodeError,
    DivergedError,
    RunError,
    StoppedBySignal,
    UnusableCheckpointError,
)
from advnets.evaluation.modes import default_metric
from advnets.evaluation.training_eval import (
    TrainingEvaluator,
    check_keep_best,
    eval_metric,
    selection,
)
from advnets.experiment import setup
from advnets.experiment.memory_estimate import memory_advice
from advnets.experiment.session import (
    Session,
    WorkerSession,
    branch_session,
    resume_session,
    start_session,
)
from advnets.experiment.trained_model import Step
from advnets.games.custom import check_trusted
from advnets.models.custom import load_custom_models
from advnets.plots.image_grid import grid, save_grid
from advnets.plots.points import points_image
from advnets.report.run_report import write_report
from advnets.run_directory import RunDirectory
from advnets.sampling.sampler import ComputeSettings, draw_samples, grid_classes
from advnets.training import devices
from advnets.training.callback import Callback, CallbackList
from advnets.training.checkpoint import (
    read_checkpoint,
    weights_only,
    write_checkpoint,
)
from advnets.training.ema import EMA
from advnets.training.memory import explain_errors, memory_limit
from advnets.training.optimizers import is_frozen
from advnets.training.selection import best_step
from advnets.training.step import TrainState
from advnets.training.trainer import Hooks, Problem, Trainer

GRID_IMAGES, PLOT_POINTS = 100, 2500
"""The number of samples in a grid of images, and in a plot of points."""


@dataclass(frozen=True)
class TrainResult:
    """The result of a training, complete or not."""

    run: Path
    complete: bool
    """Whether the last stage reached its end."""
    signal: int | None
    """The signal that stopped the training, if one did."""
    step: int
    problem: Problem | None = None
    """Why the last state of a complete training is not usable; None: it passes the checks."""
    warnings: tuple[str, ...] = ()
    ended_early: str = ""
    """Why the training ended before its last step; "": it reached it."""
    best_step: int | None = None
    """The step of the best checkpoint; None: none was kept as the best."""
    default_metric: str = "parzen"
    """The most informative metric for the data; "" for data without test images."""
    eval_seconds: float = 0.0
    """The time of the evaluations, in seconds."""
    trust_to_load: bool = False
    """Whether Python files define its networks, so that commands on the run need --trust-code."""
    trust_to_resume: bool = False
    """Whether Python files define its game or networks, so that resuming needs --trust-code."""

    def __repr__(self) -> str:
        state = f"stopped by signal {self.signal}" if self.signal else self.problem or "complete"
        return f"TrainResult({str(self.run)!r}, step={self.step:,}, {state})"


def train(
    run_config: config.Config,
    out: Path,
    callbacks: Sequence[Callback] = (),
    *,
    resume: bool = False,
    branch: Path | None = None,
    step: Step | None = None,
    trust_code: bool = False,
    dataset: Dataset | None = None,
) -> TrainResult:
    """Train as a config specifies, and write everything to the run directory `out`.

    With `resume`, continue from the newest checkpoint, bit-exactly; `run_config` must be the stored
    one, except for the length, intervals and runtime. With another device, precision or number of
    threads, the run is marked as not bit-exact from that step on. With `branch`, continue from the
    checkpoint of `step` (None: the newest) in the new run directory `branch` instead, with a config
    that may differ. A custom game runs the code of its file, which needs `trust_code`; custom
    models must be registered before (`load_custom_models`). `dataset` is the data itself if it is
    in memory.

    Raises:
        RunError: the directory already holds a run, has none to resume, or is in use; the file of
            the game is not trusted or has changed.
        StoppedBySignal: a signal arrived before anything could be saved.
        ConfigDiffersError: the run was started with another config.
        DataError: the data is missing or invalid, or has changed since the run started.
        DivergedError: NaN or infinite values occurred for the third time.
        OutOfMemoryError: the training needs more memory than there is.
        CallbackError: a callback raised an exception; the training was saved before it stopped.
        CustomCodeError: a game, model or metric of the user raised one.
    """
    with process_group():
        if not is_main():
            return train_worker(dataset)
        return _train(
            run_config,
            out,
            CallbackList(callbacks),
            resume=resume,
            branch=branch,
            step=step,
            trust_code=trust_code,
            dataset=dataset,
        )


def _train(
    run_config: config.Config,
    out: Path,
    callbacks: CallbackList,
    *,
    resume: bool,
    branch: Path | None,
    step: Step | None,
    trust_code: bool,
    dataset: Dataset | None,
) -> TrainResult:
    """Train as `train` does, in the process of rank 0."""
    # Check the values of a new run that need neither data nor the run directory.
    check_trusted(run_config, trust_code=trust_code)
    load_custom_models(run_config, trust_code=False)
    if not resume:
        if dataset is None:
            check_source(run_config.data.source)
        intervals = run_config.intervals
        check_keep_best(intervals)
        if intervals.eval_every is not None or intervals.eval_metric is not None:
            selection(intervals)
            eval_metric(intervals)
        setup.gradient_function(devices.resolve(run_config.runtime), run_config.stage)
        # Run the code of the run whose generator the game uses.
        setup.with_pretrained_generator(run_config, trust_code=trust_code)

    # Open the run, then train; remove what was written of a run that fails before its first step.
    run = RunDirectory(out if branch is None else branch)
    with run.lock(), devices.catch_stop_signals() as interruption:
        if run.exists and (branch is not None or not resume):
            raise RunError(
                f"{run.path} already holds a run; add --resume to continue it, or give another "
                f"--{'out' if branch is None else 'branch'}"
            )
        if not run.exists:
            run.begin()
        if branch is not None:
            session = branch_session(run, run_config, out, step, dataset)
        else:
            session = (resume_session if resume else start_session)(run, run_config, dataset)
        session.trust_code, first_step = trust_code, session.step
        try:
            broadcast_object((run.path, session.for_workers()))
            with all_succeed():
                pass  # the other processes open the data
            with explain_errors(memory_advice(session.config)):
                resumed = resume and branch is None
                return _run_session(run, session, interruption, callbacks, resume=resumed)
        except DivergedError:
            run.append_event({"kind": "end", "step": session.step, "reason": "diverged"})
            raise
        except (Exception, StoppedBySignal) as error:
            if session.step == first_step and (branch is not None or not resume):
                run.remove_unstarted()  # so that the name can be used again
            if not is_connection_error(error) and (custom := custom_code_error(error)):
                steps = list(run.checkpoints_by_step())
                saved = f"is saved up to step {steps[-1]:,}" if steps else "had not begun"
                raise CustomCodeError(f"{custom}; correct it: the training {saved}") from error
            raise


def train_worker(dataset: Dataset | None = None) -> TrainResult:
    """Train in a process of another rank than 0, as that process says; write nothing.

    `dataset` is the data itself if it is in memory. The Python files that the command of rank 0
    names are run in this process too.

    Raises:
        RemoteError: another process has failed or is lost.
        DataError: the data is missing here, at its path on the host of rank 0.
        RunError: the data is not that of rank 0.
    """
    with devices.catch_stop_signals() as interruption:
        path, session = receive_object(tuple[Path, WorkerSession])
        with all_succeed():
            load_custom_models(session.config, trust_code=True)
            opened = session.open(path, dataset)
        device = devices.setup_process(opened.config.runtime)
        with (
            explain_errors(memory_advice(opened.config)),
            memory_limit(device, opened.config.runtime.threads),
        ):
            run = RunDirectory(path)
            complete = _train_stages(run, opened, device, interruption, CallbackList(()))
    return TrainResult(
        run=path,
        complete=complete,
        signal=None if complete else int(interruption.signal or signal.SIGTERM),
        step=opened.step,
        problem=opened.problem,
        ended_early=opened.ended_early,
    )


def _run_session(
    run: RunDirectory,
    session: Session,
    interruption: devices.StopRequest,
    callbacks: CallbackList,
    *,
    resume: bool,
) -> TrainResult:
    """Train the remaining steps of a run, and log its start and end as events."""
    # Set up the process, then call on_start: a failing callback stops the training here.
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
    if world_size() > 1:
        event["processes"] = world_size()
    if session.config.branched_from is not None and not resume:
        event["branched_from"] = session.config.branched_from.run
    if session.choices:
        event["choices"] = session.choices
    if session.changed_runtime:
        event["changed"] = session.changed_runtime
    if session.repeated_steps:
        event["repeated"] = session.repeated_steps
    event["parameters"] = run.read_config().get("parameters", {})
    event["data"] = data_summary(session.data.dataset, session.config)
    if session.intervals.eval_every:
        event["evaluation"] = {
            "metric": eval_metric(session.intervals).name,
            "every": session.intervals.eval_every,
        }
    run.append_event(event)
    callbacks.on_event(event)
    if files := {file.name: file.reason for file in session.data.dataset.skipped_files}:
        event = {"kind": "skipped_files", "step": session.step, "files": files}
        run.append_event(event)
        callbacks.on_event(event)

    # Train.
    with memory_limit(device, session.config.runtime.threads):
        complete = _train_stages(run, session, device, interruption, callbacks)

    # Reduce the checkpoints to weights if requested.
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
    custom = [part for part in config.custom_parts(session.config) if ".py:" in part.source]
    return TrainResult(
        run=run.path,
        complete=complete,
        signal=None if complete else int(interruption.signal or signal.SIGTERM),
        step=session.step,
        problem=session.problem,
        warnings=write_report(run.path).warnings,
        ended_early=session.ended_early,
        best_step=best_step(run.events(), run.checkpoints_by_step()),
        default_metric=default_metric(session.data),
        eval_seconds=session.eval_seconds,
        trust_to_load=any(isinstance(part, config.CustomModel) for part in custom),
        trust_to_resume=bool(custom),
    )


def data_summary(dataset: Dataset, run: config.Config) -> dict[str, Any]:
    """Return the sizes of the splits, training images per class, unused files, and warnings.

    `unit` is "images" or "points", `unlabeled` the number of images without labels, and
    `uses_unlabeled` whether the game trains on them.
    """
    train, count, game = dataset.train, num_train_images(dataset.train), run.stage.game
    held_out = {"valid": dataset.valid, "test": dataset.test, "unlabeled": dataset.unlabeled}
    unit = "images" if dataset.distribution is None else "points"
    warnings = [few_images_warning(count_distinct_images(train), count or 0)]
    if count is not None and run.batch_size > count:
        warnings.append(
            f"warning: a batch of {run.batch_size:,} contains the {count:,} training {unit} "
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


def _keep_weights_only(run: RunDirectory) -> None:
    """Reduce the checkpoints of a run to weights, the newest last: until then it can be resumed."""
    for path in run.checkpoint_files():
        with suppress(UnusableCheckpointError):  # it stays as it is
            write_checkpoint(path, weights_only(read_checkpoint(path)))


def _train_stages(
    run: RunDirectory,
    session: Session,
    device: torch.device,
    interruption: devices.StopRequest,
    callbacks: CallbackList,
) -> bool:
    """Train the remaining stages; return whether the run is complete."""
    complete, previous = True, None
    hooks = make_hooks(run, session, device, callbacks)
    for number in range(session.stage, len(session.config.stages)):
        # Build the stage; its generator may start from a trained one.
        state = setup.make_train_state(
            session.config, session.data, number, device, trust_code=session.trust_code
        )
        generator = state.players["generator"]
        if session.checkpoint is None:
            _load_trained_weights(generator, session.config.stages[number], previous)
            if session.config.stages[number].init_from is not None:
                setup.load_initial_weights(state.players, session.config.stages[number])
        trainer = make_trainer(run, session, number, state, hooks, interruption)
        if session.checkpoint is not None:
            trainer.restore(session.checkpoint)
            session.checkpoint = None

        # Train it.
        try:
            complete = trainer.run()
        finally:
            session.step = trainer.step
            session.eval_seconds += trainer.eval_seconds
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


def make_trainer(
    run: RunDirectory,
    session: Session,
    number: int,
    state: TrainState,
    hooks: Hooks,
    interruption: devices.StopRequest,
) -> Trainer:
    """Return the trainer of a stage, with EMAs that start at the players' weights."""
    run_config = session.config
    stage, batch_size = run_config.stages[number], run_config.batch_size
    emas = {
        name: EMA(state.players[name], stage.ema_half_life, batch_size, stage.ema_rampup)
        for name in stage.ema_players
    }
    return Trainer(
        state=state,
        directory=run,
        intervals=session.intervals,
        steps=stage.steps or 0,
        hooks=hooks,
        stop_request=interruption,
        emas=emas,
        stage=number,
        steps_before=run_config.steps_before(number),
        batch_size=batch_size,
        selection=selection(session.intervals),
        frozen=[name for name in state.players if is_frozen(setup.optimizer_config(stage, name))],
        evaluates_all=run_config.intervals.eval_every is not None,
        loss_limit=stage.game.loss_limit(math.prod(session.data.info.shape)),
        identity=session.identity,
    )


def make_hooks(
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
        if is_main():
            save_grid(render(samples, data.dataset.test), run.sample_file(step))

    def render(samples: Tensor, real: Split | None) -> Image.Image:
        if not data.normalizer.for_points:
            return grid(samples, columns=len(columns) or None)
        return points_image(samples, None if real is None else real.read(slice(PLOT_POINTS)))

    evaluate = TrainingEvaluator(data, session.config, session.intervals, settings)
    return Hooks(callbacks, save_samples, evaluate)
