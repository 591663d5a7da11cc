"""Gradients of G's two losses as D grows confident that a sample is none of the data."""

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
from advnets.paper.studies.init_range import digits_table
from advnets.plots.style import LIGHT, legend, new_figure, png, style_axes

VERDICTS = (0.5, 0.1, 1e-2, 1e-3, 1e-4, 1e-6)
"""D(G(z))."""
RANGE = 0.05
"""Initial range of preset `digits`."""
CONFIDENT = 1e-4
"""D(G(z)) at which the ratio is held to theory."""
EQUAL = 1e-5
"""How far a ratio may be from theory, in relation: float32 keeps seven digits."""

Objective = Callable[[Tensor], Float[Tensor, ""]]


@dataclass(frozen=True)
class Pull:
    """How strongly a loss pulls: sizes of its gradient by autograd, for one z."""

    verdict: float
    """In D(G(z)) itself."""
    logit: float
    generator: float
    """In all of G's parameters, as a vector."""


@dataclass(frozen=True)
class Pulls:
    """Both losses where D(G(z)) is what it is."""

    verdict: float
    minimax: Pull
    non_saturating: Pull
    cosine: float
    """Of the angle between the two gradients in G's parameters."""

    @property
    def ratios(self) -> dict[str, float]:
        """The non-saturating loss's pull in units of the minimax loss's."""
        pairs = {
            name: (getattr(self.non_saturating, name), getattr(self.minimax, name))
            for name in ("verdict", "logit", "generator")
        }
        return {name: strong / weak for name, (strong, weak) in pairs.items()}

    @property
    def theory(self) -> float:
        """(1 - D) / D."""
        return (1 - self.verdict) / self.verdict


def pulls(verdict: float, seed: int = 0) -> Pulls:
    """Measure both, on the nets of preset `digits` and one z, D's output bias moved to fit."""
    state = digits_table(RANGE, seed)
    generator = cast(MLPGenerator, state.players["generator"])
    discriminator = cast(MaxoutDiscriminator, state.players["discriminator"])
    z, wanted = generator.latent(1, state.rng), math.log(verdict / (1 - verdict))
    with torch.no_grad():
        for _ in range(3):  # what the sum of the first rounds off, the next puts right
            discriminator.output.bias += wanted - discriminator(generator(z))
    parameters = tuple(generator.parameters())

    def pull(loss: Objective) -> tuple[Pull, Tensor]:
        a = discriminator(generator(z))
        whole = torch.autograd.grad(loss(a), (a, *parameters))
        d = torch.sigmoid(a.detach().double()).requires_grad_()
        (of_verdict,) = torch.autograd.grad(loss(torch.logit(d)), d)
        vector = torch.cat([g.flatten() for g in whole[1:]]).double()
        sizes = float(of_verdict.abs()), float(whole[0].abs()), float(vector.norm())
        return Pull(*sizes), vector

    (weak, downhill), (strong, other) = (
        pull(loss) for loss in (minimax_generator_loss, non_saturating_generator_loss)
    )
    with torch.no_grad():
        found = float(torch.sigmoid(discriminator(generator(z)).double()))
    cosine = float(downhill @ other / (downhill.norm() * other.norm()))
    return Pulls(found, weak, strong, cosine)


def show(context: SectionContext) -> SectionContent:
    """The two losses and their pulls, from D(G(z)) = 1/2 to one in a million."""
    context.tell("gradients where D is confident")
    measured = {verdict: pulls(verdict, context.seed) for verdict in VERDICTS}
    return SectionContent(_blocks(context, measured), _checks(measured[CONFIDENT]))


