"""What moves the players: optimizers as one pass over memory that the device itself can leave out.

The operators are those below `torch.optim` with `fused=True`. Its classes are not used, since the
first of them that is built or stepped imports torch's compiler: a second and a half of every start.
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import singledispatch

import torch
from jaxtyping import Bool
from torch import Tensor

from advnets import config
from advnets.schedules import beta2, learning_rate, momentum

_EPSILON = 1e-8
_LEAST = sys.float_info.min  # normal: a smaller one is 0 where denormals are flushed


class Optimizer(ABC):
    """A player's optimizer: the rule, and what it remembers of each parameter."""

    def __init__(self, parameters: Iterable[Tensor], memory: Sequence[str]) -> None:
        self.parameters = [parameter.detach() for parameter in parameters]
        self.state = {
            name: [torch.zeros_like(parameter) for parameter in self.parameters] for name in memory
        }
        """By name, one tensor for each parameter; all of it is 0 before the first update."""

    @abstractmethod
    def step(
        self,
        gradients: Sequence[Tensor],
        updates: int,
        epoch: int,
        finite: Bool[Tensor, ""],
        progress: float = 0.0,
    ) -> None:
        """Move the parameters, after `updates` earlier moves, in an epoch counted from 0.

        `done` is the share of the way from first to last settings that lies behind. Where `finite`
        is false nothing changes; the host does not wait to learn it.
        """

    def _laid_out(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """The gradients in their parameters' layout: the operators walk all memory in one order."""
        return [
            gradient
            if gradient.stride() == parameter.stride()
            else torch.empty_like(parameter).copy_(gradient)
            for gradient, parameter in zip(gradients, self.parameters, strict=True)
        ]


class SGDOptimizer(Optimizer):
    """V <- momentum v - lr g, p <- p + v, as the authors' library has it.

    The operator keeps b = -v / lr instead: b <- momentum' b + g, p <- p - lr b. The two agree while
    lr changes if momentum' = momentum lr(n - 1) / lr(n).
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
        lr, before = (learning_rate(self.spec, n) for n in (updates, max(updates - 1, 0)))
        slowed = before / lr if lr else 1.0  # at a rate of 0 nothing moves, whatever is kept
        torch._fused_sgd_(  # pyright: ignore
            self.parameters,
            self._laid_out(gradients),
            self.state["momentum_buffer"],
            weight_decay=0.0,
            # At 0 the operator would keep no memory, and the next epoch's momentum may be more.
            momentum=max(momentum(self.spec, epoch) * slowed, _LEAST),
            lr=lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
            found_inf=_found_inf(finite),
        )


class AdamOptimizer(Optimizer):
    """Adam: p <- p - lr m̂ / (√v̂ + 1e-8), m̂ and v̂ the unbiased means of g and g².

    v̂ = v / (1 - β₂ⁿ) while β₂ is constant. The weights of g² in v sum to 1 - ∏ β₂ over all updates
    made, so on the way to `end_beta2` this product takes the place of β₂ⁿ.
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
        step += finite  # the update is counted on the device too: one that is left out is none
        lr: float | Tensor = learning_rate(self.spec, updates, progress)
        decay = beta2(self.spec, progress)
        if "log_beta2_product" in self.state:
            lr, step = self._corrected(lr, decay, finite)
        torch._fused_adam_(  # pyright: ignore
            self.parameters,
            self._laid_out(gradients),
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

    def _corrected(self, lr: float, decay: float, finite: Tensor) -> tuple[Tensor, Tensor]:
        """Return the learning rate and step count by which the operator corrects both means.

        The operator corrects v by 1 - β₂ⁿ and m by 1 - β₁ⁿ with the same n. With n' = Σ log β₂(i) /
        log β₂ the first is right; multiplying lr by (1 - β₁ⁿ') / (1 - β₁ⁿ) makes up for the second.
        """
        (step,), (log_product,) = self.state["step"], self.state["log_beta2_product"]
        log_decay = math.log(max(decay, _LEAST))
        log_product += finite * log_decay
        equivalent = log_product / log_decay
        corrections = 1 - self.spec.beta1**equivalent, 1 - self.spec.beta1**step
        # Before the first finite update both are 0; the operator then changes nothing.
        ratio = torch.where(step > 0, corrections[0] / corrections[1], 1.0)
        return lr * ratio, equivalent


def _found_inf(finite: Tensor) -> Tensor:
    return (~finite).float()


@singledispatch
def make_optimizer(spec: config.OptimizerConfig, parameters: Iterable[Tensor]) -> Optimizer:
    """The mover that a config describes."""
    raise NotImplementedError(f"no mover for {type(spec).__name__}")


@make_optimizer.register
def _(spec: config.SGD, parameters: Iterable[Tensor]) -> Optimizer:
    return SGDOptimizer(spec, parameters)


@make_optimizer.register
def _(spec: config.Adam, parameters: Iterable[Tensor]) -> Optimizer:
    return AdamOptimizer(spec, parameters)
