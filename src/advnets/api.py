"""The Python interface: `train`, `evaluate` and `compare`, like the commands of these names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from advnets import launcher, presets
from advnets.cli.arguments import config_of
from advnets.cli.compare import matching_runs, read_scores
from advnets.cli.console import Console
from advnets.config import Config, Data
from advnets.config.overrides import apply_overrides, option_names
from advnets.data.memory import as_dataset, is_array
from advnets.data.spec import MEMORY_PREFIX, check_labels, check_own_images
from advnets.distributed import process_group
from advnets.errors import DivergedWarning, UsageError, public_function, unknown_keyword, warn_user
from advnets.evaluation.comparison import compare as compare_scores
from advnets.evaluation.registry import resolve_metrics
from advnets.evaluation.spec import MetricNames
from advnets.experiment.train import train as train_run
from advnets.experiment.train import train_worker
from advnets.experiment.trained_model import TrainedModel, load
from advnets.files import check_output
from advnets.models.custom import Factory, load_custom_models, with_custom_models
from advnets.presets.preset import Preset
from advnets.presets.resume import new_out, newest_out, resumed_config
from advnets.report.comparison import (
    comparison_csv,
    comparison_html,
    comparison_latex,
    comparison_markdown,
    comparison_text,
)
from advnets.run_directory import RunDirectory
from advnets.trackers import make_tracker
from advnets.training.callback import Callback, as_callback

_IMAGE_OPTIONS = ("size", "width", "channels", "crop", "background", "white_level")
"""Options that apply to image files of the user, not to named datasets or arrays."""


_FLAGS_ONLY = {
    "track": 'give the names of trackers as callbacks, such as callbacks=["tensorboard"]',
    "dry_run": "the command `advnets train --dry-run` prints the estimate",
    "verbose": "the command `advnets train --dry-run --verbose` prints the resolved config",
}
"""Flags of `advnets train` that are no keywords, with what to use."""


@public_function
def train(
    preset: str | Path | Preset | Config | None = None,
    *,
    data: object = None,
    labels: object = None,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | Literal["auto"] | None = None,
    size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    device: str | torch.device | None = None,
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
    threads: int | None = None,
    eval_every: int | None = None,
    overrides: Mapping[str, object] | None = None,
    resume: bool = False,
    branch: str | Path | None = None,
    step: int | Literal["best"] | None = None,
    trust_code: bool = False,
    callbacks: Annotated[
        Sequence[str | object], 'give a list of them, such as ["tensorboard"]'
    ] = (),
    progress: bool = True,
    generator: str | Factory | None = None,
    discriminator: str | Factory | None = None,
    **options: object,
) -> TrainedModel:
    """Train a GAN and return the trained model.

    Every flag of `advnets train` is a keyword (with underscores) or a key of `overrides`, except
    `--track`, whose names `callbacks` takes, `--dry-run` and `--verbose`. An argument that is None
    keeps the value of the preset, or with `resume` that of the run. An interrupted training is
    saved, and the model of its last checkpoint is returned.

    Args:
        preset: a preset or its name, FILE.py:NAME of a custom game, a config, or the path of a
            run's config.json or of a YAML or TOML file with a `preset` and options; None: digits.
        data: a named dataset, the path of your own data, a data config, or images in memory: an
            array or tensor of shape (N, H, W), (N, C, H, W) or (N, H, W, C), uint8 or floats from 0
            to 1, points of shape (N, 1) or (N, 2), a torch Dataset, a Hugging Face dataset, a list
            of paths or PIL images, or a dataset that `advnets.data.open_dataset` returned. Of 50 or
            more images in memory, a tenth each is held out for validation and test; an iterable
            Dataset of torch or Hugging Face is streamed, one of torch all for training. `resume`
            needs the same images, and checks that they are.
        labels: the class of each image in memory, an integer or a name.
        data_dir: the directory of named datasets.
        out: the run directory; None: runs/NAME, with the name of the preset or of your data, or
            runs/NAME-2, runs/NAME-3, … if these hold runs; with `resume`, the newest of them.
        epochs: length of the training in passes over the training images.
        steps: length of the training in steps.
        batch_size: number of images in a batch; "auto": the largest power of two whose training
            fits into memory.
        size: height in pixels to which your own images are resized.
        lr: learning rate of both players.
        seed: random seed.
        device: auto, cpu, cuda, cuda:N, mps, or a torch.device.
        precision: precision of matrix products.
        threads: number of CPU threads; 0: the number of cores that this process may use.
        eval_every: number of steps between evaluations during training; 0: none; None: by the cost
            of an evaluation, so that they take less than 5 % of the time.
        overrides: values of any options by name: flags with underscores, such as "game.r1" or
            "generator.latent_dim".
        resume: continue the run in `out` from its newest checkpoint.
        branch: with `resume`, a new run directory in which to continue with other options; the run
            in `out` does not change.
        step: with `branch`, the step of a kept checkpoint to continue from, or "best"; None: the
            newest.
        trust_code: run the Python files that a config or a run names as its game and models.
            Without it, only code is run that this call names as FILE.py:NAME.
        callbacks: observers of the training, each a `Callback` or another object with some of its
            methods, or names of trackers: "tensorboard", "wandb", "mlflow", "trackio".
        progress: show a progress bar, or if stderr is not a terminal, a line per log interval.
        generator: a custom generator: a class or function that is called with the shape of images
            and the number of classes, and returns a torch module; or FILE.py:NAME of one.
        discriminator: a custom discriminator, given in the same way.
        options: further options whose names have no dot, such as `hflip` or `log_every`;
            `init_from` also takes a `TrainedModel`, whose checkpoint it is.

    Raises:
        TypeError: there is no keyword of this name.
        AdvnetsError: the message is that of the command line, with keywords in place of flags.

    Warns:
        DivergedWarning: the training diverged or had no effect.

    Example:
        >>> r1 = {"game.r1": 1.0}
        >>> model = advnets.train("digits", steps=20, lr=0.01, overrides=r1, progress=False)
        >>> model.step
        20
    """
    path = Path(out) if out is not None else None
    if branch is not None and not resume:
        raise UsageError("branch continues another run; set resume to True, and out to that run")
    if step is not None and branch is None:
        raise UsageError(
            f"step is {step}, which selects the checkpoint that branch continues from; set steps "
            "for the length of the training, or set branch"
        )
    name = str(preset) if isinstance(preset, str | Path) else None
    source = str(data) if isinstance(data, str | Path) else None
    in_memory = data is not None and not isinstance(data, str | Path | Data)
    check_labels(data, labels)

    # Start from the given config, the stored run, or the preset.
    if isinstance(preset, Preset):
        preset = preset.config
    if isinstance(preset, Config):
        config = preset
    elif resume:
        config = resumed_config(path, name, data.source if isinstance(data, Data) else source)
    else:
        config = presets.starting_config(presets.DEFAULT if name is None else name)
    if isinstance(data, Data):
        config = replace(config, data=data)

    config = with_custom_models(config, generator, discriminator)
    load_custom_models(config, trust_code=trust_code)

    # Apply the options.
    for option in options:
        if option not in option_names(config):
            raise _unknown_option(option, config)
    keywords = {
        "data": source,
        "data_dir": data_dir,
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "size": size,
        "lr": lr,
        "seed": seed,
        "device": None if device is None else str(device),
        "precision": precision,
        "threads": threads,
        "eval_every": eval_every,
        **options,
    }
    given = {keyword: value for keyword, value in keywords.items() if value is not None}
    if twice := sorted(given.keys() & (overrides or {}).keys()):
        raise UsageError(f"{twice[0]} was given as a keyword and in overrides; give one of them")
    given |= overrides or {}
    if isinstance(model := given.get("init_from"), TrainedModel):
        given["init_from"] = str(model.run.checkpoint_file(model.step))
    config = apply_overrides(config, given)
    dataset = None
    if in_memory:
        dataset = as_dataset(data, labels, config.data)
        source = f"{MEMORY_PREFIX}:{dataset.digest()[:12]}"
        config = replace(config, data=replace(config.data, source=source))
    for option in _IMAGE_OPTIONS:
        if option in given and is_array(data):
            raise UsageError(f"{option} applies to image files, and data is an array; leave it out")
        if option in given:
            check_own_images(config.data.source, option)

    # In other processes than that of rank 0, train as that one says.
    if launcher.rank():
        with process_group():
            result = train_worker(dataset)
        return load(result.run, data=dataset)

    # Check the output before any work, then train.
    default = presets.default_out(config, name) if path is None and not resume else None
    if path is None:
        path = newest_out(config, name) if resume else new_out(config, name)
    trusted = trust_code or (name is not None and presets.is_game_spec(name))
    if not (resume and RunDirectory(path).exists):
        check_output(path, "out", folder=True)
    observers: list[Callback] = [
        make_tracker(item) if isinstance(item, str) else as_callback(item, f"callbacks[{index}]")
        for index, item in enumerate(callbacks)
    ]
    console = Console(default_out=default)
    if progress:
        observers.insert(0, console)
    try:
        result = train_run(
            config,
            path,
            observers,
            resume=resume,
            branch=None if branch is None else Path(branch),
            step=step,
            trust_code=trusted,
            dataset=dataset,
        )
    finally:
        console.close()

    for warning in result.warnings:
        console.line(f"advnets: {warning}")
    if result.problem is not None:
        warn_user(str(result.problem), DivergedWarning)
    return load(result.run, data=dataset)


@public_function
def evaluate(
    model: TrainedModel | str | Path,
    metrics: MetricNames = "parzen",
    *,
    data: object = None,
    labels: object = None,
    data_dir: str | Path | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Evaluate a model or the run in a directory; return the new records.

    Args:
        model: a trained model, a run directory or a checkpoint file.
        metrics: names of metrics, or custom ones: a `MetricSpec`, or FILE.py:NAME of one.
        data: the data of a run directory or checkpoint, as for `load`; also `labels`, `data_dir`.
        labels: the class of each image in memory.
        data_dir: the directory of a named dataset.
        options: the keywords of `TrainedModel.evaluate`: `extractor`, `trust_code`, `real`, `seed`,
            `keep_fraction`, `num_samples`, `probe_labels` and `class_proportions`.

    Raises:
        AdvnetsError: as for `load` and `TrainedModel.evaluate`.

    Example:
        >>> records = advnets.evaluate("runs/digits", metrics=["frechet", "prdc"], num_samples=300)
        >>> [(record["metric"], record["samples"]) for record in records][:2]
        [('frechet', 'generator'), ('frechet', 'real training images')]
    """
    if not isinstance(model, TrainedModel):
        model = load(model, data=data, labels=labels, data_dir=data_dir)
    elif not (data is labels is data_dir is None):
        raise UsageError(
            "data, labels and data_dir are for runs by their path; give them to advnets.load, "
            "which loaded this model, or give other images to compare with as real"
        )
    return model.evaluate(metrics, **options)


