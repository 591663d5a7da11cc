"""D trained to completion in Algorithm 1's inner loop: cost, overfitting, and G's gradient."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
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
    SectionContent,
    SectionContext,
    Table,
    Text,
    escape_markup,
)
from advnets.paper.toy import make_state, train_player
from advnets.plots.style import LIGHT, new_figure, png, reference_line, style_axes
from advnets.protocols import Generator, Images, Latents
from advnets.rng import RNG
from advnets.theory import OPTIMUM
from advnets.training.step import TrainState, train_step

NUM_DIGITS = 1000
"""Number of digits D is trained on, and maximum number of held-out ones."""
BATCH_SIZE = 100
_EVALUATIONS_PER_DECADE = 8
OPTIMAL_G, TRAINED_G = "an optimal G", "a trained G"
LOSSES = {"minimax": "-", "non-saturating": "--"}
"""Generator losses and the line styles of their curves."""


@dataclass(frozen=True)
class Size:
    """Networks and training lengths at one scale."""

    generator: config.MLPGenerator
    hidden_sizes: tuple[int, int]
    iterations: int
    """Iterations of joint training before G is fixed."""
    updates: int
    """Updates of D while G is fixed."""

    @property
    def discriminator(self) -> config.MaxoutDiscriminator:
        """The discriminator of 2014, with dropout."""
        return config.MaxoutDiscriminator(hidden_sizes=self.hidden_sizes, init_range=0.02)

    @property
    def stage(self) -> config.Stage:
        """The networks of 2014, with a lower learning rate for D than for G."""
        return config.Stage(
            generator=self.generator,
            discriminator=self.discriminator,
            generator_optimizer=config.Adam(lr=1e-3),
            discriminator_optimizer=config.Adam(lr=3e-4),
            steps=self.iterations,
        )


QUICK = Size(config.MLPGenerator(latent_dim=32, hidden_sizes=(128, 128)), (64, 64), 200, 300)
FULL = Size(config.MLPGenerator(), (240, 240), 1000, 1500)
INNER_OPTIMIZER = config.Adam(lr=1e-3, beta1=0.9)


@dataclass
class History:
    """D's training against a fixed G: a value per evaluation."""

    updates: list[int] = field(default_factory=list[int])
    values: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Mean D(x) on the training digits (train), on held-out ones (held_out) and on samples
    (fake); V with either set of digits; the norm of G's gradient by loss."""
    seconds: float = 0.0
    """Seconds of the updates, without the evaluations."""

    def final(self, name: str) -> float:
        """Return a value at the last evaluation."""
        return self.values[name][-1]


class ImageGenerator(nn.Module):
    """A generator at its optimum: it returns real images, each for an equal interval of z."""

    latent_dim = 1

    def __init__(self, images: Images) -> None:
        super().__init__()
        self.images = images

    def latent(self, n: int, rng: RNG) -> Latents:
        """Draw n values of z, uniform in [0, 1)."""
        return rng.uniform("z", n, 1)

    def forward(
        self,
        z: Latents,
        rng: RNG | None = None,  # noqa: ARG002 - nothing random inside
    ) -> Images:
        """Return the images of these z."""
        return self.images[(z[:, 0] * len(self.images)).long()]


@dataclass(frozen=True)
class DigitSplits:
    """Normalized digits: D's training set, a held-out set, and the rest."""

    train: ArraySplit
    held_out: Tensor
    rest: Tensor


