"""What one can ask for at the command line: a typed dataclass a command, its fields the flags.

Only what `--help` needs is imported here; commands import the rest when they run.
"""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from advnets import presets
from advnets.cli.bench import Bench
from advnets.cli.compare import Compare
from advnets.cli.data import DataCommand
from advnets.cli.paper import Paper
from advnets.cli.visualize import Visualize
from advnets.config import Config, Data, Intervals, Runtime, Stage, ValidatedConfig
from advnets.data import spec
from advnets.errors import DivergedError, UsageError, printable, printable_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


@dataclass(frozen=True)
class Train:
    """Train adversarial nets on a preset's data or your own; leaves a run directory.

    PRESET (see `advnets presets`) comes first; a path in its place is shorthand for `--data PATH`.
    The defaults below are those of the preset that is named.
    """

    preset: Annotated[Positional[str], arg(metavar="PRESET")] = presets.DEFAULT
    """A preset, or the path of your data."""
    data: Annotated[Data, arg(name="")] = field(default_factory=Data)
    out: Annotated[Path | None, arg(metavar="RUN")] = None
    """The run directory; None: runs/, by the name of the preset or of your data."""
    seed: int = 0
    """Of initial weights, noise, masks and order."""
    resume: Annotated[bool, FlagCreatePairsOff] = False
    """Go on from the newest checkpoint of --out, to the bit.
    With another --device, --precision or --threads the run is no longer bit-exact from there on."""
    dry_run: Annotated[bool, FlagCreatePairsOff] = False
    """Print the resolved config, parameters, estimated time and memory; train and write nothing.
    Images that are opened for the first time are packed into the cache, as training would do."""
    trust_code: Annotated[bool, FlagCreatePairsOff] = False
    """With --resume, run the Python file that the run's config.json names as its game.
    Without it, Python code runs only from a FILE.py:NAME that this command names as PRESET."""
    stage: Annotated[Stage, arg(name="")] = field(default_factory=Stage)
    runtime: Annotated[Runtime, arg(name="")] = field(default_factory=Runtime)
    intervals: Annotated[Intervals, arg(name="")] = field(default_factory=Intervals)

    @classmethod
    def defaults(cls, start: Config, preset: str) -> Train:
        """The flags that stand for a config."""
        return cls(
            preset=preset,
            data=start.data,
            seed=start.seed,
            stage=start.stage,
            runtime=start.runtime,
            intervals=start.intervals,
        )

    def config(self, start: Config) -> Config:
        """The config that these flags, upon a starting point, stand for."""
        return replace(
            start.with_stage(self.stage),
            data=self.data,
            seed=self.seed,
            runtime=self.runtime,
            intervals=self.intervals,
        )

    def run(self, start: Config, *, typed: str | None) -> int:
        """Train, or plan; a file's code runs if it was typed as PRESET, or with --trust-code."""
        from advnets.cli import console
        from advnets.experiment.dry_run import dry_run
        from advnets.experiment.train import train
        from advnets.files import check_output
        from advnets.run_directory import RunDirectory

        config = self.config(start)
        trusted = self.trust_code or (typed is not None and presets.is_game_spec(typed))
        spec.reject_run_directory(config.data.source)
        out = presets.default_out(config) if self.out is None else self.out
        if not (self.resume and RunDirectory(out).exists):
            check_output(out, folder=True)
        if typed in presets.PRESETS and not spec.is_dataset_name(typed) and not self.resume:
            _say(spec.shadowing_warning(typed, "preset"))
        if self.dry_run:
            print(console.plan_text(dry_run(config, trust_code=trusted)))
            return 0
        began, watcher = time.monotonic(), console.Console(config.images_per_step)
        try:
            ended = train(config, out, watcher, resume=self.resume, trust_code=trusted)
        finally:
            watcher.close()
        for warning in ended.warnings:
            print(f"advnets: {printable(warning)}", file=sys.stderr)
        print(console.ending(ended, time.monotonic() - began))
        if ended.problem is not None:
            raise DivergedError(str(ended.problem))
        return 128 + ended.signal if ended.signal is not None else 0


