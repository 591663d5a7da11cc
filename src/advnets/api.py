"""The function `advnets.train`, the Python interface of `advnets train`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from advnets import presets
from advnets.cli.console import Console, say_number
from advnets.config import Config, Data
from advnets.errors import DivergedWarning, suggest_keywords
from advnets.experiment.train import train as train_run
from advnets.experiment.trained_model import TrainedModel, load
from advnets.files import check_output
from advnets.presets.resume import new_out, newest_out, resumed_config
from advnets.run_directory import RunDirectory
from advnets.trackers import tracker
from advnets.training.callback import Callback


@suggest_keywords
def train(
    preset: str | Config | None = None,
    *,
    data: str | Data | None = None,
    data_dir: str | None = None,
    out: str | Path | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
    resume: bool = False,
    trust_code: bool = False,
    callbacks: Sequence[Callback | str] = (),
    progress: bool = True,
) -> TrainedModel:
    """Train a GAN and return the trained model.

    An argument that is None keeps the value of the preset, or with `resume` that of the run. A
    training that is interrupted is saved, and the model of its last checkpoint is returned.

    Args:
        preset: the name of a preset, FILE.py:NAME of a custom game, or a config; None: digits.
        data: a named dataset, the path of your own data, or a data config.
        data_dir: the directory of named datasets.
        out: the run directory; None: runs/NAME, with the name of the preset or of your data, and
            NAME-2, NAME-3, … where these hold runs; with `resume` the newest of them.
        epochs: length of the training in passes over the training images.
        steps: length of the training in steps.
        lr: learning rate of both players.
        seed: random seed.
        device: auto, cpu, cuda, cuda:N or mps.
        precision: precision of matrix products.
        resume: continue the run in `out` from its newest checkpoint.
        trust_code: run the Python file that a config or a run names as its game. Without it, code
            runs only from a FILE.py:NAME given as `preset`.
        callbacks: observers of the training, or names of trackers: "tensorboard", "wandb",
            "mlflow", "trackio".
        progress: print a progress bar, or a line per log interval where stderr is no terminal.

    Raises:
        AdvnetsError: with the message that the command line would print.

    Warns:
        DivergedWarning: the training ended in a state that is not usable.
    """
    path = Path(out) if out is not None else None

    # Start from the given config, the stored run, or the preset.
    if isinstance(preset, Config):
        config = preset
    elif resume:
        config = resumed_config(path, preset, data.source if isinstance(data, Data) else data)
    else:
        config = presets.starting_config(preset or presets.DEFAULT)

    # Apply the arguments.
    source = config.data if data is None else data
    if isinstance(source, str):
        source = replace(config.data, source=source)
    if data_dir is not None:
        source = replace(source, directory=data_dir)
    runtime = replace(
        config.runtime,
        device=config.runtime.device if device is None else device,
        precision=config.runtime.precision if precision is None else precision,
    )
    stage = config.stage.with_length(epochs, steps)
    config = config.override(data=source, stage=stage, lr=lr, runtime=runtime, seed=seed)

    # Check the output before any work, then train.
    name = preset if isinstance(preset, str) else None
    if path is None:
        path = newest_out(config, name) if resume else new_out(config, name)
        if progress and not resume:
            say_number(path, presets.default_out(config, name))
    trusted = trust_code or (name is not None and presets.is_game_spec(name))
    if not (resume and RunDirectory(path).exists):
        check_output(path, "out", folder=True)
    observers = [tracker(item) if isinstance(item, str) else item for item in callbacks]
    console = Console(config.images_per_step)
    if progress:
        observers.insert(0, console)
    try:
        result = train_run(config, path, observers, resume=resume, trust_code=trusted)
    finally:
        console.close()

    for warning in result.warnings:
        console.line(f"advnets: {warning}")
    if result.problem is not None:
        warnings.warn(str(result.problem), DivergedWarning, stacklevel=3)
    return load(path)
