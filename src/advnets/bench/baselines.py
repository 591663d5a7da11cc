"""What ours is measured against: the nets in plain PyTorch, and two loops as tutorials write them.

They are kept as a reader of tutorials knows them; nothing here is for use.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class PlainMaxout(nn.Module):
    """The largest of `pieces` linear maps."""

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.units, self.pieces = units, pieces
        self.linear = nn.Linear(inputs, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, units)."""
        return self.linear(x).view(-1, self.units, self.pieces).max(2).values


@dataclass(frozen=True)
class BaselineSpec:
    """A pair of nets with all that a tutorial's loop needs; images are in [-1, 1] or [0, 1]."""

    generator: nn.Module
    discriminator: nn.Module
    latent_shape: tuple[int, ...]
    batch_size: int
    lr: float
    symmetric: bool


def mlp() -> BaselineSpec:
    """The fully connected pair of tutorials, 784 pixels."""
    sizes = (100, 128, 256, 512, 1024)
    blocks = itertools.chain.from_iterable(
        (nn.Linear(a, b), nn.BatchNorm1d(b), nn.LeakyReLU(0.2))
        for a, b in itertools.pairwise(sizes)
    )
    return BaselineSpec(
        nn.Sequential(*blocks, nn.Linear(1024, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28))),
        nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(784, 512), nn.LeakyReLU(0.2), nn.Linear(512, 256), nn.LeakyReLU(0.2)),
            *(nn.Linear(256, 1), nn.Sigmoid()),
        ),
        latent_shape=(100,),
        batch_size=64,
        lr=2e-4,
        symmetric=True,
    )


def paper_mnist() -> BaselineSpec:
    """The pair of the 2014 MNIST experiment."""
    return BaselineSpec(
        nn.Sequential(
            *(nn.Linear(100, 1200), nn.ReLU(), nn.Linear(1200, 1200), nn.ReLU()),
            *(nn.Linear(1200, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28))),
        ),
        nn.Sequential(
            *(nn.Flatten(), nn.Dropout(0.2), PlainMaxout(784, 240, 5)),
            *(nn.Dropout(0.5), PlainMaxout(240, 240, 5), nn.Dropout(0.5)),
            *(nn.Linear(240, 1), nn.Sigmoid()),
        ),
        latent_shape=(100,),
        batch_size=100,
        lr=2e-4,
        symmetric=False,
    )


def dcgan() -> BaselineSpec:
    """The deep convolutional pair for 64 x 64 x 3."""
    generator: list[nn.Module] = [nn.ConvTranspose2d(100, 512, 4, bias=False)]
    discriminator: list[nn.Module] = [nn.Conv2d(3, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    for wide, narrow in itertools.pairwise((512, 256, 128, 64)):
        generator += [nn.BatchNorm2d(wide), nn.ReLU()]
        generator += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)]
    for narrow, wide in itertools.pairwise((64, 128, 256, 512)):
        discriminator += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=False)]
        discriminator += [nn.BatchNorm2d(wide), nn.LeakyReLU(0.2)]
    generator += [nn.BatchNorm2d(64), nn.ReLU(), nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False)]
    return BaselineSpec(
        nn.Sequential(*generator, nn.Tanh()),
        nn.Sequential(*discriminator, nn.Conv2d(512, 1, 4, bias=False), nn.Sigmoid()),
        latent_shape=(100, 1, 1),
        batch_size=64,
        lr=2e-4,
        symmetric=True,
    )


BASELINES = {"mlp": mlp, "paper-mnist": paper_mnist, "dcgan-tutorial": dcgan}
SHAPES = {"mlp": (1, 28, 28), "paper-mnist": (1, 28, 28), "dcgan-tutorial": (3, 64, 64)}
"""Of their images: gray ones are MNIST's, colors come from a folder of files."""


class ArrayDataset(Dataset[Tensor]):
    """Images in memory as bytes, each brought to a tensor when it is asked for."""

    def __init__(self, images: np.ndarray, *, symmetric: bool) -> None:
        self.images, self.symmetric = images, symmetric

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return as_tensor(Image.fromarray(self.images[index][0]), symmetric=self.symmetric)


class ImageFileDataset(Dataset[Tensor]):
    """Images in a folder, each read, decoded and brought to size when it is asked for."""

    def __init__(self, folder: Path, size: int, *, symmetric: bool) -> None:
        self.files, self.size = sorted(folder.glob("*.jpg")), size
        self.symmetric = symmetric

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.files[index]) as file:
            side = min(file.size)
            left, top = (file.width - side) // 2, (file.height - side) // 2
            image = file.convert("RGB").crop((left, top, left + side, top + side))
        size = (self.size, self.size)
        return as_tensor(image.resize(size, Image.Resampling.BILINEAR), symmetric=self.symmetric)


def as_tensor(image: Image.Image, *, symmetric: bool) -> Tensor:
    """An image as float32 (C, H, W), in [-1, 1] or [0, 1]."""
    values = torch.from_numpy(np.array(image, dtype=np.uint8))
    values = values[None] if values.ndim == 2 else values.permute(2, 0, 1)
    values = values.to(torch.float32).div(255)
    return values.sub(0.5).div(0.5) if symmetric else values


def tutorial(peer: BaselineSpec, images: Dataset[Tensor]) -> Iterator[int]:
    """Train for ever as a tutorial does; yields the images of each step.

    DataLoader with per-image transforms, two passes of D, Adam, float32, `.item()` each step.
    """
    loader = DataLoader(images, batch_size=peer.batch_size, shuffle=True)
    step = step_of(peer)
    while True:
        for real in loader:
            _shown = [loss.item() for loss in step(real)]
            yield len(real)


def resident(peer: BaselineSpec, images: Dataset[Tensor]) -> Iterator[int]:
    """The same on data already in memory as float32, and without `.item()`."""
    everything = torch.stack([images[i] for i in range(len(images))])  # type: ignore[arg-type]
    step = step_of(peer)
    while True:
        for chosen in torch.randperm(len(everything)).split(peer.batch_size):
            step(everything[chosen])
            yield len(chosen)


def step_of(peer: BaselineSpec) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """One round as tutorials write it: D on real, D on fake, then G on the same fakes."""
    g, d, criterion = peer.generator, peer.discriminator, nn.BCELoss()
    optimizer_d, optimizer_g = (
        torch.optim.Adam(net.parameters(), peer.lr, betas=(0.5, 0.999)) for net in (d, g)
    )

    def step(real: Tensor) -> tuple[Tensor, Tensor]:
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))

        optimizer_d.zero_grad()
        real_loss = criterion(d(real).view(-1), ones)
        real_loss.backward()
        fake = g(torch.randn(len(real), *peer.latent_shape))
        fake_loss = criterion(d(fake.detach()).view(-1), zeros)
        fake_loss.backward()
        optimizer_d.step()

        optimizer_g.zero_grad()
        g_loss = criterion(d(fake).view(-1), ones)
        g_loss.backward()
        optimizer_g.step()
        return real_loss.detach() + fake_loss.detach(), g_loss.detach()

    return step
