"""Equation 1: the value of the game and its two expectations, while it is played."""

from __future__ import annotations

import math

from advnets.paper.blocks import Check, FigureBlock, Formula, SectionContent, SectionContext, Text
from advnets.paper.sections.figure1 import History, story
from advnets.plots.style import LIGHT, legend, new_figure, png, reference_line, style_axes
from advnets.theory import OPTIMUM

LAST = 50
"""Rounds at the end, whose mean is held to 1/2: one batch strays by chance."""


def show(context: SectionContext) -> SectionContent:
    """V(D, G) and D's verdicts over the game on a line."""
    context.tell("the game on a line")
    told = story(context.seed)
    ends = {name: sum(told.observed[name][-LAST:]) / LAST for name in ("d_real", "d_fake", "value")}
    real, fake = told.observed["d_real"][0], told.observed["d_fake"][0]
    return SectionContent(
        blocks=(
            Formula(
                r"\min_G \max_D V(D, G) = \mathbb{E}_{x \sim p_{data}}[\log D(x)] "
                r"+ \mathbb{E}_{z \sim p_z}[\log(1 - D(G(z)))]",
                "1",
            ),
            Text(
                "$D$ ascends $V$ and $G$ descends it. A $D$ that knows both apart has "
                "$V = 0$: both logarithms are of 1. A $D$ that cannot tell says 1/2 to "
                r"everything, and $V = 2 \log \frac{1}{2} = -\log 4$."
            ),
            _curves(context, told),
            Text(
                "$D$ was trained to its optimum before the first round (Figure 1, still (b)), "
                f"hence it begins at $D(x)$ = {real:.2f} and $D(G(z))$ = {fake:.2f}. Its two "
                "expectations are not the players' scores: each player moves both."
            ),
        ),
        checks=(
            Check(
                "$D(x)$ and $D(G(z))$ begin far from 1/2",
                "by .25 or more",
                f"{real:.3f}, {fake:.3f}",
                min(real - 0.5, 0.5 - fake) >= 0.25,
            ),
            Check(
                f"$D(x)$ at the end, mean of the last {LAST} rounds",
                "within .05 of 1/2",
                f"{ends['d_real']:.4f}",
                abs(ends["d_real"] - 0.5) <= 0.05,
            ),
            Check(
                "$D(G(z))$ at the end, the same",
                "within .05 of 1/2",
                f"{ends['d_fake']:.4f}",
                abs(ends["d_fake"] - 0.5) <= 0.05,
            ),
            Check(
                "$V(D, G)$ at the end",
                r"$-\log 4$ = -1.3863 within .01",
                f"{ends['value']:.4f}",
                abs(ends["value"] - OPTIMUM) <= 0.01,
            ),
        ),
    )


def _curves(context: SectionContext, told: History) -> FigureBlock:
    figure = new_figure(8.4, 4.8)
    verdict, value = figure.subplots(2, 1, sharex=True)
    rounds = range(1, len(told.observed["value"]) + 1)
    style_axes(verdict, "Verdict of D", "probability of real")
    reference_line(verdict, 0.5, "1/2: cannot tell")
    verdict.plot(rounds, told.observed["d_real"], color=LIGHT.real, lw=1.4, label="real, D(x)")
    verdict.plot(
        rounds, told.observed["d_fake"], "-.", color=LIGHT.fake, lw=1.4, label="samples, D(G(z))"
    )
    verdict.set_ylim(-0.03, 1.03)
    legend(verdict)
    style_axes(value, "Value of the game", "nats", x="rounds: k = 5 updates of D, one of G")
    reference_line(value, -math.log(4), "−log 4")
    looks = {
        "value": ("V(D, G)", LIGHT.text, "-"),
        "value/real": ("E log D(x)", LIGHT.real, "--"),
        "value/fake": ("E log(1 − D(G(z)))", LIGHT.fake, "-."),
    }
    for name, (label, color, style) in looks.items():
        value.plot(rounds, told.observed[name], style, color=color, lw=1.4, label=label)
    legend(value, columns=4)
    value.set_xscale("log")  # most happens in the first rounds
    alt = "D(x) and D(G(z)) meet at one half; V falls to minus log 4"
    caption = "$V(D, G)$ with its two expectations, and what $D$ says of data and of samples."
    return context.image("value.png", png(figure), alt, caption)
