"""Theorem 1: C(G) is -log 4 and twice a divergence, so it is least where p_g = p_data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

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
from advnets.theory import OPTIMUM, jensen_shannon, virtual_criterion
from advnets.toy.line_game import Cells, masses

CELLS = 50
"""Values that a random distribution is over."""
PAIRS, MANY_PAIRS = 10_000, 200_000
"""Pairs of each kind, quick and full."""
_BLOCK = 10_000
EXACT = 1e-12
"""What float64 is held to."""

Masses = Float64[np.ndarray, "pairs cells"]
Draw = Callable[[np.random.Generator, int], tuple[Masses, Masses]]
"""Pairs of distributions, drawn: p_data and p_g."""


def _dense(rng: np.random.Generator, n: int) -> tuple[Masses, Masses]:
    return _even(rng, n), _even(rng, n)


def _sparse(rng: np.random.Generator, n: int) -> tuple[Masses, Masses]:
    return _thinned(rng, n), _thinned(rng, n)


def _extreme(rng: np.random.Generator, n: int) -> tuple[Masses, Masses]:
    p, q = (_normed(10.0 ** rng.uniform(-300, 0, (n, CELLS))) for _ in range(2))
    return p, q


def _strangers(rng: np.random.Generator, n: int) -> tuple[Masses, Masses]:
    mine = np.arange(CELLS) < CELLS // 2
    return _normed(_even(rng, n) * mine), _normed(_even(rng, n) * ~mine)


def _neighbors(rng: np.random.Generator, n: int) -> tuple[Masses, Masses]:
    p = _even(rng, n)
    return p, _normed(p * (1 + 1e-4 * rng.standard_normal(p.shape)))


KINDS: dict[str, Draw] = {
    "dense: evenly from all distributions": _dense,
    "sparse: nine masses of ten are 0": _sparse,
    "extreme: masses from 1e-300 to 1": _extreme,
    "strangers: no value has both": _strangers,
    "neighbors: a ten-thousandth apart": _neighbors,
}


@dataclass(frozen=True)
class Found:
    """What many pairs of a kind came to."""

    divergences: tuple[float, float]
    """Least and largest JSD, in nats."""
    gap: float
    """Largest |C - (-log 4 + 2 JSD)|."""
    least: float
    """Least C."""


def measured(draw: Draw, pairs: int, seed: int = 0) -> Found:
    """C(G), as the value of D*, and the divergence, of so many pairs, in float64."""
    rng = np.random.default_rng(seed)
    all_divergences: list[Tensor] = []
    all_criteria: list[Tensor] = []
    for _ in range(0, pairs, _BLOCK):
        p_data, p_g = (torch.from_numpy(p) for p in draw(rng, min(pairs, _BLOCK)))
        all_divergences.append(jensen_shannon(p_data, p_g))
        all_criteria.append(virtual_criterion(p_data, p_g))
    divergence, criterion = torch.cat(all_divergences), torch.cat(all_criteria)
    gap = (criterion - (OPTIMUM + 2 * divergence)).abs().max()
    ends = float(divergence.min()), float(divergence.max())
    return Found(ends, float(gap), float(criterion.min()))


LINE = Cells(-6.0, 6.0, 300)
GOAL = Mixture(means=((-2.0,), (2.0,)), sds=(1.0,))
"""p_data of the paths."""
STARTS = {
    "narrow normal": Gaussian(mean=(-1.0,), sd=(0.4,)),
    "wide normal": Gaussian(sd=(1.8,)),
    "one of the two humps": Gaussian(mean=(2.0,)),
    "box far out": Uniform(low=(4.0,), high=(6.0,)),
}
SHARES = 1 - torch.cat(
    (torch.linspace(1, 0.11, 90), torch.logspace(-1, -4, 100, dtype=torch.float64))
)
"""Shares of p_data in p_g on the way from a start to p_data, closer together near its end."""


def paths() -> dict[str, Float64[Tensor, " shares"]]:
    """C along straight ways, p_g = (1 - t) start + t p_data, at the shares t."""
    goal = masses(GOAL, LINE)
    ways: dict[str, Tensor] = {}
    for name, start in STARTS.items():
        p_g = torch.lerp(masses(start, LINE), goal, SHARES[:, None])
        ways[name] = virtual_criterion(goal.expand_as(p_g), p_g)
    return ways


def slope_at_the_goal() -> Float64[Tensor, " cells"]:
    """∂C/∂p_g(x) where p_g = p_data, by autograd."""
    goal = masses(GOAL, LINE)
    p_g = goal.clone().requires_grad_()
    (slope,) = torch.autograd.grad(virtual_criterion(goal, p_g), p_g)
    return slope


def show(context: SectionContext) -> SectionContent:
    """The identity on random distributions, and C on the way to p_data."""
    context.tell("C(G) of random distributions")
    pairs = MANY_PAIRS if context.full else PAIRS
    found = {name: measured(draw, pairs, context.seed) for name, draw in KINDS.items()}
    goal, ways, slope = masses(GOAL, LINE), paths(), slope_at_the_goal()
    at_goal = abs(float(virtual_criterion(goal, goal)) - OPTIMUM)
    gap = max(one.gap for one in found.values())
    least = min(one.least for one in found.values()) - OPTIMUM
    falls = all(bool((way.diff() < 0).all()) for way in ways.values())
    uneven = float((slope - OPTIMUM / 2).abs().max())
    return SectionContent(
        blocks=(
            Formula(
                r"C(G) = \max_D V(D, G) = \mathbb{E}_{x \sim p_{data}}\left[\log "
                r"\frac{p_{data}(x)}{p_{data}(x) + p_g(x)}\right] + \mathbb{E}_{x \sim p_g}\left["
                r"\log \frac{p_g(x)}{p_{data}(x) + p_g(x)}\right]",
                "4",
            ),
            Formula(r"C(G) = -\log 4 + 2 \cdot JSD(p_{data} \| p_g)", "6"),
            Text(
                "With $D$ at its optimum, what is left for $G$ is (4). A Jensen-Shannon "
                "divergence is never negative, and 0 only between equals: (6) says that "
                r"$p_g = p_{data}$ is the only minimum, and that it is worth $-\log 4$. "
                "Each side is computed on its own: the left one as the value of $D^*$, the right "
                "one from two Kullback-Leibler divergences to the mean of both distributions."
            ),
            Table(
                f"{pairs:,} random pairs of each kind, over {CELLS} values, in float64.",
                ("kind", "JSD, from to", r"largest $|C + \log 4 - 2 JSD|$", r"least $C + \log 4$"),
                tuple(_row(name, one) for name, one in found.items()),
            ),
            _image(context, ways),
            Text(
                r"At $p_g = p_{data}$ every $\partial C / \partial p_g(x)$ is $\log(1 - D^*(x)) = "
                r"-\log 2$. What is moved from one $x$ to another then gains nothing: the slope is "
                "0 along every way that keeps the sum of $p_g$ at 1. So the curves on the right "
                "fall with the square of the distance. One falls more slowly at first: the box "
                "lies far out, where $p_{data}$ has almost nothing; until $p_g$ has as little "
                "there, every mass that it takes away pays."
            ),
        ),
        checks=(
            Check(
                r"$C(G) = -\log 4 + 2 JSD$ on all random pairs",
                "within 1e-12",
                f"{gap:.1e}",
                gap <= EXACT,
            ),
            Check(
                r"no pair has $C$ below $-\log 4$",
                "by no more than 1e-12",
                f"least $C + \\log 4$: {least:.1e}",
                least >= -EXACT,
            ),
            Check(
                r"$C = -\log 4$ where $p_g = p_{data}$",
                "within 1e-12",
                f"{at_goal:.1e}",
                at_goal <= EXACT,
            ),
            Check(
                f"$C$ falls all the way to $p_{{data}}$, from {len(ways)} starts",
                "at each step",
                "it does" if falls else "it does not",
                falls,
            ),
            Check(
                r"$\partial C / \partial p_g(x)$ at $p_g = p_{data}$, by autograd",
                r"$-\log 2$ at every $x$, within 1e-12",
                f"{uneven:.1e}",
                uneven <= EXACT,
            ),
        ),
    )


def _row(name: str, found: Found) -> tuple[str, ...]:
    low, high = found.divergences
    return name, f"{low:.3g} to {high:.3g}", f"{found.gap:.1e}", f"{found.least - OPTIMUM:.2g}"


def _image(context: SectionContext, ways: dict[str, Tensor]) -> FigureBlock:
    figure = new_figure(10.0, 3.8)
    whole, near = figure.subplots(1, 2)
    style_axes(whole, "C(G) on the way", "nats", x="share of p_data in p_g")
    reference_line(whole, OPTIMUM, "−log 4")
    style_axes(near, "Near its end", "C(G) + log 4, nats", x="1 − share of p_data")
    for (name, way), color in zip(ways.items(), LIGHT.hues, strict=True):
        whole.plot(SHARES.numpy(), way.numpy(), color=color, lw=1.6)
        near.loglog(1 - SHARES.numpy(), way.numpy() - OPTIMUM, color=color, lw=1.6, label=name)
    near.invert_xaxis()
    legend(whole)
    legend(near, columns=1, within="lower left")
    caption = (
        "From four starts $p_g$ is mixed with more and more of $p_{data}$, two humps. Left: $C$ "
        r"falls to $-\log 4$. Right: the same, near the end, both axes logarithmic."
    )
    alt = "C falls to minus log 4 on all ways to p_data"
    return context.image("paths.png", png(figure), alt, caption)


def _even(rng: np.random.Generator, n: int) -> Masses:
    """Evenly from all distributions: Dirichlet's, with ones."""
    return _normed(rng.exponential(size=(n, CELLS)))


def _thinned(rng: np.random.Generator, n: int) -> Masses:
    """Nine masses of ten are 0; the first value keeps a mass, so that there is one."""
    kept = rng.random((n, CELLS)) < 0.1
    kept[:, 0] = True
    return _normed(rng.exponential(size=kept.shape) * kept)


def _normed(masses: Masses) -> Masses:
    return masses / masses.sum(1, keepdims=True)
