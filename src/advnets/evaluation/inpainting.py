"""Scores of completions: how near they come in the mean, and how unlike each other they are."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.data.dataset import Split
from advnets.errors import UsageError
from advnets.evaluation.context import EvaluationContext, Record, require_test_split
from advnets.games.inpainting import draw_masks, half_masks
from advnets.protocols import Generator, Inpainter
from advnets.report.score_text import GENERATOR, MEAN, NEAREST
from advnets.rng import RNG
from advnets.sampling.sampler import BLOCK, read_images

DRAWS, NUM_TEST_IMAGES = 20, 1000
"""Completions of each image, and images that are completed."""
HALVES = ("upper", "lower", "left", "right")


@torch.no_grad()
def inpainting_records(context: EvaluationContext) -> list[Record]:
    """Error of the mean completion on hidden pixels, and how far completions differ, by mask.

    Beside it: the mean training image, and the training image that is nearest in what is known.
    """
    net = context.generator
    if not isinstance(net, Inpainter):
        raise UsageError(
            "the metric completion is of a G that fills in what is hidden, and this run's does "
            "not; give a run of inpainting-mnist"
        )
    test = read_images(require_test_split(context.data), slice(NUM_TEST_IMAGES))
    train = context.data.dataset.train
    known = read_images(train if isinstance(train, Split) else train.head(BLOCK), slice(None))
    records: list[Record] = []
    for kind, mask in _masks(test, context.seed).items():
        drawn = torch.stack(list(draw_inpaintings(context, test, mask, DRAWS)))
        rows: dict[str, tuple[Tensor, float | None]] = {
            GENERATOR: (drawn.mean(0), _of_hidden(drawn.var(0), mask) ** 0.5),
            MEAN: (known.mean(0).expand_as(test), None),
            NEAREST: (_nearest(test, mask, known), None),
        }
        for row, (filled, diversity) in rows.items():
            records.append(
                context.record(
                    "completion",
                    row,
                    hidden=kind,
                    error=_of_hidden((filled - test).square(), mask),
                    diversity=diversity,
                    draws=DRAWS if diversity is not None else 1,
                    n_test=len(test),
                    n_real=len(test),
                    n_fake=len(test),
                )
            )
    return records


def draw_inpaintings(
    context: EvaluationContext,
    shown: Float[Tensor, "n channels height width"],
    known: Float[Tensor, "n 1 height width"],
    draws: int,
) -> list[Float[Tensor, "n channels height width"]]:
    """So many completions of each image, as pixels in [0, 1]."""
    net, scaling = cast(Generator, context.generator), context.data.normalizer
    filling = cast(Inpainter, net)
    device = context.compute_settings.device
    x, mask = scaling.from_unit_range(shown).to(device), known.to(device)
    found: list[Tensor] = []
    for draw in range(draws):
        rng = RNG(context.seed, step=draw, purpose="completions", device=device)
        z = filling.sample_z(len(x), rng)
        found.append(scaling.to_pixels(net(filling.condition(z, x, mask))))
    return [some.float().cpu() for some in found]


def _masks(test: Tensor, seed: int) -> dict[str, Tensor]:
    """What is known of each test image, by the name of what is hidden."""
    n, _, height, width = test.shape
    halves = dict(zip(HALVES, half_masks(height, width), strict=True))
    rng = RNG(seed, purpose="completion masks")
    return {
        **{f"{name} half": half.expand(n, -1, -1, -1) for name, half in halves.items()},
        "box": draw_masks(("boxes",), n, height, width, rng),
        "pixels": draw_masks(("pixels",), n, height, width, rng),
    }


def _nearest(test: Tensor, mask: Tensor, train: Tensor) -> Tensor:
    """The training image nearest to each in what is known of it."""
    known, seen = mask.expand_as(test).flatten(1), (test * mask).flatten(1)
    x = train.flatten(1)
    # ‖m (t - x)‖² less ‖m t‖², which no x changes, is m · x² - 2 m t · x, m being 0 or 1.
    apart = known @ x.square().T - 2 * seen @ x.T
    return train[apart.argmin(1)]


def _of_hidden(
    numbers: Float[Tensor, "n channels height width"], known: Float[Tensor, "n 1 height width"]
) -> float:
    """Mean over hidden pixels, of all channels."""
    hidden = (1 - known).expand_as(numbers)
    return float((numbers * hidden).double().sum() / hidden.double().sum())
