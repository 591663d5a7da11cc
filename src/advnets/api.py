"""The Python face of `advnets train`."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal

from advnets import presets
from advnets.cli.console import Console
from advnets.config import Config, Data
from advnets.errors import DivergedWarning
from advnets.experiment.train import train as train_run
from advnets.experiment.trained_model import TrainedModel, load
from advnets.files import check_output
from advnets.presets.resume import resumed_config
from advnets.run_directory import RunDirectory


def train(
    preset: str | Config | None = None,
    *,
    data: str | Data | None = None,
    data_dir: str | None = None,
    out: str | Path | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
    resume: bool = False,
    trust_code: bool = False,
) -> TrainedModel:
    """Train a preset, a config, or the default preset on the data at a path; load the result.

    What is None is as the preset has it; with `resume`, as the run in `out` has it. A training
    that is interrupted is saved, and what it had learned by then is returned. One that ends in a
    state that is not usable is returned with a `DivergedWarning`. Python code of a file runs only
    from FILE.py:NAME given as `preset`; `trust_code` lets a run's config.json, or a config, name
    one too.

    Raises:
        AdvnetsError: as the command line would say it.
    """
    path = Path(out) if out is not None else None
    if isinstance(preset, Config):
        config = preset
    elif resume:
        config = resumed_config(path, preset, data.source if isinstance(data, Data) else data)
    else:
        config = presets.starting_config(preset or presets.DEFAULT)
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
    config = replace(
        config.with_stage(config.stage.with_length(epochs, steps)),
        data=source,
        runtime=runtime,
        seed=config.seed if seed is None else seed,
    )
    path = path or presets.default_out(config)
    trusted = trust_code or (isinstance(preset, str) and presets.is_game_spec(preset))
    if not (resume and RunDirectory(path).exists):
        check_output(path, "out", folder=True)
    watcher = Console(config.images_per_step)
    try:
        ended = train_run(config, path, watcher, resume=resume, trust_code=trusted)
    finally:
        watcher.close()
    for warning in ended.warnings:
        watcher.line(f"advnets: {warning}")
    if ended.problem is not None:
        warnings.warn(str(ended.problem), DivergedWarning, stacklevel=2)
    return load(path)
