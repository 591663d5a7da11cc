"""Initialization ranges of networks, and the float32 stability of two forms of each loss."""

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
QUICK_NETS, FULL_NETS = 10, 50
"""Number of network pairs for each range, at quick and full scale."""

Loss = Callable[[Tensor, Tensor], Float[Tensor, ""]]
"""A loss as a function of the logits of real and generated images."""


@dataclass(frozen=True)
class LossForms:
    """A player's loss in two forms: with the logarithm of a sigmoid, and as advnets computes it."""

    player: str
    latex: str
    naive: Loss
    stable: Loss


def _log_d(a: Tensor) -> Tensor:
    return torch.log(torch.sigmoid(a))


def _log_not_d(a: Tensor) -> Tensor:
    return torch.log(1 - torch.sigmoid(a))


LOSSES: dict[str, LossForms] = {
    "V": LossForms(
        "discriminator",
        "V",
        lambda real, fake: -0.5 * (_log_d(real).mean() + _log_not_d(fake).mean()),
        discriminator_loss,
    ),
    "log(1 − D)": LossForms(
        "generator",
        r"\log(1 - D)",
        lambda _, fake: _log_not_d(fake).mean(),
        lambda _, fake: minimax_generator_loss(fake),
    ),
    "−log D": LossForms(
        "generator",
        r"-\log D",
        lambda _, fake: -_log_d(fake).mean(),
        lambda _, fake: non_saturating_generator_loss(fake),
    ),
}


def make_digits_state(init_range: float, seed: int = 0) -> step.TrainState:
    """Return the networks of preset `digits` with an initialization range, and 8x8 digits."""
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
class RangeResult:
    """Results of the networks of one initialization range."""

    init_range: float
    min_logit: float
    max_logit: float
    """Minimum and maximum logit over all networks, for real and generated images."""
    failures: dict[str, tuple[int, int]]
    """By loss: networks with a NaN in the naive gradient, and with a non-finite number in the
    stable form."""
    predicted: dict[str, int]
    """By loss: networks in which the limits of float32 predict a failure of the naive form."""


@dataclass(frozen=True)
class LogitLimits:
    """Logits beyond which the naive forms compute the logarithm of 0."""

    low: float
    """Below it log sigmoid(a) is -inf."""
    high: float
    """Above it log(1 - sigmoid(a)) is -inf."""


def logit_limits() -> LogitLimits:
    """Return the limits in float32, found by trying logits at steps of 0.01."""
    devices.setup_process(config.Runtime("cpu", "float32", threads=1))
    a = torch.arange(-12_000, 12_001, dtype=torch.float32) / 100
    return LogitLimits(
        low=float(a[torch.isfinite(_log_d(a))].min()),
        high=float(a[torch.isfinite(_log_not_d(a))].max()),
    )


def measure_init_range(
    init_range: float, nets: int, limit: LogitLimits, first_seed: int = 0
) -> RangeResult:
    """Compute all losses and their gradients on one batch, for several network pairs."""
    broken: dict[str, tuple[int, int]] = dict.fromkeys(LOSSES, (0, 0))
    foretold = dict.fromkeys(LOSSES, 0)
    ends: list[Tensor] = []
    for seed in range(first_seed, first_seed + nets):
        state = make_digits_state(init_range, seed)
        real, fake = _logits(state)
        ends.append(torch.stack(torch.aminmax(torch.cat((real, fake)).detach())))
        low, high = bool((real < limit.low).any()), bool((fake > limit.high).any())
        fails = {"V": low or high, "log(1 − D)": high, "−log D": bool((fake < limit.low).any())}
        for name, forms in LOSSES.items():
            parameters = tuple(state.players[forms.player].parameters())
            naive = _gradient(forms.naive(real, fake), parameters).isnan().any()
            stable = forms.stable(real, fake)
            finite = stable.isfinite() & _gradient(stable, parameters).isfinite().all()
            before = broken[name]
            broken[name] = before[0] + bool(naive), before[1] + (not finite)
            foretold[name] += fails[name]
    low, high = torch.stack(ends).unbind(1)
    return RangeResult(init_range, float(low.min()), float(high.max()), broken, foretold)


def _logits(state: step.TrainState) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    real = state.loader.batch_at(0).images
    fake = generate(state.players, len(real), state.rng)
    both = state.players["discriminator"](torch.cat((real, fake)), state.rng)
    real_logits, fake_logits = both.chunk(2)
    return real_logits, fake_logits


def _gradient(loss: Tensor, parameters: tuple[Tensor, ...]) -> Float[Tensor, " parameters"]:
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


