"""Pictures between pictures: walks through z, and squares of it."""

from __future__ import annotations

import torch
from PIL import Image

from advnets.errors import UsageError
from advnets.experiment.trained_model import Trained
from advnets.views.image_grid import grid
from advnets.visualize.figure import Look, of_run, rows
from advnets.visualize.latents import Path, between


def walk(
    trained: Trained, *, stops: int = 9, steps: int = 10, path: Path = "spherical", seed: int = 0
) -> Look:
    """A row from each stop to the next: G along a path through that many random z.

    Smooth change says that G has learned no list of pictures (Radford et al. 2015, figure 4). The
    movie goes the same way, and back to the first stop.

    Raises:
        UsageError: fewer than two stops, or steps.
    """
    at_least_two(stops=stops, steps=steps)
    z = trained.latents(stops, seed=seed)
    t = torch.linspace(0, 1, steps, device=z.device)
    pictures = trained.pictures(between(path, z[:-1], z[1:], t, trained.classes).flatten(0, 1))
    moved = pictures.unflatten(0, (stops - 1, steps)).diff(dim=1).flatten(2).norm(dim=2)
    around = between(path, z, z.roll(-1, 0), t[:-1], trained.classes).flatten(0, 1)
    return Look(
        grid(pictures, columns=steps),
        of_run(
            trained,
            view="walk",
            path=path,
            stops=stops,
            steps=steps,
            seed=seed,
            distance_of_steps={"mean": float(moved.mean()), "largest": float(moved.max())},
        ),
        tuple(frame(picture) for picture in trained.pictures(around)),
    )


def slerp_grid(trained: Trained, *, size: int = 9, path: Path = "spherical", seed: int = 0) -> Look:
    """A square of pictures between the four at its corners, whose z are random.

    Raises:
        UsageError: a size of less than two.
    """
    at_least_two(size=size)
    z = trained.latents(4, seed=seed)
    t = torch.linspace(0, 1, size, device=z.device)
    left, right = between(path, z[:2], z[2:], t, trained.classes)
    square = between(path, left, right, t, trained.classes)
    return Look(
        rows(trained.pictures(square.flatten(0, 1)).unflatten(0, (size, size))),
        of_run(trained, view="slerp-grid", path=path, size=size, seed=seed),
    )


def frame(picture: torch.Tensor) -> Image.Image:
    """One picture as large as it is in a grid, without the border."""
    return grid(picture[None])


def at_least_two(**numbers: int) -> None:
    """Refuse less.

    Raises:
        UsageError: a number is less than two.
    """
    for name, number in numbers.items():
        if number < 2:
            raise UsageError(f"{name} is {number}; expected 2 or more")
