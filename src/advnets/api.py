"""The Python face of `advnets train`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from advnets import presets
from advnets.codec import from_json
from advnets.config import Config, Data
from advnets.console import Console
from advnets.experiment.train import train as train_run
from advnets.experiment.trained import Trained, load
from advnets.runs import RunDirectory


def train(
    preset: str | Config | None = None,
    *,
    data: str | Data | None = None,
    data_dir: str | None = None,
    out: str | Path | None = None,
    steps: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
    resume: bool = False,
) -> Trained:
    """Train a preset, a config, or the default preset on the data at a path; load the result.

    What is None is as the preset has it; with `resume`, as the run in `out` has it. A training
    that is interrupted is saved, and what it had learned by then is returned.

    Raises:
        AdvnetsError: as the command line would say it.
    """
    config = (
        preset if isinstance(preset, Config) else presets.starting_point(preset or presets.DEFAULT)
    )
    path = Path(out) if out is not None else None
    if resume and preset is None:
        stored = RunDirectory.existing(path or presets.default_out(config)).read_config()
        config = from_json(stored["config"], Config)
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
    stage = config.stage if steps is None else replace(config.stage, steps=steps)
    config = replace(
        config.with_stage(stage),
        data=source,
        runtime=runtime,
        seed=config.seed if seed is None else seed,
    )
    path = path or presets.default_out(config)
    watcher = Console(batch_size=config.data.batch_size)
    try:
        ended = train_run(config, path, watcher, resume=resume)
    finally:
        watcher.close()
    for warning in ended.warnings:
        watcher.line(f"advnets: {warning}")
    return load(path)
