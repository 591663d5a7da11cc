"""A trained model, loaded from a run directory: sampling, inversion and evaluation.

Modules that only evaluation, reports or the data need are imported in the methods that use them, so
that drawing a sample imports little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from advnets.config import Config, CustomDiscriminator, CustomGenerator, Runtime
from advnets.data.class_proportions import Label, LabelIndex, Labels, ProportionKind, class_indices
from advnets.data.prepared import DatasetInfo, PreparedData, check_run_data, open_run_data
from advnets.errors import UsageError, WriteError, check_type, public_function, warn_user
from advnets.experiment.stored_run import StoredRun, players_of_run, run_and_step
from advnets.models.custom import Factory, check_custom_models, load_custom_models, register_model
from advnets.models.layers import use_batch_statistics
from advnets.protocols import Generator
from advnets.run_directory import RunDirectory
from advnets.sampling.sampler import (
    BLOCK,
    ComputeSettings,
    concatenate_blocks,
    image_blocks,
    latent_blocks,
    sample_blocks,
)
from advnets.training import devices
from advnets.training.checkpoint import WEIGHTS_ONLY, load_tensors
from advnets.training.memory import explain_errors

if TYPE_CHECKING:
    from advnets.data.normalization import Normalizer
    from advnets.evaluation.spec import MetricNames
    from advnets.extractors.discriminator import DiscriminatorExtractor
    from advnets.sampling.inversion import Inversion
    from advnets.sampling.rejection import DiscriminatorRejection
else:
    MetricNames = object  # `evaluate` checks it: its types are slow to import

Weights = Literal["ema", "last"]
Step = int | Literal["best"]
"""The step of a checkpoint."""


class TrainedModel:
    """The generator, discriminator and other players of a run at one of its checkpoints."""

    def __init__(
        self,
        path: Path,
        weights: Weights | None = None,
        *,
        step: Step | None = None,
        data: object = None,
        labels: object = None,
        data_dir: str | Path | None = None,
        trust_code: bool = False,
    ) -> None:
        # Read the run and its checkpoint.
        stored = StoredRun.read(path)
        load_custom_models(stored.config, trust_code=trust_code)
        self.run: RunDirectory = stored.directory
        self.config: Config = stored.config
        self.info: DatasetInfo = stored.info
        self.normalizer: Normalizer = stored.normalizer()
        checkpoint = stored.checkpoint_of(step).checkpoint
        stage: int = checkpoint.metadata["stage"]
        self.step: int = checkpoint.metadata["step"]
        ema_players = self.config.stages[stage].ema_players
        self.weights: Weights = weights or ("ema" if ema_players else "last")
        if self.weights == "ema" and not ema_players:
            raise UsageError(
                f"{path} was trained without an EMA of the weights (ema_half_life is 0); give "
                "--weights last"
            )

        # Build the networks and load their weights.
        self.players: dict[str, nn.Module] = stored.players(stage)
        self.weights_only: bool = bool(checkpoint.metadata.get(WEIGHTS_ONLY))
        if self.weights_only:
            self.players.pop("discriminator", None)
        for name, net in self.players.items():
            prefix = "ema" if self.weights == "ema" and name in ema_players else "players"
            load_tensors(f"{prefix}/{name}", net, checkpoint.tensors)
            net.eval().requires_grad_(requires_grad=False)
        self.device = torch.device("cpu")
        self._data, self._data_labels, self._data_dir = data, labels, data_dir

    def __repr__(self) -> str:
        return (
            f"TrainedModel({str(self.run.path)!r}, step={self.step:,}, weights={self.weights!r}, "
            f"preset={self.config.preset!r}, device={str(self.device)!r})"
        )

    @public_function
    def to(self, device: str | torch.device) -> TrainedModel:
        """Move the networks to a device and return self.

        Args:
            device: auto, cpu, cuda, cuda:N, mps, or a torch.device.

        Raises:
            UsageError: the device is unknown to torch or missing on this machine.
        """
        self.device: torch.device = torch.device(
            devices.resolve(Runtime(device=str(device))).device
        )
        for net in self.players.values():
            devices.to_device(net, self.device)
        return self

    @property
    def generator(self) -> nn.Module:
        """The generator, G."""
        return self.players["generator"]

    @property
    def discriminator(self) -> nn.Module:
        """The discriminator, D.

        Raises:
            UsageError: the game has no discriminator.
        """
        return self.player("discriminator")

    @public_function
    def player(self, name: str) -> nn.Module:
        """Return a player by name.

        Args:
            name: generator, discriminator or encoder.

        Raises:
            UsageError: the game has no player of this name.
        """
        if name not in self.players:
            kept = "whose weights were kept" if self.weights_only else "of its game"
            raise UsageError(
                f"{self.run.path} has no {name}; the players {kept} are "
                f"{' and '.join(self.players)}"
            )
        return self.players[name]

    @property
    def compute_settings(self) -> ComputeSettings:
        """The device and precision for drawing samples; the precision is that of the training."""
        return ComputeSettings.from_runtime(self.config.runtime, self.device)

    @public_function
    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        label: Label = None,
        label_index: LabelIndex = None,
        class_proportions: ProportionKind = "data",
        batch_statistics: bool = False,
        keep_fraction: float = 1.0,
    ) -> Float[Tensor, "n channels height width"]:
        """Draw n images from the generator, p_g(x), as pixels in [0, 1].

        The first images of a seed do not depend on n.

        Args:
            n: number of images.
            seed: random seed of z, any integer.
            label: the class name, or n names, for a class-conditional run, which draws from
                p_g(x | y).
            label_index: the class index, or n indices, into `info.classes`, instead of `label`.
            class_proportions: without a label, classes are drawn as often as in the training images
                ("data") or equally often ("uniform"), never a class without a training image.
            batch_statistics: use the statistics of each block of 500 samples in batch norm, as in
                the DCGAN paper, instead of the running statistics.
            keep_fraction: the fraction of samples, from 1/500 to 1, that discriminator rejection
                sampling keeps: those with the largest logits of D.

        Raises:
            OutOfMemoryError: n images do not fit into memory.
            UsageError: n is not positive; a label is given for an unconditional run; a class is
                unknown or has no training image; the number of labels is not n; `keep_fraction` is
                out of range, or below 1 for a game without a discriminator.

        Example:
            >>> model = advnets.load("runs/digits")
            >>> model.sample(16, seed=1).shape
            torch.Size([16, 1, 8, 8])
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
        with explain_errors("draw fewer images at once, or use sample_blocks"):
            return concatenate_blocks(blocks, n)

    @public_function
    def sample_blocks(
        self,
        n: int,
        *,
        seed: int = 0,
        label: Label = None,
        label_index: LabelIndex = None,
        class_proportions: ProportionKind = "data",
        batch_statistics: bool = False,
        keep_fraction: float = 1.0,
    ) -> Iterator[Float[Tensor, "_ channels height width"]]:
        """Return an iterator over the images of `sample`, in blocks of at most 500.

        The arguments are those of `sample`.

        Raises:
            UsageError: as for `sample`, at once and not when the first block is drawn.
        """
        labels = self._labels(n, label, label_index, class_proportions)
        net = use_batch_statistics(self.generator) if batch_statistics else self.generator
        rejection = self.rejection(keep_fraction)
        if rejection is None:
            return sample_blocks(net, self.normalizer, n, seed, self.compute_settings, labels)
        from advnets.sampling.rejection import sample_blocks_with_rejection

        return sample_blocks_with_rejection(
            net, self.normalizer, n, seed, self.compute_settings, rejection, labels
        )

    @public_function
    def rejection(self, keep_fraction: float) -> DiscriminatorRejection | None:
        """Return the discriminator rejection that keeps this fraction of samples; None for 1.

        Args:
            keep_fraction: the fraction, from 1/500 to 1.

        Raises:
            UsageError: the game has no discriminator, or the fraction is not from 1/500 to 1.
        """
        if keep_fraction == 1:
            return None
        from advnets.sampling.rejection import DiscriminatorRejection

        return DiscriminatorRejection(
            keep_fraction, self.config.stage.game, self.discriminator, self.classes
        )

    @public_function
    def latents(
        self,
        n: int,
        *,
        seed: int = 0,
        label: Label = None,
        label_index: LabelIndex = None,
        class_proportions: ProportionKind = "data",
    ) -> Float[Tensor, "n latent"]:
        """Return the z of the images that `sample` draws.

        For a class-conditional run, each z ends in the one-hot class. The arguments are those of
        `sample`.

        Raises:
            UsageError: as for `sample`.
        """
        labels = self._labels(n, label, label_index, class_proportions)
        return torch.cat(list(latent_blocks(self.generator, n, seed, self.device, labels)))[:n]

    @public_function
    def decode(self, z: Float[Tensor, "n latent"]) -> Float[Tensor, "n channels height width"]:
        """Return G(z) as pixels in [0, 1], on the CPU.

        Args:
            z: latents, as `latents` returns them.

        Raises:
            UsageError: z is not of shape (n, latent).
        """
        latent_dim = cast(Generator, self.generator).latent_dim
        if z.shape[1] != latent_dim:
            raise UsageError(f"z has shape {tuple(z.shape)}; expected (n, {latent_dim})")
        blocks = z.to(self.device).split(BLOCK)
        return torch.cat(
            list(image_blocks(self.generator, self.normalizer, blocks, self.compute_settings))
        )

    @public_function
    def discriminator_logits(
        self,
        images: object,
        *,
        label: Label = None,
        label_index: LabelIndex = None,
    ) -> Float[Tensor, " n"]:
        """Return D's logits a(x) of images; D(x) = sigmoid(a(x)) for the objectives of 2014.

        Pixels are rounded to the levels that training images have. A D of pairs of an image and its
        latent is given the mean of q(z | x).

        Args:
            images: arrays or tensors with pixels in [0, 1] or uint8, of the shape of the run's
                images, or other images in memory as for `train`; those from files and PIL images
                are resized to this shape.
            label: the name of the images' class, or n names, for a class-conditional run.
            label_index: the class index, or n indices, into `info.classes`, instead of `label`.

        Raises:
            UsageError: the images have another shape or range; the game has no discriminator, or
                one that takes several images at once; a class is missing or does not apply.

        Example:
            >>> model = advnets.load("runs/digits")
            >>> model.discriminator_logits(model.sample(4)).shape
            torch.Size([4])
        """
        from advnets.experiment.inference import discriminator_logits

        return discriminator_logits(self, images, label, label_index)

    @public_function
    def invert(
        self,
        images: object,
        *,
        label: Label = None,
        label_index: LabelIndex = None,
        steps: int = 500,
        lr: float = 0.1,
        seed: int = 0,
    ) -> Inversion:
        """Find latents z whose images G(z) are nearest to given images.

        The squared error is minimized from the best of 16 random z, and of the encoder's mean where
        the run has one. z is not restricted to values that the prior makes likely.

        Args:
            images: arrays or tensors with pixels in [0, 1] or uint8, of the shape of the run's
                images, or other images in memory as for `train`; those from files and PIL images
                are resized to this shape.
            label: the name of the images' class, or n names, for a class-conditional run.
            label_index: the class index, or n indices, into `info.classes`, instead of `label`.
            steps: number of steps of Adam.
            lr: learning rate of Adam.
            seed: random seed of the z to start from.

        Returns:
            `z`, the `images` G(z) with pixels in [0, 1], and the mean squared `errors`.

        Raises:
            UsageError: the images have another shape or range; the generator inpaints; a class is
                missing or does not apply; a number is not positive.

        Example:
            >>> model = advnets.load("runs/digits")
            >>> model.invert(model.sample(4), steps=10).z.shape
            torch.Size([4, 32])
        """
        from advnets.experiment.inference import invert_images

        return invert_images(self, images, label, label_index, steps=steps, lr=lr, seed=seed)

    def _repr_html_(self) -> str:
        """Return a grid of samples and the training curves as HTML, for notebooks."""
        from advnets.experiment.inference import model_html

        return model_html(self)

    @property
    def conditional(self) -> bool:
        """Whether the generator is class-conditional."""
        return self.config.stage.game.conditional

    @property
    def classes(self) -> int:
        """The number of classes of a conditional generator, and of one-hot values in z; else 0."""
        return len(self.info.classes) if self.conditional else 0

    def initial_players(self) -> dict[str, nn.Module]:
        """Build the players with their initial weights, but with zero as the output bias of G."""
        nets = players_of_run(self.config, len(self.config.stages) - 1, self.info)
        return {n: net.eval().requires_grad_(requires_grad=False) for n, net in nets.items()}

    def discriminator_extractor(self) -> DiscriminatorExtractor:
        """Return a feature extractor of D's convolutional layers, pooled to 4 x 4.

        Raises:
            UsageError: D has no convolutions, is class-conditional, or takes packs of images.
        """
        from advnets.extractors.discriminator import discriminator_extractor

        return discriminator_extractor(self.discriminator, self.normalizer, self.info.shape[0])

    @public_function
    def open_data(self) -> PreparedData:
        """Open the data that the run was trained on: the recorded source, or the data of `load`.

        Raises:
            DataError: the data is missing, or cannot be opened.
            RunError: the data is not what the run was trained on (its digest differs).
        """
        spec, dataset = self.config.data, None
        if isinstance(self._data, str | Path):
            spec = replace(spec, source=str(self._data))
        elif self._data is not None:
            from advnets.data.memory import as_dataset

            dataset = as_dataset(self._data, self._data_labels, spec)
        if self._data_dir is not None:
            spec = replace(spec, directory=str(self._data_dir))
        return open_run_data(self.run.path, spec, self.info, dataset, self.config.data.source)

    def _labels(
        self,
        n: int,
        label: Label,
        label_index: LabelIndex,
        class_proportions: ProportionKind,
    ) -> Labels | None:
        """Return the class of each sample, or the proportions of classes; None: no classes."""
        if n < 1:
            raise UsageError(f"the number of samples is {n}; give at least 1")
        named = label is not None or label_index is not None
        if not self.conditional:
            self.check_without_classes(named=named, class_proportions=class_proportions)
            return None
        if not named:
            return self.info.class_proportions(class_proportions)
        if class_proportions != "data":
            raise UsageError(
                f"both a class and class_proportions {class_proportions!r} were given; give one of "
                "them"
            )
        return class_indices(self.info.classes, self.info.class_counts, n, label, label_index)

    def check_without_classes(self, *, named: bool, class_proportions: ProportionKind) -> None:
        """Refuse a class, or proportions of classes, for a run that is not class-conditional.

        Args:
            named: whether a class was given.
            class_proportions: as for `sample`.

        Raises:
            UsageError: one of them was given.
        """
        if named or class_proportions != "data":
            what = "a class" if named else f"class_proportions {class_proportions!r}"
            raise UsageError(
                f"{what} was given, but {self.run.path} is not class-conditional; leave it out, or "
                "train a conditional preset such as dcgan-mnist-conditional"
            )

    @public_function
    def evaluate(
        self,
        metrics: MetricNames = "parzen",
        *,
        extractor: str | Path | None = None,
        trust_code: bool = False,
        real: object = None,
        seed: int = 0,
        keep_fraction: float = 1.0,
        num_samples: int | None = None,
        probe_labels: tuple[int, ...] = (),
        class_proportions: ProportionKind = "data",
    ) -> list[dict[str, Any]]:
        """Compute one or several metrics on the run's data and add the records to scores.json.

        Args:
            metrics: names of metrics (`advnets evaluate --help`), MetricSpecs, or FILE.py:NAME.
            extractor: the feature extractor of metrics that need one: its name, the path of its
                file (.pt2, .onnx, .safetensors), "discriminator" for the run's own D, or the path
                of a run whose D it is. None: the digits classifier for MNIST, else pixels.
            trust_code: open a .pt2 file, which can run any code in it.
            real: images to compare samples with, instead of the run's test images: the test images
                of a dataset or path, or all of some images in memory.
            seed: random seed of the samples.
            keep_fraction: the fraction of samples that discriminator rejection sampling keeps:
                those with the largest logits of D.
            num_samples: number of samples, and of real images if there are as many; None: 10,000.
            probe_labels: numbers of labels of the linear probe, 0 for all; empty: 100 and 1,000.
            class_proportions: how often each class of a conditional run is drawn: as in the
                training images ("data") or equally often ("uniform").

        Returns:
            The new records, one for each row and setting of a metric.

        Raises:
            UnknownNameError: no metric or extractor has this name.
            DataError: the data is missing or has no validation and test images; the extractor's
                file is missing, broken, or for images of another size.
            MissingExtraError: the extractor needs a library that is not installed.
            RunError: scores.json cannot be read; the data is not what the run was trained on.
            UsageError: no metric is given; an option does not apply to any of the metrics or to the
                run's game; a number is out of range; a .pt2 file is given without `trust_code`.
        """
        from advnets.evaluation import spec
        from advnets.experiment.scoring import score_model

        check_type("metrics", metrics, spec.MetricNames)
        return score_model(
            self,
            metrics,
            extractor=None if extractor is None else str(extractor),
            trust_code=trust_code,
            real=real,
            seed=seed,
            keep_fraction=keep_fraction,
            num_samples=num_samples,
            probe_labels=tuple(probe_labels),
            class_proportions=class_proportions,
        )

    def report(self) -> Path:
        """Write report.html and return its path; warn if it cannot be written."""
        from advnets.report.run_report import write_report

        try:
            write_report(self.run.path)
        except WriteError as error:
            warn_user(f"the report is not updated: {error}")
        return self.run.path / "report.html"