def _blocks(context: SectionContext, measured: Mapping[float, Pulls]) -> tuple[Block, ...]:
    return (
        Formula(
            r"\frac{\partial}{\partial a} \log(1 - D) = -D, \quad "
            r"\frac{\partial}{\partial a} (-\log D) = D - 1, \quad D = \frac{1}{1 + e^{-a}}"
        ),
        Text(
            "Early on $G$ is poor and $D$ rejects its samples: $D(G(z))$ is near 0. There "
            r"$\log(1 - D)$ is flat in $D$'s logit $a$, and its gradient comes to $G$ multiplied "
            r"by $D$; that of $-\log D$ comes multiplied by $1 - D$. The one is $(1 - D) / D$ "
            "times the other: in $D$, in the logit and, for one $z$, in each of $G$'s parameters, "
            "since all that follows is the same chain rule. Both have the same direction."
        ),
        _image(context, measured),
        Table(
            "Sizes of both gradients in $G$'s parameters, and the ratios, by autograd: the nets of "
            "preset `digits` and one $z$, where the bias of $D$'s last layer is moved so that $D$ "
            "says what the first column has.",
            (
                "$D(G(z))$",
                r"of $\log(1 - D)$",
                r"of $-\log D$",
                "ratio in $D$",
                "in logit",
                "in $G$",
                "$(1 - D) / D$",
            ),
            tuple(_row(verdict, one) for verdict, one in measured.items()),
        ),
    )


def _row(verdict: float, one: Pulls) -> tuple[str, ...]:
    sizes = (f"{pull.generator:.3g}" for pull in (one.minimax, one.non_saturating))
    ratios = (f"{ratio:,.1f}" for ratio in one.ratios.values())
    return f"{verdict:g}", *sizes, *ratios, f"{one.theory:,.1f}"


def _checks(one: Pulls) -> tuple[Check, ...]:
    theory = (1 - CONFIDENT) / CONFIDENT
    places = {
        "verdict": "$D$ itself",
        "logit": "$D$'s logit",
        "generator": "all of $G$'s parameters",
    }
    ratios = tuple(
        Check(
            f"ratio of gradients at $D(G(z)) = 10^{{-4}}$, with respect to {place}",
            f"$(1 - D) / D$ = {theory:g}, to five digits",
            f"{one.ratios[name]:.3f}",
            abs(one.ratios[name] / theory - 1) <= EQUAL,
        )
        for name, place in places.items()
    )
    aligned = Check(
        "both gradients in $G$'s parameters have one direction",
        "cosine 1 within 1e-6",
        f"1 - {1 - one.cosine:.0e}",
        1 - one.cosine <= 1e-6,
    )
    return *ratios, aligned


def _image(context: SectionContext, measured: Mapping[float, Pulls]) -> FigureBlock:
    figure = new_figure(10.4, 3.8)
    losses, ratios = figure.subplots(1, 2)
    style_axes(losses, "What G minimizes", "nats", x="logit of D(G(z))")
    a = torch.linspace(-12, 4, 200)
    told = {
        "log(1 − D)": (minimax_generator_loss, LIGHT.fake, "-"),
        "−log D": (non_saturating_generator_loss, LIGHT.real, "--"),
    }
    for label, (loss, color, style) in told.items():
        values = [float(loss(one)) for one in a[:, None]]
        losses.plot(a, values, style, color=color, lw=1.8, label=label)
    losses.axvline(math.log(CONFIDENT), color=LIGHT.rule, lw=1, ls=":")
    losses.text(math.log(CONFIDENT), -3.4, " D = 1e-4", color=LIGHT.text, fontsize=9)
    legend(losses)
    style_axes(ratios, "Pull of −log D in units of log(1 − D)'s", "ratio", x="D(G(z))")
    d = torch.logspace(-6.3, -0.2, 100)
    ratios.loglog(d, (1 - d) / d, color=LIGHT.rule, lw=1.4, label="(1 − D) / D")
    marks = {
        "verdict": ("in D", "o", 9),
        "logit": ("in the logit", "s", 5),
        "generator": ("in G", "x", 9),
    }
    for (name, (label, mark, size)), color in zip(marks.items(), LIGHT.hues, strict=False):
        found = [one.ratios[name] for one in measured.values()]
        ratios.plot(VERDICTS, found, mark, mfc="none", ms=size, color=color, label=label)
    ratios.invert_xaxis()
    legend(ratios, columns=1, within="upper left")
    alt = "log(1 - D) is flat where the logit is low; the ratio of gradients is (1 - D) / D"
    caption = (
        r"Left: where $D$ rejects the samples $\log(1 - D)$ is flat and $-\log D$ steep. Right: "
        "the ratio of the two gradients, measured and from theory."
    )
    return context.image("pull.png", png(figure), alt, caption)
