"""Proposition 2: descent on p_g itself, D at its optimum, reaches p_data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from advnets.data.synthetic.base import SyntheticDistribution
from advnets.data.synthetic.gaussian import Gaussian, Uniform
from advnets.data.synthetic.mixtures import Mixture
from advnets.paper.blocks import (
    Check,
    FigureBlock,
    Formula,
    SectionContent,
    SectionContext,
    Table,
    Text,
)
from advnets.plots.style import LIGHT, legend, new_figure, png, reference_line, style_axes
from advnets.theory import (
    OPTIMUM,
    descend,
    jensen_shannon,
    optimal_discriminator,
    subgradient,
    value_at,
    virtual_criterion,
)
from advnets.toy.line_game import Cells, masses

LINE = Cells(-6.0, 6.0, 300)
GOAL = Mixture(means=((-2.0,), (2.0,)), sds=(0.7,), weights=(0.6, 0.4))
STARTS: dict[str, SyntheticDistribution] = {
    "narrow normal": Gaussian(mean=(-0.5,), sd=(0.4,)),
    "wide normal": Gaussian(sd=(3.0,)),
    "one of the two humps": Gaussian(mean=(2.0,), sd=(0.7,)),
    "box that covers all": Uniform(low=(-6.0,), high=(6.0,)),
}
RATE = 0.1
"""Of a step: small, so that the way is seen."""
ARRIVED = 1e-6
"""Nats of JSD."""
_MOST = 2000
SHOWN = (0, 15, 30, 60)
"""Steps after which p_g is drawn."""

COIN = torch.tensor((0.35, 0.65), dtype=torch.float64)
"""p_data of two values."""
AT = 0.8
"""p_g of the first of them, where the tangent is drawn."""
RANDOM = 2000
"""Discriminators and pairs of distributions that convexity is tried on."""
ROUNDING = 1e-12

Way = list[Float64[Tensor, " cells"]]


def way(start: SyntheticDistribution) -> Way:
    """p_g at every step from a start until it has arrived."""
    goal, at = masses(GOAL, LINE), masses(start, LINE)
    passed = [at]
    while jensen_shannon(goal, at) > ARRIVED and len(passed) <= _MOST:
        at = descend(goal, at, RATE)
        passed.append(at)
    return passed


def divergences(passed: Way) -> Float64[Tensor, " steps"]:
    """JSD(p_data, p_g) at every step."""
    p_g = torch.stack(passed)
    return jensen_shannon(masses(GOAL, LINE).expand_as(p_g), p_g)


def coin_values(
    d: Float64[Tensor, "lines 2"], q: Float64[Tensor, " points"]
) -> Float64[Tensor, "lines points"]:
    """V(p_g, D) where p_g = (q, 1 - q): for each D a line in q."""
    return value_at(*torch.broadcast_tensors(COIN, coins(q), d[:, None]))


def coins(q: Float64[Tensor, " points"]) -> Float64[Tensor, "points 2"]:
    """Distributions of two values by the probability of the first."""
    return torch.stack((q, 1 - q), -1)


def best_answers(q: Float64[Tensor, " points"]) -> Float64[Tensor, "points 2"]:
    """D* at the two values, for every p_g = (q, 1 - q)."""
    p_g = coins(q)
    return optimal_discriminator(COIN.expand_as(p_g), p_g)


def coin_criterion(q: Float64[Tensor, " points"]) -> Float64[Tensor, " points"]:
    """C of every p_g = (q, 1 - q)."""
    p_g = coins(q)
    return virtual_criterion(COIN.expand_as(p_g), p_g)


@dataclass(frozen=True)
class Envelope:
    """How the lines V(p_g, D) lie to C, on a fine grid of p_g."""

    above: float
    """By how much the highest of all lines, of random D, is above C."""
    apart: float
    """Between C and the highest of the D*'s lines, at most."""
    tangent: float
    """Between the slope of D*'s line and C's own, by autograd, at most."""


def envelope() -> Envelope:
    """Try 2,000 random D, and D* of every p_g."""
    q = torch.linspace(0.005, 0.995, 199, dtype=torch.float64).requires_grad_()
    criterion = coin_criterion(q)
    (slope,) = torch.autograd.grad(criterion.sum(), q)
    q, criterion = q.detach(), criterion.detach()
    random = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (RANDOM, 2)))
    p_g = coins(q)
    planes = subgradient(COIN.expand_as(p_g), p_g)
    return Envelope(
        above=float((coin_values(random, q) - criterion).max()),
        apart=float((coin_values(best_answers(q), q).amax(0) - criterion).abs().max()),
        tangent=float((planes[:, 0] - planes[:, 1] - slope).abs().max()),
    )


