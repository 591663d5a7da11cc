"""Training from a start where D has won, with log(1 - D(G(z))) and with -log D(G(z))."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch.nn.utils import get_total_norm

from advnets import config
from advnets.losses import GENERATOR_LOSSES
from advnets.paper.blocks import Block, Check, SectionContent, SectionContext, Table, Text
from advnets.paper.toy import (
    STAGE,
    Grid,
    LineGame,
    Snapshot,
    best_response,
    latent_quantiles,
    make_line_game,
)
from advnets.plots.style import LIGHT, legend, new_figure, png, reference_line, style_axes
from advnets.training.step import StepMetrics

Objective = Literal["minimax", "non-saturating"]
OBJECTIVES: dict[Objective, str] = {"minimax": r"$\log(1 - D)$", "non-saturating": r"$-\log D$"}
"""The generator losses, with their formulas."""

SOURCE = "gaussian:mean=3.5,n=200000"
GRID = Grid(-16.0, 16.0, 160)
NUM_LATENTS, BATCH_SIZE = 4000, 200
DISCRIMINATOR_UPDATES = 400
"""Updates of D alone before the first iteration."""
ITERATIONS, NUM_FINAL = 500, 50
OPTIMIZERS: dict[str, config.OptimizerConfig] = {
    "gradient descent": config.SGD(5e-4, lr_decay=1.0, momentum=0.5, momentum_final=0.5),
    "Adam": config.Adam(),
}
"""Optimizers of G."""
HALF_LOG2 = 0.5 * float(np.log(2))
"""Half of the maximum of a JSD."""


@dataclass
class History:
    """One training from the bad start."""

    start: Snapshot
    initial_grad_norms: Mapping[str, float]
    """Norm of the gradient in G's parameters at the start, for both losses."""
    mean_probability: float
    """Mean of D(G(z)) at the start."""
    jsd: list[float] = field(default_factory=list[float])
    """JSD(p_data, p_g) before the first iteration and after each."""

    @property
    def final_jsd(self) -> float:
        """Median of the JSD over the last iterations, between which it fluctuates."""
        return float(np.median(self.jsd[-NUM_FINAL:]))

    @property
    def iterations_to_half(self) -> int | None:
        """Iterations until the JSD has fallen to half of log 2, or None."""
        return next((n for n, jsd in enumerate(self.jsd) if jsd <= HALF_LOG2), None)


def make_bad_start(
    objective: Objective, optimizer: config.OptimizerConfig, seed: int = 0
) -> LineGame:
    """Return the game with G at -3.5, p_data at 3.5, and D trained to separate them."""
    stage = replace(
        STAGE,
        generator=replace(STAGE.generator, output_bias=-3.5),
        game=config.GANGame(objective),
        generator_optimizer=optimizer,
        discriminator_optimizer=config.Adam(2e-3),
    )
    line = make_line_game(SOURCE, GRID, stage, seed=seed, batch_size=BATCH_SIZE)
    discriminator_optimizer = config.Adam(1e-2, lr_decay=1.005, lr_min=1e-4, beta1=0.9)
    best_response(line.state, DISCRIMINATOR_UPDATES, discriminator_optimizer)
    return line


def generator_grad_norms(line: LineGame) -> dict[str, float]:
    """Return the norm of the gradient in G's parameters for each loss, over a thousand z."""
    generator, discriminator = (line.state.players[n] for n in ("generator", "discriminator"))
    parameters = tuple(generator.parameters())
    norms: dict[str, float] = {}
    for name, loss in GENERATOR_LOSSES.items():
        gradients = torch.autograd.grad(
            loss(discriminator(generator(latent_quantiles(1000)))), parameters
        )
        norms[name] = float(get_total_norm(gradients))
    return norms


def train_from_bad_start(
    objective: Objective, optimizer: config.OptimizerConfig, iterations: int, seed: int = 0
) -> History:
    """Train from the bad start and record the JSD after every iteration."""
    line = make_bad_start(objective, optimizer, seed)
    generator, discriminator = (line.state.players[n] for n in ("generator", "discriminator"))
    start = line.snapshot(points=NUM_LATENTS)
    with torch.no_grad():
        probability = torch.sigmoid(
            discriminator(generator(latent_quantiles(1000))).double()
        ).mean()
    history = History(start, generator_grad_norms(line), float(probability), [start.jsd])

    def record(_number: int, _metrics: StepMetrics) -> None:
        history.jsd.append(line.snapshot(points=NUM_LATENTS).jsd)

    line.train(iterations, record)
    return history


