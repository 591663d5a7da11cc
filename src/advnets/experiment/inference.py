"""Discriminator logits and latents of given images, and a model as HTML."""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from advnets.config import ALIGame, GANGame, InpaintingGame
from advnets.data.class_proportions import Label, LabelIndex, class_indices
from advnets.data.memory import is_array, open_images
from advnets.errors import MissingExtraError, UsageError
from advnets.plots.image_grid import grid
from advnets.plots.points import points_image
from advnets.protocols import Encoder
from advnets.report.html import data_uri, element, void
from advnets.report.run_report import curves_png
from advnets.sampling.inversion import Inversion, invert
from advnets.sampling.rejection import rejection_logits
from advnets.sampling.sampler import BLOCK

if TYPE_CHECKING:
    from advnets.experiment.trained_model import TrainedModel

NUM_STARTS = 16
"""The number of random z from which an inversion starts."""
NUM_IMAGES, NUM_POINTS = 25, 2500
"""The number of samples of a model that a notebook shows: images, or points."""


@torch.no_grad()
def discriminator_logits(
    model: TrainedModel, images: object, label: Label, label_index: LabelIndex
) -> Float[Tensor, " n"]:
    """Return D's logits of images.

    Arguments and errors are those of `TrainedModel.discriminator_logits`.
    """
    game, net, x = model.config.stage.game, model.discriminator, _check_images(model, images)
    if isinstance(game, GANGame) and game.pac > 1:
        raise UsageError(
            f"D takes packs of {game.pac} images, not single ones; give a run that was trained "
            "without --game.pac"
        )
    labels = _class_labels(model, len(x), label, label_index)
    logits: list[Tensor] = []
    for start in range(0, len(x), BLOCK):
        block = model.normalizer.from_floats(x[start : start + BLOCK]).to(model.device)
        z = block.new_empty(len(block), 0)
        if labels is not None:
            z = one_hot(labels[start : start + BLOCK], model.classes).to(block)
        elif isinstance(game, ALIGame):
            z = cast(Encoder, model.player("encoder"))(block).mean
        logits.append(rejection_logits(game, net, block, z, model.classes).float().cpu())
    return torch.cat(logits)


def invert_images(
    model: TrainedModel,
    images: object,
    label: Label,
    label_index: LabelIndex,
    *,
    steps: int,
    lr: float,
    seed: int,
) -> Inversion:
    """Find the latents of images; arguments and errors are those of `TrainedModel.invert`."""
    # Check the arguments.
    x = _check_images(model, images)
    if isinstance(model.config.stage.game, InpaintingGame):
        raise UsageError(
            f"the generator of {model.run.path} inpaints: its z has known pixels, which cannot be "
            "fitted; give a run of another game"
        )
    if steps < 1 or not 0 < lr < math.inf:
        raise UsageError(f"steps is {steps} and lr is {lr}; give positive numbers")
    labels = _class_labels(model, len(x), label, label_index)

    # Start from random z, of the class of each image, and from the encoder's mean.
    first = None if labels is None else int(labels[0])
    random = model.latents(NUM_STARTS, seed=seed, label_index=first)
    parts: list[Inversion] = []
    for start in range(0, len(x), BLOCK):
        block = x[start : start + BLOCK]
        starts = random[:, None].expand(-1, len(block), -1)
        if labels is not None:
            given = one_hot(labels[start : start + BLOCK], model.classes).to(random)
            free = starts[..., : random.shape[1] - model.classes]
            starts = torch.cat((free, given.expand(len(random), -1, -1)), 2)
        elif "encoder" in model.players:
            scaled = model.normalizer.from_floats(block).to(model.device)
            mean = cast(Encoder, model.players["encoder"])(scaled).mean
            starts = torch.cat((starts, mean[None]))
        net, normalizer = model.generator, model.normalizer
        parts.append(invert(net, normalizer, block, starts, model.classes, steps=steps, lr=lr))
    z, fitted, errors = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return Inversion(z, fitted, errors)