def largest_bulge() -> float:
    """By how much C of a mean of two random distributions exceeds the mean of their C, at most."""
    rng = np.random.default_rng(1)
    p_data, p, q = (torch.from_numpy(rng.dirichlet(np.full(20, 0.3), RANDOM)) for _ in range(3))
    chord = (virtual_criterion(p_data, p) + virtual_criterion(p_data, q)) / 2
    return float((virtual_criterion(p_data, (p + q) / 2) - chord).max())


def shifted() -> tuple[Float64[np.ndarray, " shifts"], Float64[Tensor, " shifts"]]:
    """C of a G with one parameter, G(z) = θ + z, against θ, for normal z and normal data."""
    cells = Cells(-16.0, 16.0, 1600)
    theta = np.linspace(-8, 8, 161)
    goal = masses(Gaussian(), cells)
    p_g = torch.stack([masses(Gaussian(mean=(float(t),)), cells) for t in theta])
    return theta, virtual_criterion(goal.expand_as(p_g), p_g)


def show(context: SectionContext) -> SectionContent:
    """Descent from four starts; the lines whose highest is C; and what is not proved."""
    context.tell("descent on p_g itself")
    ways = {name: way(start) for name, start in STARTS.items()}
    fallen = {name: divergences(passed) for name, passed in ways.items()}
    worst = max(float(divergence[-1]) for divergence in fallen.values())
    rise = max(float(divergence.diff().max()) for divergence in fallen.values())
    found, bulge = envelope(), largest_bulge()
    theta, criterion = shifted()
    bend = float(criterion.diff(n=2).min())
    return SectionContent(
        blocks=(
            Formula(
                r"\frac{\partial}{\partial p_g(x)} \sup_D V(p_g, D) = "
                r"\frac{\partial}{\partial p_g(x)} V(p_g, D^*) = \log(1 - D^*(x))"
            ),
            Text(
                "Here no net is trained: $p_g$ is a list of probabilities, one for each of "
                f"{LINE.count} cells of a line, and $D^*$ is computed from it. In each step every "
                r"$p_g(x)$ is multiplied by $\exp(-\eta \log(1 - D^*(x)))$ and all are divided by "
                f"their sum, with $\\eta$ = {RATE}: a step along the subgradient that keeps "
                "$p_g$ a distribution (mirror descent, in the geometry of relative entropy)."
            ),
            _descent(context, ways["narrow normal"], fallen),
            Table(
                f"Steps until the divergence is at most {ARRIVED:g} nats.",
                ("start", "JSD before", "JSD after", "steps", "largest change in a step"),
                tuple(_row(name, divergence) for name, divergence in fallen.items()),
            ),
            Text(
                "Why it arrives: $V(p_g, D)$ is linear in $p_g$ for every fixed $D$, hence "
                "$C$, the highest of all these values, is convex. And the slope of the one that is "
                "highest, that of $D^*$, is a subgradient of $C$: to descend $C$ one may hold $D^*$"
                " still for a step. With two values, $p_g = (q, 1 - q)$, this is an image:"
            ),
            _lines(context),
            Text(
                "What the proof says: if $G$ can make any $p_g$, if $D$ is at its optimum "
                "before each step, and if the steps on $p_g$ are small enough, $p_g$ comes to "
                "$p_{data}$. What it does not say: that a net's training does. There the "
                r"parameters $\theta$ of $G$ are moved, not $p_g$, and $C$ need not be convex in "
                r"$\theta$; $D$ has had only $k$ updates, on batches. The simplest $G$ shows the "
                r"first: for $G(z) = \theta + z$, both normal, $C$ is flat where $\theta$ is far "
                "off, and bends the wrong way."
            ),
            _parameter(context, theta, criterion),
        ),
        checks=(
            Check(
                f"$p_g$ reaches $p_{{data}}$, from {len(ways)} starts",
                "JSD at most 1e-6 nats",
                f"at most {worst:.2e}",
                worst <= ARRIVED,
            ),
            Check(
                "JSD falls at every step",
                "largest change below 0",
                f"largest change {rise:.1e}",
                rise < 0,
            ),
            Check(
                f"no line of {RANDOM:,} random $D$ is above $C$",
                "by no more than 1e-12",
                f"nearest: {found.above:.1e}",
                found.above <= ROUNDING,
            ),
            Check(
                "the highest of the lines of all $D^*$ is $C$",
                "within 1e-12",
                f"{found.apart:.1e}",
                found.apart <= ROUNDING,
            ),
            Check(
                "the line of $D^*$ has $C$'s own slope, by autograd",
                "within 1e-12",
                f"{found.tangent:.1e}",
                found.tangent <= ROUNDING,
            ),
            Check(
                f"$C$ is convex in $p_g$: no bulge between {RANDOM:,} random pairs",
                "$C$ of the mean is at most the mean of $C$",
                f"largest difference {bulge:.1e}",
                bulge <= ROUNDING,
            ),
            Check(
                r"$C$ is not convex in $\theta$",
                "a second difference below -1e-6",
                f"{bend:.1e}",
                bend < -1e-6,
            ),
        ),
    )