@dataclass(frozen=True)
class Sample(ValidatedConfig):
    """Draw images from a trained generator; the first ones of a seed do not depend on --num-samples."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run directory."""
    out: Annotated[Path, arg(metavar="FILE.png|FILE.npz|DIR")]
    """A grid (.png), an array `images` of bytes N x H x W x C (.npz), or a new folder of PNG files.
    Of points an image (.png), or an array `points` N x dims (.npz)."""
    overwrite: bool = False
    """Replace the numbered PNG files (00000.png, …) of a folder; no other file is replaced."""
    num_samples: int = 64
    """How many images."""
    seed: int = 0
    """Of z."""
    weights: Literal["ema", "last"] | None = None
    """The weight average or the last weights; None: the average where the run keeps one."""
    label: Annotated[str | None, arg(name="class")] = None
    """The class of a conditional run, by its name; None: classes are drawn."""
    label_index: Annotated[int | None, arg(name="class-index")] = None
    """The class of a conditional run, by its index from 0 in the order of config.json."""
    class_proportions: Literal["data", "uniform"] = "data"
    """How often each class of a conditional run is drawn: as in the training images, or equally."""
    batch_statistics: bool = False
    """Batch norm by the statistics of every 500 samples, and not by the running ones."""
    keep_fraction: float = 1.0
    """Of each 500 drawn, the share that is kept: those that D judges most real."""
    columns: int | None = None
    """Images in a row of the grid; None: about a square."""
    device: str = "cpu"
    """auto, cpu, cuda, cuda:N or mps."""

    def execute(self) -> int:
        """Sample and write."""
        from advnets.experiment.trained_model import load
        from advnets.plots.sample_files import check_samples_output
        from advnets.training.devices import return_freed_memory

        check_samples_output(self.out, overwrite=self.overwrite)
        return_freed_memory()
        trained = load(self.run, weights=self.weights, device=self.device)
        blocks = trained.sample_blocks(
            self.num_samples,
            seed=self.seed,
            label=self.label,
            label_index=self.label_index,
            class_proportions=self.class_proportions,
            batch_statistics=self.batch_statistics,
            keep_fraction=self.keep_fraction,
        )
        write = self._write_points if trained.normalizer.for_points else self._write_images
        write(blocks, trained.info.shape)
        best = "" if self.keep_fraction == 1 else f", best {self.keep_fraction:g} by D"
        weights = f"{trained.weights} weights{best}"
        out = printable(str(self.out))
        print(f"{self.num_samples:,} samples of step {trained.step:,} ({weights}): {out}")
        return 0

    def _write_images(self, blocks: Iterator[Tensor], shape: tuple[int, int, int]) -> None:
        """Write samples as a grid, an array or a folder, by what the name ends with."""
        from advnets.plots import sample_files as files
        from advnets.plots.image_grid import GridLayout

        files.require_room(self.out, self.num_samples * math.prod(shape))
        form = files.form_of(self.out)
        if form == "grid":
            layout = GridLayout.of(self.num_samples, shape, self.columns)
            files.save_grid_of(blocks, layout, self.out)
        elif form == "array":
            files.save_images_array(blocks, self.num_samples, shape, self.out)
        else:
            files.save_images(blocks, self.num_samples, self.out, overwrite=self.overwrite)

    def _write_points(self, blocks: Iterator[Tensor], shape: tuple[int, int, int]) -> None:
        """Write samples that are points as an image of them or as an array."""
        import torch

        from advnets.plots import sample_files as files
        from advnets.plots.image_grid import save_grid
        from advnets.plots.points import points_image

        if self.columns is not None:
            raise UsageError(
                "--columns is for a grid of images, but the run is of points; leave it"
            )
        files.require_room(self.out, 4 * self.num_samples * math.prod(shape))
        form = files.form_of(self.out)
        if form == "folder":
            raise UsageError(f"{self.out} is to hold points; give a name in .png or .npz")
        if form == "grid":
            save_grid(points_image(torch.cat([block.flatten(1) for block in blocks])), self.out)
        else:
            files.save_points_array(blocks, self.num_samples, shape[0], self.out)


