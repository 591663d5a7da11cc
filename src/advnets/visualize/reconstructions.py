"""Reconstructions of test images by an encoder and the generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch

from advnets.experiment.trained_model import TrainedModel
from advnets.protocols import Encoder
from advnets.rng import RNG
from advnets.visualize.figure import Figure, View, ViewData, at_least, image_rows
from advnets.visualize.inpainting import first_test_images


@dataclass(frozen=True)
class Reconstructions(View):
    """Show test images, each next to its reconstructions by the encoder and G.

    A row has the test image, G of the mean of q(z | x), and G of draws from it; a deterministic
    encoder has no draws. The record has the mean squared error of each mean.

    Raises:
        UsageError: the model has no encoder, or an option is less than one.
        DataError: there are no test images.
    """

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
        x = first_test_images(model, self.num_samples)
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
