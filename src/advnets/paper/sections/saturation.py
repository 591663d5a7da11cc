"""Section 3's remark: early in training log(1 - D(G(z))) saturates and -log D(G(z)) does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config
from advnets.data.prepared import PreparedData, open_data
from advnets.games.gan import generate
from advnets.losses import discriminator_loss, minimax_generator_loss, non_saturating_generator_loss
from advnets.models.mlp import MaxoutDiscriminator, MLPGenerator
from advnets.paper.blocks import Block, Check, Formula, SectionContent, SectionContext, Table, Text
from advnets.paper.studies import bad_start
from advnets.paper.toy import make_state
from advnets.plots.style import LIGHT, legend, new_figure, png, reference_line, style_axes
from advnets.presets import get_preset
from advnets.training import devices, step


def build(context: SectionContext) -> SectionContent:
    """Build the section: both losses' gradients, training with either, and numerical stability."""
    contents = gradient_content(context), bad_start.build(context), range_content(context)
    return SectionContent(
        blocks=tuple(block for content in contents for block in content.blocks),
        checks=tuple(check for content in contents for check in content.checks),
    )


PROBABILITIES = (0.5, 0.1, 1e-2, 1e-3, 1e-4, 1e-6)
"""Values of D(G(z))."""
INIT_RANGE = 0.05
"""Initialization range of preset `digits`."""
CONFIDENT = 1e-4
"""The D(G(z)) at which the ratio is compared with theory."""
TOLERANCE = 1e-5
"""Maximum relative deviation of a ratio; float32 has seven digits."""

Objective = Callable[[Tensor], Float[Tensor, ""]]


@dataclass(frozen=True)
class GradientNorms:
    """Gradient norms of a loss for one z, by autograd."""

    probability: float
    """With respect to D(G(z))."""
    logit: float
    """With respect to D's logit."""
    generator: float
    """With respect to all of G's parameters."""


@dataclass(frozen=True)
class LossComparison:
    """Gradient norms of both losses at one value of D(G(z))."""

    probability: float
    minimax: GradientNorms
    non_saturating: GradientNorms
    cosine: float
    """Cosine of the angle between the two gradients in G's parameters."""

    @property
    def ratios(self) -> dict[str, float]:
        """Gradient norm of the non-saturating loss divided by that of the minimax loss."""
        pairs = {
            name: (getattr(self.non_saturating, name), getattr(self.minimax, name))
            for name in ("probability", "logit", "generator")
        }
        return {name: strong / weak for name, (strong, weak) in pairs.items()}

    @property
    def theory(self) -> float:
        """The ratio in theory, (1 - D) / D."""
        return (1 - self.probability) / self.probability


def compare_losses(probability: float, seed: int = 0) -> LossComparison:
    """Compare both losses on the networks of preset `digits` and one z.

    D's output bias is shifted so that D(G(z)) is the given probability.
    """
    state = make_digits_state(INIT_RANGE, seed)
    generator = cast(MLPGenerator, state.players["generator"])
    discriminator = cast(MaxoutDiscriminator, state.players["discriminator"])
    z, target_logit = generator.latent(1, state.rng), math.log(probability / (1 - probability))
    with torch.no_grad():
        for _ in range(3):  # repeat, since the first sum is rounded
            discriminator.output.bias += target_logit - discriminator(generator(z))
    parameters = tuple(generator.parameters())

    def gradient_norms(loss: Objective) -> tuple[GradientNorms, Tensor]:
        a = discriminator(generator(z))
        gradients = torch.autograd.grad(loss(a), (a, *parameters))
        d = torch.sigmoid(a.detach().double()).requires_grad_()
        (d_gradient,) = torch.autograd.grad(loss(torch.logit(d)), d)
        vector = torch.cat([g.flatten() for g in gradients[1:]]).double()
        sizes = float(d_gradient.abs()), float(gradients[0].abs()), float(vector.norm())
        return GradientNorms(*sizes), vector

    (minimax, minimax_vector), (non_saturating, non_saturating_vector) = (
        gradient_norms(loss) for loss in (minimax_generator_loss, non_saturating_generator_loss)
    )
    with torch.no_grad():
        measured = float(torch.sigmoid(discriminator(generator(z)).double()))
    cosine = float(
        minimax_vector
        @ non_saturating_vector
        / (minimax_vector.norm() * non_saturating_vector.norm())
    )
    return LossComparison(measured, minimax, non_saturating, cosine)


