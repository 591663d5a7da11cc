"""Features of the discriminator: guided backpropagation, and activation maps of all layers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from advnets.errors import UsageError
from advnets.experiment.trained_model import TrainedModel
from advnets.extractors.base import BATCH_SIZE
from advnets.models import dcgan, resnet
from advnets.plots.image_grid import grid
from advnets.visualize.figure import GAP, Figure, View, ViewData, hstack, image_rows, vstack
from advnets.visualize.samples import training_images

ConvDiscriminator = dcgan.DCGANDiscriminator | resnet.ResidualDiscriminator


@dataclass(frozen=True)
class GuidedBackprop(View):
    """Show what the strongest features of D respond to, by guided backpropagation.

    Each row shows a feature of the last convolution: the training images with its largest
    responses, and the guided gradients of these responses. On the left is the trained D, on the
    right D at initialization. The strength of a feature is the mean of its largest responses over
    the standard deviation of all its responses. Source: Radford et al. 2015, figure 5.

    Raises:
        UsageError: D has no convolutions, or is conditional.
        DataError: the data is missing.
    """

    examples: ClassVar[tuple[str, ...]] = ("", "--features 12")

    features: int = 6
    """Number of features of the last convolution, strongest first."""
    top_k: int = 6
    """Number of training images for each feature, those with the largest responses."""
    num_images: int = 2000
    """Number of training images to search."""

    def compute(self, model: TrainedModel) -> ViewData:
        """Compute images and guided gradients for the trained and for the initial D."""
        initial = model.initial_players()["discriminator"]
        nets = {"trained": conv_discriminator(model), "initial": cast(ConvDiscriminator, initial)}
        images = training_images(model)[: self.num_images]
        tensors: dict[str, Tensor] = {}
        record: dict[str, Any] = {"num_images": len(images)}
        for name, net in nets.items():
            tensors[name], record[name] = self._strongest_features(model, net.cpu(), images)
        return ViewData(tensors, record)

    def _strongest_features(
        self, model: TrainedModel, net: ConvDiscriminator, images: Tensor
    ) -> tuple[Float[Tensor, "features twice_top_k c h w"], list[dict[str, Any]]]:
        """Return a row of images and gradients for each of the strongest features, and a record."""
        # Find the features with the largest responses, relative to their standard deviation.
        x = model.normalizer.from_unit_range(images)
        with torch.no_grad():
            responses = torch.cat(
                [net.feature_maps(block)[-1].flatten(2).amax(2) for block in x.split(BATCH_SIZE)]
            )
        largest, top_images = responses.topk(self.top_k, dim=0)
        strength = largest.mean(0) / responses.std(0).clamp(min=1e-12)
        features = strength.topk(min(self.features, len(strength))).indices
        indices = top_images[:, features].T  # (features, top_k)

        # Map gradients to [0, 1]: 0 is gray, the largest of each image is black or white.
        repeated = features[:, None].expand_as(indices).flatten()
        gradient = guided_gradient(net, x[indices.flatten()], repeated)
        largest = gradient.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
        gradients = (0.5 + 0.5 * gradient / largest).unflatten(0, indices.shape)
        record = [
            {"feature": int(f), "training_images": n.tolist(), "strength": float(strength[f])}
            for f, n in zip(features, indices, strict=True)
        ]
        return torch.cat((images[indices], gradients), 1), record

    def draw(self, data: ViewData) -> Figure:
        """Draw the features of the trained D on the left, those of the initial D on the right."""
        return Figure(hstack(*map(image_rows, data.tensors.values())))


class _GuidedActivation(torch.autograd.Function):
    """An activation whose backward pass keeps positive gradients at positive inputs only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activate: Callable[[Tensor], Tensor]) -> Tensor:
        """Return activate(x)."""
        ctx.save_for_backward(x)
        return activate(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        """Return the gradient where it and x are positive, 0 elsewhere."""
        (x,) = ctx.saved_tensors
        return gradients[0].clamp(min=0) * (x > 0), None


def guided_gradient(
    net: ConvDiscriminator,
    images: Float[Tensor, "n channels height width"],
    features: Int[Tensor, " n"],
) -> Float[Tensor, "n channels height width"]:
    """Compute the guided gradient of one feature of D's last convolution for each image.

    It is the gradient of the feature's largest response over positions with respect to the image,
    where each rectifier passes back only positive gradients at positive inputs. Images are in the
    model's range; a feature is the index of a map. Source: Springenberg et al. 2015, "Striving for
    simplicity", section 3.4.
    """
    net = copy.deepcopy(net).eval()
    for layer in net.modules():
        if isinstance(layer, dcgan.Layer | resnet.Block):
            layer.activate = _guided(layer.activate)
    images = images.clone().requires_grad_()
    maps = net.feature_maps(images)[-1]
    selected = maps[torch.arange(len(maps)), features]
    (gradient,) = torch.autograd.grad(selected.flatten(1).amax(1).sum(), images)
    return gradient


def _guided(activate: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: cast(Tensor, _GuidedActivation.apply(x, activate))


@dataclass(frozen=True)
class Activations(View):
    """Show samples with the strongest activation maps of all layers of G and D.

    Raises:
        UsageError: G or D has no convolutions, or D is conditional.
    """

    examples: ClassVar[tuple[str, ...]] = ("", "--maps 20")

    num_samples: int = 4
    """Number of samples."""
    maps: int = 12
    """Number of maps of each layer, those with the largest responses."""
    seed: int = 0
    """Seed of z."""

    def compute(self, model: TrainedModel) -> ViewData:
        """Compute samples, and all maps of G and D for them, in the order of computation."""
        discriminator, generator = conv_discriminator(model), model.generator
        if not isinstance(generator, dcgan.DCGANGenerator):
            raise UsageError("activations require a DCGAN generator; give a run of a DCGAN preset")
        z = model.latents(self.num_samples, seed=self.seed)
        with torch.no_grad(), recorded_outputs(generator.layers) as generator_maps:
            samples = generator(z)
            discriminator_maps = discriminator.feature_maps(samples)
        return ViewData(
            {
                **{f"generator {i}": maps for i, maps in enumerate(generator_maps)},
                "samples": model.normalizer.to_pixels(samples),
                **{f"discriminator {i}": maps for i, maps in enumerate(discriminator_maps)},
            },
            {
                "generator": [list(maps.shape[1:]) for maps in generator_maps],
                "discriminator": [list(maps.shape[1:]) for maps in discriminator_maps],
            },
        )

    def draw(self, data: ViewData) -> Figure:
        """Draw a panel for each sample, two in a row; in a panel, one row for each layer."""
        size = data.tensors["samples"].shape[2:]
        panels = [
            vstack(
                *(
                    grid(maps[i : i + 1]) if name == "samples" else self._strongest(maps[i], size)
                    for name, maps in data.tensors.items()
                )
            )
            for i in range(self.num_samples)
        ]
        pairs = [hstack(*panels[i : i + 2]) for i in range(0, self.num_samples, 2)]
        return Figure(vstack(*pairs, gap=GAP))

    def _strongest(self, layer: Float[Tensor, "maps h w"], size: torch.Size) -> Image.Image:
        """Draw the strongest maps of a layer, each scaled to [0, 1] and to the size of images."""
        layer = layer.float()
        strength = layer.flatten(1).amax(1)
        maps = layer[strength.topk(min(self.maps, len(layer))).indices]
        flat = maps.flatten(1)
        low, high = (extreme[:, None, None] for extreme in (flat.amin(1), flat.amax(1)))
        scaled = (maps - low) / (high - low).clamp(min=1e-12)
        large = F.interpolate(scaled[:, None], size=tuple(size), mode="nearest")
        return grid(large, columns=self.maps)


def conv_discriminator(model: TrainedModel) -> ConvDiscriminator:
    """Return the model's discriminator.

    Raises:
        UsageError: it has no convolutions, or is conditional.
    """
    return cast(ConvDiscriminator, model.discriminator_extractor().net)


@contextmanager
def recorded_outputs(layers: Iterable[nn.Module]) -> Generator[list[Tensor]]:
    """Record the outputs of layers, in the order in which they are computed."""
    outputs: list[Tensor] = []

    def record(_: nn.Module, __: Any, output: Any) -> None:
        outputs.append(output)

    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def scaled_output(layer: nn.Module, factor: Tensor) -> Generator[None]:
    """Multiply the output of a layer by a factor."""

    def scale(_: nn.Module, __: Any, output: Any) -> Tensor:
        return output * factor.to(output)

    handle = layer.register_forward_hook(scale)
    try:
        yield
    finally:
        handle.remove()
