"""Gradients of G's two losses as D becomes confident that a sample is not real."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.losses import minimax_generator_loss, non_saturating_generator_loss
from advnets.models.mlp import MaxoutDiscriminator, MLPGenerator
from advnets.paper.blocks import (
    Block,
    Check,
    FigureBlock,
    Formula,
    SectionContent,
    SectionContext,
    Table,
    Text,
)
from advnets.paper.studies.init_range import make_digits_state
from advnets.plots.style import LIGHT, legend, new_figure, png, style_axes

PROBABILITIES = (0.5, 0.1, 1e-2, 1e-3, 1e-4, 1e-6)
"""Values of D(G(z))."""
INIT_RANGE = 0.05
"""Initialization range of preset `digits`."""
CONFIDENT = 1e-4
"""The D(G(z)) at which the ratio is compared with theory."""
TOLERANCE = 1e-5
"""Maximum relative deviation of a ratio; float32 has seven digits."""

Objective = Callable[[Tensor], Float[Tensor, ""]]


@dataclass(frozen=True)
class GradientNorms:
    """Gradient norms of a loss for one z, by autograd."""

    probability: float
    """With respect to D(G(z))."""
    logit: float
    """With respect to D's logit."""
    generator: float
    """With respect to all of G's parameters."""


@dataclass(frozen=True)
class LossComparison:
    """Gradient norms of both losses at one value of D(G(z))."""

    probability: float
    minimax: GradientNorms
    non_saturating: GradientNorms
    cosine: float
    """Cosine of the angle between the two gradients in G's parameters."""

    @property
    def ratios(self) -> dict[str, float]:
        """Gradient norm of the non-saturating loss divided by that of the minimax loss."""
        pairs = {
            name: (getattr(self.non_saturating, name), getattr(self.minimax, name))
            for name in ("probability", "logit", "generator")
        }
        return {name: strong / weak for name, (strong, weak) in pairs.items()}

    @property
    def theory(self) -> float:
        """The ratio in theory, (1 - D) / D."""
        return (1 - self.probability) / self.probability


def compare_losses(probability: float, seed: int = 0) -> LossComparison:
    """Compare both losses on the networks of preset `digits` and one z.

    D's output bias is shifted so that D(G(z)) is the given probability.
    """
    state = make_digits_state(INIT_RANGE, seed)
    generator = cast(MLPGenerator, state.players["generator"])
    discriminator = cast(MaxoutDiscriminator, state.players["discriminator"])
    z, target_logit = generator.latent(1, state.rng), math.log(probability / (1 - probability))
    with torch.no_grad():
        for _ in range(3):  # repeat, since the first sum is rounded
            discriminator.output.bias += target_logit - discriminator(generator(z))
    parameters = tuple(generator.parameters())

    def gradient_norms(loss: Objective) -> tuple[GradientNorms, Tensor]:
        a = discriminator(generator(z))
        gradients = torch.autograd.grad(loss(a), (a, *parameters))
        d = torch.sigmoid(a.detach().double()).requires_grad_()
        (of_verdict,) = torch.autograd.grad(loss(torch.logit(d)), d)
        vector = torch.cat([g.flatten() for g in gradients[1:]]).double()
        sizes = float(of_verdict.abs()), float(gradients[0].abs()), float(vector.norm())
        return GradientNorms(*sizes), vector

    (minimax, minimax_vector), (non_saturating, non_saturating_vector) = (
        gradient_norms(loss) for loss in (minimax_generator_loss, non_saturating_generator_loss)
    )
    with torch.no_grad():
        measured = float(torch.sigmoid(discriminator(generator(z)).double()))
    cosine = float(
        minimax_vector
        @ non_saturating_vector
        / (minimax_vector.norm() * non_saturating_vector.norm())
    )
    return LossComparison(measured, minimax, non_saturating, cosine)


def build(context: SectionContext) -> SectionContent:
    """Compare both losses and their gradients, from D(G(z)) = 1/2 to one in a million."""
    context.log("gradients where D is confident")
    measured = {verdict: compare_losses(verdict, context.seed) for verdict in PROBABILITIES}
    return SectionContent(_blocks(context, measured), _checks(measured[CONFIDENT]))


