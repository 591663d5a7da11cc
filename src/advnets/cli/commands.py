"""The commands of `advnets`: a dataclass each, whose fields are the options.

Only what `--help` needs is imported here; the other imports are in the methods that run a command.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from advnets import presets
from advnets.cli.bench import Bench
from advnets.cli.compare import Compare
from advnets.cli.data import DataCommand
from advnets.cli.paper import Paper
from advnets.cli.sweep import Sweep
from advnets.cli.visualize import Visualize
from advnets.config import Config, Data, Intervals, Runtime, Stage, ValidatedConfig
from advnets.data import spec
from advnets.errors import DivergedError, UsageError, printable, printable_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


@dataclass(frozen=True)
class Train(ValidatedConfig):
    """Train a GAN on a preset's dataset or on your own data, and write a run directory.

    PRESET comes first (`advnets presets` lists them); a dataset or a path in its place is short
    for `--data`. A FILE may be the config.json of a run, or have options in YAML or TOML. The
    defaults shown are those of the preset.
    """

    preset: Annotated[Positional[str], arg(metavar="[PRESET | DATA | FILE | FILE.py:NAME]")] = (
        presets.DEFAULT
    )
    """Preset to train, path of your data, a config file, or FILE.py:NAME of a custom game."""
    data: Annotated[Data, arg(name="")] = field(default_factory=Data)
    out: Annotated[Path | None, arg(metavar="RUN")] = None
    """Run directory; None: runs/NAME, with the name of the preset or of your data, and runs/NAME-2,
    runs/NAME-3, … where these hold runs; with --resume, the newest of them."""
    lr: float | None = None
    """Learning rate of both players, in place of --generator-optimizer.lr and
    --discriminator-optimizer.lr; None: those of the preset."""
    seed: int = 0
    """Random seed of initial weights, latents, dropout and the order of the data."""
    resume: Annotated[bool, FlagCreatePairsOff] = False
    """Continue the run in --out from its newest checkpoint, bit-exactly. With another --device,
    --precision or --threads the run is no longer bit-exact from there on."""
    branch: Annotated[Path | None, arg(metavar="RUN")] = None
    """With --resume, new run directory in which to continue with other options; the run in --out
    stays as it is. None: continue in --out, with the same options."""
    step: int | Literal["best"] | None = None
    """With --branch, step of a kept checkpoint to continue from, or best; None: the newest."""
    dry_run: Annotated[bool, FlagCreatePairsOff] = False
    """Print the estimated time and memory, the data and the number of parameters, without
    training. Images that are opened for the first time are packed into the cache."""
    verbose: Annotated[bool, FlagCreatePairsOff] = False
    """With --dry-run, also print the classes of the data and the resolved config."""
    generator_code: Annotated[str | None, arg(name="generator", metavar="FILE.py:NAME")] = None
    """Class or function in a Python file that is called with the shape of images and the number of
    classes, and returns a generator; None: that of the preset."""
    discriminator_code: Annotated[str | None, arg(name="discriminator", metavar="FILE.py:NAME")] = (
        None
    )
    """Class or function in a Python file that is called in the same way, and returns a
    discriminator; None: that of the preset."""
    trust_code: Annotated[bool, FlagCreatePairsOff] = False
    """Run the Python files that a config.json (given as PRESET, or of the run to --resume) names as
    its game and models. Without it, only code that the command names as FILE.py:NAME is run."""
    track: Annotated[tuple[str, ...] | None, arg(metavar="TRACKER ...")] = None
    """Experiment trackers to log the run to: tensorboard, wandb, mlflow, trackio. Each needs its
    extra, for example `pip install 'advnets[tensorboard]'`. None: no tracker."""
    stage: Annotated[Stage, arg(name="")] = field(default_factory=Stage)
    runtime: Annotated[Runtime, arg(name="")] = field(default_factory=Runtime)
    intervals: Annotated[Intervals, arg(name="")] = field(default_factory=Intervals)

    @classmethod
    def defaults(cls, start: Config, preset: str) -> Train:
        """Return the options that are equivalent to a config."""
        return cls(
            preset=preset,
            data=start.data,
            seed=start.seed,
            stage=start.stage,
            runtime=start.runtime,
            intervals=start.intervals,
        )

    def config(self, start: Config) -> Config:
        """Return the config that results from these options and a starting config."""
        return start.override(
            data=self.data,
            stage=self.stage,
            lr=self.lr,
            runtime=self.runtime,
            intervals=self.intervals,
            seed=self.seed,
        )

    def run(self, start: Config, *, argument: str | None) -> int:
        """Train, or estimate with --dry-run; return the exit status.

        `argument` is the PRESET argument. The code of a file runs only if `argument` names the
        file, or with --trust-code.
        """
        import_torch()
        from advnets.cli import console
        from advnets.experiment.dry_run import dry_run
        from advnets.experiment.train import train
        from advnets.files import check_output
        from advnets.models.custom import load_custom_models
        from advnets.presets.resume import new_out, newest_out
        from advnets.run_directory import RunDirectory
        from advnets.trackers import make_tracker

        # Check the data and the output before any work.
        self._check_combinations()
        config = self.config(start)
        trusted = self.trust_code or (argument is not None and presets.is_game_spec(argument))
        load_custom_models(config, trust_code=self.trust_code)
        spec.reject_run_directory(config.data.source)
        out = self.out or (newest_out if self.resume else new_out)(config, argument)
        if not (self.resume and RunDirectory(out).exists):
            check_output(out, folder=True)
        if self.branch is not None:
            check_output(self.branch, "--branch", folder=True)
        if argument in presets.PRESETS and not spec.is_dataset_name(argument) and not self.resume:
            warning = spec.shadowing_warning(argument, "preset")
            if warning is not None:
                print(f"advnets: {warning}", file=sys.stderr)
        if self.dry_run:
            print(console.dry_run_text(dry_run(config, trust_code=trusted), verbose=self.verbose))
            return 0

        # Train.
        trackers = [make_tracker(name) for name in self.track or ()]
        new = self.out is None and not self.resume
        default = presets.default_out(config, argument) if new else None
        callback = console.Console(default_out=default)
        start_time = time.monotonic()
        try:
            result = train(
                config,
                out,
                [callback, *trackers],
                resume=self.resume,
                branch=self.branch,
                step=self.step,
                trust_code=trusted,
            )
        finally:
            callback.close()

        # Report how it ended.
        for warning in result.warnings:
            print(f"advnets: {printable(warning)}", file=sys.stderr)
        print(console.result_text(result, time.monotonic() - start_time))
        if result.problem is not None:
            raise DivergedError(str(result.problem))
        return 128 + result.signal if result.signal is not None else 0

    def _check_combinations(self) -> None:
        """Refuse an option that has no effect without another one.

        Raises:
            UsageError: --verbose, --branch or --step was given alone, or --track without a name.
        """
        if self.verbose and not self.dry_run:
            raise UsageError("--verbose has an effect with --dry-run only; add it, or leave it out")
        if self.track == ():
            raise UsageError("--track has no value; give tensorboard, wandb, mlflow or trackio")
        if self.branch is not None and not self.resume:
            raise UsageError(
                "--branch continues another run, but --resume is not given; add --resume, and name "
                "that run with --out"
            )
        if self.step is not None and self.branch is None:
            raise UsageError(
                f"--step is {self.step}, which selects the checkpoint that --branch starts from; "
                "set --steps for the length of the training, or add --branch RUN"
            )


@dataclass(frozen=True)
class Sample(ValidatedConfig):
    """Draw images from a trained generator.

    The first images of a seed do not depend on --num-samples.
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Run directory of the model."""
    out: Annotated[Path, arg(metavar="FILE.png|FILE.npz|DIR")]
    """Output: a grid (.png), an array `images` of uint8, N x H x W x C (.npz), or a new directory
    of PNG files. For a model of points: a plot (.png) or an array `points`, N x dims (.npz)."""
    overwrite: bool = False
    """Replace the numbered PNG files (00000.png, …) of a directory; no other file is replaced."""
    num_samples: Annotated[int, arg(aliases=("-n",))] = 64
    """Number of images."""
    seed: int = 0
    """Random seed of z."""
    step: int | Literal["best"] | None = None
    """Step of a kept checkpoint, or best (see `advnets train --keep-best`); None: the newest."""
    weights: Literal["ema", "last"] | None = None
    """Weights to load: the exponential moving average (ema) or the last ones; None: ema if the run
    has it, else last."""
    label: Annotated[str | None, arg(name="class", metavar="NAME")] = None
    """Class of the images of a class-conditional run, by name; None: random classes."""
    label_index: Annotated[int | None, arg(name="class-index")] = None
    """Class of the images of a class-conditional run, as an index from 0 in the order of
    config.json."""
    class_proportions: Literal["data", "uniform"] = "data"
    """Probabilities of the classes of a class-conditional run: those of the training images, or
    equal ones."""
    batch_statistics: bool = False
    """Use the statistics of each block of 500 samples in batch norm, instead of the running
    statistics."""
    keep_fraction: float = 1.0
    """Fraction of the samples to keep by discriminator rejection sampling: in each block of 500,
    those with the largest logits of D. 1: all."""
    columns: int | None = None
    """Number of columns of the grid; None: an approximately square grid."""
    device: Annotated[str, arg(metavar="DEVICE")] = "cpu"
    """Device to compute on: auto, cpu, cuda, cuda:N or mps."""
    trust_code: bool = False
    """Run the Python files of a run with a custom generator or discriminator."""

    def execute(self) -> int:
        """Draw the samples and write them; return the exit status."""
        import_torch()
        from advnets.experiment.trained_model import load
        from advnets.plots.sample_files import check_samples_output
        from advnets.training.devices import return_freed_memory

        check_samples_output(self.out, overwrite=self.overwrite)
        return_freed_memory()
        model = load(
            self.run,
            step=self.step,
            weights=self.weights,
            device=self.device,
            trust_code=self.trust_code,
        )
        blocks = model.sample_blocks(
            self.num_samples,
            seed=self.seed,
            label=self.label,
            label_index=self.label_index,
            class_proportions=self.class_proportions,
            batch_statistics=self.batch_statistics,
            keep_fraction=self.keep_fraction,
        )
        write = self._write_points if model.normalizer.for_points else self._write_images
        write(blocks, model.info.shape)
        best = "" if self.keep_fraction == 1 else f", best {self.keep_fraction:g} by D"
        weights = f"{model.weights} weights{best}"
        out = printable(str(self.out))
        print(f"{self.num_samples:,} samples of step {model.step:,} ({weights}): {out}")
        return 0

    def _write_images(self, blocks: Iterator[Tensor], shape: tuple[int, int, int]) -> None:
        """Write images as a grid, an array or a directory, according to the name of the output."""
        from advnets.plots import sample_files as files
        from advnets.plots.image_grid import GridLayout

        files.check_disk_space(self.out, self.num_samples * math.prod(shape))
        form = files.output_format(self.out)
        if form == "grid":
            layout = GridLayout.create(self.num_samples, shape, self.columns)
            files.save_grid_from_blocks(blocks, layout, self.out)
        elif form == "array":
            files.save_images_array(blocks, self.num_samples, shape, self.out)
        else:
            files.save_images(blocks, self.num_samples, self.out, overwrite=self.overwrite)

    def _write_points(self, blocks: Iterator[Tensor], shape: tuple[int, int, int]) -> None:
        """Write points as a plot or an array, according to the name of the output."""
        import torch

        from advnets.plots import sample_files as files
        from advnets.plots.image_grid import save_grid
        from advnets.plots.points import points_image

        if self.columns is not None:
            raise UsageError(
                "--columns applies to a grid of images, but the run is a model of points; "
                "leave it out"
            )
        files.check_disk_space(self.out, 4 * self.num_samples * math.prod(shape))
        form = files.output_format(self.out)
        if form == "folder":
            raise UsageError(
                f"{self.out} is not a file for points; give a name that ends in .png or .npz"
            )
        if form == "grid":
            save_grid(points_image(torch.cat([block.flatten(1) for block in blocks])), self.out)
        else:
            files.save_points_array(blocks, self.num_samples, shape[0], self.out)


def _metrics_help() -> str:
    """Return the help of --metrics; evaluated for the help of `evaluate` only."""
    from advnets.evaluation.registry import metrics_help

    return metrics_help()


@dataclass(frozen=True)
class Evaluate(ValidatedConfig):
    """Evaluate a trained generator, and add the scores to scores.json and report.html of the run.

    Most metrics have a row of real training images: their score at this sample size.
    """

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Run directory of the model."""
    metrics: Annotated[tuple[str, ...], arg(metavar="METRIC ...", help=_metrics_help())] = (
        "parzen",
    )
    extractor: Annotated[str | None, arg(metavar="NAME|FILE|RUN")] = None
    """Feature extractor: pixels, digits, cifar-jpeg, imagenet, inception, dinov2, discriminator, a
    file or a RUN. None: digits for MNIST, else pixels. imagenet is EfficientNet-Lite0; inception is
    the network of published FID, and dinov2 that of FD-DINOv2 (slow), by weights of yours: README
    names their files. cifar-jpeg was trained on JPEG files of CIFAR-10, whose pixels differ
    slightly from the original ones. discriminator is the run's own D, whose scores are comparable
    with no other run's; a RUN is the D of that run. A file is a program of torch.export (.pt2), a
    model (.onnx) or a classifier (.safetensors) whose input is pixels in [0, 1]; a .pt2 file can
    run code and needs --trust-code."""
    trust_code: bool = False
    """Open the .pt2 file of --extractor, although opening it can run any code in it, and run the
    Python files of a run with a custom generator or discriminator."""
    seed: int = 0
    """Random seed of the samples."""
    keep_fraction: float = 1.0
    """Fraction of the samples to score after discriminator rejection sampling: those with the
    largest logits of D. 1: all."""
    num_samples: Annotated[int | None, arg(aliases=("-n",))] = None
    """Number of samples, and of real images; scores of different numbers are not comparable.
    None: 10,000, except for metrics of modes and points, which have defaults of their own."""
    probe_labels: Annotated[tuple[int, ...], arg(metavar="INT ...")] = ()
    """Numbers of labels for the linear probe; 0: all (slow). None: 100 and 1000."""
    class_proportions: Literal["data", "uniform"] = "data"
    """Probabilities of the classes of a class-conditional run: those of the training images, or
    equal ones. A class without training images is never drawn."""
    step: int | Literal["best"] | None = None
    """Step of a kept checkpoint, or best (see `advnets train --keep-best`); None: the newest."""
    weights: Literal["ema", "last"] | None = None
    """Weights to load: the exponential moving average (ema) or the last ones; None: ema if the run
    has it, else last."""
    data: Annotated[str | None, arg(metavar="SOURCE")] = None
    """New path of the run's data, if it was moved (its digest is checked); None: as in training."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """New directory of the run's named dataset, if it was moved; None: as in training."""
    device: Annotated[str, arg(metavar="DEVICE")] = "cpu"
    """Device to compute on: auto, cpu, cuda, cuda:N or mps."""
    json: bool = False
    """Print the records as JSON instead of a table."""

    def check(self, config: Config) -> None:
        """Refuse metrics and options that do not fit the runs of a config, before they are trained.

        Raises:
            DataError: the data lacks what a metric needs.
            UsageError: the networks or an option do not fit a metric.
        """
        from advnets.evaluation.registry import check_evaluation, resolve_metrics
        from advnets.experiment.metric_check import check_metrics

        check_evaluation(
            resolve_metrics(self.metrics),
            extractor=self.extractor,
            keep_fraction=self.keep_fraction,
            num_samples=self.num_samples,
            probe_labels=self.probe_labels,
            class_proportions=self.class_proportions,
        )
        check_metrics(config, self.metrics, self.extractor)

    def execute(self) -> int:
        """Compute the metrics, store and print the records; return the exit status."""
        from advnets.distributed import is_main

        import_torch()
        from advnets.experiment.trained_model import load
        from advnets.report.score_text import score_lines

        model = load(
            self.run,
            step=self.step,
            weights=self.weights,
            device=self.device,
            data=self.data,
            data_dir=self.data_dir,
            trust_code=self.trust_code,
        )
        records = model.evaluate(
            self.metrics,
            extractor=self.extractor,
            trust_code=self.trust_code,
            seed=self.seed,
            keep_fraction=self.keep_fraction,
            num_samples=self.num_samples,
            probe_labels=self.probe_labels,
            class_proportions=self.class_proportions,
        )
        if is_main():
            scores = printable_lines(score_lines(records))
            print(json.dumps(records, indent=2) if self.json else scores)
            model.report()
        return 0


