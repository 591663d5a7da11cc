"""The same picture completed in several ways, from what is known of it."""

from __future__ import annotations

from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.data.dataset import Part
from advnets.errors import DataError, UsageError
from advnets.experiment.sampler import pictures
from advnets.experiment.trained_model import Trained
from advnets.games.inpainting import half_masks, masks
from advnets.protocols import Completing
from advnets.rng import RNG
from advnets.visualize.figure import Look, above, of_run, rows

Hidden = Literal["upper", "lower", "left", "right", "box", "pixels"]
HALVES: tuple[Hidden, ...] = ("upper", "lower", "left", "right")
_VEIL = 0.5
"""What hidden pixels are shown as."""


def completions(
    trained: Trained,
    *,
    num: int = 6,
    draws: int = 8,
    hidden: tuple[Hidden, ...] = ("lower", "left", "box", "pixels"),
    seed: int = 0,
) -> Look:
    """A row for each test picture: itself, what is known of it, and several completions.

    One block of rows for each way to hide something. The record has how far completions differ.

    Raises:
        UsageError: the run's G completes nothing; fewer than one picture or completion.
        DataError: there are no test pictures.
    """
    net = trained.generator
    if not isinstance(net, Completing):
        raise UsageError(
            f"completions were asked for, and {trained.run.path} has a G that fills in nothing; "
            "give a run of completion-mnist"
        )
    if num < 1 or draws < 1 or not hidden:
        raise UsageError("no picture to complete was asked for; ask for at least one of each")
    shown = first_tests(trained, num)
    filling = cast(Completing, net)
    x = trained.scaling.from_shares(shown).to(trained.device)
    blocks: list[Tensor] = []
    differ: dict[str, float] = {}
    for way in hidden:
        known = _known(way, shown, seed)
        drawn: list[Tensor] = []
        for draw in range(draws):
            z = filling.own_latent(num, RNG(seed, step=draw, purpose=f"completions/{way}"))
            given = filling.given(z.to(trained.device), x, known.to(trained.device))
            drawn.append(trained.pictures(given))
        ways = torch.stack(drawn, 1)
        veiled = shown * known + _VEIL * (1 - known)
        blocks.append(torch.cat((shown[:, None], veiled[:, None], ways), 1))
        spread = ways.std(1) if draws > 1 else torch.zeros_like(shown)
        differ[way] = float((spread * (1 - known)).sum() / (1 - known).expand_as(shown).sum())
    return Look(
        above(*(rows(block) for block in blocks), gap=12),
        of_run(
            trained,
            view="completions",
            num=num,
            draws=draws,
            seed=seed,
            columns_are=["test picture", "what is known", "completions"],
            mean_deviation_of_hidden_pixels=differ,
        ),
    )


def first_tests(trained: Trained, num: int) -> Float[Tensor, "n channels height width"]:
    """The first test pictures, in [0, 1].

    Raises:
        DataError: there are none.
    """
    data = trained.open_data()
    test: Part | None = data.splits.test
    if test is None:
        raise DataError(
            f"{data.facts.name} has no test pictures to begin from; give a folder of at least 50 "
            "pictures or a named set"
        )
    return pictures(test, slice(num))


def _known(way: Hidden, shown: Tensor, seed: int) -> Float[Tensor, "n 1 height width"]:
    n, _, height, width = shown.shape
    if way in HALVES:
        return half_masks(height, width)[HALVES.index(way)].expand(n, -1, -1, -1)
    kind = {"box": "boxes", "pixels": "pixels"}[way]
    return masks((kind,), n, height, width, RNG(seed, purpose="view masks"))
