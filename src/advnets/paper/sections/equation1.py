"""Equation 1: the value function of the game and its two expectations during training."""

from __future__ import annotations

import math

from advnets.paper.blocks import Block, Check, Formula, SectionContent, SectionContext, Text
from advnets.paper.sections.figure1 import History, train_line_game
from advnets.plots.style import LIGHT, legend, new_figure, png, reference_line, style_axes
from advnets.theory import OPTIMUM

NUM_FINAL = 50
"""Number of last iterations that are averaged, since a single batch varies."""


def build(context: SectionContext) -> SectionContent:
    """Build the section: V(D, G), D(x) and D(G(z)) during the one-dimensional game."""
    context.log("training the one-dimensional game")
    history = train_line_game(context.seed)
    final = {
        name: sum(history.metrics[name][-NUM_FINAL:]) / NUM_FINAL
        for name in ("d_real", "d_fake", "value")
    }
    real, fake = history.metrics["d_real"][0], history.metrics["d_fake"][0]
    return SectionContent(
        blocks=(
            Formula(
                r"\min_G \max_D V(D, G) = \mathbb{E}_{x \sim p_{data}}[\log D(x)] "
                r"+ \mathbb{E}_{z \sim p_z}[\log(1 - D(G(z)))]",
                "1",
            ),
            Text(
                "$D$ maximizes $V$ and $G$ minimizes it. A $D$ that classifies every point "
                "correctly has $V = 0$, since both logarithms are of 1. A $D$ that returns 1/2 "
                r"everywhere has $V = 2 \log \frac{1}{2} = -\log 4$."
            ),
            _curves(context, history),
            Text(
                "$D$ was trained to its optimum before the first iteration (Figure 1, panel b), "
                f"so $D(x)$ starts at {real:.2f} and $D(G(z))$ at {fake:.2f}. Neither expectation "
                "is the loss of one player: both players influence both."
            ),
        ),
        checks=(
            Check(
                "$D(x)$ and $D(G(z))$ at the start differ from 1/2",
                "each by at least 0.25",
                f"{real:.3f}, {fake:.3f}",
                min(real - 0.5, 0.5 - fake) >= 0.25,
            ),
            Check(
                f"$D(x)$ at the end, mean of the last {NUM_FINAL} iterations",
                "1/2 ± 0.05",
                f"{final['d_real']:.4f}",
                abs(final["d_real"] - 0.5) <= 0.05,
            ),
            Check(
                "$D(G(z))$ at the end, mean of the same iterations",
                "1/2 ± 0.05",
                f"{final['d_fake']:.4f}",
                abs(final["d_fake"] - 0.5) <= 0.05,
            ),
            Check(
                "$V(D, G)$ at the end",
                r"$-\log 4$ = -1.3863 ± 0.01",
                f"{final['value']:.4f}",
                abs(final["value"] - OPTIMUM) <= 0.01,
            ),
        ),
    )


def _curves(context: SectionContext, history: History) -> Block:
    figure = new_figure(8.4, 4.8)
    probability, value = figure.subplots(2, 1, sharex=True)
    iterations = range(1, len(history.metrics["value"]) + 1)
    style_axes(probability, "Output of D", "probability of real")
    reference_line(probability, 0.5, "1/2")
    probability.plot(
        iterations, history.metrics["d_real"], color=LIGHT.real, lw=1.4, label="real, D(x)"
    )
    probability.plot(
        iterations,
        history.metrics["d_fake"],
        "-.",
        color=LIGHT.fake,
        lw=1.4,
        label="samples, D(G(z))",
    )
    probability.set_ylim(-0.03, 1.03)
    legend(probability)
    style_axes(value, "Value of the game", "nats", x="iterations (k = 5 updates of D, one of G)")
    reference_line(value, -math.log(4), "−log 4")
    curves = {
        "value": ("V(D, G)", LIGHT.text, "-"),
        "value/real": ("E log D(x)", LIGHT.real, "--"),
        "value/fake": ("E log(1 − D(G(z)))", LIGHT.fake, "-."),
    }
    for name, (label, color, style) in curves.items():
        value.plot(iterations, history.metrics[name], style, color=color, lw=1.4, label=label)
    legend(value, columns=4)
    value.set_xscale("log")  # most changes happen in the first iterations
    alt = "D(x) and D(G(z)) converge to one half; V falls to minus log 4"
    caption = "Top: mean $D(x)$ and $D(G(z))$. Bottom: $V(D, G)$ and its two expectations."
    return context.save_image("value.png", png(figure), alt, caption)
