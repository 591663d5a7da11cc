"""The inpainting metric: the error of the mean inpainting, and the diversity of inpaintings."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.data.dataset import Split
from advnets.errors import UsageError
from advnets.evaluation.context import EvaluationContext, Record, require_test_split
from advnets.evaluation.spec import GENERATOR, MEAN, NEAREST, MetricSpec, Value
from advnets.games.inpainting import draw_masks, half_masks
from advnets.protocols import Generator, Inpainter
from advnets.rng import RNG
from advnets.sampling.sampler import BLOCK, read_images

NUM_DRAWS, NUM_TEST_IMAGES = 20, 1000
"""Inpaintings of each test image, and test images."""
HALVES = ("upper", "lower", "left", "right")


@torch.no_grad()
def inpainting_records(context: EvaluationContext) -> list[Record]:
    """Compute the error of the mean inpainting on masked pixels, and the spread, by kind of mask.

    As baselines also the error of the mean training image and of the training image that is
    nearest in the visible pixels.

    Raises:
        UsageError: the generator does not inpaint.
        DataError: there are no test images.
    """
    _require_inpainter(context)
    test = read_images(require_test_split(context.data), slice(NUM_TEST_IMAGES))
    split = context.data.dataset.train
    train = read_images(split if isinstance(split, Split) else split.head(BLOCK), slice(None))
    records: list[Record] = []
    for kind, visible in _masks(test, context.seed).items():
        drawn = torch.stack(list(draw_inpaintings(context, test, visible, NUM_DRAWS)))
        results: dict[str, tuple[Tensor, float | None]] = {
            GENERATOR: (drawn.mean(0), _masked_mean(drawn.var(0), visible) ** 0.5),
            MEAN: (train.mean(0).expand_as(test), None),
            NEAREST: (_nearest(test, visible, train), None),
        }
        for samples, (inpainted, diversity) in results.items():
            records.append(
                context.record(
                    "inpainting",
                    samples,
                    mask=kind,
                    error=_masked_mean((inpainted - test).square(), visible),
                    diversity=diversity,
                    draws=NUM_DRAWS if diversity is not None else 1,
                    n_test=len(test),
                    n_real=len(test),
                    n_fake=len(test),
                )
            )
    return records


def _require_inpainter(context: EvaluationContext) -> Inpainter:
    """Return the generator, which inpaints.

    Raises:
        UsageError: the generator does not inpaint.
    """
    if not isinstance(context.generator, Inpainter):
        raise UsageError(
            "the metric inpainting needs a generator that inpaints, and this run has none; give a "
            "run of inpainting-mnist"
        )
    return context.generator


def draw_inpaintings(
    context: EvaluationContext,
    images: Float[Tensor, "n channels height width"],
    visible: Float[Tensor, "n 1 height width"],
    draws: int,
) -> list[Float[Tensor, "n channels height width"]]:
    """Return several inpaintings of each image in [0, 1]; `visible` is 1 for given pixels."""
    net, normalizer = cast(Generator, context.generator), context.data.normalizer
    inpainter = cast(Inpainter, net)
    device = context.compute_settings.device
    x, mask = normalizer.from_unit_range(images).to(device), visible.to(device)
    inpaintings: list[Tensor] = []
    for draw in range(draws):
        rng = RNG(context.seed, step=draw, purpose="completions", device=device)
        z = inpainter.sample_z(len(x), rng)
        inpaintings.append(normalizer.to_pixels(net(inpainter.condition(z, x, mask))))
    return [images.float().cpu() for images in inpaintings]


def _masks(test: Tensor, seed: int) -> dict[str, Tensor]:
    """Return masks of visible pixels of each test image, by the name of the masked part."""
    n, _, height, width = test.shape
    halves = dict(zip(HALVES, half_masks(height, width), strict=True))
    rng = RNG(seed, purpose="completion masks")
    return {
        **{f"{name} half": half.expand(n, -1, -1, -1) for name, half in halves.items()},
        "box": draw_masks(("boxes",), n, height, width, rng),
        "pixels": draw_masks(("pixels",), n, height, width, rng),
    }


def _nearest(test: Tensor, mask: Tensor, train: Tensor) -> Tensor:
    """Return the training image nearest to each test image in its visible pixels."""
    visible, pixels = mask.expand_as(test).flatten(1), (test * mask).flatten(1)
    x = train.flatten(1)
    # ‖m (t - x)‖² = ‖m t‖² + m · x² - 2 m t · x for m of 0 and 1, and ‖m t‖² does not depend on x.
    distance = visible @ x.square().T - 2 * pixels @ x.T
    return train[distance.argmin(1)]


def _masked_mean(
    values: Float[Tensor, "n channels height width"], visible: Float[Tensor, "n 1 height width"]
) -> float:
    """Return the mean over masked pixels and all channels."""
    masked = (1 - visible).expand_as(values)
    return float((values * masked).double().sum() / masked.double().sum())


INPAINTING = MetricSpec(
    name="inpainting",
    title="inpainting",
    help="mean squared error of the mean inpainting on masked pixels, diversity of inpaintings",
    records=inpainting_records,
    values={"error": Value("lower"), "diversity": Value()},
    describe=lambda r: (
        f"mean squared error {r['error']:.4f}"
        + (f", standard deviation {r['diversity']:.3f}" if r["diversity"] is not None else "")
    ),
    describe_inputs=lambda r: f"{r['mask']} masked, {r['n_test']:,} test images",
    cases={"mask": "{} masked"},
    samples="none",
    check_data=require_test_split,
    check_run=_require_inpainter,
    needs="a generator that inpaints",
)
