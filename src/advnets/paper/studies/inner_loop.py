"""Why Algorithm 1 does not train D to completion: cost, overfitting, and G's gradient."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from advnets import config
from advnets.data.dataset import ArraySplit, Dataset, Split
from advnets.data.loader import BatchTransform, make_loader
from advnets.data.normalization import Normalizer
from advnets.data.prepared import PreparedData, open_data
from advnets.errors import DataError
from advnets.losses import GENERATOR_LOSSES, value_function
from advnets.paper.blocks import (
    Block,
    Check,
    FigureBlock,
    SectionContent,
    SectionContext,
    Table,
    Text,
    literal,
)
from advnets.plots.style import LIGHT, new_figure, png, reference_line, style_axes
from advnets.protocols import Generator
from advnets.rng import RNG
from advnets.theory import OPTIMUM
from advnets.toy.stepping import make_state, train_player
from advnets.training.step import TrainState as Board
from advnets.training.step import train_step

DIGITS = 1000
"""That D is trained on; as many at most are held out."""
BATCH = 100
_LOOKS_A_DECADE = 8
GOAL, WAY = "a G at its goal", "a G on its way"
LOSSES = {"minimax": "-", "non-saturating": "--"}
"""G's losses, and how their curves are drawn."""


@dataclass(frozen=True)
class Size:
    """Nets and trainings at one scale."""

    generator: config.MLPGenerator
    units: tuple[int, int]
    rounds: int
    """Of play before G stands still."""
    updates: int
    """Of D, while G stands still."""

    @property
    def discriminator(self) -> config.MaxoutDiscriminator:
        """The 2014 one, with dropout."""
        return config.MaxoutDiscriminator(hidden_sizes=self.units, init_range=0.02)

    @property
    def stage(self) -> config.Stage:
        """The 2014 pair, its D slower than its G, so that their play goes on."""
        return config.Stage(
            generator=self.generator,
            discriminator=self.discriminator,
            generator_optimizer=config.Adam(lr=1e-3),
            discriminator_optimizer=config.Adam(lr=3e-4),
            steps=self.rounds,
        )


QUICK = Size(config.MLPGenerator(latent_dim=32, hidden_sizes=(128, 128)), (64, 64), 200, 300)
FULL = Size(config.MLPGenerator(), (240, 240), 1000, 1500)
TO_COMPLETION = config.Adam(lr=1e-3, beta1=0.9)


@dataclass
class History:
    """D's training against a G that stands still, as it was looked at: a value each look."""

    updates: list[int] = field(default_factory=list[int])
    told: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Mean D(x) of the digits it is trained on (seen), of others (held) and of G's (fake); V with
    either; the norm of G's gradient by loss."""
    seconds: float = 0.0
    """That the updates took, without the looks."""

    def end(self, name: str) -> float:
        """A value at the last look."""
        return self.told[name][-1]


class Resampled(nn.Module):
    """A generator at its goal: its samples are real images, one for each stretch of z."""

    latent_dim = 1

    def __init__(self, images: Float[Tensor, "n channels height width"]) -> None:
        super().__init__()
        self.images = images

    def latent(self, n: int, rng: RNG) -> Float[Tensor, "batch latent"]:
        """Draw n values of z, uniform in [0, 1)."""
        return rng.uniform("z", n, 1)

    def forward(
        self,
        z: Float[Tensor, "batch latent"],
        rng: RNG | None = None,  # noqa: ARG002 - there is none within
    ) -> Float[Tensor, "batch channels height width"]:
        """The images that these z stand for."""
        return self.images[(z[:, 0] * len(self.images)).long()]


@dataclass(frozen=True)
class Shares:
    """Digits in the nets' range: what D is trained on, what it never sees, and the rest."""

    seen: ArraySplit
    held: Tensor
    rest: Tensor