@dataclass(frozen=True, repr=False)
class Comparison:
    """The scores of runs, compared by `advnets.compare`; its repr is a table."""

    record: Mapping[str, Any]
    """The comparison as `advnets compare --json` prints it."""

    def __repr__(self) -> str:
        return comparison_text(self.record)

    def to_markdown(self) -> str:
        """Return the table, paired differences and the settings of each column in Markdown."""
        return comparison_markdown(self.record)

    def to_csv(self) -> str:
        """Return CSV with a line for each row: mean, half width and std of each column."""
        return comparison_csv(self.record)

    def to_latex(self) -> str:
        """Return the tables in LaTeX for the package booktabs, settings as comments."""
        return comparison_latex(self.record)

    def _repr_html_(self) -> str:
        """Return the table as HTML, for notebooks."""
        return comparison_html(self.record)


@public_function
def compare(
    runs: str | Path | TrainedModel | Sequence[str | Path | TrainedModel],
    *,
    metrics: MetricNames = (),
    separate_columns: bool = False,
) -> Comparison:
    """Compare the scores of runs: means over seeds, confidence intervals, paired differences.

    Runs that differ only in their seed form one row. Scores that were computed differently share no
    column.

    Args:
        runs: two or more runs that were evaluated: run directories, models (the scores of their
            step), record files of `advnets sweep`, or patterns such as "runs/digits-*".
        metrics: metrics to compare; none: all.
        separate_columns: give scores that are not comparable columns of their own.

    Raises:
        UnknownNameError: there is no such metric.
        UsageError: there are fewer than two runs, two have the same config and seed, scores cannot
            be compared, or nothing matches a pattern.
        RunError: a path is neither a run nor a record file, or a run has no scores.

    Example:
        >>> comparison = advnets.compare(["runs/digits", "runs/other"], metrics="frechet")
        >>> print(comparison.to_csv().splitlines()[0])
        run,weights,step,seeds,frechet,frechet ± half width,frechet std
    """
    names = resolve_metrics(metrics)
    given = [runs] if isinstance(runs, str | Path | TrainedModel) else runs
    paths: list[Path] = []
    steps: dict[Path, int] = {}
    for run in given:
        paths.append(run.run.path if isinstance(run, TrainedModel) else Path(run))
        if isinstance(run, TrainedModel):
            steps[run.run.path] = run.step
    scored = read_scores(matching_runs(paths), names, config_of, steps)
    record = compare_scores(scored, metrics=names, separate_columns=separate_columns)
    return Comparison(record)


def _unknown_option(name: str, config: Config) -> TypeError:
    """Return the error for a keyword that train does not have; it suggests the nearest option."""
    if name in _FLAGS_ONLY:
        return TypeError(f"train has no argument {name!r}; {_FLAGS_ONLY[name]}")
    known = option_names(config)
    if dotted := [option for option in known if option.rpartition(".")[2] == name]:
        examples = " or ".join(f"overrides={{{option!r}: …}}" for option in dotted)
        return TypeError(f"train has no argument {name!r}; did you mean {examples}?")
    keywords = [option for option in known if "." not in option]
    own = [parameter for parameter in signature(train).parameters if parameter != "options"]
    return unknown_keyword("train", name, list(dict.fromkeys((*own, *keywords))))
