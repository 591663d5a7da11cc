"""Initial ranges of digits' nets, and which way of writing a loss bears their logits in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.data.prepared import PreparedData, open_data
from advnets.experiment import setup
from advnets.games.gan import generate
from advnets.losses import discriminator_loss, minimax_generator_loss, non_saturating_generator_loss
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
from advnets.presets import get_preset
from advnets.training import devices, step

RANGES = (0.005, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.7, 1.0, 5.0)
NETS, MANY_NETS = 10, 50
"""Pairs of nets of each range, quick and full."""

Loss = Callable[[Tensor, Tensor], Float[Tensor, ""]]
"""Of the logits of real and generated images."""


@dataclass(frozen=True)
class Written:
    """A player's loss in two ways: with the logarithm of a sigmoid, and as advnets has it."""

    player: str
    latex: str
    naive: Loss
    ours: Loss


def _log_d(a: Tensor) -> Tensor:
    return torch.log(torch.sigmoid(a))


def _log_not_d(a: Tensor) -> Tensor:
    return torch.log(1 - torch.sigmoid(a))


LOSSES: dict[str, Written] = {
    "V": Written(
        "discriminator",
        "V",
        lambda real, fake: -0.5 * (_log_d(real).mean() + _log_not_d(fake).mean()),
        discriminator_loss,
    ),
    "log(1 − D)": Written(
        "generator",
        r"\log(1 - D)",
        lambda _, fake: _log_not_d(fake).mean(),
        lambda _, fake: minimax_generator_loss(fake),
    ),
    "−log D": Written(
        "generator",
        r"-\log D",
        lambda _, fake: -_log_d(fake).mean(),
        lambda _, fake: non_saturating_generator_loss(fake),
    ),
}


def digits_table(init_range: float, seed: int = 0) -> step.TrainState:
    """The nets of preset `digits`, begun in a range, before real 8x8 digits."""
    run = get_preset("digits")
    stage = replace(
        run.stage,
        generator=replace(run.stage.generator, init_range=init_range),
        discriminator=replace(run.stage.discriminator, init_range=init_range),
    )
    run = replace(
        run.with_stage(stage), runtime=config.Runtime("cpu", "float32", threads=1), seed=seed
    )
    return setup.make_train_state(run, _digits(), 0, devices.setup_process(run.runtime))


@cache
def _digits() -> PreparedData:
    return open_data(get_preset("digits").data)


@dataclass(frozen=True)
class Tried:
    """One range: what came of its nets."""

    init_range: float
    lowest: float
    highest: float
    """Logits of all nets, real and generated images."""
    broken: dict[str, tuple[int, int]]
    """By loss: nets whose naive gradient holds a NaN, nets where ours is anywhere not finite."""
    foretold: dict[str, int]
    """Nets that the limits of float32 say the naive loss breaks in."""


@dataclass(frozen=True)
class Limits:
    """Logits beyond which the naive logarithms are of 0."""

    low: float
    """log sigmoid(a) is -inf below."""
    high: float
    """log(1 - sigmoid(a)) is -inf above."""


def limits() -> Limits:
    """Found by trying logits .01 apart, in float32."""
    devices.setup_process(config.Runtime("cpu", "float32", threads=1))
    a = torch.arange(-12_000, 12_001, dtype=torch.float32) / 100
    return Limits(
        low=float(a[torch.isfinite(_log_d(a))].min()),
        high=float(a[torch.isfinite(_log_not_d(a))].max()),
    )


def tried(init_range: float, nets: int, limit: Limits, first: int = 0) -> Tried:
    """All losses and their gradients on one batch, for so many pairs of nets."""
    broken: dict[str, tuple[int, int]] = dict.fromkeys(LOSSES, (0, 0))
    foretold = dict.fromkeys(LOSSES, 0)
    ends: list[Tensor] = []
    for seed in range(first, first + nets):
        state = digits_table(init_range, seed)
        real, fake = _logits(state)
        ends.append(torch.stack(torch.aminmax(torch.cat((real, fake)).detach())))
        low, high = bool((real < limit.low).any()), bool((fake > limit.high).any())
        would = {"V": low or high, "log(1 − D)": high, "−log D": bool((fake < limit.low).any())}
        for name, written in LOSSES.items():
            parameters = tuple(state.players[written.player].parameters())
            naive = _gradient(written.naive(real, fake), parameters).isnan().any()
            ours = written.ours(real, fake)
            finite = ours.isfinite() & _gradient(ours, parameters).isfinite().all()
            before = broken[name]
            broken[name] = before[0] + bool(naive), before[1] + (not finite)
            foretold[name] += would[name]
    low, high = torch.stack(ends).unbind(1)
    return Tried(init_range, float(low.min()), float(high.max()), broken, foretold)


