"""Inpainting of test images, in several ways for each."""

from __future__ import annotations

from dataclasses import dataclass
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
from advnets.visualize.figure import GAP, Figure, View, ViewData, at_least, image_rows, vstack

Region = Literal["upper", "lower", "left", "right", "box", "pixels"]
HALVES: tuple[Region, ...] = ("upper", "lower", "left", "right")
_HIDDEN_LEVEL = 0.5
"""The gray level of hidden pixels."""


@dataclass(frozen=True)
class Inpainting(View):
    """Show test images, their known pixels, and several inpaintings of the hidden pixels.

    The record has the mean standard deviation of hidden pixels over the inpaintings.

    Raises:
        UsageError: the model does not inpaint, or an option is less than one.
        DataError: there are no test images.
    """

    num_samples: int = 6
    """Number of test images."""
    draws: int = 8
    """Number of inpaintings of each image."""
    hidden: tuple[Region, ...] = ("lower", "left", "box", "pixels")
    """Regions to hide, with a block of rows for each."""
    seed: int = 0
    """Seed of z, and of random regions."""

    def compute(self, model: TrainedModel) -> ViewData:
        """Inpaint the first test images, for each region."""
        net = model.generator
        if not isinstance(net, Inpainter):
            raise UsageError(
                f"the generator of {model.run.path} does not inpaint; give a run of a preset such "
                "as inpainting-mnist"
            )
        at_least(1, num_samples=self.num_samples, draws=self.draws)
        if not self.hidden:
            raise UsageError("hidden has no region; give one or more, as --hidden lower left")
        test = first_test_images(model, self.num_samples)
        generator = cast(Inpainter, net)
        x = model.normalizer.from_unit_range(test).to(model.device)
        tensors: dict[str, Tensor] = {}
        deviations: dict[str, float] = {}
        for region in self.hidden:
            mask = _known_mask(region, test, self.seed)

            # Draw z anew for each inpainting of all images.
            inpaintings: list[Tensor] = []
            for draw in range(self.draws):
                rng = RNG(self.seed, step=draw, purpose=f"completions/{region}")
                z = generator.sample_z(self.num_samples, rng).to(model.device)
                inpaintings.append(model.decode(generator.condition(z, x, mask.to(model.device))))
            stacked = torch.stack(inpaintings, 1)
            masked = test * mask + _HIDDEN_LEVEL * (1 - mask)
            tensors[region] = torch.cat((test[:, None], masked[:, None], stacked), 1)

            # Average the standard deviation over hidden pixels.
            deviation = stacked.std(1) if self.draws > 1 else torch.zeros_like(test)
            hidden = (1 - mask).expand_as(test)
            deviations[region] = float((deviation * (1 - mask)).sum() / hidden.sum())
        record = {
            "columns": ["test image", "known pixels", *["inpainting"] * self.draws],
            "hidden_pixel_std": deviations,
        }
        return ViewData(tensors, record)

    def draw(self, data: ViewData) -> Figure:
        """Draw a block of rows for each region, with a row for each test image."""
        return Figure(vstack(*map(image_rows, data.tensors.values()), gap=GAP))


def first_test_images(
    model: TrainedModel, num_images: int
) -> Float[Tensor, "n channels height width"]:
    """Return the first test images in [0, 1].

    Raises:
        DataError: there are no test images.
    """
    data = model.open_data()
    test: Split | None = data.dataset.test
    if test is None:
        raise DataError(
            f"{data.info.name} has no test images; give a run of a named dataset, or of a folder "
            "of 50 or more images"
        )
    return read_images(test, slice(num_images))


def _known_mask(
    region: Region, test: Float[Tensor, "n channels height width"], seed: int
) -> Float[Tensor, "n 1 height width"]:
    """Return masks that are 1 at known pixels and 0 in the hidden region."""
    n, _, height, width = test.shape
    if region in HALVES:
        return half_masks(height, width)[HALVES.index(region)].expand(n, -1, -1, -1)
    kind = {"box": "boxes", "pixels": "pixels"}[region]
    return draw_masks((kind,), n, height, width, RNG(seed, purpose="view masks"))
