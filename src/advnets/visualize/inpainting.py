"""The same image completed in several ways, from what is known of it."""

from __future__ import annotations

from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.data.dataset import Split
from advnets.errors import DataError, UsageError
from advnets.experiment.trained_model import TrainedModel
from advnets.games.inpainting import draw_masks, half_masks
from advnets.protocols import Inpainter
from advnets.rng import RNG
from advnets.sampling.sampler import read_images
from advnets.visualize.figure import Figure, above, of_run, rows

Hidden = Literal["upper", "lower", "left", "right", "box", "pixels"]
HALVES: tuple[Hidden, ...] = ("upper", "lower", "left", "right")
_VEIL = 0.5
"""What hidden pixels are shown as."""


def inpainting(
    trained: TrainedModel,
    *,
    num_samples: int = 6,
    draws: int = 8,
    hidden: tuple[Hidden, ...] = ("lower", "left", "box", "pixels"),
    seed: int = 0,
) -> Figure:
    """A row for each test image: itself, what is known of it, and several completions.

    One block of rows for each way to hide something. The record has how far completions differ.

    Raises:
        UsageError: the run's G completes nothing; fewer than one image or completion.
        DataError: there are no test images.
    """
    net = trained.generator
    if not isinstance(net, Inpainter):
        raise UsageError(
            f"completions were asked for, and {trained.run.path} has a G that fills in nothing; "
            "give a run of inpainting-mnist"
        )
    if num_samples < 1 or draws < 1 or not hidden:
        raise UsageError("no image to complete was asked for; ask for at least one of each")
    shown = first_tests(trained, num_samples)
    filling = cast(Inpainter, net)
    x = trained.normalizer.from_unit_range(shown).to(trained.device)
    blocks: list[Tensor] = []
    differ: dict[str, float] = {}
    for way in hidden:
        known = _known(way, shown, seed)
        drawn: list[Tensor] = []
        for draw in range(draws):
            z = filling.sample_z(num_samples, RNG(seed, step=draw, purpose=f"completions/{way}"))
            given = filling.condition(z.to(trained.device), x, known.to(trained.device))
            drawn.append(trained.decode(given))
        ways = torch.stack(drawn, 1)
        veiled = shown * known + _VEIL * (1 - known)
        blocks.append(torch.cat((shown[:, None], veiled[:, None], ways), 1))
        spread = ways.std(1) if draws > 1 else torch.zeros_like(shown)
        differ[way] = float((spread * (1 - known)).sum() / (1 - known).expand_as(shown).sum())
    return Figure(
        above(*(rows(block) for block in blocks), gap=12),
        of_run(
            trained,
            view="completions",
            num=num_samples,
            draws=draws,
            seed=seed,
            columns_are=["test image", "what is known", "completions"],
            mean_deviation_of_hidden_pixels=differ,
        ),
    )


def first_tests(
    trained: TrainedModel, num_samples: int
) -> Float[Tensor, "n channels height width"]:
    """The first test images, in [0, 1].

    Raises:
        DataError: there are none.
    """
    data = trained.open_data()
    test: Split | None = data.dataset.test
    if test is None:
        raise DataError(
            f"{data.info.name} has no test images to begin from; give a folder of at least 50 "
            "images or a named set"
        )
    return read_images(test, slice(num_samples))


def _known(way: Hidden, shown: Tensor, seed: int) -> Float[Tensor, "n 1 height width"]:
    n, _, height, width = shown.shape
    if way in HALVES:
        return half_masks(height, width)[HALVES.index(way)].expand(n, -1, -1, -1)
    kind = {"box": "boxes", "pixels": "pixels"}[way]
    return draw_masks((kind,), n, height, width, RNG(seed, purpose="view masks"))