def gradient_content(context: SectionContext) -> SectionContent:
    """Compare both losses and their gradients, from D(G(z)) = 1/2 to one in a million."""
    context.log("gradients where D is confident")
    measured = {p: compare_losses(p, context.seed) for p in PROBABILITIES}
    blocks = (
        Formula(
            r"\frac{\partial}{\partial a} \log(1 - D) = -D, \quad "
            r"\frac{\partial}{\partial a} (-\log D) = D - 1, \quad D = \frac{1}{1 + e^{-a}}"
        ),
        Text(
            "Early in training $G$ is poor and $D$ rejects its samples: $D(G(z))$ is near 0. "
            r"There $\log(1 - D)$ is flat in $D$'s logit $a$: its gradient reaches $G$ multiplied "
            r"by $D$, that of $-\log D$ multiplied by $1 - D$. Their ratio is $(1 - D) / D$: in "
            "$D$, in the logit and, for one $z$, in each of $G$'s parameters, since the rest of "
            "the chain rule is the same. Both gradients have the same direction."
        ),
        _plot_gradients(context, measured),
        Table(
            "Norms of both gradients in $G$'s parameters, and the ratios, by autograd: the "
            "networks of preset `digits` and one $z$, with the bias of $D$'s last layer shifted "
            "so that $D(G(z))$ is the value in the first column.",
            (
                "$D(G(z))$",
                r"of $\log(1 - D)$",
                r"of $-\log D$",
                "ratio in $D$",
                "in logit",
                "in $G$",
                "$(1 - D) / D$",
            ),
            tuple(
                (
                    f"{probability:g}",
                    f"{comparison.minimax.generator:.3g}",
                    f"{comparison.non_saturating.generator:.3g}",
                    *(f"{ratio:,.1f}" for ratio in comparison.ratios.values()),
                    f"{comparison.theory:,.1f}",
                )
                for probability, comparison in measured.items()
            ),
        ),
    )
    return SectionContent(blocks, _gradient_checks(measured[CONFIDENT]))


def _gradient_checks(comparison: LossComparison) -> tuple[Check, ...]:
    theory = (1 - CONFIDENT) / CONFIDENT
    places = {
        "probability": "$D$ itself",
        "logit": "$D$'s logit",
        "generator": "all of $G$'s parameters",
    }
    ratios = tuple(
        Check(
            f"ratio of gradient norms at $D(G(z)) = 10^{{-4}}$, with respect to {place}",
            f"$(1 - D) / D$ = {theory:g}, to five digits",
            f"{comparison.ratios[name]:.3f}",
            abs(comparison.ratios[name] / theory - 1) <= TOLERANCE,
        )
        for name, place in places.items()
    )
    aligned = Check(
        "both gradients in $G$'s parameters have the same direction: cosine",
        "1 within 1e-6",
        f"1 - {1 - comparison.cosine:.0e}",
        1 - comparison.cosine <= 1e-6,
    )
    return *ratios, aligned


def _plot_gradients(context: SectionContext, measured: Mapping[float, LossComparison]) -> Block:
    figure = new_figure(10.4, 3.8)
    losses, ratios = figure.subplots(1, 2)
    style_axes(losses, "Losses of G", "nats", x="logit of D(G(z))")
    a = torch.linspace(-12, 4, 200)
    losses_by_label = {
        "log(1 − D)": (minimax_generator_loss, LIGHT.fake, "-"),
        "−log D": (non_saturating_generator_loss, LIGHT.real, "--"),
    }
    for label, (loss, color, style) in losses_by_label.items():
        values = [float(loss(logit)) for logit in a[:, None]]
        losses.plot(a, values, style, color=color, lw=1.8, label=label)
    losses.axvline(math.log(CONFIDENT), color=LIGHT.rule, lw=1, ls=":")
    losses.text(math.log(CONFIDENT), -3.4, " D = 1e-4", color=LIGHT.text, fontsize=9)
    legend(losses)
    style_axes(ratios, "Gradient of −log D relative to log(1 − D)", "ratio", x="D(G(z))")
    d = torch.logspace(-6.3, -0.2, 100)
    ratios.loglog(d, (1 - d) / d, color=LIGHT.rule, lw=1.4, label="(1 − D) / D")
    marks = {
        "probability": ("in D", "o", 9),
        "logit": ("in the logit", "s", 5),
        "generator": ("in G", "x", 9),
    }
    for (name, (label, mark, size)), color in zip(marks.items(), LIGHT.hues, strict=False):
        measured_ratios = [comparison.ratios[name] for comparison in measured.values()]
        ratios.plot(
            PROBABILITIES, measured_ratios, mark, mfc="none", ms=size, color=color, label=label
        )
    ratios.invert_xaxis()
    legend(ratios, columns=1, corner="upper left")
    alt = "log(1 - D) is flat where the logit is low; the ratio of the gradients is (1 - D) / D"
    caption = (
        r"Left: where $D$ rejects the samples, $\log(1 - D)$ is flat and $-\log D$ steep. Right: "
        "the ratio of the two gradient norms, measured and in theory."
    )
    return context.save_image("pull.png", png(figure), alt, caption)


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
    return make_state(stage, run.data, _digits(), seed)


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
    failures: dict[str, tuple[int, int]] = dict.fromkeys(LOSSES, (0, 0))
    predicted_failures = dict.fromkeys(LOSSES, 0)
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
            before = failures[name]
            failures[name] = before[0] + bool(naive), before[1] + (not finite)
            predicted_failures[name] += fails[name]
    low, high = torch.stack(ends).unbind(1)
    return RangeResult(
        init_range, float(low.min()), float(high.max()), failures, predicted_failures
    )


