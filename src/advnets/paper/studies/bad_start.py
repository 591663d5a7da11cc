"""The game from a bad start, where D has won: with log(1 - D(G(z))), and with -log D(G(z))."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch.nn.utils import get_total_norm

from advnets import config
from advnets.losses import GENERATOR_LOSSES
from advnets.paper.blocks import (
    Block,
    Check,
    FigureBlock,
    SectionContent,
    SectionContext,
    Table,
    Text,
)
from advnets.plots.style import LIGHT, legend, new_figure, png, reference_line, style_axes
from advnets.toy.line_game import (
    NETS,
    Cells,
    LineGame,
    Snapshot,
    best_response,
    latents,
    make_line_game,
)
from advnets.training.step import StepMetrics

Objective = Literal["minimax", "non-saturating"]
OBJECTIVES: dict[Objective, str] = {"minimax": r"$\log(1 - D)$", "non-saturating": r"$-\log D$"}
"""What G minimizes."""

SOURCE = "gaussian:mean=3.5,n=200000"
CELLS = Cells(-16.0, 16.0, 160)
LATENTS, BATCH = 4000, 200
TO_WIN = 400
"""Updates of D alone before the first round."""
ROUNDS, LAST = 500, 50
RULES: dict[str, config.OptimizerConfig] = {
    "gradient descent": config.SGD(5e-4, lr_decay=1.0, momentum=0.5, momentum_final=0.5),
    "Adam": config.Adam(),
}
"""How G moves."""
HALF = 0.5 * float(np.log(2))
"""Half of the largest divergence there is."""


@dataclass
class History:
    """One game from the bad start."""

    start: Snapshot
    first_pull: Mapping[str, float]
    """Size of the gradient in G's parameters at the start, of both objectives."""
    verdict: float
    """Mean of D(G(z)) at the start."""
    divergences: list[float] = field(default_factory=list[float])
    """JSD(p_data, p_g) before the first round and after each."""

    @property
    def end(self) -> float:
        """Median of the divergence over the last rounds; it flickers from one to the next."""
        return float(np.median(self.divergences[-LAST:]))

    @property
    def rounds_to_half(self) -> int | None:
        """Rounds until the divergence has come down to half of log 2."""
        return next((n for n, jsd in enumerate(self.divergences) if jsd <= HALF), None)


def bad_start(objective: Objective, rule: config.OptimizerConfig, seed: int = 0) -> LineGame:
    """G at -3.5, p_data at 3.5, and a D that has been trained to tell them apart."""
    stage = replace(
        NETS,
        generator=replace(NETS.generator, output_bias=-3.5),
        game=config.GANGame(objective),
        generator_optimizer=rule,
        discriminator_optimizer=config.Adam(2e-3),
    )
    line = make_line_game(SOURCE, CELLS, stage, seed=seed, batch=BATCH)
    winning = config.Adam(1e-2, lr_decay=1.005, lr_min=1e-4, beta1=0.9)
    best_response(line.state, TO_WIN, winning)
    return line


def first_pulls(line: LineGame) -> dict[str, float]:
    """Size of the gradient in G's parameters, by objective, over a thousand z."""
    generator, discriminator = (line.state.players[n] for n in ("generator", "discriminator"))
    parameters = tuple(generator.parameters())
    sizes: dict[str, float] = {}
    for name, loss in GENERATOR_LOSSES.items():
        gradients = torch.autograd.grad(loss(discriminator(generator(latents(1000)))), parameters)
        sizes[name] = float(get_total_norm(gradients))
    return sizes


def trial(
    objective: Objective, rule: config.OptimizerConfig, rounds: int, seed: int = 0
) -> History:
    """Play from the bad start and look at the divergence after every round."""
    line = bad_start(objective, rule, seed)
    generator, discriminator = (line.state.players[n] for n in ("generator", "discriminator"))
    start = line.snapshot(points=LATENTS)
    with torch.no_grad():
        verdict = torch.sigmoid(discriminator(generator(latents(1000))).double()).mean()
    told = History(start, first_pulls(line), float(verdict), [start.divergence])

    def watch(_number: int, _round: StepMetrics) -> None:
        told.divergences.append(line.snapshot(points=LATENTS).divergence)

    line.train(rounds, watch)
    return told


def show(context: SectionContext) -> SectionContent:
    """Both objectives from one start, G moved by gradient descent and by Adam."""
    trials: dict[tuple[str, Objective], History] = {}
    for rule, moving in RULES.items():
        for objective in OBJECTIVES:
            context.tell(f"the game from a bad start: {objective}, {rule}")
            trials[rule, objective] = trial(objective, moving, ROUNDS, context.seed)
    return SectionContent(_blocks(context, trials), _checks(trials))


