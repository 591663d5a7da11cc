"""The contenders of each case: endless iterators that yield the units of work they complete."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from advnets import config, presets
from advnets.bench import baselines
from advnets.data.dataset import Split
from advnets.data.prepared import PreparedData, open_data
from advnets.data.registry import open_dataset
from advnets.errors import require
from advnets.experiment import setup
from advnets.experiment.players import build_players
from advnets.metrics.frechet import frechet_distance
from advnets.metrics.parzen import PAPER_GRID, parzen_log_likelihoods
from advnets.metrics.prdc import prdc
from advnets.sampling.sampler import ComputeSettings, sample_blocks
from advnets.training import devices
from advnets.training.step import train_step

NUM_SAMPLES = 10_000
"""The number of sampled images, of Parzen centers and test points, and of rows of features."""
PRDC_FEATURES, INCEPTION_FEATURES = 1000, 2048
"""The number of features of an image for `prdc` and for `frechet`; Inception has 2,048."""
MATMUL_SIZE = 4096
"""The side of the square matrices whose product measures the peak of the machine."""

Contender = Callable[["BenchData"], Iterator[int]]


@dataclass(frozen=True)
class BenchData:
    """Locations of the data that the cases use."""

    images: Path
    """A folder of JPEG files, for DCGAN."""
    data_dir: str | None = None
    """The folder of MNIST; None: the default."""

    def preset_config(self, preset: str) -> config.Config:
        """Return the config of a preset on these data, with all cores of the machine."""
        start = presets.get_preset(preset)
        data = replace(start.data, directory=self.data_dir)
        if uses_color_images(preset):
            data = replace(data, source=str(self.images))
        return replace(start, data=data, runtime=config.Runtime())


def uses_color_images(preset: str) -> bool:
    """Return whether a preset trains on the folder of JPEG files, not on MNIST."""
    return baselines.SHAPES[preset][0] == 3


def training(preset: str) -> Contender:
    """Return training steps of `advnets train`; the unit of work is an image."""

    def work(data: BenchData) -> Iterator[int]:
        run, prepared, device = open_preset(data.preset_config(preset))
        state = setup.make_train_state(run, prepared, 0, device)
        while True:
            train_step(state)
            yield run.batch_size

    return work


def open_preset(start: config.Config) -> tuple[config.Config, PreparedData, torch.device]:
    """Return the resolved config, the data and the device, as a training prepares them."""
    data = open_data(start.data)
    run = setup.resolve_config(start, data.info, devices.resolve(start.runtime))
    return run, data, devices.setup_process(run.runtime)


def tutorial_dataset(preset: str, data: BenchData) -> Dataset[Tensor]:
    """Return the training images of a preset as a torch Dataset."""
    spec, symmetric = data.preset_config(preset).data, baselines.BASELINES[preset]().symmetric
    if uses_color_images(preset):
        return baselines.ImageFileDataset(data.images, spec.size, symmetric=symmetric)
    train = open_dataset(spec).train
    assert isinstance(train, Split)
    return baselines.ArrayDataset(np.asarray(train.read(slice(None))), symmetric=symmetric)


def baseline_training(
    preset: str, loop: Callable[[baselines.BaselineSpec, Dataset[Tensor]], Iterator[int]]
) -> Contender:
    """Return a training loop of `baselines` on the networks and data of a preset."""
    return lambda data: loop(baselines.BASELINES[preset](), tutorial_dataset(preset, data))


def sampling(data: BenchData) -> Iterator[int]:
    """Sample 10,000 images of the DCGAN generator repeatedly, as `advnets sample` does."""
    run, prepared, device = open_preset(data.preset_config("dcgan-tutorial"))
    shape = prepared.info.shape
    players = build_players(run, 0, shape, torch.zeros(shape))
    generator = devices.to_device(players["generator"], device)
    settings = ComputeSettings.from_runtime(run.runtime, device)
    while True:
        for block in sample_blocks(generator, prepared.normalizer, NUM_SAMPLES, 0, settings):
            yield len(block)


@torch.no_grad()
def plain_sampling(_: BenchData) -> Iterator[int]:
    """Sample 10,000 images of the same generator in batches of 64, in float32."""
    spec = baselines.dcgan()
    generator = spec.generator.eval()
    while True:
        batches: list[Tensor] = []
        for start in range(0, NUM_SAMPLES, spec.batch_size):
            rows = min(spec.batch_size, NUM_SAMPLES - start)
            batches.append(generator(torch.randn(rows, *spec.latent_shape)).add(1).div(2))
            yield rows
        torch.cat(batches)


def parzen(data: BenchData) -> Iterator[int]:
    """Compute Parzen log-likelihoods of MNIST test digits, with 10,000 centers and ten σ."""
    devices.setup_process(devices.resolve(config.Runtime()))
    splits = open_dataset(data.preset_config("paper-mnist").data)
    assert isinstance(splits.train, Split)
    assert splits.test is not None
    centers, points = (
        torch.from_numpy(np.asarray(part.read(slice(NUM_SAMPLES)))).flatten(1) / 255
        for part in (splits.train, splits.test)
    )
    while True:
        parzen_log_likelihoods(points, centers, PAPER_GRID)
        yield len(points)


def features(columns: int) -> tuple[Tensor, Tensor]:
    """Return two sets of standard normal features, float32."""
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(NUM_SAMPLES, columns, generator=generator) for _ in range(2))
    return real, fake


def metric(compute: Callable[[Tensor, Tensor], object], columns: int) -> Contender:
    """Return repeated computations of a metric of two sets of features."""

    def work(_: BenchData) -> Iterator[int]:
        devices.setup_process(devices.resolve(config.Runtime()))
        real, fake = features(columns)
        while True:
            compute(real, fake)
            yield NUM_SAMPLES

    return work


def prdc_package(_: BenchData) -> Iterator[int]:
    """Compute precision, recall, density and coverage by the package `prdc`."""
    compute = require("prdc", "dev").compute_prdc
    real, fake = (rows.numpy() for rows in features(PRDC_FEATURES))
    while True:
        with redirect_stdout(sys.stderr):  # the package prints its progress
            compute(real, fake, nearest_k=5)
        yield NUM_SAMPLES


def torchmetrics(_: BenchData) -> Iterator[int]:
    """Compute the Fréchet distance by torchmetrics, with features in place of images."""
    fid = require("torchmetrics.image.fid", "dev").FrechetInceptionDistance(feature=_Identity())
    sets = features(INCEPTION_FEATURES)
    while True:
        fid.reset()
        for images, is_real in zip(sets, (True, False), strict=True):
            fid.update(images, real=is_real)
        fid.compute()
        yield NUM_SAMPLES


class _Identity(nn.Module):
    """A feature extractor that returns its input."""

    num_features = INCEPTION_FEATURES

    def forward(self, x: Tensor) -> Tensor:
        return x


def matmul(dtype: torch.dtype) -> Contender:
    """Return repeated matrix products, which measure the peak of the machine."""

    def work(_: BenchData) -> Iterator[int]:
        a, b = (torch.randn(MATMUL_SIZE, MATMUL_SIZE).to(dtype) for _ in range(2))
        while True:
            torch.mm(a, b)
            yield 1

    return work


PEAKS: dict[str, Contender] = {name: matmul(dtype) for name, dtype in devices.PRECISIONS.items()}
CONTENDERS: dict[str, dict[str, Contender]] = {
    **{
        preset: {
            "advnets": training(preset),
            "tutorial": baseline_training(preset, baselines.tutorial_loop),
            "resident": baseline_training(preset, baselines.resident_loop),
        }
        for preset in baselines.BASELINES
    },
    "sampling": {"advnets": sampling, "plain": plain_sampling},
    "parzen": {"advnets": parzen},
    "prdc": {"advnets": metric(prdc, PRDC_FEATURES), "prdc": prdc_package},
    "frechet": {
        "advnets": metric(frechet_distance, INCEPTION_FEATURES),
        "torchmetrics": torchmetrics,
    },
}
"""The contenders of each case, by name; `advnets` is this package, the others are baselines."""
