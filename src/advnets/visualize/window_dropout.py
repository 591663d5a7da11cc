"""What part of G's features draws one thing: a direction learned from boxes, and dropped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from advnets.errors import DataError, UsageError, require
from advnets.experiment.trained_model import TrainedModel
from advnets.files import read_regular_file
from advnets.models.dcgan import Generator, Layer
from advnets.visualize.figure import Figure, of_run, rows
from advnets.visualize.guided_backprop import scaled, watched

_MAX_BOXES_BYTES = 1 << 24


@dataclass(frozen=True)
class Box:
    """A box of pixels on a sample: left and top inside, right and bottom just outside."""

    sample: int
    left: int
    top: int
    right: int
    bottom: int


def read_boxes(path: Path, height: int, width: int) -> list[Box]:
    """Boxes from a JSON file: `[{"sample": 3, "box": [left, top, right, bottom]}, …]`.

    Raises:
        DataError: the file is not such a list, or a box is empty or reaches beyond the image.
    """
    try:
        content = read_regular_file(path, _MAX_BOXES_BYTES)
        found = [Box(int(one["sample"]), *map(int, one["box"])) for one in json.loads(content)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} holds no boxes ({error}); give a list such as "
            '[{"sample": 3, "box": [left, top, right, bottom]}] in pixels'
        ) from None
    for box in found:
        inside = 0 <= box.left < box.right <= width and 0 <= box.top < box.bottom <= height
        if not inside or box.sample < 0:
            raise DataError(
                f"{path} has the box {box}, which is empty or beyond images of {height} x {width}"
            )
    if not found:
        raise DataError(f"{path} holds no box; give at least one")
    return found


def window_dropout(
    trained: TrainedModel,
    *,
    boxes: Sequence[Box],
    num_samples: int = 12,
    seed: int = 0,
    radius: float = 1.0,
) -> Figure:
    """Samples before and after the maps that draw what is in the boxes are dropped.

    On the second highest convolution of G a logistic regression tells positions within the boxes
    (of the samples that have some) from as many others of the same samples; maps whose weight is
    above 0 are set to 0 everywhere, or by the share `reach`. Upper rows as they are, lower ones
    without. Source: Radford et al. 2015, section 6.3.1.

    Raises:
        UsageError: G has fewer than two convolutions.
        MissingExtraError: scikit-learn is not installed.
    """
    maker = trained.generator
    if not isinstance(maker, Generator) or len(maker.layers) < 2:
        raise UsageError(
            "window-drop is of the second highest convolution of a DCGAN generator; give a run "
            "that has one"
        )
    layer = cast(Layer, maker.layers[-2])
    weights, right = _direction(trained, layer, boxes)
    drop = torch.from_numpy(weights > 0)
    z = trained.latents(num_samples, seed=seed)
    before = trained.decode(z)
    scale = torch.where(drop, 1.0 - radius, 1.0)[None, :, None, None].to(trained.device)
    with torch.no_grad(), scaled(layer, scale):
        after = trained.normalizer.to_pixels(maker(z)).cpu()
    columns = min(num_samples, 12)
    shown = torch.stack((before, after))[:, : num_samples // columns * columns]
    shown = shown.unflatten(1, (-1, columns)).transpose(0, 1).flatten(0, 1)
    return Figure(
        rows(shown),
        of_run(
            trained,
            view="window-drop",
            seed=seed,
            boxes=[vars(box) for box in boxes],
            maps=len(drop),
            dropped=drop.nonzero().flatten().tolist(),
            told_right=right,
        ),
    )


def _direction(
    trained: TrainedModel, layer: Layer, boxes: Sequence[Box]
) -> tuple[np.ndarray, float]:
    """A weight for each map, and how often the regression is right, on as many of either kind."""
    samples = sorted({box.sample for box in boxes})
    z = trained.latents(max(samples) + 1)[samples]
    with torch.no_grad(), watched([layer]) as seen:
        trained.generator(z)
    maps = seen[0].float().cpu()
    inside = torch.zeros(len(samples), *maps.shape[2:], dtype=torch.bool)
    _, height, width = trained.info.shape
    down, across = height / maps.shape[2], width / maps.shape[3]
    for box in boxes:
        # Every position that the box touches.
        top, bottom = int(box.top / down), int(np.ceil(box.bottom / down))
        left, right = int(box.left / across), int(np.ceil(box.right / across))
        inside[samples.index(box.sample), top:bottom, left:right] = True
    positions: Float[Tensor, "positions maps"] = maps.permute(0, 2, 3, 1).flatten(0, 2)
    of_box = inside.flatten()
    if not 0 < int(of_box.sum()) < len(of_box):
        raise UsageError("the boxes leave nothing beside them; give smaller ones")
    others = torch.from_numpy(np.random.default_rng(0).permutation(int((~of_box).sum())))
    negatives = (~of_box).nonzero().flatten()[others[: int(of_box.sum())]]
    chosen = torch.cat((of_box.nonzero().flatten(), negatives))
    linear: Any = require("sklearn.linear_model", "paper")
    x, y = positions[chosen].numpy(), of_box[chosen].numpy()
    x = x / max(float(x.std()), 1e-12)
    regression = linear.LogisticRegression(max_iter=1000).fit(x, y)
    return regression.coef_[0], float(regression.score(x, y))