def shares(splits: Dataset, scaling: Normalizer) -> Shares:
    """The first 1,000 training digits; of all others, mixed, at most 1,000 held out; the rest."""
    parts = [part for part in (splits.train, splits.valid, splits.test) if isinstance(part, Split)]
    images = np.concatenate([part.read(slice(None)) for part in parts])
    seen, others = images[:DIGITS], images[DIGITS:]
    order = RNG(0).permutation("held out", len(others))
    held, rest = np.split(others[order], [min(DIGITS, len(others) // 2)])
    split = ArraySplit(seen, white_level=splits.train.white_level)
    tensors = [scaling.to_model(torch.from_numpy(some)) for some in (held, rest)]
    return Shares(split, *tensors)


def show(context: SectionContext) -> SectionContent:
    """D to completion on 1,000 digits, against a G at its goal and against one on its way."""
    size = FULL if context.full else QUICK
    spec, opened = _opened(context)
    digits = shares(opened.dataset, opened.normalizer)
    feed = BatchTransform(opened.normalizer, BATCH, context.seed, torch.device("cpu"))
    bare = replace(size.discriminator, dropout_input=0.0, dropout_hidden=0.0)

    def table(discriminator: config.MaxoutDiscriminator) -> Board:
        stage = replace(size.stage, discriminator=discriminator)
        laid = make_state(stage, spec, opened, context.seed)
        return replace(laid, loader=make_loader(digits.seen, feed))

    inner: dict[str, History] = {}
    for name, discriminator in {GOAL: bare, f"{GOAL}, dropout": size.discriminator}.items():
        context.tell(f"D to completion against {name}")
        laid = table(discriminator)
        players = {**laid.players, "generator": Resampled(digits.rest)}
        inner[name] = completed(replace(laid, players=players), digits, size.updates)
    context.tell(f"D to completion against {WAY}")
    laid, began = table(size.discriminator), time.perf_counter()
    for _ in range(size.rounds):
        train_step(laid)
    a_round = (time.perf_counter() - began) / size.rounds
    inner[WAY] = completed(laid, digits, size.updates)
    return SectionContent(_blocks(context, size, spec, inner, a_round), _checks(inner, a_round))


def completed(state: Board, digits: Shares, updates: int) -> History:
    """Train D alone, with a fresh optimizer, and look at it ever less often."""
    inner, looking = History(), 0.0
    seen = torch.cat([state.loader.batch_at(n).images for n in range(len(digits.seen) // BATCH)])
    z = cast(Generator, state.players["generator"]).latent(DIGITS, state.rng.fold_in("looks"))
    looks = {0, updates, *(round(10 ** (n / _LOOKS_A_DECADE)) for n in range(8 * _LOOKS_A_DECADE))}

    def look(number: int) -> None:
        nonlocal looking
        if number not in looks:
            return
        at = time.perf_counter()
        inner.updates.append(number)
        for name, value in told(state, seen, digits.held, z).items():
            inner.told.setdefault(name, []).append(value)
        looking += time.perf_counter() - at

    look(0)
    began, looking = time.perf_counter(), 0.0
    train_player(state, "discriminator", updates, look, TO_COMPLETION)
    inner.seconds = time.perf_counter() - began - looking
    return inner


def told(state: Board, seen: Tensor, held: Tensor, z: Tensor) -> dict[str, float]:
    """What D says of digits that it was trained on, of others and of samples; G's gradients."""
    net, generator = (state.players[name] for name in ("discriminator", "generator"))
    with torch.no_grad():
        real, other, fake = net(seen), net(held), net(generator(z))
        found = {
            "seen": torch.sigmoid(real).mean(),
            "held": torch.sigmoid(other).mean(),
            "fake": torch.sigmoid(fake).mean(),
            "V seen": value_function(real, fake),
            "V held": value_function(other, fake[: len(other)]),
        }
    parameters = tuple(generator.parameters())
    for name in LOSSES if parameters else ():
        loss = GENERATOR_LOSSES[name](net(generator(z)))
        found[name] = get_total_norm(torch.autograd.grad(loss, parameters))
    return {name: float(value) for name, value in found.items()}


def _opened(context: SectionContext) -> tuple[config.Data, PreparedData]:
    """MNIST where it is at hand, else the digits that come with scikit-learn."""
    data = context.data(config.Data(batch_size=BATCH), context.sources.mnist)
    try:
        return data, open_data(data)
    except DataError as error:
        context.tell(f"{error}; scikit-learn's 8x8 digits serve instead")
        data = config.Data(source="digits", batch_size=BATCH)
        return data, open_data(data)


def _blocks(
    context: SectionContext,
    size: Size,
    data: config.Data,
    inner: Mapping[str, History],
    a_round: float,
) -> tuple[Block, ...]:
    updates = inner[WAY].seconds / a_round
    return (
        Text(
            "To train $D$ to completion before each step of $G$ would be prohibitive, the paper "
            "says, and on finite data would overfit. Here $G$ stands still, and $D$'s phase alone "
            f"is played, {size.updates:,} updates, on {DIGITS:,} digits of "
            f"`{literal(data.source)}`; {DIGITS:,} others at most are held out. In one case $G$ "
            r"has reached its goal: its samples are digits too, others. There $D^* = 1/2$, and no "
            r"$D$ can have a value above "
            r"$-\log 4$: what it has more on its own digits it knows by heart; dropout slows it. "
            f"In the other $G$ has played {size.rounds:,} rounds. It can be told apart by what "
            f"holds for all digits, to held-out ones $D$ says {inner[WAY].end('held'):.3f} too; "
            "what dies there is the gradient of $G$."
        ),
        _curves(context, inner),
        _table(inner),
        Text(
            f"$D$ took {inner[WAY].seconds:.1f} s here for one step of $G$; a round of k = 1 takes "
            f"{a_round * 1000:.0f} ms, {updates:,.0f} times less. And $G$ would have gained "
            "nothing: of $\\log(1 - D(G(z)))$ hardly any gradient is left, as it is $-D(G(z))$ in "
            "a logit. That of $-\\log D(G(z))$, which is $D(G(z)) - 1$, remains."
        ),
    )


def _curves(context: SectionContext, inner: Mapping[str, History]) -> FigureBlock:
    figure = new_figure(10.8, 3.6)
    verdict, value, gradient = figure.subplots(1, 3)
    style_axes(verdict, "D(x), G at its goal", "mean probability of real", x="updates of D alone")
    style_axes(value, "V(D, G), G at its goal", "nats", x="updates of D alone")
    reference_line(verdict, 0.5, "D*", LIGHT)
    reference_line(value, OPTIMUM, "most that any D can", LIGHT)
    for name, style in ((GOAL, "-"), (f"{GOAL}, dropout", ":")):
        one = inner[name]
        for whose, label, color in (
            ("seen", "its 1,000 digits", LIGHT.real),
            ("held", "held-out digits", LIGHT.fake),
        ):
            known = label if style == "-" else None
            verdict.plot(one.updates, one.told[whose], style, color=color, lw=1.4, label=known)
            value.plot(one.updates, one.told[f"V {whose}"], style, color=color, lw=1.4)
    style_axes(gradient, "Gradient that G is left with", "norm", x="updates of D alone")
    for (loss, look), color in zip(LOSSES.items(), (LIGHT.score, LIGHT.fourth), strict=True):
        one = inner[WAY]
        gradient.plot(one.updates, one.told[loss], look, color=color, lw=1.6, label=loss)
    gradient.set_yscale("log")
    for axes in (verdict, value, gradient):
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=0)
        axes.legend(frameon=False, fontsize=8, labelcolor=LIGHT.text)
    alt = "D's verdict on its own digits parts from that on held-out ones; G's gradient falls"
    caption = (
        "Left and middle: $G$'s samples are other real digits; solid without dropout, dotted with "
        "it. Right: a $G$ on its way; what is left of its gradient as $D$ gets sure."
    )
    return context.image("completion.png", png(figure), alt, caption)


def _table(inner: Mapping[str, History]) -> Table:
    return Table(
        "At completion: the mean $D(x)$ of its own digits and of held-out ones, $D(G(z))$, $V$ "
        "with either, and the seconds of the updates.",
        ("against", "own", "held out", "samples", "$V$, own", "$V$, held out", "s"),
        tuple(
            (
                name,
                *(f"{one.end(what):.3f}" for what in ("seen", "held", "fake")),
                *(f"{one.end(what):.2g}" for what in ("V seen", "V held")),
                f"{one.seconds:.1f}",
            )
            for name, one in inner.items()
        ),
    )


def _checks(inner: Mapping[str, History], a_round: float) -> tuple[Check, ...]:
    goal, way = inner[GOAL], inner[WAY]
    gap = goal.end("seen") - goal.end("held")
    left = {loss: way.end(loss) / way.told[loss][0] for loss in LOSSES}
    return (
        Check(
            "completed against a $G$ at its goal, $D$ overfits: $D(x)$ of its own digits above "
            "that of held-out ones",
            "by .2 or more",
            f"{goal.end('seen'):.3f}, {goal.end('held'):.3f}: {gap:.3f}",
            gap >= 0.2,
        ),
        Check(
            "its $V$ on its own digits is more than any $D$ can have, on held-out ones less",
            r"above and below $-\log 4$ = -1.386",
            f"{goal.end('V seen'):.3f}, {goal.end('V held'):.3f}",
            goal.end("V seen") > OPTIMUM > goal.end("V held"),
        ),
        Check(
            "completed against a $G$ on its way, $D$ leaves little of its minimax gradient",
            "a hundredth or less",
            f"{left['minimax']:.6f} of {way.told['minimax'][0]:.3f}",
            left["minimax"] <= 0.01,
        ),
        Check(
            "… and not so of the non-saturating one",
            "a half or more",
            f"{left['non-saturating']:.2f} of {way.told['non-saturating'][0]:.3f}",
            left["non-saturating"] >= 0.5,
        ),
        Check(
            "the inner loop's completion costs as much as many rounds of k = 1",
            "50 or more",
            f"{way.seconds / a_round:.0f}",
            way.seconds / a_round >= 50,
        ),
    )