def _blocks(
    context: SectionContext, trials: Mapping[tuple[str, Objective], History]
) -> tuple[Block, ...]:
    first = next(iter(trials.values()))
    pull = first.first_pull["non-saturating"] / first.first_pull["minimax"]
    return (
        Text(
            "A bad start: data are normal about 3.5, samples lie about -3.5, and $D$ was trained "
            f"alone until it says $D(G(z))$ = {first.verdict:.1e}. From there both objectives are "
            "played with the same nets, batches, noise and rates, $k = 1$. The first gradient of "
            rf"$-\log D$ is {pull:,.0f} times that of $\log(1 - D)$."
        ),
        _image(context, trials),
        Table(
            f"Rounds until the divergence is half of log 2, and where it stands after {ROUNDS}.",
            ("$G$ moves by", "it minimizes", "rounds to half", "JSD at the end"),
            tuple(
                (
                    rule,
                    OBJECTIVES[objective],
                    str(one.rounds_to_half or f"more than {ROUNDS}"),
                    f"{one.end:.4f}",
                )
                for (rule, objective), one in trials.items()
            ),
        ),
        Text(
            "Under gradient descent, which the paper has, steps are as small as the gradient. Adam "
            "divides the gradient by its own size, and the difference is gone. Both objectives "
            r"have the same fixed point, $p_g = p_{data}$; whether $\log(1 - D)$ comes to it in "
            f"these {ROUNDS} rounds depends on the seed, and the table has it for this one."
        ),
    )


def _checks(trials: Mapping[tuple[str, Objective], History]) -> tuple[Check, ...]:
    slow, fast = (trials["gradient descent", objective] for objective in OBJECTIVES)
    halves = slow.rounds_to_half or ROUNDS + 1, fast.rounds_to_half or ROUNDS + 1
    pull = fast.first_pull["non-saturating"] / fast.first_pull["minimax"]
    same = float(np.abs(slow.start.p_g - fast.start.p_g).max())
    return (
        Check(
            "both games have the same start, and it is bad",
            "the same $p_g$; JSD at least .69 of log 2 = .6931",
            f"apart by {same:g}; {slow.divergences[0]:.4f}",
            same == 0 and slow.divergences[0] >= 0.69,
        ),
        Check(
            r"there the first gradient of $-\log D$ is the stronger",
            "5 times or more",
            f"{pull:,.0f} times",
            pull >= 5,
        ),
        Check(
            r"gradient descent: $\log(1 - D)$ needs more rounds to half of log 2",
            "twice as many or more",
            f"{halves[0]} against {halves[1]}",
            halves[0] >= 2 * halves[1] and fast.rounds_to_half is not None,
        ),
        Check(
            r"gradient descent: with $-\log D$ the game ends at $p_g = p_{data}$ (median of the "
            f"last {LAST} rounds)",
            "JSD at most .02 nats",
            f"{fast.end:.4f}; with $\\log(1 - D)$ {slow.end:.4f}",
            fast.end <= 0.02,
        ),
    )


def _image(context: SectionContext, trials: Mapping[tuple[str, Objective], History]) -> FigureBlock:
    figure = new_figure(10.4, 3.8)
    start, falling = figure.subplots(1, 2, width_ratios=(2, 3))
    seen = next(iter(trials.values())).start
    style_axes(start, "The start", "probability, density", x="x")
    x = seen.cells.middles
    start.plot(x, seen.p_data, ":", color=LIGHT.text, lw=1.8, label="data")
    start.plot(x, seen.p_g, color=LIGHT.score, lw=1.8, label="$p_g$")
    start.plot(x, seen.discriminator, "--", color=LIGHT.real, lw=1.8, label="D")
    start.set_xlim(-8, 8)
    legend(start)
    style_axes(falling, "JSD(p_data, p_g)", "nats", x="rounds")
    colors = {"minimax": LIGHT.fake, "non-saturating": LIGHT.real}
    labels = {"minimax": "log(1 − D)", "non-saturating": "−log D"}
    styles = {"gradient descent": (1.8, "-"), "Adam": (1.0, "--")}
    for (rule, objective), one in trials.items():
        width, style = styles[rule]
        label = f"{labels[objective]}, {rule}"
        falling.plot(one.divergences, style, color=colors[objective], lw=width, label=label)
    reference_line(falling, HALF, "half of log 2")
    legend(falling, columns=1, within="upper right")
    alt = "The divergence falls at once with -log D, and late with log(1 - D)"
    caption = "Left: the start, at which $D$ tells all apart. Right: the divergence, by objective."
    return context.image("start.png", png(figure), alt, caption)
