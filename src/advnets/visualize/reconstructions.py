"""Test pictures, and what comes back of them through z."""

from __future__ import annotations

from typing import cast

import torch

from advnets.errors import UsageError
from advnets.experiment.trained_model import Trained
from advnets.protocols import Encoder
from advnets.rng import RNG
from advnets.visualize.figure import Look, of_run, rows
from advnets.visualize.inpainting import first_tests


def reconstructions(
    trained: Trained,
    *,
    num: int = 10,
    draws: int = 4,
    seed: int = 0,
) -> Look:
    """A row for each test picture: itself, G of the mean of q(z | x), and G of draws from it.

    A deterministic encoder has nothing to draw. The record has the squared error of the means.

    Raises:
        UsageError: the run has no encoder; fewer than one picture was asked for.
        DataError: there are no test pictures.
    """
    encoder = cast(Encoder, trained.player("encoder"))
    if num < 1:
        raise UsageError(f"{num} pictures were asked for; ask for at least 1")
    shown = first_tests(trained, num)
    posterior = encoder(trained.scaling.from_shares(shown).to(trained.device))
    columns = [shown, trained.pictures(posterior.mean)]
    if posterior.log_variance is not None:
        noise = RNG(seed, purpose="reconstructions", device=trained.device)
        columns += [
            trained.pictures(posterior.draw(noise.under(str(draw)))) for draw in range(draws)
        ]
    error = (columns[1] - shown).square().flatten(1).mean(1)
    return Look(
        rows(torch.stack(columns, 1)),
        of_run(
            trained,
            view="reconstructions",
            num=num,
            seed=seed,
            columns_are=["test picture", "of the mean of z", "of z drawn"][: min(len(columns), 3)],
            squared_errors=[round(one, 5) for one in error.tolist()],
        ),
    )