def _logits(state: step.TrainState) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    real = state.loader.batch_at(0).images
    fake = generate(state.players, len(real), state.rng)
    both = state.players["discriminator"](torch.cat((real, fake)), state.rng)
    of_real, of_fake = both.chunk(2)
    return of_real, of_fake


def _gradient(loss: Tensor, parameters: tuple[Tensor, ...]) -> Float[Tensor, " parameters"]:
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


def show(context: SectionContext) -> SectionContent:
    """All losses at all ranges, in both ways."""
    context.tell("a sweep of initial ranges")
    nets, limit = MANY_NETS if context.full else NETS, limits()
    swept = [tried(init_range, nets, limit, context.seed * nets) for init_range in RANGES]
    return SectionContent(_blocks(context, swept, nets, limit), _checks(swept, nets))


def shown(number: float) -> str:
    """Three digits, or a whole number where there are more."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _blocks(
    context: SectionContext, swept: list[Tried], nets: int, limit: Limits
) -> tuple[Block, ...]:
    return (
        Text(
            "Logits, and no logarithm of a sigmoid: in float32 a sigmoid is 1 from a logit of "
            f"{limit.high:.1f} on, and 0 below {limit.low:.1f} (denormal numbers are flushed). "
            r"Written naively, as it stands, $\log(1 - D)$ is then the logarithm of 0; its slope "
            "is infinite, that of the sigmoid 0, and the product NaN. One such sample in a batch "
            "is enough. The same losses as functions of the logit are `-softplus(a)` and "
            "`softplus(-a)`, which bear any logit."
        ),
        _image(context, swept, nets, limit),
        Table(
            f"{nets} pairs of nets of preset `digits` for each initial range, one batch of real "
            "8x8 digits and samples: nets with a NaN in the gradient of a naive loss; last, nets "
            "with anything not finite in any of ours.",
            (
                "range",
                "logits, from to",
                *(f"${written.latex}$" for written in LOSSES.values()),
                "ours",
            ),
            tuple(
                (
                    f"{one.init_range:g}",
                    f"{shown(one.lowest)} to {shown(one.highest)}",
                    *(str(naive) for naive, _ in one.broken.values()),
                    str(sum(ours for _, ours in one.broken.values())),
                )
                for one in swept
            ),
        ),
    )


def _checks(swept: list[Tried], nets: int) -> tuple[Check, ...]:
    tries = len(swept) * nets
    ours = sum(count for one in swept for _, count in one.broken.values())
    checks = [
        Check(
            f"logit forms, {tries:,} batches of three losses",
            "every loss and gradient finite",
            f"{ours} of {len(LOSSES) * tries:,} are not",
            ours == 0,
        )
    ]
    for name, written in LOSSES.items():
        first = next((one.init_range for one in swept if one.broken[name][0] == nets), None)
        agree = all(one.broken[name][0] == one.foretold[name] for one in swept)
        checks.append(
            Check(
                f"log of a sigmoid, ${written.latex}$: NaN in all nets",
                "at some range, and just where a logit is beyond the limit",
                f"from {first:g} on" if first else "at none",
                first is not None and agree,
            )
        )
    return tuple(checks)


def _image(context: SectionContext, swept: list[Tried], nets: int, limit: Limits) -> FigureBlock:
    figure = new_figure(10.4, 3.8)
    broken, logits = figure.subplots(1, 2)
    ranges = [one.init_range for one in swept]
    style_axes(broken, "Nets with a NaN in the gradient", "share", x="initial range of the weights")
    for (name, style), color in zip(
        zip(LOSSES, ("-", "--", "-."), strict=True), LIGHT.hues, strict=False
    ):
        share = [one.broken[name][0] / nets for one in swept]
        broken.semilogx(ranges, share, style, color=color, lw=1.8, label=f"naive, {name}")
    ours = [sum(count for _, count in one.broken.values()) / nets for one in swept]
    broken.plot(ranges, ours, color=LIGHT.text, lw=1.2, marker=".", label="ours, all three")
    legend(broken, columns=1, within="center left")
    style_axes(logits, "Logits of D", "from lowest to highest", x="initial range of the weights")
    ends = [one.lowest for one in swept], [one.highest for one in swept]
    logits.fill_between(ranges, *ends, color=LIGHT.score, alpha=0.35, lw=0)
    logits.set_xscale("log")
    logits.set_yscale("symlog", linthresh=1)
    reference_line(logits, limit.high, f"log(1 − sigmoid) is of 0 above {limit.high:.1f}")
    logits.axhline(
        limit.low, color=LIGHT.fake, ls=":", label=f"log sigmoid is of 0 below −{-limit.low:.1f}"
    )
    legend(logits, columns=1, within="upper left")
    alt = "Naive losses give NaN in all nets beyond some range, the logit forms in none"
    caption = "Left: how many of the nets break. Right: all logits of these nets, and the limits."
    return context.image("ranges.png", png(figure), alt, caption)