def _row(name: str, divergence: Tensor) -> tuple[str, ...]:
    first, last, rise = (float(d) for d in (divergence[0], divergence[-1], divergence.diff().max()))
    return name, f"{first:.3f}", f"{last:.1e}", str(len(divergence) - 1), f"{rise:.0e}"


def _descent(context: SectionContext, passed: Way, fallen: dict[str, Tensor]) -> FigureBlock:
    figure = new_figure(10.4, 4.0)
    densities, falling = figure.subplots(1, 2)
    style_axes(densities, "p_g on its way", "density", x="x")
    x = LINE.middles
    densities.plot(x, masses(GOAL, LINE) / LINE.width, ":", color=LIGHT.text, lw=2, label="p_data")
    for step, color in zip(SHOWN, LIGHT.hues, strict=True):
        densities.plot(x, passed[step] / LINE.width, color=color, lw=1.5, label=f"step {step}")
    legend(densities, columns=1, within="upper right")
    style_axes(falling, "JSD(p_data, p_g)", "nats", x="steps")
    for (name, divergence), color in zip(fallen.items(), LIGHT.hues, strict=True):
        falling.semilogy(divergence, color=color, lw=1.6, label=name)
    reference_line(falling, ARRIVED, "arrived")
    legend(falling, columns=1, within="upper right")
    alt = "p_g turns from a narrow normal into the two humps of p_data; the divergence falls"
    caption = "Left: $p_g$ from the narrow start. Right: the divergence from each of the starts."
    return context.image("descent.png", png(figure), alt, caption)


def _lines(context: SectionContext) -> FigureBlock:
    figure = new_figure(8.4, 4.4)
    axes = figure.subplots()
    style_axes(axes, "Two values", "nats", x="q, the probability p_g gives the first value")
    q = torch.linspace(0, 1, 501, dtype=torch.float64)
    touching = torch.linspace(0.02, 0.98, 17, dtype=torch.float64)
    for n, line in enumerate(coin_values(best_answers(touching), q)):
        label = "V(p_g, D), each for one D" if n == 0 else None
        axes.plot(q, line, color=LIGHT.rule, lw=0.7, label=label)
    at = torch.tensor([AT], dtype=torch.float64)
    axes.plot(q, coin_criterion(q), color=LIGHT.score, lw=2.4, label="C, the highest")
    tangent = coin_values(best_answers(at), q)[0]
    axes.plot(q, tangent, "--", color=LIGHT.fake, lw=1.8, label=f"that of D* at q = {AT}")
    axes.plot(at, coin_criterion(at), "o", color=LIGHT.fake)
    axes.plot(float(COIN[0]), OPTIMUM, "o", color=LIGHT.text)
    axes.annotate(
        "p_g = p_data, −log 4",
        (float(COIN[0]), OPTIMUM),
        xytext=(0, 10),
        textcoords="offset points",
        ha="center",
        color=LIGHT.text,
    )
    axes.set_ylim(-2.0, -0.6)
    legend(axes)
    alt = "Lines, each below the convex curve C and touching it"
    caption = (
        "$V(p_g, D)$ as a function of $p_g = (q, 1 - q)$ for several $D$. Each is a line; the "
        "highest of all of them, at each $q$, is $C$. The line of $D^*$ touches $C$ where it is "
        "the best: a tangent, whose slope is the subgradient."
    )
    return context.image("lines.png", png(figure), alt, caption)


def _parameter(context: SectionContext, theta: np.ndarray, criterion: Tensor) -> FigureBlock:
    figure = new_figure(8.4, 3.2)
    axes = figure.subplots()
    style_axes(axes, "C in a parameter of G", "nats", x="θ, by which G shifts z")
    axes.plot(theta, criterion, color=LIGHT.score, lw=2)
    reference_line(axes, OPTIMUM, "−log 4")
    legend(axes)
    alt = "C against theta: a dip in a plain"
    caption = r"$C$ for $G(z) = \theta + z$ and $p_{data}$ = N(0, 1): a dip in a plain."
    return context.image("parameter.png", png(figure), alt, caption)
