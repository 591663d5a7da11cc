"""Test images, and what comes back of them through z."""

from __future__ import annotations

from typing import cast

import torch

from advnets.errors import UsageError
from advnets.experiment.trained_model import TrainedModel
from advnets.protocols import Encoder
from advnets.rng import RNG
from advnets.visualize.figure import Figure, of_run, rows
from advnets.visualize.inpainting import first_tests


def reconstructions(
    trained: TrainedModel,
    *,
    num_samples: int = 10,
    draws: int = 4,
    seed: int = 0,
) -> Figure:
    """A row for each test image: itself, G of the mean of q(z | x), and G of draws from it.

    A deterministic encoder has nothing to draw. The record has the squared error of the means.

    Raises:
        UsageError: the run has no encoder; fewer than one image was asked for.
        DataError: there are no test images.
    """
    encoder = cast(Encoder, trained.player("encoder"))
    if num_samples < 1:
        raise UsageError(f"{num_samples} images were asked for; ask for at least 1")
    shown = first_tests(trained, num_samples)
    posterior = encoder(trained.normalizer.from_unit_range(shown).to(trained.device))
    columns = [shown, trained.decode(posterior.mean)]
    if posterior.log_variance is not None:
        rng = RNG(seed, purpose="reconstructions", device=trained.device)
        columns += [trained.decode(posterior.draw(rng.fold_in(str(draw)))) for draw in range(draws)]
    error = (columns[1] - shown).square().flatten(1).mean(1)
    return Figure(
        rows(torch.stack(columns, 1)),
        of_run(
            trained,
            view="reconstructions",
            num=num_samples,
            seed=seed,
            columns_are=["test image", "of the mean of z", "of z drawn"][: min(len(columns), 3)],
            squared_errors=[round(one, 5) for one in error.tolist()],
        ),
    )
