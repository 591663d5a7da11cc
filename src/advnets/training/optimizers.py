"""Optimizers: fused SGD and Adam with updates that the device can skip, and their schedules.

The operators are those of `torch.optim` with `fused=True`. Its classes are not used, because
constructing or stepping the first of them imports torch's compiler, which takes 1.5 seconds.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from advnets import config
from advnets.errors import UsageError
from advnets.schedules import cosine

_EPSILON = 1e-8
_TINY = sys.float_info.min
"""The smallest normal number: smaller ones are flushed to 0."""
_MAX_EXPONENT = 700.0
"""Natural logarithm of about the largest power that a float holds."""
_MIN_RATE = 1e-30
"""A learning rate that is too small to change any float32 weight."""


class Optimizer(ABC):
    """An update rule for the parameters of one player, and its state."""

    def __init__(self, parameters: Iterable[Tensor], state_names: Sequence[str]) -> None:
        self.parameters: list[Tensor] = [parameter.detach() for parameter in parameters]
        self.state: dict[str, list[Tensor]] = {
            name: [torch.zeros_like(parameter) for parameter in self.parameters]
            for name in state_names
        }
        """By name, one tensor for each parameter, initially 0."""

    @abstractmethod
    def step(
        self,
        gradients: Sequence[Tensor],
        updates: int,
        epoch: int,
        finite: Bool[Tensor, ""],
        progress: float = 0.0,
    ) -> None:
        """Update the parameters in place.

        `updates` counts the player's earlier updates, `epoch` the passes over the data, both from
        0; `progress` in [0, 1] is the fraction of the scheduled steps that are complete. Where
        `finite` is false on the device, neither parameters nor state change.
        """

    def _in_parameter_layout(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Return gradients with the strides of their parameters, as the fused operators need."""
        return [
            gradient
            if gradient.stride() == parameter.stride()
            else torch.empty_like(parameter).copy_(gradient)
            for gradient, parameter in zip(gradients, self.parameters, strict=True)
        ]


class SGDOptimizer(Optimizer):
    """SGD with momentum: v <- momentum v - lr g, p <- p + v, as in the authors' library.

    The operator stores b = -v / lr instead: b <- momentum' b + g, p <- p - lr b. With a varying lr
    both are the same if momentum' = momentum lr(n - 1) / lr(n).
    """

    def __init__(self, spec: config.SGD, parameters: Iterable[Tensor]) -> None:
        super().__init__(parameters, ["momentum_buffer"])
        self.spec = spec

    def step(  # noqa: D102
        self,
        gradients: Sequence[Tensor],
        updates: int,
        epoch: int,
        finite: Bool[Tensor, ""],
        progress: float = 0.0,  # noqa: ARG002
    ) -> None:
        lr, last_lr = (learning_rate(self.spec, n) for n in (updates, max(updates - 1, 0)))
        ratio = last_lr / lr if lr else 1.0  # at lr 0 the buffer has no effect
        torch._fused_sgd_(  # pyright: ignore
            self.parameters,
            self._in_parameter_layout(gradients),
            self.state["momentum_buffer"],
            weight_decay=0.0,
            # At 0 the operator would not fill the buffer, which a later epoch may need.
            momentum=max(momentum(self.spec, epoch) * ratio, _TINY),
            lr=lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
            found_inf=_found_inf(finite),
        )


