"""Test images reconstructed by an encoder and G, and inpainted where pixels are hidden."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.errors import UsageError
from advnets.evaluation.context import require_test_split
from advnets.experiment.trained_model import TrainedModel
from advnets.games.inpainting import draw_masks, half_masks
from advnets.protocols import Encoder, Inpainter
from advnets.rng import RNG
from advnets.sampling.sampler import read_images
from advnets.visualize.figure import GAP, Figure, View, ViewData, at_least, image_rows, vstack

Region = Literal["upper", "lower", "left", "right", "box", "pixels"]
HALVES: tuple[Region, ...] = ("upper", "lower", "left", "right")
_HIDDEN_LEVEL = 0.5
"""The gray level of hidden pixels."""


@dataclass(frozen=True)
class Reconstructions(View):
    """Show test images, each next to its reconstructions by the encoder and G.

    A row has the test image, G of the mean of q(z | x), and G of draws from it; a deterministic
    encoder has no draws. The record has the mean squared error of each mean.

    Raises:
        UsageError: the model has no encoder, or an option is less than one.
        DataError: there are no test images.
    """

    examples: ClassVar[tuple[str, ...]] = ("", "--draws 8")

    num_samples: int = 10
    """Number of test images."""
    draws: int = 4
    """Number of reconstructions by draws of z, next to the one by its mean."""
    seed: int = 0
    """Seed of the draws."""

    def compute(self, model: TrainedModel) -> ViewData:
        """Encode and decode the first test images."""
        encoder = cast(Encoder, model.player("encoder"))
        at_least(1, num_samples=self.num_samples)
        x = _first_test_images(model, self.num_samples)
        posterior = encoder(model.normalizer.from_unit_range(x).to(model.device))
        columns = [x, model.decode(posterior.mean)]
        titles = ["test image", "mean"]
        if posterior.log_variance is not None:
            rng = RNG(self.seed, purpose="reconstructions", device=model.device)
            for draw in range(self.draws):
                columns.append(model.decode(posterior.draw(rng.fold_in(str(draw)))))
                titles.append("draw")
        errors = (columns[1] - x).square().flatten(1).mean(1)
        record = {
            "columns": titles,
            "squared_errors": [round(error, 5) for error in errors.tolist()],
        }
        return ViewData({"rows": torch.stack(columns, 1)}, record)

    def draw(self, data: ViewData) -> Figure:
        """Draw a row for each test image."""
        return Figure(image_rows(data.tensors["rows"]))


@dataclass(frozen=True)
class Inpainting(View):
    """Show test images, their known pixels, and several inpaintings of the hidden pixels.

    The record has the mean standard deviation of hidden pixels over the inpaintings.

    Raises:
        UsageError: the model does not inpaint, or an option is less than one.
        DataError: there are no test images.
    """

    examples: ClassVar[tuple[str, ...]] = ("", "--hidden upper box")

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
            raise UsageError("hidden has no region; give one or more, such as --hidden lower left")
        test = _first_test_images(model, self.num_samples)
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


def _first_test_images(model: TrainedModel, n: int) -> Float[Tensor, "n channels height width"]:
    return read_images(require_test_split(model.open_data()), slice(n))


def _known_mask(
    region: Region, test: Float[Tensor, "n channels height width"], seed: int
) -> Float[Tensor, "n 1 height width"]:
    """Return masks that are 1 at known pixels and 0 in the hidden region."""
    n, _, height, width = test.shape
    if region in HALVES:
        return half_masks(height, width)[HALVES.index(region)].expand(n, -1, -1, -1)
    kind = {"box": "boxes", "pixels": "pixels"}[region]
    return draw_masks((kind,), n, height, width, RNG(seed, purpose="view masks"))
