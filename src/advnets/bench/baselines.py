"""Baselines of the benchmarks: networks in plain PyTorch, and training loops as in tutorials.

`python -m advnets.bench.baselines PRESET FOLDER` is a script as in tutorials, which trains for one
epoch on MNIST or a folder of images, and imports no more than such a script does.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class PlainMaxout(nn.Module):
    """A maxout layer: the maximum of `pieces` linear maps."""

    def __init__(self, inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.units: int = units
        self.pieces: int = pieces
        self.linear: nn.Linear = nn.Linear(inputs, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs) to (batch, units)."""
        return self.linear(x).view(-1, self.units, self.pieces).max(2).values


@dataclass(frozen=True)
class BaselineSpec:
    """Two networks and the hyperparameters of their training."""

    generator: nn.Module
    discriminator: nn.Module
    latent_shape: tuple[int, ...]
    batch_size: int
    lr: float
    symmetric: bool
    """Whether images are in [-1, 1]; if not, they are in [0, 1]."""


def mlp() -> BaselineSpec:
    """Return the fully connected networks of tutorials, for 28 x 28 pixels."""
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
    """Return the networks of the 2014 MNIST experiment."""
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
    """Return the DCGAN networks for 64 x 64 pixels in color."""
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
"""Shapes of the images: gray ones are from MNIST, color ones from a folder of files."""


class ArrayDataset(Dataset[Tensor]):
    """A dataset of images in memory as bytes, converted to tensors on access."""

    def __init__(self, images: np.ndarray, *, symmetric: bool) -> None:
        self.images: np.ndarray = images
        self.symmetric: bool = symmetric

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return as_tensor(Image.fromarray(self.images[index][0]), symmetric=self.symmetric)


class ImageFileDataset(Dataset[Tensor]):
    """A dataset of JPEG files in a folder, decoded, cropped and resized on access."""

    def __init__(self, folder: Path, size: int, *, symmetric: bool) -> None:
        self.files: list[Path] = sorted(folder.glob("*.jpg"))
        self.size: int = size
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
    """Convert an image to float32 (C, H, W), in [-1, 1] if `symmetric`, else in [0, 1]."""
    values = torch.from_numpy(np.array(image, dtype=np.uint8))
    values = values[None] if values.ndim == 2 else values.permute(2, 0, 1)
    values = values.to(torch.float32).div(255)
    return values.sub(0.5).div(0.5) if symmetric else values


def tutorial_loop(spec: BaselineSpec, images: Dataset[Tensor]) -> Iterator[int]:
    """Train without end as tutorials do; yield the number of images of each step.

    The loop has a DataLoader with per-image transforms, two passes of D, Adam, float32, and
    `.item()` in each step.
    """
    loader = DataLoader(images, batch_size=spec.batch_size, shuffle=True)
    step = make_step(spec)
    while True:
        for real in loader:
            _logged = [loss.item() for loss in step(real)]
            yield len(real)


def resident_loop(spec: BaselineSpec, images: Dataset[Tensor]) -> Iterator[int]:
    """Train like `tutorial_loop` on tensors in memory, without `.item()`."""
    data = torch.stack([images[i] for i in range(len(images))])  # type: ignore[arg-type]
    step = make_step(spec)
    while True:
        for chosen in torch.randperm(len(data)).split(spec.batch_size):
            step(data[chosen])
            yield len(chosen)


def make_step(spec: BaselineSpec) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return a training step as in tutorials: D on real and fake images, then G on the same."""
    g, d, criterion = spec.generator, spec.discriminator, nn.BCELoss()
    optimizer_d, optimizer_g = (
        torch.optim.Adam(net.parameters(), spec.lr, betas=(0.5, 0.999)) for net in (d, g)
    )

    def step(real: Tensor) -> tuple[Tensor, Tensor]:
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))

        optimizer_d.zero_grad()
        real_loss = criterion(d(real).view(-1), ones)
        real_loss.backward()
        fake = g(torch.randn(len(real), *spec.latent_shape))
        fake_loss = criterion(d(fake.detach()).view(-1), zeros)
        fake_loss.backward()
        optimizer_d.step()

        optimizer_g.zero_grad()
        g_loss = criterion(d(fake).view(-1), ones)
        g_loss.backward()
        optimizer_g.step()
        return real_loss.detach() + fake_loss.detach(), g_loss.detach()

    return step


def main(preset: str, folder: str) -> None:
    """Train for one epoch on MNIST in a folder ("": the default), or on a folder of JPEG files."""
    spec, shape = BASELINES[preset](), SHAPES[preset]
    if shape[0] == 3:
        images: Dataset[Tensor] = ImageFileDataset(Path(folder), shape[1], symmetric=spec.symmetric)
    else:
        from advnets.data.dataset import Split
        from advnets.data.datasets.mnist import open_mnist
        from advnets.data.spec import dataset_folders

        train = open_mnist(dataset_folders("mnist", folder or None)).train
        assert isinstance(train, Split)
        images = ArrayDataset(np.asarray(train.read(slice(None))), symmetric=spec.symmetric)
    trained = 0
    for done in tutorial_loop(spec, images):
        trained += done
        if trained >= len(images):  # pyright: ignore[reportArgumentType]: both have a length
            break


if __name__ == "__main__":
    main(*sys.argv[1:])
