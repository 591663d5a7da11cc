"""The benchmark cases: what is measured, the baselines, the goals, and the useful operations.

Useful floating-point operations are those that the computation requires. A product of M x K and
K x N counts 2 M K N, a convolution as the equivalent product, element-wise operations 0. If a
forward pass on one image takes F operations, F1 of them in the first layer, the backward pass takes
F for the weights and F - F1 for the inputs of the later layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advnets import config, presets
from advnets.bench import baselines, contenders
from advnets.metrics.parzen import PAPER_GRID


@dataclass(frozen=True)
class ForwardFlops:
    """Operations of a forward pass on one image."""

    total: float
    first_layer: float
    """Operations of the first layer, whose input needs no gradient."""

    @property
    def weight_backward(self) -> float:
        """Operations of a backward pass to all weights, but not to the input."""
        return 2 * self.total - self.first_layer


def forward_flops(net: nn.Module, example: Tensor) -> ForwardFlops:
    """Count the operations of `net(example)`, divided by the batch size of the example."""
    counts: list[float] = []

    def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        weight = layer.get_parameter("weight")
        if isinstance(layer, nn.Linear):
            positions = math.prod(output.shape[:-1])
        else:  # each weight is used once at each position of the smaller of the maps
            maps = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
            positions = maps.shape[0] * maps.shape[2] * maps.shape[3]
        counts.append(2.0 * weight.numel() * positions)

    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, kinds)]
    training = net.training
    try:
        with torch.no_grad():
            net.eval()(example)
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    return ForwardFlops(sum(counts) / len(example), counts[0] / len(example))


def step_flops(game: config.GANGame, g: ForwardFlops, d: ForwardFlops) -> float:
    """Return the operations of a training step for each image of the batch, without penalties.

    D's update takes a forward and backward pass on a real and a generated image; G's takes forward
    passes of G and D, and a backward pass through D to G's weights. Alternating updates sample
    images for each of the k updates of D, and compute D's logits again for G, on fresh or reused
    samples. Simultaneous updates share samples and logits.
    """
    d_update = 2 * (d.total + d.weight_backward)
    input_backward = d.total  # the gradient of D's logit in the sample, with the first layer
    if game.updates == "simultaneous":
        return g.total + d_update + input_backward + g.weight_backward
    fresh = 0.0 if game.reuse_fakes else g.total
    return game.k * (g.total + d_update) + fresh + d.total + input_backward + g.weight_backward


@dataclass(frozen=True)
class Goal:
    """A goal of a case: a ratio to a baseline, a fraction of a peak, or a time."""

    text: str
    ratio: float | None = None
    baseline: str = ""
    peak_fraction: float | None = None
    precision: str = "bfloat16"
    seconds: float | None = None


@dataclass(frozen=True)
class BenchCase:
    """A benchmark case.

    A case with a `command`, the arguments of `advnets`, measures whole processes.
    """

    name: str
    description: str
    goals: tuple[Goal, ...]
    baselines: tuple[str, ...] = ()
    flops: Callable[[], float] | None = None
    """Returns the useful floating-point operations of a unit of work."""
    command: tuple[str, ...] = ()
    ready_text: str = ""
    """Output of a process that ends the measured time; "" for the end of the process."""
    requires: str = ""
    """The package of the baseline, which the extra `dev` installs."""


def _training_flops(preset: str) -> float:
    """Return the operations of a training step of a preset, for each image."""
    spec = baselines.BASELINES[preset]()
    g = forward_flops(spec.generator, torch.zeros(1, *spec.latent_shape))
    d = forward_flops(spec.discriminator, torch.zeros(1, *baselines.SHAPES[preset]))
    game = presets.get_preset(preset).stage.game
    assert isinstance(game, config.GANGame)
    return step_flops(game, g, d)


def _sampling_flops() -> float:
    """Return the operations of sampling an image of DCGAN."""
    spec = baselines.dcgan()
    return forward_flops(spec.generator, torch.zeros(1, *spec.latent_shape)).total


CASES: dict[str, BenchCase] = {
    case.name: case
    for case in (
        BenchCase(
            "start",
            "`advnets train digits` until its first step is done",
            (Goal("at most 3 s", seconds=3.0),),
            command=("train", "digits", "--steps", "1", "--sample-every", "0"),
            ready_text="step 1/1",
        ),
        BenchCase(
            "mlp-epoch",
            "fully connected networks of tutorials, batch 64: a process of one MNIST epoch",
            (Goal("3 x tutorial", ratio=3.0, baseline="tutorial"),),
            ("tutorial",),
            lambda: _training_flops("mlp"),
            command=("train", "mlp", "--epochs", "1"),
        ),
        BenchCase(
            "dcgan-epoch",
            "DCGAN 64x64, batch 64: a process of one epoch on 2,000 JPEG files",
            (Goal("2.5 x tutorial", ratio=2.5, baseline="tutorial"),),
            ("tutorial",),
            lambda: _training_flops("dcgan-tutorial"),
            command=("train", "dcgan-tutorial", "--epochs", "1"),
        ),
        BenchCase(
            "mlp",
            "the fully connected networks, training steps alone",
            (Goal("3 x tutorial", ratio=3.0, baseline="tutorial"),),
            ("tutorial", "resident"),
            lambda: _training_flops("mlp"),
        ),
        BenchCase(
            "paper-mnist",
            "networks of the 2014 MNIST experiment, batch 100, the paper's SGD",
            (
                Goal("2.5 x resident", ratio=2.5, baseline="resident"),
                Goal("35 % of the bfloat16 peak", peak_fraction=0.35),
            ),
            ("resident", "tutorial"),
            lambda: _training_flops("paper-mnist"),
        ),
        BenchCase(
            "dcgan-tutorial",
            "DCGAN 64x64, batch 64, networks as in PyTorch's example",
            (Goal("3 x tutorial", ratio=3.0, baseline="tutorial"),),
            ("tutorial", "resident"),
            lambda: _training_flops("dcgan-tutorial"),
        ),
        BenchCase(
            "sampling",
            "10,000 images from DCGAN 64x64",
            (Goal("3.5 x plain", ratio=3.5, baseline="plain"),),
            ("plain",),
            _sampling_flops,
        ),
        BenchCase(
            "parzen",
            "Parzen window, 10,000 x 10,000 x 784, ten σ",
            (Goal("50 % of the float32 peak", peak_fraction=0.5, precision="float32"),),
            # Of a test point: a dot product with each center, and 3 operations for each σ.
            flops=lambda: contenders.NUM_SAMPLES * (2.0 * 784 + 3 * len(PAPER_GRID)),
        ),
        BenchCase(
            "prdc",
            "precision, recall, density, coverage: 10,000 x 10,000 features of 1,000 numbers",
            (Goal("5 x prdc", ratio=5.0, baseline="prdc"),),
            ("prdc",),
            requires="prdc",
        ),
        BenchCase(
            "frechet",
            "Fréchet distance: 10,000 x 10,000 features of 2,048 numbers",
            (Goal("3 x torchmetrics", ratio=3.0, baseline="torchmetrics"),),
            ("torchmetrics",),
            requires="torchmetrics",
        ),
    )
}
