"""Who takes part in a row of the bench: each an endless iterator that yields what it has done."""

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

DRAWN = 10_000
"""Images that are sampled, and points of the Parzen window, test points too."""
MANIFOLD, INCEPTION = 1000, 2048
"""Features of an image for `prdc` and `frechet`; Inception has 2,048."""
PRODUCT = 4096
"""Rows and columns of the product by which the machine's peak is measured."""


@dataclass(frozen=True)
class Setting:
    """Where the data of a bench lies."""

    images: Path
    """A folder of JPEG files, for DCGAN."""
    data_dir: str | None = None

    def data(self, preset: str) -> config.Config:
        """The preset on the bench's data."""
        start = presets.get_preset(preset)
        data = replace(start.data, directory=self.data_dir)
        if in_color(preset):
            data = replace(data, source=str(self.images))
        # Presets for small nets choose; here everybody has the whole machine.
        return replace(start, data=data, runtime=config.Runtime())


def in_color(preset: str) -> bool:
    """Whether a preset is fed with the folder of files, and not with MNIST."""
    return baselines.SHAPES[preset][0] == 3


Contender = Callable[[Setting], Iterator[int]]


def ours(preset: str) -> Contender:
    """Rounds of the engine, as `advnets train` plays them; yields images."""

    def play(setting: Setting) -> Iterator[int]:
        run, data, device = opened(setting.data(preset))
        state = setup.make_train_state(run, data, 0, device)
        while True:
            train_step(state)
            yield run.data.batch_size

    return play


def opened(start: config.Config) -> tuple[config.Config, PreparedData, torch.device]:
    """A preset resolved, its data, and the device, prepared as a training prepares it."""
    data = open_data(start.data)
    run = setup.resolve_config(start, data.info, devices.resolve(start.runtime))
    return run, data, devices.setup_process(run.runtime)


def dataset(preset: str, setting: Setting) -> Dataset[Tensor]:
    """The same training images as a tutorial holds them."""
    spec, symmetric = setting.data(preset).data, baselines.BASELINES[preset]().symmetric
    if in_color(preset):
        return baselines.ImageFileDataset(setting.images, spec.size, symmetric=symmetric)
    train = open_dataset(spec).train
    assert isinstance(train, Split)
    return baselines.ArrayDataset(np.asarray(train.read(slice(None))), symmetric=symmetric)


def tutorial(preset: str) -> Contender:
    """What a tutorial does."""
    return lambda setting: baselines.tutorial(
        baselines.BASELINES[preset](), dataset(preset, setting)
    )


def resident(preset: str) -> Contender:
    """The same on data in memory."""
    return lambda setting: baselines.resident(
        baselines.BASELINES[preset](), dataset(preset, setting)
    )


def our_samples(setting: Setting) -> Iterator[int]:
    """10,000 images of the DCGAN generator, again and again, as `advnets sample` draws them."""
    run, data, device = opened(setting.data("dcgan-tutorial"))
    nets = build_players(run, 0, data.info.shape, torch.zeros(data.info.shape))
    generator, drawing = (
        devices.to_device(nets["generator"], device),
        ComputeSettings.of(run.runtime, device),
    )
    while True:
        for block in sample_blocks(generator, data.normalizer, DRAWN, 0, drawing):
            yield len(block)


@torch.no_grad()
def plain_samples(_: Setting) -> Iterator[int]:
    """The same in a loop of batches of 64, in float32."""
    peer = baselines.dcgan()
    generator = peer.generator.eval()
    while True:
        kept: list[Tensor] = []
        for start in range(0, DRAWN, peer.batch_size):
            rows = min(peer.batch_size, DRAWN - start)
            kept.append(generator(torch.randn(rows, *peer.latent_shape)).add(1).div(2))
            yield rows
        torch.cat(kept)


def our_parzen(setting: Setting) -> Iterator[int]:
    """The Parzen log-likelihood of MNIST's test digits under 10,000 training ones, ten σ."""
    devices.setup_process(devices.resolve(config.Runtime()))
    splits = open_dataset(setting.data("paper-mnist").data)
    assert isinstance(splits.train, Split)
    assert splits.test is not None
    centers, points = (
        torch.from_numpy(np.asarray(part.read(slice(DRAWN)))).flatten(1) / 255
        for part in (splits.train, splits.test)
    )
    while True:
        parzen_log_likelihoods(points, centers, PAPER_GRID)
        yield len(points)


def features(columns: int) -> tuple[Tensor, Tensor]:
    """Two sets of normal features, float32, as an extractor gives them."""
    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randn(DRAWN, columns, generator=generator) for _ in range(2))
    return real, fake


def our_score(score: Callable[[Tensor, Tensor], object], columns: int) -> Contender:
    """A metric of two sets of features."""

    def work(_: Setting) -> Iterator[int]:
        devices.setup_process(devices.resolve(config.Runtime()))
        real, fake = features(columns)
        while True:
            score(real, fake)
            yield DRAWN

    return work


def prdc_package(_: Setting) -> Iterator[int]:
    """Precision, recall, density and coverage by the package of its authors."""
    compute = require("prdc", "dev").compute_prdc
    real, fake = (some.numpy() for some in features(MANIFOLD))
    while True:
        with redirect_stdout(sys.stderr):  # it tells what it does
            compute(real, fake, nearest_k=5)
        yield DRAWN


def torchmetrics(_: Setting) -> Iterator[int]:
    """The Fréchet distance by torchmetrics, handed the features in the place of images."""
    metric = require("torchmetrics.image.fid", "dev").FrechetInceptionDistance(feature=_Handed())
    sets = features(INCEPTION)
    while True:
        metric.reset()
        for some, is_real in zip(sets, (True, False), strict=True):
            metric.update(some, real=is_real)
        metric.compute()
        yield DRAWN


class _Handed(nn.Module):
    """What torchmetrics asks for features, where they are there already."""

    num_features = INCEPTION

    def forward(self, x: Tensor) -> Tensor:
        return x


def product(dtype: torch.dtype) -> Contender:
    """Matrix products, by which the machine's peak is measured."""

    def multiply(_: Setting) -> Iterator[int]:
        a, b = (torch.randn(PRODUCT, PRODUCT).to(dtype) for _ in range(2))
        while True:
            torch.mm(a, b)
            yield 1

    return multiply


PEAKS: dict[str, Contender] = {name: product(dtype) for name, dtype in devices.PRECISIONS.items()}
CONTENDERS: dict[str, dict[str, Contender]] = {
    **{
        preset: {"ours": ours(preset), "tutorial": tutorial(preset), "resident": resident(preset)}
        for preset in baselines.BASELINES
    },
    "sampling": {"ours": our_samples, "plain": plain_samples},
    "parzen": {"ours": our_parzen},
    "prdc": {"ours": our_score(prdc, MANIFOLD), "prdc": prdc_package},
    "frechet": {"ours": our_score(frechet_distance, INCEPTION), "torchmetrics": torchmetrics},
}
"""By row and name."""