def build(context: SectionContext) -> SectionContent:
    """Train both losses from the same start, with G updated by gradient descent and by Adam."""
    histories: dict[tuple[str, Objective], History] = {}
    for rule, moving in OPTIMIZERS.items():
        for objective in OBJECTIVES:
            context.log(f"training from a bad start: {objective}, {rule}")
            histories[rule, objective] = train_from_bad_start(
                objective, moving, ITERATIONS, context.seed
            )
    first = next(iter(histories.values()))
    ratio = first.initial_grad_norms["non-saturating"] / first.initial_grad_norms["minimax"]
    blocks = (
        Text(
            "A bad start: the data are normal around 3.5, the samples are around -3.5, and $D$ "
            f"was trained alone until $D(G(z))$ = {first.mean_probability:.1e}. From there both "
            "losses are trained with the same networks, batches, noise and learning rates, $k = "
            rf"1$. The first gradient of $-\log D$ is {ratio:,.0f} times as large as that of "
            r"$\log(1 - D)$."
        ),
        _plot(context, histories),
        Table(
            "Iterations until the JSD is half of log 2, and the median JSD of the last "
            f"{NUM_FINAL} of {ITERATIONS} iterations.",
            ("optimizer of $G$", "loss of $G$", "iterations to half", "final JSD"),
            tuple(
                (
                    rule,
                    OBJECTIVES[objective],
                    str(history.iterations_to_half or f"more than {ITERATIONS}"),
                    f"{history.final_jsd:.4f}",
                )
                for (rule, objective), history in histories.items()
            ),
        ),
        Text(
            "With gradient descent, as in the paper, steps are proportional to the gradient. Adam "
            "divides the gradient by an estimate of its magnitude, and the difference disappears. "
            r"Both losses have the same fixed point, $p_g = p_{data}$; whether $\log(1 - D)$ "
            f"reaches it in these {ITERATIONS} iterations depends on the seed, and the table shows "
            "it for this one."
        ),
    )
    return SectionContent(blocks, _checks(histories))


def _checks(histories: Mapping[tuple[str, Objective], History]) -> tuple[Check, ...]:
    minimax, non_saturating = (histories["gradient descent", objective] for objective in OBJECTIVES)
    halves = (
        minimax.iterations_to_half or ITERATIONS + 1,
        non_saturating.iterations_to_half or ITERATIONS + 1,
    )
    ratio = (
        non_saturating.initial_grad_norms["non-saturating"]
        / non_saturating.initial_grad_norms["minimax"]
    )
    same = float(np.abs(minimax.start.p_g - non_saturating.start.p_g).max())
    return (
        Check(
            "both trainings have the same start, and $D$ has won there",
            "equal $p_g$; JSD at least 0.69 (log 2 = 0.6931)",
            f"difference {same:g}; JSD {minimax.jsd[0]:.4f}",
            same == 0 and minimax.jsd[0] >= 0.69,
        ),
        Check(
            r"the first gradient of $-\log D$ relative to that of $\log(1 - D)$",
            "at least 5",
            f"{ratio:,.0f}",
            ratio >= 5,
        ),
        Check(
            r"gradient descent: iterations to half of log 2, with $\log(1 - D)$ and with $-\log D$",
            r"at least twice as many with $\log(1 - D)$",
            f"{halves[0]} and {halves[1]}",
            halves[0] >= 2 * halves[1] and non_saturating.iterations_to_half is not None,
        ),
        Check(
            rf"gradient descent: with $-\log D$ training ends at $p_g = p_{{data}}$ (median JSD of "
            f"the last {NUM_FINAL} iterations)",
            "at most 0.02 nats",
            f"{non_saturating.final_jsd:.4f}; with $\\log(1 - D)$ {minimax.final_jsd:.4f}",
            non_saturating.final_jsd <= 0.02,
        ),
    )


def _plot(context: SectionContext, histories: Mapping[tuple[str, Objective], History]) -> Block:
    figure = new_figure(10.4, 3.8)
    start, falling = figure.subplots(1, 2, width_ratios=(2, 3))
    snapshot = next(iter(histories.values())).start
    style_axes(start, "Start", "probability, density", x="x")
    x = snapshot.grid.centers
    start.plot(x, snapshot.p_data, ":", color=LIGHT.text, lw=1.8, label="data")
    start.plot(x, snapshot.p_g, color=LIGHT.score, lw=1.8, label="$p_g$")
    start.plot(x, snapshot.discriminator, "--", color=LIGHT.real, lw=1.8, label="D")
    start.set_xlim(-8, 8)
    legend(start)
    style_axes(falling, "JSD(p_data, p_g)", "nats", x="iterations")
    colors = {"minimax": LIGHT.fake, "non-saturating": LIGHT.real}
    labels = {"minimax": "log(1 − D)", "non-saturating": "−log D"}
    styles = {"gradient descent": (1.8, "-"), "Adam": (1.0, "--")}
    for (rule, objective), history in histories.items():
        width, style = styles[rule]
        label = f"{labels[objective]}, {rule}"
        falling.plot(history.jsd, style, color=colors[objective], lw=width, label=label)
    reference_line(falling, HALF_LOG2, "half of log 2")
    legend(falling, columns=1, corner="upper right")
    alt = "The JSD falls immediately with -log D, and late with log(1 - D)"
    caption = (
        "Left: the start, where $D$ separates data and samples. Right: the JSD, by loss and "
        "optimizer."
    )
    return context.save_image("start.png", png(figure), alt, caption)