@dataclass(frozen=True)
class Presets:
    """List the presets: complete configs by name."""

    preset: Annotated[Positional[str | None], arg(metavar="[PRESET]")] = None
    """Preset to describe, with the commands that print its options and values; None: list all."""

    def execute(self) -> int:
        """Print a line for each preset, or describe one; return the exit status."""
        if self.preset is not None:
            presets.get_preset(self.preset)  # refuses an unknown name
            print(presets.PRESETS[self.preset].description)
            print(f"all options:  advnets train {self.preset} --help-all")
            print(f"all values:   advnets train {self.preset} --dry-run --verbose")
            return 0
        width = max(map(len, presets.PRESETS))
        for name, preset in presets.PRESETS.items():
            print(f"{name.ljust(width)}  {preset.description}")
        return 0


Command = (
    Train | Sample | Evaluate | Compare | Visualize | Presets | DataCommand | Sweep | Bench | Paper
)

COMMANDS: dict[str, type[Command]] = {
    "train": Train,
    "sample": Sample,
    "evaluate": Evaluate,
    "compare": Compare,
    "visualize": Visualize,
    "presets": Presets,
    "data": DataCommand,
    "sweep": Sweep,
    "bench": Bench,
    "paper": Paper,
}
"""The commands by name, in the order of the help."""


def import_torch() -> None:
    """Import torch without garbage collections, which would search what it imports, for 0.3 s.

    Later ones leave it out, too.
    """
    gc.disable()
    importlib.import_module("torch")
    gc.freeze()
    gc.enable()
