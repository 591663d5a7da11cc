"""Useful floating-point operations: what the mathematics of a step asks for, however it is done.

A product of M x K and K x N is 2 M K N; a convolution is the product it stands for. Element-wise
work is left out. For nets with F(net) operations forward on one image, of which F1 in the first
layer, the backward pass takes F for the weights and F - F1 for the inputs of the later layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advnets import config


@dataclass(frozen=True)
class Forward:
    """Operations of a net on one image."""

    total: float
    first: float
    """Those of the first layer, whose input needs no gradient."""

    @property
    def weights(self) -> float:
        """Of a backward pass that stops at the weights."""
        return 2 * self.total - self.first


def forward(net: nn.Module, example: Tensor) -> Forward:
    """Count the operations of `net(example)`, for a batch of one."""
    counted: list[float] = []

    def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        weight = layer.get_parameter("weight")
        if isinstance(layer, nn.Linear):
            positions = math.prod(output.shape[:-1])
        else:  # each number of the weight is used once at each position of the smaller maps
            maps = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
            positions = maps.shape[0] * maps.shape[2] * maps.shape[3]
        counted.append(2.0 * weight.numel() * positions)

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
    return Forward(sum(counted) / len(example), counted[0] / len(example))


def of_round(game: config.GANGame, g: Forward, d: Forward) -> float:
    """Operations of one round of the plain game, for each image of its batch, penalties apart.

    D: forward and backward on a real and a generated image. G: forward, D on the sample, back
    through D's inputs to G's weights. Alternating play takes samples for each of D's k steps, and D
    anew on G's, which are fresh or the last of these; simultaneous play shares both.
    """
    ascent = 2 * (d.total + d.weights)
    through = d.total  # the gradient of D's logit in the sample, first layer included
    if game.updates == "simultaneous":
        return g.total + ascent + through + g.weights
    fresh = 0.0 if game.reuse_fakes else g.total
    return game.k * (g.total + ascent) + fresh + d.total + through + g.weights
