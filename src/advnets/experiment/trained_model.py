"""A trained generator, loaded from its run directory: sample from it, score it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from advnets.config import Runtime
from advnets.data.class_proportions import Labels, ProportionKind, class_indices
from advnets.data.prepared import PreparedData, open_data_of_run
from advnets.errors import RunWarning, UsageError, WriteError
from advnets.evaluation.context import EvaluationContext, identity
from advnets.evaluation.registry import METRICS, OWN, check_evaluation, extractor_of, interval
from advnets.experiment import setup
from advnets.experiment.stored_run import StoredRun
from advnets.extractors.base import Extractor
from advnets.extractors.discriminator import DiscriminatorExtractor, discriminator_extractor
from advnets.models.layers import use_batch_statistics
from advnets.report.run_report import write_report
from advnets.run_directory import RunDirectory
from advnets.sampling.rejection import DiscriminatorRejection, sample_blocks_with_rejection
from advnets.sampling.sampler import (
    BLOCK,
    NUM_SAMPLES,
    ComputeSettings,
    concatenate_blocks,
    image_blocks,
    latent_blocks,
    sample_blocks,
)
from advnets.training import devices
from advnets.training.checkpoint import load_module
from advnets.training.memory import explained

Weights = Literal["ema", "last"]


class TrainedModel:
    """A run's generator and discriminator at its newest checkpoint."""

    def __init__(
        self,
        path: Path,
        weights: Weights | None = None,
        *,
        data: str | None = None,
        data_dir: str | None = None,
    ) -> None:
        stored = StoredRun.read(path)
        self.run, self.config, self.info = stored.directory, stored.config, stored.info
        self.normalizer = stored.normalizer()
        checkpoint = stored.newest_checkpoint().checkpoint
        stage: int = checkpoint.facts["stage"]
        self.step: int = checkpoint.facts["step"]
        averaged = self.config.stages[stage].uses_ema
        self.weights: Weights = weights or ("ema" if averaged else "last")
        if self.weights == "ema" and not averaged:
            raise UsageError(
                f"{path} keeps no weight average (average_half_life is 0); ask for the last weights"
            )
        self.players = stored.players(stage)
        for name, net in self.players.items():
            kept = "ema" if self.weights == "ema" and name in averaged else "players"
            load_module(f"{kept}/{name}", net, checkpoint.tensors)
            net.eval().requires_grad_(requires_grad=False)
        self.device = torch.device("cpu")
        self._data, self._data_dir = data, data_dir

    def to(self, device: str) -> TrainedModel:
        """Move the nets to a device; return self."""
        self.device = torch.device(device)
        for net in self.players.values():
            devices.to_device(net, self.device)
        return self

    @property
    def generator(self) -> nn.Module:
        """G."""
        return self.players["generator"]

    @property
    def discriminator(self) -> nn.Module:
        """D.

        Raises:
            UsageError: the game is played without one.
        """
        return self.player("discriminator")

    def player(self, name: str) -> nn.Module:
        """A player by name.

        Raises:
            UsageError: nobody is called so in this game.
        """
        if name not in self.players:
            raise UsageError(
                f"{self.run.path} has no {name}: its game is played by {' and '.join(self.players)}"
            )
        return self.players[name]

    @property
    def compute_settings(self) -> ComputeSettings:
        """Samples are drawn in the precision that the run was trained in."""
        return ComputeSettings.of(self.config.runtime, self.device)

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        label: str | Sequence[str] | None = None,
        label_index: int | Sequence[int] | Tensor | None = None,
        class_proportions: ProportionKind = "data",
        batch_statistics: bool = False,
        keep_fraction: float = 1.0,
    ) -> Float[Tensor, "n channels height width"]:
        """Draw n images from p_g as pixels in [0, 1].

        The first images of a seed are the same whatever n is. Of a conditional run, p_g(x | y):
        `label` is the name of a class, or a name for each image; `label_index` the same by the
        index in `facts.classes`. Without either, classes are drawn: as frequent as in the training
        images ("data"), or each as frequent ("uniform"), and none without a training image.
        Batch norm takes the running statistics, or those of every 500 samples, as DCGAN's paper
        did. Of as many as are needed, `keep` is the share that D judges most real and that is
        given, from 1/500 to 1.

        Raises:
            OutOfMemoryError: so many do not fit.
            UsageError: n is not positive; the run is not conditional; no class is called so, or
                has no training image; there are not n labels; some are to be rejected and there is
                no D, or another share is to be kept.
        """
        blocks = self.sample_blocks(
            n,
            seed=seed,
            label=label,
            label_index=label_index,
            class_proportions=class_proportions,
            batch_statistics=batch_statistics,
            keep_fraction=keep_fraction,
        )
        with explained("draw fewer at once, or use sample_blocks"):
            return concatenate_blocks(blocks, n)

    def sample_blocks(
        self,
        n: int,
        *,
        seed: int = 0,
        label: str | Sequence[str] | None = None,
        label_index: int | Sequence[int] | Tensor | None = None,
        class_proportions: ProportionKind = "data",
        batch_statistics: bool = False,
        keep_fraction: float = 1.0,
    ) -> Iterator[Float[Tensor, "_ channels height width"]]:
        """Return the images of `sample` as an iterator over blocks of at most 500.

        Raises:
            UsageError: as for `sample`, at once and not when the first block is drawn.
        """
        if n < 1:
            raise UsageError(f"{n} samples were asked for; ask for at least 1")
        labels = self._labels(n, label, label_index, class_proportions)
        net = use_batch_statistics(self.generator) if batch_statistics else self.generator
        rejection = self.rejection(keep_fraction)
        if rejection is None:
            return sample_blocks(net, self.normalizer, n, seed, self.compute_settings, labels)
        return sample_blocks_with_rejection(
            net, self.normalizer, n, seed, self.compute_settings, rejection, labels
        )

    def rejection(self, keep_fraction: float) -> DiscriminatorRejection | None:
        """How D leaves samples out so that this share is kept; None where all are.

        Raises:
            UsageError: there is no D, or the share is not from 1/500 to 1.
        """
        if keep_fraction == 1:
            return None
        return DiscriminatorRejection(
            keep_fraction, self.config.stage.game, self.discriminator, self.classes
        )

    def latents(
        self,
        n: int,
        *,
        seed: int = 0,
        label: str | Sequence[str] | None = None,
        label_index: int | Sequence[int] | Tensor | None = None,
        class_proportions: ProportionKind = "data",
    ) -> Float[Tensor, "n latent"]:
        """The z of the images that `sample` draws; a conditional run's end in the class."""
        labels = self._labels(n, label, label_index, class_proportions)
        return torch.cat(list(latent_blocks(self.generator, n, seed, self.device, labels)))[:n]

    def decode(self, z: Float[Tensor, "n latent"]) -> Float[Tensor, "n channels height width"]:
        """G(z) as pixels in [0, 1], on the host."""
        blocks = z.to(self.device).split(BLOCK)
        return torch.cat(
            list(image_blocks(self.generator, self.normalizer, blocks, self.compute_settings))
        )

    @property
    def conditional(self) -> bool:
        """Whether G is told which class to make."""
        return self.config.stage.game.conditional

    @property
    def classes(self) -> int:
        """Numbers at the end of a latent that say the class."""
        return len(self.info.classes) if self.conditional else 0

    def initial_players(self) -> dict[str, nn.Module]:
        """The players that training began with, but for what the mean image puts into G."""
        nets = setup.players_of_run(self.config, len(self.config.stages) - 1, self.info)
        return {n: net.eval().requires_grad_(requires_grad=False) for n, net in nets.items()}

    def discriminator_extractor(self) -> DiscriminatorExtractor:
        """D's own features of images: all its convolutions, pooled to 4 x 4.

        Raises:
            UsageError: D has no convolutions, is told classes, or judges several images at once.
        """
        return discriminator_extractor(self.discriminator, self.normalizer, self.info.shape[0])

    def _extractor(self, asked: str | None, data: str, *, trust_code: bool) -> Extractor:
        """The one asked for: this run's D, another run's, one by its name or file; or the usual."""
        if asked == OWN:
            return self.discriminator_extractor()
        if asked is not None and RunDirectory(Path(asked)).exists:
            return replace(load(asked).discriminator_extractor(), name=f"D of {Path(asked).name}")
        return extractor_of(data, asked, trust_code=trust_code)

    def open_data(self, data: str | None = None, data_dir: str | None = None) -> PreparedData:
        """Open the data that the run was trained on, where it lies now.

        None stands for what `load` was given, and where that is None too, for the place where the
        data lay when the run was trained.

        Raises:
            DataError: it is not there, or cannot be opened.
            RunError: it is other data, by its digest.
        """
        data, data_dir = data or self._data, data_dir or self._data_dir
        spec = self.config.data
        if data is not None:
            spec = replace(spec, source=data)
        if data_dir is not None:
            spec = replace(spec, directory=data_dir)
        return open_data_of_run(self.run.path, spec, self.info)

    def _labels(
        self,
        n: int,
        label: str | Sequence[str] | None,
        label_index: int | Sequence[int] | Tensor | None,
        class_proportions: ProportionKind,
    ) -> Labels | None:
        """Return the class indices that are asked for, or the shares that they are drawn from."""
        named = label is not None or label_index is not None
        if not self.conditional:
            self._check_without_classes(named=named, class_proportions=class_proportions)
            return None
        if not named:
            return self.info.class_proportions(class_proportions)
        if class_proportions != "data":
            raise UsageError(
                f"a class and class proportions ({class_proportions}) were asked for; give one of them"
            )
        return class_indices(self.info.classes, self.info.class_counts, n, label, label_index)

    def _check_without_classes(self, *, named: bool, class_proportions: ProportionKind) -> None:
        if named or class_proportions != "data":
            asked = "a class was" if named else f"class proportions ({class_proportions}) were"
            raise UsageError(
                f"{asked} asked for, but {self.run.path} was trained without labels; leave it, or "
                "train a conditional run, as dcgan-mnist-conditional"
            )

    def evaluate(
        self,
        metrics: str | tuple[str, ...] = ("parzen",),
        *,
        extractor: str | None = None,
        trust_code: bool = False,
        data: str | None = None,
        data_dir: str | None = None,
        seed: int = 0,
        keep_fraction: float = 1.0,
        num_samples: int | None = None,
        probe_labels: tuple[int, ...] = (),
        class_proportions: ProportionKind = "data",
    ) -> list[dict[str, Any]]:
        """Score the generator on the run's data, by a metric or several; add to scores.json.

        `extractor` is what metrics of features look through, by its name or the path of its file
        (.pt2, .onnx, .safetensors), the run's own "discriminator", or the directory of the run
        whose D it is; None: the classifier of digits for MNIST, else pixels. Opening a .pt2 file
        can run any code that is in it, which `trust_code` allows. `keep` is the share
        of samples that D judges most real and that is scored; records say so. `num` is how many
        samples are, and real images beside them where there are as many; None: 10,000. `labels`
        are how many the probe is given, 0 being all; none: 100 and 1,000. `class_proportions` are those
        of the samples of a conditional run: as in the training images ("data"), or "uniform"; records
        say so. `data` and `data_dir` are as for `load`.

        Raises:
            UnknownNameError: no metric or extractor is called so.
            DataError: the data is absent or has no validation and test images; the extractor's
                file is absent, broken, or knows other images.
            MissingExtraError: the extractor needs a library that is not installed.
            RunError: scores.json cannot be read; the data is not what the run was trained on.
            UsageError: no metric is asked for; samples are to be rejected where there is no D or no
                sample; an extractor, a number or labels are given that no metric looks at; a number
                of labels is negative; a .pt2 file is given without `trust_code`;
                uniform class proportions are asked of a run without classes, or of metrics that look at no
                samples.
        """
        metrics = (metrics,) if isinstance(metrics, str) else metrics
        check_evaluation(
            metrics,
            extractor=extractor,
            keep_fraction=keep_fraction,
            num_samples=num_samples,
            probe_labels=probe_labels,
            class_proportions=class_proportions,
        )
        if not self.conditional:
            self._check_without_classes(named=False, class_proportions=class_proportions)
        self.run.scores()  # what cannot be read now, nothing can be added to
        opened = self.open_data(data, data_dir)
        subject = EvaluationContext(
            players=self.players,
            data=opened,
            seed=seed,
            step=self.step,
            weights=self.weights,
            compute_settings=self.compute_settings,
            extractor=self._extractor(extractor, opened.info.name, trust_code=trust_code),
            initial_players=self.initial_players,
            game=self.config.stage.game,
            data_config=self.config.data,
            class_proportions=opened.info.class_proportions(class_proportions)
            if self.conditional
            else None,
            rejection=self.rejection(keep_fraction),
            num_samples=NUM_SAMPLES if num_samples is None else num_samples,
            label_budgets=probe_labels,
        )
        found: list[dict[str, Any]] = []
        for name in metrics:
            with explained("score fewer samples (num)"):
                records = [
                    {**record, "interval": interval(record)} for record in METRICS[name](subject)
                ]
            self._keep(records)  # so that another metric's fault loses nothing
            found += records
        return found

    def _keep(self, records: list[dict[str, Any]]) -> None:
        """Add records to scores.json; where that cannot be written, warn and go on."""
        try:
            self.run.add_scores(records, identity)
        except WriteError as error:
            _warn(f"the scores of {records[0]['metric']} are not saved: {error}")

    def report(self) -> Path:
        """Write report.html again and return its path; where it cannot be written, warn."""
        try:
            write_report(self.run.path)
        except WriteError as error:
            _warn(f"the report is not updated: {error}")
        return self.run.path / "report.html"


def load(
    run: str | Path,
    *,
    weights: Weights | None = None,
    device: str = "cpu",
    data: str | None = None,
    data_dir: str | None = None,
) -> TrainedModel:
    """Load a run's newest checkpoint for sampling and scoring.

    `weights` are the weight average where the run keeps one, else the last. `data` is the path
    where the run's data lies now, `data_dir` the directory where its named set does; None: as it
    was trained.

    Raises:
        RunError: the directory holds no run, or one of another version.
        CheckpointError: it has no checkpoint that can be used, or one that cannot be read.

    Warns:
        RunWarning: a newer checkpoint is damaged or another run's; other versions wrote the run.
    """
    trained = TrainedModel(Path(run), weights, data=data, data_dir=data_dir)
    return trained.to(devices.resolve(Runtime(device=device)).device)


def _warn(message: str) -> None:
    warnings.warn(message, RunWarning, stacklevel=3)