def _blocks(context: SectionContext, measured: Mapping[float, LossComparison]) -> tuple[Block, ...]:
    return (
        Formula(
            r"\frac{\partial}{\partial a} \log(1 - D) = -D, \quad "
            r"\frac{\partial}{\partial a} (-\log D) = D - 1, \quad D = \frac{1}{1 + e^{-a}}"
        ),
        Text(
            "Early in training $G$ is poor and $D$ rejects its samples: $D(G(z))$ is near 0. "
            r"There $\log(1 - D)$ is flat in $D$'s logit $a$: its gradient reaches $G$ multiplied "
            r"by $D$, that of $-\log D$ multiplied by $1 - D$. Their ratio is $(1 - D) / D$: in "
            "$D$, in the logit and, for one $z$, in each of $G$'s parameters, since the rest of "
            "the chain rule is the same. Both gradients have the same direction."
        ),
        _plot(context, measured),
        Table(
            "Norms of both gradients in $G$'s parameters, and the ratios, by autograd: the "
            "networks of preset `digits` and one $z$, with the bias of $D$'s last layer shifted "
            "so that $D(G(z))$ is the value in the first column.",
            (
                "$D(G(z))$",
                r"of $\log(1 - D)$",
                r"of $-\log D$",
                "ratio in $D$",
                "in logit",
                "in $G$",
                "$(1 - D) / D$",
            ),
            tuple(_row(probability, comparison) for probability, comparison in measured.items()),
        ),
    )


def _row(probability: float, comparison: LossComparison) -> tuple[str, ...]:
    sizes = (f"{pull.generator:.3g}" for pull in (comparison.minimax, comparison.non_saturating))
    ratios = (f"{ratio:,.1f}" for ratio in comparison.ratios.values())
    return f"{probability:g}", *sizes, *ratios, f"{comparison.theory:,.1f}"


def _checks(comparison: LossComparison) -> tuple[Check, ...]:
    theory = (1 - CONFIDENT) / CONFIDENT
    places = {
        "probability": "$D$ itself",
        "logit": "$D$'s logit",
        "generator": "all of $G$'s parameters",
    }
    ratios = tuple(
        Check(
            f"ratio of gradient norms at $D(G(z)) = 10^{{-4}}$, with respect to {place}",
            f"$(1 - D) / D$ = {theory:g}, to five digits",
            f"{comparison.ratios[name]:.3f}",
            abs(comparison.ratios[name] / theory - 1) <= TOLERANCE,
        )
        for name, place in places.items()
    )
    aligned = Check(
        "both gradients in $G$'s parameters have the same direction: cosine",
        "1 within 1e-6",
        f"1 - {1 - comparison.cosine:.0e}",
        1 - comparison.cosine <= 1e-6,
    )
    return *ratios, aligned


def _plot(context: SectionContext, measured: Mapping[float, LossComparison]) -> FigureBlock:
    figure = new_figure(10.4, 3.8)
    losses, ratios = figure.subplots(1, 2)
    style_axes(losses, "Losses of G", "nats", x="logit of D(G(z))")
    a = torch.linspace(-12, 4, 200)
    losses_by_label = {
        "log(1 − D)": (minimax_generator_loss, LIGHT.fake, "-"),
        "−log D": (non_saturating_generator_loss, LIGHT.real, "--"),
    }
    for label, (loss, color, style) in losses_by_label.items():
        values = [float(loss(logit)) for logit in a[:, None]]
        losses.plot(a, values, style, color=color, lw=1.8, label=label)
    losses.axvline(math.log(CONFIDENT), color=LIGHT.rule, lw=1, ls=":")
    losses.text(math.log(CONFIDENT), -3.4, " D = 1e-4", color=LIGHT.text, fontsize=9)
    legend(losses)
    style_axes(ratios, "Gradient of −log D relative to log(1 − D)", "ratio", x="D(G(z))")
    d = torch.logspace(-6.3, -0.2, 100)
    ratios.loglog(d, (1 - d) / d, color=LIGHT.rule, lw=1.4, label="(1 − D) / D")
    marks = {
        "probability": ("in D", "o", 9),
        "logit": ("in the logit", "s", 5),
        "generator": ("in G", "x", 9),
    }
    for (name, (label, mark, size)), color in zip(marks.items(), LIGHT.hues, strict=False):
        measured_ratios = [comparison.ratios[name] for comparison in measured.values()]
        ratios.plot(
            PROBABILITIES, measured_ratios, mark, mfc="none", ms=size, color=color, label=label
        )
    ratios.invert_xaxis()
    legend(ratios, columns=1, corner="upper left")
    alt = "log(1 - D) is flat where the logit is low; the ratio of the gradients is (1 - D) / D"
    caption = (
        r"Left: where $D$ rejects the samples, $\log(1 - D)$ is flat and $-\log D$ steep. Right: "
        "the ratio of the two gradient norms, measured and in theory."
    )
    return context.save_image("pull.png", png(figure), alt, caption)