def build(context: SectionContext) -> SectionContent:
    """Measure all losses in both forms at all ranges."""
    context.log("sweeping initialization ranges")
    nets, limit = FULL_NETS if context.full else QUICK_NETS, logit_limits()
    swept = [
        measure_init_range(init_range, nets, limit, context.seed * nets) for init_range in RANGES
    ]
    return SectionContent(_blocks(context, swept, nets, limit), _checks(swept, nets))


def format_logit(number: float) -> str:
    """Format a number with three digits, or as a whole number where there are more."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _blocks(
    context: SectionContext, swept: list[RangeResult], nets: int, limit: LogitLimits
) -> tuple[Block, ...]:
    return (
        Text(
            "Losses are computed from logits and not as logarithms of a sigmoid: in float32 a "
            f"sigmoid is 1 above a logit of {limit.high:.1f}, and 0 below {limit.low:.1f} "
            r"(denormal numbers are flushed). Computed naively, $\log(1 - D)$ is then the "
            "logarithm of 0: its derivative is infinite, that of the sigmoid 0, and their product "
            "NaN. One such sample in a batch is enough. The same losses as functions of the logit "
            "are `-softplus(a)` and `softplus(-a)`, which are finite for every logit."
        ),
        _plot(context, swept, nets, limit),
        Table(
            f"{nets} pairs of networks of preset `digits` for each initialization range, with one "
            "batch of real 8x8 digits and of samples: networks with a NaN in the gradient of a "
            "naive loss; last, networks with a non-finite number in any loss of advnets.",
            (
                "range",
                "logits",
                *(f"${forms.latex}$" for forms in LOSSES.values()),
                "advnets",
            ),
            tuple(
                (
                    f"{result.init_range:g}",
                    f"{format_logit(result.min_logit)} to {format_logit(result.max_logit)}",
                    *(str(naive) for naive, _ in result.failures.values()),
                    str(sum(stable for _, stable in result.failures.values())),
                )
                for result in swept
            ),
        ),
    )


def _checks(swept: list[RangeResult], nets: int) -> tuple[Check, ...]:
    tries = len(swept) * nets
    stable = sum(count for result in swept for _, count in result.failures.values())
    checks = [
        Check(
            f"losses of logits, {tries:,} batches of three losses",
            "every loss and gradient is finite",
            f"{stable} of {len(LOSSES) * tries:,} are not finite",
            stable == 0,
        )
    ]
    for name, forms in LOSSES.items():
        first = next(
            (result.init_range for result in swept if result.failures[name][0] == nets), None
        )
        agree = all(result.failures[name][0] == result.predicted[name] for result in swept)
        checks.append(
            Check(
                f"logarithm of a sigmoid, ${forms.latex}$: NaN in all networks",
                "at some range, and exactly where a logit exceeds the limit",
                f"from {first:g}" if first else "at no range",
                first is not None and agree,
            )
        )
    return tuple(checks)


def _plot(
    context: SectionContext, swept: list[RangeResult], nets: int, limit: LogitLimits
) -> FigureBlock:
    figure = new_figure(10.4, 3.8)
    broken, logits = figure.subplots(1, 2)
    ranges = [result.init_range for result in swept]
    style_axes(broken, "Networks with a NaN gradient", "fraction", x="initialization range")
    for (name, style), color in zip(
        zip(LOSSES, ("-", "--", "-."), strict=True), LIGHT.hues, strict=False
    ):
        fractions = [result.failures[name][0] / nets for result in swept]
        broken.semilogx(ranges, fractions, style, color=color, lw=1.8, label=f"naive, {name}")
    stable = [sum(count for _, count in result.failures.values()) / nets for result in swept]
    broken.plot(ranges, stable, color=LIGHT.text, lw=1.2, marker=".", label="advnets, all three")
    legend(broken, columns=1, corner="center left")
    style_axes(logits, "Logits of D", "minimum to maximum", x="initialization range")
    ends = [result.min_logit for result in swept], [result.max_logit for result in swept]
    logits.fill_between(ranges, *ends, color=LIGHT.score, alpha=0.35, lw=0)
    logits.set_xscale("log")
    logits.set_yscale("symlog", linthresh=1)
    reference_line(logits, limit.high, f"log(1 − sigmoid) is −inf above {limit.high:.1f}")
    logits.axhline(
        limit.low, color=LIGHT.fake, ls=":", label=f"log sigmoid is −inf below −{-limit.low:.1f}"
    )
    legend(logits, columns=1, corner="upper left")
    alt = "Naive losses give NaN in all networks beyond some range, the logit forms in none"
    caption = (
        "Left: fraction of the networks that fail. Right: range of all logits of these "
        "networks, and the limits."
    )
    return context.save_image("ranges.png", png(figure), alt, caption)
