"""Useful floating-point operations of a training step: those that the computation requires.

A product of M x K and K x N counts 2 M K N, a convolution as the equivalent product, element-wise
operations 0. If a forward pass on one image takes F operations, F1 of them in the first layer, the
backward pass takes F for the weights and F - F1 for the inputs of the later layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advnets import config


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
