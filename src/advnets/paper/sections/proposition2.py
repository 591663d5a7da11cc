"""Proposition 2: descent on p_g itself, with D at its optimum, converges to p_data."""

from __future__ import annotations

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
from advnets.theory import (
    OPTIMUM,
    descend,
    jensen_shannon,
    optimal_discriminator,
    subgradient,
    value_at,
    virtual_criterion,
)

GRID = Grid(-6.0, 6.0, 300)
GOAL = Mixture(means=((-2.0,), (2.0,)), sds=(0.7,), weights=(0.6, 0.4))
STARTS: dict[str, SyntheticDistribution] = {
    "narrow normal": Gaussian(mean=(-0.5,), sd=(0.4,)),
    "wide normal": Gaussian(sd=(3.0,)),
    "one of the two modes": Gaussian(mean=(2.0,), sd=(0.7,)),
    "uniform on the interval": Uniform(low=(-6.0,), high=(6.0,)),
}
STEP_SIZE = 0.1
"""Step size, small enough to show the trajectory."""
CONVERGED_JSD = 1e-6
"""JSD in nats at which descent stops."""
_MAX_STEPS = 2000
SHOWN_STEPS = (0, 15, 30, 60)
"""Steps after which p_g is plotted."""

TWO_POINT_DATA = torch.tensor((0.35, 0.65), dtype=torch.float64)
"""p_data on two values."""
TANGENT_AT = 0.8
"""The probability of the first value in p_g at which the tangent is plotted."""
NUM_RANDOM = 2000
"""Number of random discriminators, and of random pairs in the test of convexity."""
ROUNDING = 1e-12

Trajectory = list[Float64[Tensor, " cells"]]


def descend_to_goal(start: SyntheticDistribution) -> Trajectory:
    """Return p_g at every step of the descent from a start until it has converged."""
    goal, p_g = bin_probabilities(GOAL, GRID), bin_probabilities(start, GRID)
    trajectory = [p_g]
    while jensen_shannon(goal, p_g) > CONVERGED_JSD and len(trajectory) <= _MAX_STEPS:
        p_g = descend(goal, p_g, STEP_SIZE)
        trajectory.append(p_g)
    return trajectory


def jsd_along(trajectory: Trajectory) -> Float64[Tensor, " steps"]:
    """Return JSD(p_data, p_g) at every step, in nats."""
    p_g = torch.stack(trajectory)
    return jensen_shannon(bin_probabilities(GOAL, GRID).expand_as(p_g), p_g)


def two_point_values(
    d: Float64[Tensor, "lines 2"], q: Float64[Tensor, " points"]
) -> Float64[Tensor, "lines points"]:
    """Return V(p_g, D) for p_g = (q, 1 - q): a line in q for each D."""
    return value_at(*torch.broadcast_tensors(TWO_POINT_DATA, two_point(q), d[:, None]))


def two_point(q: Float64[Tensor, " points"]) -> Float64[Tensor, "points 2"]:
    """Return two-point distributions by the probability of their first value."""
    return torch.stack((q, 1 - q), -1)


def two_point_optimal_discriminator(q: Float64[Tensor, " points"]) -> Float64[Tensor, "points 2"]:
    """Return D* at the two values, for every p_g = (q, 1 - q)."""
    p_g = two_point(q)
    return optimal_discriminator(TWO_POINT_DATA.expand_as(p_g), p_g)


def two_point_criterion(q: Float64[Tensor, " points"]) -> Float64[Tensor, " points"]:
    """Return C for every p_g = (q, 1 - q)."""
    p_g = two_point(q)
    return virtual_criterion(TWO_POINT_DATA.expand_as(p_g), p_g)


@dataclass(frozen=True)
class EnvelopeErrors:
    """Deviations of the lines V(p_g, D) from their envelope C, on a fine grid of p_g."""

    max_excess: float
    """Maximum excess over C of the lines of random D."""
    max_gap: float
    """Maximum difference between C and the highest line of all D*."""
    max_slope_error: float
    """Maximum difference between the slope of the line of D* and that of C, by autograd."""


def measure_envelope() -> EnvelopeErrors:
    """Compare the lines of 2,000 random D, and of D* for every p_g, with C."""
    q = torch.linspace(0.005, 0.995, 199, dtype=torch.float64).requires_grad_()
    criterion = two_point_criterion(q)
    (slope,) = torch.autograd.grad(criterion.sum(), q)
    q, criterion = q.detach(), criterion.detach()
    random = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (NUM_RANDOM, 2)))
    p_g = two_point(q)
    subgradients = subgradient(TWO_POINT_DATA.expand_as(p_g), p_g)
    return EnvelopeErrors(
        max_excess=float((two_point_values(random, q) - criterion).max()),
        max_gap=float(
            (two_point_values(two_point_optimal_discriminator(q), q).amax(0) - criterion)
            .abs()
            .max()
        ),
        max_slope_error=float((subgradients[:, 0] - subgradients[:, 1] - slope).abs().max()),
    )