@public_function
def load(
    run: str | Path,
    *,
    step: Step | None = None,
    weights: Weights | None = None,
    device: str | torch.device = "cpu",
    data: object = None,
    labels: object = None,
    data_dir: str | Path | None = None,
    trust_code: bool = False,
    generator: str | Factory | None = None,
    discriminator: str | Factory | None = None,
) -> TrainedModel:
    """Load a checkpoint of a run for sampling and evaluation.

    Args:
        run: the run directory, or a file of its folder checkpoints/.
        step: the step of a kept checkpoint, or "best"; None: the newest one that can be used.
        weights: "ema" for the exponential moving average, "last" for the last weights; None: the
            average if the run has one.
        device: auto, cpu, cuda, cuda:N, mps, or a torch.device.
        data: the path of the run's data if it has moved, or the data itself if it is in memory.
        labels: the class of each image in memory, as given to `train`.
        data_dir: the directory of the run's named dataset if it has moved.
        trust_code: run the Python file that the run names as its generator or discriminator.
        generator: the class, function or FILE.py:NAME of the run's custom generator, the one that
            it was trained with.
        discriminator: the same for a custom discriminator.

    Raises:
        RunError: the directory holds no run, or one of another version; the file is not in one; the
            run has custom models, and their code is neither given nor trusted.
        UsageError: the run keeps no checkpoint of this step, or has no EMA.
        CheckpointError: no checkpoint can be used, or one cannot be read.

    Warns:
        RunWarning: a newer checkpoint is damaged or of another run; the run was written by other
            versions of libraries.

    Example:
        >>> model = advnets.load("runs/digits")
        >>> model
        TrainedModel('runs/digits', step=20, weights='ema', preset='digits', device='cpu')
    """
    if generator is not None:
        register_model(CustomGenerator(), generator)
    if discriminator is not None:
        register_model(CustomDiscriminator(), discriminator)
    path = Path(run)
    if path.suffix == ".safetensors":
        if step is not None:
            raise UsageError(f"{path} is a checkpoint, and step is {step}; give one of them")
        path, step = run_and_step(path)
    check_run_data(path, data, labels)
    trained = TrainedModel(
        path,
        weights,
        step=step,
        data=data,
        labels=labels,
        data_dir=data_dir,
        trust_code=trust_code,
    )
    check_custom_models(trained.config, generator, discriminator)
    return trained.to(device)