def split_digits(dataset: Dataset, normalizer: Normalizer) -> DigitSplits:
    """Split digits: the first 1,000, at most 1,000 random others, and the rest."""
    splits = (dataset.train, dataset.valid, dataset.test)
    images = np.concatenate([s.read(slice(None)) for s in splits if isinstance(s, Split)])
    train, remaining = images[:NUM_DIGITS], images[NUM_DIGITS:]
    order = RNG(0).permutation("held out", len(remaining))
    held_out, rest = np.split(remaining[order], [min(NUM_DIGITS, len(remaining) // 2)])
    split = ArraySplit(train, white_level=dataset.train.white_level)
    tensors = [normalizer.to_model(torch.from_numpy(pixels)) for pixels in (held_out, rest)]
    return DigitSplits(split, *tensors)


def build(context: SectionContext) -> SectionContent:
    """Train D to completion on 1,000 digits, against an optimal G and against a trained one."""
    size = FULL if context.full else QUICK
    spec, prepared = _open_digits(context)
    digits = split_digits(prepared.dataset, prepared.normalizer)
    batch_transform = BatchTransform(
        prepared.normalizer, BATCH_SIZE, context.seed, torch.device("cpu")
    )
    no_dropout = replace(size.discriminator, dropout_input=0.0, dropout_hidden=0.0)

    def make_inner_state(discriminator: config.MaxoutDiscriminator) -> TrainState:
        stage = replace(size.stage, discriminator=discriminator)
        state = make_state(stage, spec, prepared, context.seed)
        return replace(state, loader=make_loader(digits.train, batch_transform))

    histories: dict[str, History] = {}
    for name, discriminator in {
        OPTIMAL_G: no_dropout,
        f"{OPTIMAL_G}, dropout": size.discriminator,
    }.items():
        context.log(f"training D to completion against {name}")
        state = make_inner_state(discriminator)
        players = {**state.players, "generator": ImageGenerator(digits.rest)}
        histories[name] = train_to_completion(replace(state, players=players), digits, size.updates)
    context.log(f"training D to completion against {TRAINED_G}")
    state, start = make_inner_state(size.discriminator), time.perf_counter()
    for _ in range(size.iterations):
        train_step(state)
    iteration_seconds = (time.perf_counter() - start) / size.iterations
    histories[TRAINED_G] = trained = train_to_completion(state, digits, size.updates)
    ratio = trained.seconds / iteration_seconds
    blocks = (
        Text(
            "According to the paper, training $D$ to completion before each step of $G$ would be "
            "too expensive, and on finite data it would overfit. Here $G$ is fixed and only $D$'s "
            f"phase runs, for {size.updates:,} updates, on {NUM_DIGITS:,} digits of "
            f"`{escape_markup(spec.source)}`; at most {NUM_DIGITS:,} others are held out. In one "
            "case $G$ is optimal: its samples are other real digits. There $D^* = 1/2$, and no "
            r"$D$ can have a value above $-\log 4$ on new data: a higher value on its training "
            "digits is memorization, which dropout slows down. In the other case $G$ was trained "
            f"for {size.iterations:,} iterations. Its samples differ from all digits: $D$ rates "
            f"held-out digits {trained.final('held_out'):.3f} too; but the gradient "
            "of $G$ vanishes."
        ),
        _curves(context, histories),
        _table(histories),
        Text(
            f"$D$ took {trained.seconds:.1f} s here for one step of $G$; an iteration "
            f"with k = 1 takes {1000 * iteration_seconds:.0f} ms, {ratio:,.0f} times less. And "
            r"$G$ would gain nothing: the gradient of $\log(1 - D(G(z)))$ in a logit is "
            r"$-D(G(z))$, of which almost nothing is left. That of $-\log D(G(z))$, which is "
            "$D(G(z)) - 1$, remains."
        ),
    )
    return SectionContent(blocks, _checks(histories, iteration_seconds))


def train_to_completion(state: TrainState, digits: DigitSplits, updates: int) -> History:
    """Train D alone with a new optimizer, with evaluations spaced ever farther apart."""
    history, evaluation_seconds = History(), 0.0
    train = torch.cat(
        [state.loader.batch_at(n).images for n in range(len(digits.train) // BATCH_SIZE)]
    )
    z = cast(Generator, state.players["generator"]).latent(NUM_DIGITS, state.rng.fold_in("looks"))
    evaluated_updates = {
        0,
        updates,
        *(round(10 ** (n / _EVALUATIONS_PER_DECADE)) for n in range(8 * _EVALUATIONS_PER_DECADE)),
    }

    def record(number: int) -> None:
        nonlocal evaluation_seconds
        if number not in evaluated_updates:
            return
        at = time.perf_counter()
        history.updates.append(number)
        for name, value in measure(state, train, digits.held_out, z).items():
            history.values.setdefault(name, []).append(value)
        evaluation_seconds += time.perf_counter() - at

    record(0)
    start, evaluation_seconds = time.perf_counter(), 0.0
    train_player(state, "discriminator", updates, record, INNER_OPTIMIZER)
    history.seconds = time.perf_counter() - start - evaluation_seconds
    return history


def measure(state: TrainState, train: Tensor, held_out: Tensor, z: Tensor) -> dict[str, float]:
    """Return D's mean outputs, V, and the norms of G's gradients."""
    net, generator = (state.players[name] for name in ("discriminator", "generator"))
    with torch.no_grad():
        train_logits, held_out_logits, fake_logits = net(train), net(held_out), net(generator(z))
        values = {
            "train": torch.sigmoid(train_logits).mean(),
            "held_out": torch.sigmoid(held_out_logits).mean(),
            "fake": torch.sigmoid(fake_logits).mean(),
            "V train": value_function(train_logits, fake_logits),
            "V held_out": value_function(held_out_logits, fake_logits[: len(held_out_logits)]),
        }
    parameters = tuple(generator.parameters())
    for name in LOSSES if parameters else ():
        loss = GENERATOR_LOSSES[name](net(generator(z)))
        values[name] = get_total_norm(torch.autograd.grad(loss, parameters))
    return {name: float(value) for name, value in values.items()}


def _open_digits(context: SectionContext) -> tuple[config.Data, PreparedData]:
    """Return MNIST if it is available, else scikit-learn's digits."""
    data = context.data(config.Data(batch_size=BATCH_SIZE), context.sources.mnist)
    try:
        return data, open_data(data)
    except DataError as error:
        context.log(f"{error}; using scikit-learn's 8x8 digits instead")
        data = config.Data(source="digits", batch_size=BATCH_SIZE)
        return data, open_data(data)


def _curves(context: SectionContext, histories: Mapping[str, History]) -> Block:
    figure = new_figure(10.8, 3.6)
    probability, value, gradient = figure.subplots(1, 3)
    style_axes(probability, "D(x), optimal G", "mean probability of real", x="updates of D alone")
    style_axes(value, "V(D, G), optimal G", "nats", x="updates of D alone")
    reference_line(probability, 0.5, "D*", LIGHT)
    reference_line(value, OPTIMUM, "maximum over D", LIGHT)
    for name, style in ((OPTIMAL_G, "-"), (f"{OPTIMAL_G}, dropout", ":")):
        history = histories[name]
        for name, label, color in (
            ("train", "training digits", LIGHT.real),
            ("held_out", "held-out digits", LIGHT.fake),
        ):
            line_label = label if style == "-" else None
            probability.plot(
                history.updates, history.values[name], style, color=color, lw=1.4, label=line_label
            )
            value.plot(history.updates, history.values[f"V {name}"], style, color=color, lw=1.4)
    style_axes(gradient, "Gradient of G, trained G", "norm", x="updates of D alone")
    for (loss, style), color in zip(LOSSES.items(), (LIGHT.score, LIGHT.fourth), strict=True):
        history = histories[TRAINED_G]
        gradient.plot(history.updates, history.values[loss], style, color=color, lw=1.6, label=loss)
    gradient.set_yscale("log")
    for axes in (probability, value, gradient):
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(left=0)
        axes.legend(frameon=False, fontsize=8, labelcolor=LIGHT.text)
    alt = "D's outputs on training digits and held-out ones diverge; G's gradient falls"
    caption = (
        "Left and middle: the samples of $G$ are other real digits; solid without dropout, dotted "
        "with it. Right: a trained $G$, whose gradient falls as $D$ becomes certain."
    )
    return context.save_image("completion.png", png(figure), alt, caption)


def _table(histories: Mapping[str, History]) -> Table:
    return Table(
        "At completion: mean $D(x)$ on training and on held-out digits, mean $D(G(z))$, $V$ with "
        "either set of digits, and the seconds of the updates.",
        ("against", "training", "held out", "samples", "$V$, training", "$V$, held out", "s"),
        tuple(
            (
                name,
                *(f"{history.final(value):.3f}" for value in ("train", "held_out", "fake")),
                *(f"{history.final(value):.2g}" for value in ("V train", "V held_out")),
                f"{history.seconds:.1f}",
            )
            for name, history in histories.items()
        ),
    )


def _checks(histories: Mapping[str, History], iteration_seconds: float) -> tuple[Check, ...]:
    optimal, trained = histories[OPTIMAL_G], histories[TRAINED_G]
    gap = optimal.final("train") - optimal.final("held_out")
    remaining = {loss: trained.final(loss) / trained.values[loss][0] for loss in LOSSES}
    return (
        Check(
            "against an optimal $G$, $D$ overfits: $D(x)$ on training digits minus $D(x)$ on "
            "held-out ones",
            "at least 0.2",
            f"{optimal.final('train'):.3f} - {optimal.final('held_out'):.3f} = {gap:.3f}",
            gap >= 0.2,
        ),
        Check(
            "$V$ on its training digits is above the maximum on new data, $V$ on held-out ones "
            "below",
            r"above and below $-\log 4$ = -1.386",
            f"{optimal.final('V train'):.3f}, {optimal.final('V held_out'):.3f}",
            optimal.final("V train") > OPTIMUM > optimal.final("V held_out"),
        ),
        Check(
            "against a trained $G$, completion leaves little of the minimax loss's gradient",
            "at most 0.01 of the initial norm",
            f"{remaining['minimax']:.6f} of {trained.values['minimax'][0]:.3f}",
            remaining["minimax"] <= 0.01,
        ),
        Check(
            "the gradient of the non-saturating loss remains",
            "at least 0.5 of the initial norm",
            f"{remaining['non-saturating']:.2f} of {trained.values['non-saturating'][0]:.3f}",
            remaining["non-saturating"] >= 0.5,
        ),
        Check(
            "completion of the inner loop costs as much as many iterations with k = 1",
            "at least 50",
            f"{trained.seconds / iteration_seconds:.0f}",
            trained.seconds / iteration_seconds >= 50,
        ),
    )
