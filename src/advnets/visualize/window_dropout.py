"""Window dropout: the feature maps of G that draw the content of boxes, removed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tyro.conf import arg

from advnets.errors import DataError, UsageError, require
from advnets.experiment.trained_model import TrainedModel
from advnets.files import read_regular_file
from advnets.models.dcgan import DCGANGenerator, Layer
from advnets.visualize.figure import Figure, View, ViewData, image_rows
from advnets.visualize.guided_backprop import recorded_outputs, scaled_output

_MAX_FILE_BYTES = 1 << 24
_COLUMNS = 12


@dataclass(frozen=True)
class WindowDropout(View):
    """Show samples before and after the feature maps of G that draw one object are dropped.

    At the second highest convolution of G, a logistic regression separates positions inside boxes
    around the object from as many other positions of the same samples. Maps of positive weight are
    set to 0 at all positions. Source: Radford et al. 2015, section 6.3.1.

    Raises:
        DataError: the file of boxes is missing or not valid.
        UsageError: G has fewer than two convolutions, or the boxes cover all positions.
        MissingExtraError: scikit-learn is not installed.
    """

    examples: ClassVar[tuple[str, ...]] = ("--boxes boxes.json",)

    boxes: Annotated[Path, arg(metavar="FILE.json")]
    """Boxes around the object on samples of seed 0, in pixels, as
    [{"sample": 3, "box": [left, top, right, bottom]}]."""
    num_samples: int = 12
    """Number of samples to draw."""
    strength: float = 1.0
    """Fraction of the maps' values that is removed: 1 removes them, 0 leaves them unchanged."""
    seed: int = 0
    """Seed of the samples to draw."""

    def compute(self, model: TrainedModel) -> ViewData:
        """Fit the regression, and compute samples with and without the selected maps."""
        _, height, width = model.info.shape
        boxes = read_boxes(self.boxes, height, width)
        generator = model.generator
        if not isinstance(generator, DCGANGenerator) or len(generator.layers) < 2:
            raise UsageError(
                "window-dropout requires a DCGAN generator with two or more convolutions; give a "
                "run that has one"
            )
        layer = cast(Layer, generator.layers[-2])
        weights, accuracy = _fit_regression(model, layer, boxes)

        # Decode the samples again while the maps of positive weight are scaled down.
        dropped = torch.from_numpy(weights > 0)
        z = model.latents(self.num_samples, seed=self.seed)
        before = model.decode(z)
        factor = torch.where(dropped, 1.0 - self.strength, 1.0)[None, :, None, None]
        with torch.no_grad(), scaled_output(layer, factor.to(model.device)):
            after = model.normalizer.to_pixels(generator(z)).cpu()
        record = {
            "boxes": [vars(box) for box in boxes],
            "num_maps": len(dropped),
            "dropped": dropped.nonzero().flatten().tolist(),
            "accuracy": accuracy,
        }
        return ViewData({"before": before, "after": after}, record)

    def draw(self, data: ViewData) -> Figure:
        """Draw pairs of rows: the samples, and below them the same ones without the maps."""
        columns = min(self.num_samples, _COLUMNS)
        images = torch.stack((data.tensors["before"], data.tensors["after"]))
        images = images[:, : self.num_samples // columns * columns]
        return Figure(image_rows(images.unflatten(1, (-1, columns)).transpose(0, 1).flatten(0, 1)))


@dataclass(frozen=True)
class Box:
    """A box of pixels on a sample; left and top are inclusive, right and bottom exclusive."""

    sample: int
    left: int
    top: int
    right: int
    bottom: int


def read_boxes(path: Path, height: int, width: int) -> list[Box]:
    """Read boxes from a JSON file: `[{"sample": 3, "box": [left, top, right, bottom]}, …]`.

    Raises:
        DataError: the file is not such a list, or a box is empty or exceeds the image.
    """
    try:
        content = read_regular_file(path, _MAX_FILE_BYTES)
        boxes = [Box(int(item["sample"]), *map(int, item["box"])) for item in json.loads(content)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path} cannot be read as a list of boxes ({reason}); give a list such as "
            '[{"sample": 3, "box": [left, top, right, bottom]}] in pixels'
        ) from None
    for box in boxes:
        inside = 0 <= box.left < box.right <= width and 0 <= box.top < box.bottom <= height
        if not inside or box.sample < 0:
            raise DataError(
                f"{path} has the invalid box {box}; expected a box that is not empty, inside "
                f"images of {height} x {width}: correct it"
            )
    if not boxes:
        raise DataError(f"{path} has no boxes; expected one or more: add a box")
    return boxes


def _fit_regression(
    model: TrainedModel, layer: Layer, boxes: Sequence[Box]
) -> tuple[np.ndarray, float]:
    """Fit positions inside boxes against others; return a weight for each map, and the accuracy.

    The accuracy is that on the training positions, half of which are inside boxes.
    """
    # Compute the maps of the samples that have boxes.
    samples = sorted({box.sample for box in boxes})
    z = model.latents(max(samples) + 1)[samples]
    with torch.no_grad(), recorded_outputs([layer]) as outputs:
        model.generator(z)
    maps = outputs[0].float().cpu()

    # Mark each position that a box touches.
    inside = torch.zeros(len(samples), *maps.shape[2:], dtype=torch.bool)
    _, height, width = model.info.shape
    y_scale, x_scale = height / maps.shape[2], width / maps.shape[3]
    for box in boxes:
        top, bottom = int(box.top / y_scale), int(np.ceil(box.bottom / y_scale))
        left, right = int(box.left / x_scale), int(np.ceil(box.right / x_scale))
        inside[samples.index(box.sample), top:bottom, left:right] = True
    positions: Float[Tensor, "positions maps"] = maps.permute(0, 2, 3, 1).flatten(0, 2)
    labels = inside.flatten()
    if not 0 < int(labels.sum()) < len(labels):
        raise UsageError("the boxes cover all positions of their samples; give smaller boxes")

    # Choose as many positions outside, at random, and fit the regression.
    order = torch.from_numpy(np.random.default_rng(0).permutation(int((~labels).sum())))
    negatives = (~labels).nonzero().flatten()[order[: int(labels.sum())]]
    chosen = torch.cat((labels.nonzero().flatten(), negatives))
    linear: Any = require("sklearn.linear_model", "paper")
    x, y = positions[chosen].numpy(), labels[chosen].numpy()
    x = x / max(float(x.std()), 1e-12)
    regression = linear.LogisticRegression(max_iter=1000).fit(x, y)
    return regression.coef_[0], float(regression.score(x, y))