def _logits(state: step.TrainState) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    real = state.loader.batch_at(0).images
    fake = generate(state.players, len(real), state.rng)
    both = state.players["discriminator"](torch.cat((real, fake)), state.rng)
    real_logits, fake_logits = both.chunk(2)
    return real_logits, fake_logits


def _gradient(loss: Tensor, parameters: tuple[Tensor, ...]) -> Float[Tensor, " parameters"]:
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in gradients])


def range_content(context: SectionContext) -> SectionContent:
    """Measure all losses in both forms at all ranges."""
    context.log("sweeping initialization ranges")
    nets, limit = FULL_NETS if context.full else QUICK_NETS, logit_limits()
    swept = [
        measure_init_range(init_range, nets, limit, context.seed * nets) for init_range in RANGES
    ]
    blocks = (
        Text(
            "Losses are computed from logits and not as logarithms of a sigmoid: in float32 a "
            f"sigmoid is 1 above a logit of {limit.high:.1f}, and 0 below {limit.low:.1f} "
            r"(denormal numbers are flushed). Computed naively, $\log(1 - D)$ is then the "
            "logarithm of 0: its derivative is infinite, that of the sigmoid 0, and their product "
            "NaN. One such sample in a batch is enough. The same losses as functions of the logit "
            "are `-softplus(a)` and `softplus(-a)`, which are finite for every logit."
        ),
        _plot_ranges(context, swept, nets, limit),
        Table(
            f"{nets} pairs of networks of preset `digits` for each initialization range, with one "
            "batch of real 8x8 digits and of samples: networks with a NaN in the gradient of a "
            "naive loss; last, networks with a non-finite number in any loss of advnets.",
            ("range", "logits", *(f"${forms.latex}$" for forms in LOSSES.values()), "advnets"),
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
    return SectionContent(blocks, _range_checks(swept, nets))


def format_logit(number: float) -> str:
    """Format a number with three digits, or as a whole number where there are more."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def _range_checks(swept: list[RangeResult], nets: int) -> tuple[Check, ...]:
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


def _plot_ranges(
    context: SectionContext, swept: list[RangeResult], nets: int, limit: LogitLimits
) -> Block:
    figure = new_figure(10.4, 3.8)
    failure_axes, logits = figure.subplots(1, 2)
    ranges = [result.init_range for result in swept]
    style_axes(failure_axes, "Networks with a NaN gradient", "fraction", x="initialization range")
    for (name, style), color in zip(
        zip(LOSSES, ("-", "--", "-."), strict=True), LIGHT.hues, strict=False
    ):
        fractions = [result.failures[name][0] / nets for result in swept]
        failure_axes.semilogx(ranges, fractions, style, color=color, lw=1.8, label=f"naive, {name}")
    stable = [sum(count for _, count in result.failures.values()) / nets for result in swept]
    failure_axes.plot(
        ranges, stable, color=LIGHT.text, lw=1.2, marker=".", label="advnets, all three"
    )
    legend(failure_axes, columns=1, corner="center left")
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
