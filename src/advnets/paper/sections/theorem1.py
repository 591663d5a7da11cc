"""Theorem 1: C(G) = -log 4 + 2 JSD(p_data, p_g), which is minimal where p_g = p_data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from advnets.data.distribution import SyntheticDistribution
from advnets.data.synthetic.mixtures import Gaussian, Mixture, Uniform
from advnets.paper.blocks import Block, Check, Formula, SectionContent, SectionContext, Table, Text
from advnets.paper.toy import Grid, bin_probabilities
from advnets.plots.style import LIGHT, legend, new_figure, png, reference_line, style_axes
from advnets.theory import OPTIMUM, jensen_shannon, virtual_criterion

NUM_VALUES = 50
"""Number of values of a random distribution."""
QUICK_PAIRS, FULL_PAIRS = 10_000, 200_000
"""Number of random pairs of each kind, at quick and full scale."""
_CHUNK = 10_000
TOLERANCE = 1e-12
"""Tolerance of float64 results."""

Probabilities = Float64[np.ndarray, "pairs cells"]
PairSampler = Callable[[np.random.Generator, int], tuple[Probabilities, Probabilities]]
"""A function that draws pairs of distributions, p_data and p_g."""


def _extreme(rng: np.random.Generator, n: int) -> tuple[Probabilities, Probabilities]:
    p, q = (_normalize(10.0 ** rng.uniform(-300, 0, (n, NUM_VALUES))) for _ in range(2))
    return p, q


def _disjoint(rng: np.random.Generator, n: int) -> tuple[Probabilities, Probabilities]:
    first_half = np.arange(NUM_VALUES) < NUM_VALUES // 2
    return _normalize(_uniform_simplex(rng, n) * first_half), _normalize(
        _uniform_simplex(rng, n) * ~first_half
    )


def _close(rng: np.random.Generator, n: int) -> tuple[Probabilities, Probabilities]:
    p = _uniform_simplex(rng, n)
    return p, _normalize(p * (1 + 1e-4 * rng.standard_normal(p.shape)))


KINDS: dict[str, PairSampler] = {
    "dense: uniform over all distributions": lambda rng, n: (
        _uniform_simplex(rng, n),
        _uniform_simplex(rng, n),
    ),
    "sparse: nine of ten probabilities are 0": lambda rng, n: (
        _sparse_simplex(rng, n),
        _sparse_simplex(rng, n),
    ),
    "extreme: probabilities from 1e-300 to 1": _extreme,
    "disjoint: no common value": _disjoint,
    "close: relative difference of 1e-4": _close,
}


@dataclass(frozen=True)
class PairStats:
    """Statistics of many random pairs of one kind."""

    jsd_range: tuple[float, float]
    """Minimum and maximum JSD, in nats."""
    max_gap: float
    """Maximum |C - (-log 4 + 2 JSD)|."""
    min_criterion: float
    """Minimum C."""


def measure_pairs(sampler: PairSampler, pairs: int, seed: int = 0) -> PairStats:
    """Compare C(G), as the value of D*, with the JSD of random pairs, in float64."""
    rng = np.random.default_rng(seed)
    all_divergences: list[Tensor] = []
    all_criteria: list[Tensor] = []
    for _ in range(0, pairs, _CHUNK):
        p_data, p_g = (torch.from_numpy(p) for p in sampler(rng, min(pairs, _CHUNK)))
        all_divergences.append(jensen_shannon(p_data, p_g))
        all_criteria.append(virtual_criterion(p_data, p_g))
    divergence, criterion = torch.cat(all_divergences), torch.cat(all_criteria)
    gap = (criterion - (OPTIMUM + 2 * divergence)).abs().max()
    jsd_range = float(divergence.min()), float(divergence.max())
    return PairStats(jsd_range, float(gap), float(criterion.min()))


GRID = Grid(-6.0, 6.0, 300)
GOAL = Mixture(means=((-2.0,), (2.0,)), sds=(1.0,))
"""p_data of the paths."""
STARTS: dict[str, SyntheticDistribution] = {
    "narrow normal": Gaussian(mean=(-1.0,), sd=(0.4,)),
    "wide normal": Gaussian(sd=(1.8,)),
    "one of the two modes": Gaussian(mean=(2.0,)),
    "uniform, far away": Uniform(low=(4.0,), high=(6.0,)),
}
MIX_WEIGHTS = 1 - torch.cat(
    (torch.linspace(1, 0.11, 90), torch.logspace(-1, -4, 100, dtype=torch.float64))
)
"""Weights t of p_data in p_g = (1 - t) start + t p_data, denser near 1."""


def criterion_along_paths() -> dict[str, Float64[Tensor, " shares"]]:
    """Return C of p_g = (1 - t) start + t p_data for each start, at the weights t."""
    goal = bin_probabilities(GOAL, GRID)
    paths: dict[str, Tensor] = {}
    for name, start in STARTS.items():
        p_g = torch.lerp(bin_probabilities(start, GRID), goal, MIX_WEIGHTS[:, None])
        paths[name] = virtual_criterion(goal.expand_as(p_g), p_g)
    return paths


def gradient_at_optimum() -> Float64[Tensor, " cells"]:
    """Return ∂C/∂p_g(x) at p_g = p_data, by autograd."""
    goal = bin_probabilities(GOAL, GRID)
    p_g = goal.clone().requires_grad_()
    (slope,) = torch.autograd.grad(virtual_criterion(goal, p_g), p_g)
    return slope


def build(context: SectionContext) -> SectionContent:
    """Build the section: the identity on random distributions, and C along paths to p_data."""
    context.log("computing C(G) for random distributions")
    pairs = FULL_PAIRS if context.full else QUICK_PAIRS
    stats = {name: measure_pairs(draw, pairs, context.seed) for name, draw in KINDS.items()}
    goal, paths, gradient = (
        bin_probabilities(GOAL, GRID),
        criterion_along_paths(),
        gradient_at_optimum(),
    )
    at_goal = abs(float(virtual_criterion(goal, goal)) - OPTIMUM)
    gap = max(kind.max_gap for kind in stats.values())
    min_excess = min(kind.min_criterion for kind in stats.values()) - OPTIMUM
    decreasing = all(bool((path.diff() < 0).all()) for path in paths.values())
    gradient_error = float((gradient - OPTIMUM / 2).abs().max())
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
                "With $D$ at its optimum, $G$ minimizes (4). A Jensen-Shannon divergence is never "
                "negative, and 0 only between equal distributions, so by (6) the only minimum is "
                r"$p_g = p_{data}$, with the value $-\log 4$. Both sides are computed "
                "independently: the left one as the value of $D^*$, the right one from two "
                "Kullback-Leibler divergences to the mean of both distributions."
            ),
            Table(
                f"{pairs:,} random pairs of each kind, over {NUM_VALUES} values, in float64.",
                ("kind", "JSD, range", r"maximum $|C + \log 4 - 2 JSD|$", r"minimum $C + \log 4$"),
                tuple(_row(name, kind) for name, kind in stats.items()),
            ),
            _plot_paths(context, paths),
            Text(
                r"At $p_g = p_{data}$ every $\partial C / \partial p_g(x)$ is $\log(1 - D^*(x)) = "
                r"-\log 2$. Moving probability from one $x$ to another then changes nothing to "
                "first order: the derivative is 0 in every direction that keeps the sum of $p_g$ "
                "at 1. The curves on the right therefore fall with the square of the distance. "
                "One falls more slowly at first: the uniform start is far away, where $p_{data}$ "
                "has almost no probability, and until $p_g$ has as little there, removing "
                "probability has a first-order effect."
            ),
        ),
        checks=(
            Check(
                r"$C(G) = -\log 4 + 2 JSD$ for all random pairs: maximum difference",
                "at most 1e-12",
                f"{gap:.1e}",
                gap <= TOLERANCE,
            ),
            Check(
                r"no pair has $C < -\log 4$: minimum $C + \log 4$",
                "at least -1e-12",
                f"{min_excess:.1e}",
                min_excess >= -TOLERANCE,
            ),
            Check(
                r"$C = -\log 4$ at $p_g = p_{data}$: difference",
                "at most 1e-12",
                f"{at_goal:.1e}",
                at_goal <= TOLERANCE,
            ),
            Check(
                f"$C$ decreases at every step of the paths to $p_{{data}}$ from {len(paths)} "
                "starts",
                "yes",
                "yes" if decreasing else "no",
                decreasing,
            ),
            Check(
                r"$\partial C / \partial p_g(x)$ at $p_g = p_{data}$, by autograd: maximum "
                r"difference from $-\log 2$",
                "at most 1e-12",
                f"{gradient_error:.1e}",
                gradient_error <= TOLERANCE,
            ),
        ),
    )


def _row(name: str, stats: PairStats) -> tuple[str, ...]:
    low, high = stats.jsd_range
    return (
        name,
        f"{low:.3g} to {high:.3g}",
        f"{stats.max_gap:.1e}",
        f"{stats.min_criterion - OPTIMUM:.2g}",
    )


def _plot_paths(context: SectionContext, paths: dict[str, Tensor]) -> Block:
    figure = new_figure(10.0, 3.8)
    path_axes, end_axes = figure.subplots(1, 2)
    style_axes(path_axes, "C(G) along the paths", "nats", x="weight of p_data in p_g")
    reference_line(path_axes, OPTIMUM, "−log 4")
    style_axes(end_axes, "Near the end", "C(G) + log 4, nats", x="1 − weight of p_data")
    for (name, path), color in zip(paths.items(), LIGHT.hues, strict=True):
        path_axes.plot(MIX_WEIGHTS.numpy(), path.numpy(), color=color, lw=1.6)
        end_axes.loglog(
            1 - MIX_WEIGHTS.numpy(), path.numpy() - OPTIMUM, color=color, lw=1.6, label=name
        )
    end_axes.invert_xaxis()
    legend(path_axes)
    legend(end_axes, columns=1, corner="lower left")
    caption = (
        "From four starts $p_g$ is mixed with more and more of $p_{data}$, which has two modes. "
        r"Left: $C$ falls to $-\log 4$. Right: the same near the end, with logarithmic axes."
    )
    alt = "C falls to minus log 4 on all paths to p_data"
    return context.save_image("paths.png", png(figure), alt, caption)


def _uniform_simplex(rng: np.random.Generator, n: int) -> Probabilities:
    """Draw uniformly from all distributions (a Dirichlet distribution with parameters 1)."""
    return _normalize(rng.exponential(size=(n, NUM_VALUES)))


def _sparse_simplex(rng: np.random.Generator, n: int) -> Probabilities:
    """Draw distributions in which nine of ten probabilities are 0, never the first."""
    nonzero = rng.random((n, NUM_VALUES)) < 0.1
    nonzero[:, 0] = True
    return _normalize(rng.exponential(size=nonzero.shape) * nonzero)


def _normalize(masses: Probabilities) -> Probabilities:
    return masses / masses.sum(1, keepdims=True)