def model_html(model: TrainedModel) -> str:
    """Return a grid of samples, the training curves and the model's description, as HTML."""
    if model.normalizer.for_points:
        image = points_image(_samples(model, NUM_POINTS), size=320)
    else:
        image = grid(_samples(model, NUM_IMAGES))
    file = io.BytesIO()
    image.save(file, "PNG")
    pngs = {"samples": file.getvalue()}
    with contextlib.suppress(MissingExtraError):
        pngs["training curves"] = curves_png(model.run.events())
    images = [
        void(
            "img",
            src=data_uri(png),
            alt=name,
            style="max-width: min(100%, 36em); vertical-align: top",
        )
        for name, png in pngs.items()
        if png
    ]
    return element("figure", *images, element("figcaption", repr(model)))


def _samples(model: TrainedModel, n: int) -> Float[Tensor, "n channels height width"]:
    """Draw n samples, of each class of the training images in turn."""
    if not model.conditional:
        return model.sample(n)
    present = model.info.class_proportions("uniform").present
    return model.sample(n, label_index=present[torch.arange(n) % len(present)])


def _check_images(model: TrainedModel, images: object) -> Float[Tensor, "n channels height width"]:
    """Return images of shape (N, C, H, W), (N, H, W) or (N, H, W, C) as a tensor on the CPU.

    Values of uint8 are divided by 255. Files and PIL images are resized to the run's shape.

    Raises:
        UsageError: they have another shape than the run's images, or values outside [0, 1].
    """
    # Read images that are not an array at the shape of the run.
    shape = model.info.shape
    if not is_array(images):
        data = model.config.data
        crop = "center" if data.crop == "random" else data.crop
        data = replace(data, channels=shape[0], size=shape[1], width=shape[2], crop=crop)
        images = open_images(images, data, "images").read(slice(None))
    try:
        x = torch.as_tensor(images).detach().cpu()
    except TypeError:  # an array of text or objects
        raise UsageError("images is not an array of numbers; give pixels from 0 to 1") from None

    # Move the channels to the second axis, and check the shape.
    original_shape = tuple(x.shape)
    if x.ndim == 3 and shape[0] == 1:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[1:] != shape and (*x.shape[3:], *x.shape[1:3]) == shape:
        x = x.permute(0, 3, 1, 2)
    if x.ndim != 4 or not len(x) or tuple(x.shape[1:]) != shape:
        raise UsageError(
            f"images has shape {original_shape}; expected (n, {', '.join(map(str, shape))}), "
            f"as the images of {model.run.path}"
        )

    # Convert bytes to floats, and check the range.
    if x.dtype == torch.uint8 and not model.normalizer.for_points:
        x = x.float() / 255
    if not x.is_floating_point():
        raise UsageError(
            f"images is of {x.dtype}; expected uint8, or pixels from 0 to 1 of a float type"
        )
    low, high = float(x.min()), float(x.max())
    if math.isnan(low):
        raise UsageError("images has values that are NaN; replace them or leave them out")
    in_range = model.normalizer.for_points or (low >= 0 and high <= 1)
    if not (math.isfinite(low) and math.isfinite(high) and in_range):
        raise UsageError(f"images has values from {low:g} to {high:g}; expected pixels from 0 to 1")
    return x.float()


def _class_labels(
    model: TrainedModel, n: int, label: Label, label_index: LabelIndex
) -> Int[Tensor, " n"] | None:
    """Return the class index of each image; None for a model without classes.

    Raises:
        UsageError: a class is missing, unknown, or does not apply.
    """
    given = label is not None or label_index is not None
    if not model.conditional:
        if given:
            raise UsageError(f"{model.run.path} is not class-conditional; leave the class out")
        return None
    if not given:
        raise UsageError(
            f"{model.run.path} is class-conditional; give the label or the label_index of images"
        )
    return class_indices(model.info.classes, model.info.class_counts, n, label, label_index)