def max_convexity_violation() -> float:
    """Return the maximum of C((p + q) / 2) - (C(p) + C(q)) / 2 over random pairs."""
    rng = np.random.default_rng(1)
    p_data, p, q = (torch.from_numpy(rng.dirichlet(np.full(20, 0.3), NUM_RANDOM)) for _ in range(3))
    mean_criterion = (virtual_criterion(p_data, p) + virtual_criterion(p_data, q)) / 2
    return float((virtual_criterion(p_data, (p + q) / 2) - mean_criterion).max())


def criterion_of_shift() -> tuple[Float64[np.ndarray, " shifts"], Float64[Tensor, " shifts"]]:
    """Return θ and C of a G with one parameter, G(z) = θ + z, for normal z and normal data."""
    grid = Grid(-16.0, 16.0, 1600)
    theta = np.linspace(-8, 8, 161)
    goal = bin_probabilities(Gaussian(), grid)
    p_g = torch.stack([bin_probabilities(Gaussian(mean=(float(t),)), grid) for t in theta])
    return theta, virtual_criterion(goal.expand_as(p_g), p_g)


def build(context: SectionContext) -> SectionContent:
    """Build the section: descent from four starts, the lines below C, and the proof's limits."""
    context.log("descent on p_g itself")
    trajectories = {name: descend_to_goal(start) for name, start in STARTS.items()}
    jsd_curves = {name: jsd_along(passed) for name, passed in trajectories.items()}
    worst = max(float(divergence[-1]) for divergence in jsd_curves.values())
    max_change = max(float(divergence.diff().max()) for divergence in jsd_curves.values())
    envelope, violation = measure_envelope(), max_convexity_violation()
    theta, criterion = criterion_of_shift()
    second_difference = float(criterion.diff(n=2).min())
    return SectionContent(
        blocks=(
            Formula(
                r"\frac{\partial}{\partial p_g(x)} \sup_D V(p_g, D) = "
                r"\frac{\partial}{\partial p_g(x)} V(p_g, D^*) = \log(1 - D^*(x))"
            ),
            Text(
                "No network is trained here: $p_g$ is a list of probabilities, one for each of "
                f"{GRID.count} bins of an interval, and $D^*$ is computed from it. Each step "
                r"multiplies every $p_g(x)$ by $\exp(-\eta \log(1 - D^*(x)))$ and normalizes the "
                rf"sum, with $\eta$ = {STEP_SIZE}: a step along the subgradient that keeps $p_g$ a "
                "distribution (mirror descent with relative entropy)."
            ),
            _descent(context, trajectories["narrow normal"], jsd_curves),
            Table(
                f"Steps until the JSD is at most {CONVERGED_JSD:g} nats.",
                ("start", "initial JSD", "final JSD", "steps", "maximum change per step"),
                tuple(_row(name, divergence) for name, divergence in jsd_curves.items()),
            ),
            Text(
                "Why it converges: $V(p_g, D)$ is linear in $p_g$ for every fixed $D$, so $C$, "
                "the maximum over all $D$, is convex. The slope of the maximizing line, that of "
                "$D^*$, is a subgradient of $C$: a descent step on $C$ can hold $D^*$ fixed. The "
                "figure shows this for two values, $p_g = (q, 1 - q)$:"
            ),
            _lines(context),
            Text(
                "The proof shows that $p_g$ converges to $p_{data}$ if $G$ can represent any "
                "$p_g$, if $D$ is at its optimum before each step, and if the steps on $p_g$ are "
                "small enough. It does not show that training a network converges. There the "
                r"parameters $\theta$ of $G$ are updated, not $p_g$, and $C$ need not be convex in "
                r"$\theta$; and $D$ has had only $k$ updates, on batches. The simplest $G$ shows "
                r"the first problem: for $G(z) = \theta + z$ and normal distributions, $C$ is flat "
                r"where $\theta$ is far from its optimum, and not convex there."
            ),
            _parameter(context, theta, criterion),
        ),
        checks=(
            Check(
                f"$p_g$ converges to $p_{{data}}$ from {len(trajectories)} starts: JSD at the end",
                "at most 1e-6 nats",
                f"{worst:.2e}",
                worst <= CONVERGED_JSD,
            ),
            Check(
                "JSD falls at every step: maximum change",
                "below 0",
                f"{max_change:.1e}",
                max_change < 0,
            ),
            Check(
                f"no line of {NUM_RANDOM:,} random $D$ is above $C$: maximum excess",
                "at most 1e-12",
                f"{envelope.max_excess:.1e}",
                envelope.max_excess <= ROUNDING,
            ),
            Check(
                "$C$ is the maximum of the lines of all $D^*$: maximum difference",
                "at most 1e-12",
                f"{envelope.max_gap:.1e}",
                envelope.max_gap <= ROUNDING,
            ),
            Check(
                "the line of $D^*$ has the slope of $C$, by autograd: maximum difference",
                "at most 1e-12",
                f"{envelope.max_slope_error:.1e}",
                envelope.max_slope_error <= ROUNDING,
            ),
            Check(
                "$C$ is convex in $p_g$: $C$ of the mean minus the mean of $C$, for "
                f"{NUM_RANDOM:,} random pairs",
                "at most 1e-12",
                f"{violation:.1e}",
                violation <= ROUNDING,
            ),
            Check(
                r"$C$ is not convex in $\theta$: minimum second difference",
                "below -1e-6",
                f"{second_difference:.1e}",
                second_difference < -1e-6,
            ),
        ),
    )


