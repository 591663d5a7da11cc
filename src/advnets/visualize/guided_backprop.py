"""What D's features look for: guided backpropagation, and the maps themselves."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advnets.errors import UsageError
from advnets.experiment.trained_model import TrainedModel
from advnets.extractors.base import BATCH_SIZE
from advnets.models import dcgan, resnet
from advnets.plots.image_grid import grid
from advnets.visualize.figure import GAP, Figure, above, beside, of_run, rows
from advnets.visualize.samples import training_images

ClassifierExtractor = dcgan.Discriminator | resnet.Discriminator


class _Guided(torch.autograd.Function):
    """An activation through which only what is positive comes back, where it was positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activate: Callable[[Tensor], Tensor]) -> Tensor:
        """activate(x)."""
        ctx.save_for_backward(x)
        return activate(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        """The gradient, where it and x are above 0."""
        (x,) = ctx.saved_tensors
        return gradients[0].clamp(min=0) * (x > 0), None


def guided_gradient(
    net: ClassifierExtractor,
    images: Float[Tensor, "n channels height width"],
    features: Int[Tensor, " n"],
) -> Float[Tensor, "n channels height width"]:
    """By what each image makes a feature of D's last convolution respond most strongly.

    The gradient of the feature's largest response over positions with respect to the image, of
    which every rectifier passes back only what is positive, and only where it was active itself.
    Images are in the nets' range; a feature is the number of a map. Source: Springenberg et al.
    2015, "Striving for simplicity", section 3.4.
    """
    net = copy.deepcopy(net).eval()
    for layer in net.modules():
        if isinstance(layer, dcgan.Layer | resnet.Block):
            layer.activate = _passing(layer.activate)
    images = images.clone().requires_grad_()
    maps = net.feature_maps(images)[-1]
    chosen = maps[torch.arange(len(maps)), features]
    (gradient,) = torch.autograd.grad(chosen.flatten(1).amax(1).sum(), images)
    return gradient


def _passing(activate: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: cast(Tensor, _Guided.apply(x, activate))


def filters(
    trained: TrainedModel,
    *,
    features: int = 6,
    top_k: int = 6,
    num_images: int = 2000,
) -> Figure:
    """Guided backpropagation of D's strongest features, and of a D that was never trained.

    For each feature of the last convolution a row: the training images that it responds to most
    strongly, and what of them it responds to. On the left the trained D, on the right the one that
    the run began with. The strongest are those whose largest responses are largest, by the standard
    deviation of all of theirs. Source: Radford et al. 2015, figure 5.

    Raises:
        UsageError: D has no convolutions, or is told classes.
        DataError: the data are absent.
    """
    learned = convolutional(trained)
    begun = cast(ClassifierExtractor, trained.initial_players()["discriminator"])
    images = training_images(trained)[:num_images]
    shown, record = [], {}
    for name, net in ("trained", learned), ("random", begun):
        seen, found = _strongest(trained, net.cpu(), images, features, top_k)
        shown.append(seen)
        record[name] = found
    return Figure(
        beside(*shown),
        of_run(trained, view="filters", looked=len(images), tops=top_k, **record),
    )


def _strongest(
    trained: TrainedModel, net: ClassifierExtractor, images: Tensor, features: int, top_k: int
) -> tuple[Any, list[dict[str, Any]]]:
    """Rows of images and gradients for the strongest features of one D."""
    scaled = trained.normalizer.from_unit_range(images)
    with torch.no_grad():
        responses = torch.cat(
            [net.feature_maps(block)[-1].flatten(2).amax(2) for block in scaled.split(BATCH_SIZE)]
        )
    best, which = responses.topk(top_k, dim=0)
    strength = best.mean(0) / responses.std(0).clamp(min=1e-12)
    chosen = strength.topk(min(features, len(strength))).indices
    numbers = which[:, chosen].T  # (features, tops)
    told = chosen[:, None].expand_as(numbers).flatten()
    gradient = guided_gradient(net, scaled[numbers.flatten()], told)
    seen = _to_shares(gradient).unflatten(0, numbers.shape)
    shown = torch.cat((images[numbers], seen), 1)
    record = [
        {"feature": int(f), "training_images": n.tolist(), "strength": float(strength[f])}
        for f, n in zip(chosen, numbers, strict=True)
    ]
    return rows(shown), record


def _to_shares(gradient: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Gray where nothing is seen, the largest of each image black or white."""
    largest = gradient.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return 0.5 + 0.5 * gradient / largest


def activations(
    trained: TrainedModel, *, num_samples: int = 4, maps: int = 12, seed: int = 0
) -> Figure:
    """A sample as D's layers see it, and as G's layers made it.

    For each sample a band; in it a row for each convolution, first the maps of G from the smallest
    on, then the sample and the maps of D, of each layer those that respond most strongly.

    Raises:
        UsageError: the nets have no convolutions, or D is told classes.
    """
    judge, maker = convolutional(trained), trained.generator
    if not isinstance(maker, dcgan.Generator):
        raise UsageError("activations are of DCGAN nets; give a run of a DCGAN preset")
    z = trained.latents(num_samples, seed=seed)
    with torch.no_grad(), watched(maker.layers) as made:
        images = maker(z)
        seen = judge.feature_maps(images)
    bands = [
        above(
            *(_band(layer[number], maps, trained.info.shape[1:]) for layer in made),
            grid(trained.normalizer.to_pixels(images[number : number + 1])),
            *(_band(layer[number], maps, trained.info.shape[1:]) for layer in seen),
        )
        for number in range(num_samples)
    ]
    return Figure(
        above(*(beside(*bands[i : i + 2]) for i in range(0, num_samples, 2)), gap=GAP),
        of_run(
            trained,
            view="activations",
            seed=seed,
            generator=[list(layer.shape[1:]) for layer in made],
            discriminator=[list(layer.shape[1:]) for layer in seen],
        ),
    )


def _band(layer: Float[Tensor, "maps h w"], most: int, size: tuple[int, int]) -> Any:
    """The strongest maps of a layer, each from its least to its largest, as large as images."""
    strength = layer.float().flatten(1).amax(1)
    chosen = layer.float()[strength.topk(min(most, len(layer))).indices]
    flat = chosen.flatten(1)
    low, high = (extreme[:, None, None] for extreme in (flat.amin(1), flat.amax(1)))
    shares = (chosen - low) / (high - low).clamp(min=1e-12)
    large = torch.nn.functional.interpolate(shares[:, None], size=size, mode="nearest")
    return grid(large, columns=most)


def convolutional(trained: TrainedModel) -> ClassifierExtractor:
    """The run's D, which has convolutions and is told no class.

    Raises:
        UsageError: it has none, or is.
    """
    return cast(ClassifierExtractor, trained.discriminator_extractor().net)


@contextmanager
def watched(layers: Iterable[nn.Module]) -> Generator[list[Tensor]]:
    """What these layers give, in the order in which they give it."""
    seen: list[Tensor] = []

    def note(_: nn.Module, __: Any, output: Any) -> None:
        seen.append(output)

    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def scaled(layer: nn.Module, by: Tensor) -> Generator[None]:
    """Multiply what a layer gives."""

    def multiply(_: nn.Module, __: Any, output: Any) -> Tensor:
        return output * by.to(output)

    handle = layer.register_forward_hook(multiply)
    try:
        yield
    finally:
        handle.remove()