class AdamOptimizer(Optimizer):
    """Adam: p <- p - lr m̂ / (√v̂ + 1e-8), with m̂ and v̂ the unbiased means of g and g².

    v̂ = v / (1 - β₂ⁿ) while β₂ is constant. The weights of g² in v sum to 1 - ∏ β₂ over all updates,
    so that with a schedule of β₂ this product replaces β₂ⁿ.
    Source: Kingma and Ba 2015, Algorithm 1 and section 3.
    """

    def __init__(self, spec: config.Adam, parameters: Iterable[Tensor]) -> None:
        super().__init__(parameters, ["exp_avg", "exp_avg_sq"])
        self.spec = spec
        device = self.parameters[0].device if self.parameters else None
        self.state["step"] = [torch.zeros((), device=device)]
        if spec.beta2_final is not None:
            self.state["log_beta2_product"] = [torch.zeros((), device=device)]

    def step(  # noqa: D102
        self,
        gradients: Sequence[Tensor],
        updates: int,
        epoch: int,  # noqa: ARG002
        finite: Bool[Tensor, ""],
        progress: float = 0.0,
    ) -> None:
        (step,) = self.state["step"]
        step += finite  # a skipped update is not counted
        lr: float | Tensor = learning_rate(self.spec, updates, progress)
        decay = beta2(self.spec, progress)
        if "log_beta2_product" in self.state:
            lr, step = self._bias_correction(lr, decay, finite)
        torch._fused_adam_(  # pyright: ignore
            self.parameters,
            self._in_parameter_layout(gradients),
            self.state["exp_avg"],
            self.state["exp_avg_sq"],
            [],
            [step] * len(self.parameters),
            lr=lr,
            beta1=self.spec.beta1,
            beta2=decay,
            weight_decay=0.0,
            eps=_EPSILON,
            amsgrad=False,
            maximize=False,
            found_inf=_found_inf(finite),
        )

    def _bias_correction(self, lr: float, decay: float, finite: Tensor) -> tuple[Tensor, Tensor]:
        """Return the learning rate and step count that correct the operator's bias correction.

        The operator corrects v by 1 - β₂ⁿ and m by 1 - β₁ⁿ with the same n. n' = Σ log β₂(i) / log
        β₂ makes the first right; a factor (1 - β₁ⁿ') / (1 - β₁ⁿ) on lr makes the second right.
        """
        (step,), (log_product,) = self.state["step"], self.state["log_beta2_product"]
        log_decay = math.log(max(decay, _TINY))
        log_product += finite * log_decay
        equivalent = log_product / log_decay
        corrections = 1 - self.spec.beta1**equivalent, 1 - self.spec.beta1**step
        # Before the first finite update both are 0, and the operator changes nothing.
        ratio = torch.where(step > 0, corrections[0] / corrections[1], 1.0)
        return lr * ratio, equivalent


def _found_inf(finite: Tensor) -> Tensor:
    return (~finite).float()


def make_optimizer(spec: config.OptimizerConfig, parameters: Iterable[Tensor]) -> Optimizer:
    """Return the optimizer of these parameters that a config describes."""
    if isinstance(spec, config.SGD):
        return SGDOptimizer(spec, parameters)
    return AdamOptimizer(spec, parameters)


def is_frozen(spec: config.OptimizerConfig) -> bool:
    """Return whether the learning rate of a player is set to 0, so that its weights stay."""
    final = spec.lr_final if isinstance(spec, config.Adam) else None
    return spec.lr == 0 and not final


def learning_rate(spec: config.OptimizerConfig, updates: int, progress: float = 0.0) -> float:
    """Return max(lr_min, lr / lr_decay^updates); Adam's lr goes to `lr_final` by a cosine.

    A frozen player has the rate 0 throughout. `progress` is in [0, 1]. Sources: the authors'
    configuration; for the cosine, Huang et al. 2024.
    """
    lr = spec.lr
    if is_frozen(spec):
        return 0.0
    if isinstance(spec, config.Adam) and spec.lr_final is not None:
        lr = cosine(spec.lr, spec.lr_final, progress)
    exponent = updates * math.log(spec.lr_decay)
    if exponent > _MAX_EXPONENT:  # lr_decay^updates overflows
        return max(spec.lr_min, lr * math.exp(-exponent))
    return max(spec.lr_min, lr / spec.lr_decay**updates)


def check_learning_rate(player: str, spec: config.OptimizerConfig, updates: int) -> None:
    """Reject a learning rate that decays to 0 in float32 within this number of updates.

    Raises:
        UsageError: the learning rate decays to 0.
    """
    final = spec.lr_final if isinstance(spec, config.Adam) else None
    smallest = max(spec.lr_min, spec.lr if final is None else final)
    if smallest == 0 or is_frozen(spec):  # a learning rate of 0 was configured
        return
    last = learning_rate(spec, updates, 1.0)
    if spec.lr_decay > 1 and last < _MIN_RATE:
        raise UsageError(
            f"lr_decay is {spec.lr_decay}, which reduces the learning rate of the {player} from "
            f"{spec.lr} to {last:.1g} within {updates:,} updates; give an lr_decay closer to 1, an "
            "lr_min, or fewer steps"
        )


def beta2(spec: config.Adam, progress: float) -> float:
    """Return Adam's β₂, which goes from `beta2` to `beta2_final` by a cosine."""
    if spec.beta2_final is None:
        return spec.beta2
    return cosine(spec.beta2, spec.beta2_final, progress)


def momentum(spec: config.SGD, epoch: int) -> float:
    """Return the momentum in an epoch, counted from 0.

    It is linear from `momentum` in epoch 0 to `momentum_final` in epoch momentum_epochs - 1, then
    constant. Source: the authors' configuration, which counts epochs from 1.
    """
    fraction = min(1.0, epoch / (spec.momentum_epochs - 1)) if spec.momentum_epochs > 1 else 1.0
    return (1 - fraction) * spec.momentum + fraction * spec.momentum_final