@dataclass(frozen=True)
class Evaluate(ValidatedConfig):
    """Score a trained generator beside real images; adds to scores.json and report.html."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run directory."""
    metrics: tuple[str, ...] = ("parzen",)
    """What to compute: parzen (window log-likelihood, σ on the paper's grid and on a fine one).
    Of features: frechet, kernel, sliced (distances), prdc (precision, recall, density, coverage).
    Of the nearest image: neighbor (tells it real from generated?), memorization (is it copied?).
    Of a classifier's verdicts: inception (score), modes (of MNIST and Stacked MNIST).
    Of points of a ring, grid or mixture: points (modes, quality, shares, spreads, KL, JSD).
    Of any points: divergence (KL, JSD from their density).
    Of labels: probe (a linear classifier on D's features or z), test-error (of D's own classes).
    Of conditional samples: classes (are they what was asked for?), one-nn (what do they teach?).
    Of encoders and completions: reconstruction, elbo, completion."""
    extractor: Annotated[str | None, arg(metavar="NAME|FILE|RUN")] = None
    """Whose features: pixels, digits, cifar-jpeg, inception, discriminator, a file's, or a RUN's D.
    None: digits for MNIST, else pixels.
    cifar-jpeg has learned CIFAR-10 from JPEG files, whose pixels are not the original ones.
    discriminator is the run's own D, which compares with nothing else; that of a RUN, with any.
    A file: a program of torch.export (.pt2), a model (.onnx), or a classifier (.safetensors).
    It is handed pixels in [0, 1]. A .pt2 file can run code: it is opened only with --trust-code."""
    trust_code: bool = False
    """Open the .pt2 file of --extractor although opening it can run any code that is in it."""
    seed: int = 0
    """Of the samples."""
    keep_fraction: float = 1.0
    """The share of samples that D judges most real, and that is scored; records say it."""
    num_samples: int | None = None
    """How many samples, and real images beside them; only scores of one number compare.
    None: 10,000; modes, points and divergence have numbers of their own."""
    probe_labels: Annotated[tuple[int, ...], arg(metavar="INT ...")] = ()
    """How many labels the probe is given, 0 for all (slow); none said: 100 and 1000."""
    class_proportions: Literal["data", "uniform"] = "data"
    """How often each class of a conditional run is drawn: as in the training images, or equally.
    Records say which. No class without a training image is drawn."""
    weights: Literal["ema", "last"] | None = None
    """The weight average or the last weights; None: the average where the run keeps one."""
    data: Annotated[str | None, arg(metavar="SOURCE")] = None
    """The path where the run's data lies now; None: as it was trained. Its digest is checked."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """The directory where the run's named set lies now; None: as it was trained."""
    device: str = "cpu"
    """auto, cpu, cuda, cuda:N or mps."""
    json: bool = False
    """Print the records as JSON."""

    def execute(self) -> int:
        """Score, keep, print."""
        from advnets.experiment.trained_model import load
        from advnets.report.score_text import score_lines

        trained = load(self.run, weights=self.weights, device=self.device)
        records = trained.evaluate(
            self.metrics,
            extractor=self.extractor,
            trust_code=self.trust_code,
            data=self.data,
            data_dir=self.data_dir,
            seed=self.seed,
            keep_fraction=self.keep_fraction,
            num_samples=self.num_samples,
            probe_labels=self.probe_labels,
            class_proportions=self.class_proportions,
        )
        print(json.dumps(records, indent=2) if self.json else printable_lines(score_lines(records)))
        trained.report()
        return 0


@dataclass(frozen=True)
class Presets:
    """List the presets: complete configs by name."""

    def execute(self) -> int:
        """Print a line for each."""
        width = max(map(len, presets.PRESETS))
        for name, preset in presets.PRESETS.items():
            print(f"{name.ljust(width)}  {preset.description}")
        return 0


Command = Train | Sample | Evaluate | Compare | Visualize | Presets | DataCommand | Bench | Paper
"""Everything one can ask for."""


def _say(sentence: str | None) -> None:
    if sentence is not None:
        print(f"advnets: {sentence}", file=sys.stderr)