def _row(name: str, jsd: Tensor) -> tuple[str, ...]:
    first, last, max_change = (float(d) for d in (jsd[0], jsd[-1], jsd.diff().max()))
    return name, f"{first:.3f}", f"{last:.1e}", str(len(jsd) - 1), f"{max_change:.0e}"


def _descent(
    context: SectionContext, trajectory: Trajectory, jsd_curves: dict[str, Tensor]
) -> Block:
    figure = new_figure(10.4, 4.0)
    densities, jsd_axes = figure.subplots(1, 2)
    style_axes(densities, "p_g during descent", "density", x="x")
    x = GRID.centers
    densities.plot(
        x, bin_probabilities(GOAL, GRID) / GRID.width, ":", color=LIGHT.text, lw=2, label="p_data"
    )
    for step, color in zip(SHOWN_STEPS, LIGHT.hues, strict=True):
        densities.plot(x, trajectory[step] / GRID.width, color=color, lw=1.5, label=f"step {step}")
    legend(densities, columns=1, corner="upper right")
    style_axes(jsd_axes, "JSD(p_data, p_g)", "nats", x="steps")
    for (name, divergence), color in zip(jsd_curves.items(), LIGHT.hues, strict=True):
        jsd_axes.semilogy(divergence, color=color, lw=1.6, label=name)
    reference_line(jsd_axes, CONVERGED_JSD, "converged")
    legend(jsd_axes, columns=1, corner="upper right")
    alt = "p_g changes from a narrow normal into the two modes of p_data; the JSD falls"
    caption = "Left: $p_g$ from the narrow start. Right: the JSD from each start."
    return context.save_image("descent.png", png(figure), alt, caption)


def _lines(context: SectionContext) -> Block:
    figure = new_figure(8.4, 4.4)
    axes = figure.subplots()
    style_axes(axes, "Two values", "nats", x="q, the probability of the first value in p_g")
    q = torch.linspace(0, 1, 501, dtype=torch.float64)
    tangent_points = torch.linspace(0.02, 0.98, 17, dtype=torch.float64)
    for n, line in enumerate(two_point_values(two_point_optimal_discriminator(tangent_points), q)):
        label = "V(p_g, D) for fixed D" if n == 0 else None
        axes.plot(q, line, color=LIGHT.rule, lw=0.7, label=label)
    at = torch.tensor([TANGENT_AT], dtype=torch.float64)
    axes.plot(q, two_point_criterion(q), color=LIGHT.score, lw=2.4, label="C, their maximum")
    tangent = two_point_values(two_point_optimal_discriminator(at), q)[0]
    axes.plot(
        q, tangent, "--", color=LIGHT.fake, lw=1.8, label=f"V(p_g, D*) for D* at q = {TANGENT_AT}"
    )
    axes.plot(at, two_point_criterion(at), "o", color=LIGHT.fake)
    axes.plot(float(TWO_POINT_DATA[0]), OPTIMUM, "o", color=LIGHT.text)
    axes.annotate(
        "p_g = p_data, −log 4",
        (float(TWO_POINT_DATA[0]), OPTIMUM),
        xytext=(0, 10),
        textcoords="offset points",
        ha="center",
        color=LIGHT.text,
    )
    axes.set_ylim(-2.0, -0.6)
    legend(axes)
    alt = "Lines below the convex curve C, each tangent to it"
    caption = (
        "$V(p_g, D)$ as a function of $p_g = (q, 1 - q)$ for several $D$. Each is a line, and "
        "their maximum at each $q$ is $C$. The line of $D^*$ is tangent to $C$ where $D^*$ is "
        "optimal, and its slope is the subgradient."
    )
    return context.save_image("lines.png", png(figure), alt, caption)


def _parameter(context: SectionContext, theta: np.ndarray, criterion: Tensor) -> Block:
    figure = new_figure(8.4, 3.2)
    axes = figure.subplots()
    style_axes(axes, "C in a parameter of G", "nats", x="θ, the shift of z")
    axes.plot(theta, criterion, color=LIGHT.score, lw=2)
    reference_line(axes, OPTIMUM, "−log 4")
    legend(axes)
    alt = "C against theta: one minimum in a flat surrounding"
    caption = (
        r"$C$ for $G(z) = \theta + z$ and $p_{data}$ = N(0, 1): one minimum in a flat "
        "surrounding."
    )
    return context.save_image("parameter.png", png(figure), alt, caption)
