"""Section 1's analogy of counterfeiters and police: both players' success rates during training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from advnets import config, presets
from advnets.data.dataset import Split
from advnets.data.prepared import open_data
from advnets.paper.blocks import Block, Check, SectionContent, SectionContext, Table, Text
from advnets.paper.toy import STAGE, make_state
from advnets.plots.image_grid import grid
from advnets.plots.style import LIGHT, new_figure, png, reference_line, style_axes
from advnets.protocols import Generator
from advnets.training.step import TrainState, train_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIGITS_DATA = config.Data(source="digits", batch_size=50)
LINE_DATA = config.Data(source="gaussian:mean=2,n=100000", normalize="none", batch_size=500)
NUM_NOTES = 1000
"""Number of counterfeits in a score, and the maximum number of held-out real notes."""
NUM_SHOWN = 20
"""Number of counterfeits shown as images."""
NUM_FINAL = 10
"""Number of last scores whose mean is the final score; a single score varies."""
LEAD = 10
"""Margin over chance, in notes of 100, from which the police count as ahead."""


@dataclass(frozen=True)
class Score:
    """D's decisions on 100 counterfeits and on 100 real notes at one moment."""

    iteration: int
    caught: float
    """Counterfeits, of 100, classified as counterfeit."""
    seized: float
    """Real notes, of 100, classified as counterfeit."""

    @property
    def accuracy(self) -> float:
        """Correct decisions of 100 if half of the notes are real; chance gets 50."""
        return (self.caught + 100 - self.seized) / 2

    @property
    def summary(self) -> str:
        """A sentence that says which player is ahead."""
        lead = self.accuracy - 50
        if lead >= 40:
            return "Hardly any counterfeit passes: the police are far ahead."
        if lead >= LEAD:
            return "The police are ahead, but no longer certain."
        if lead > -LEAD:
            if self.caught >= 90 and self.seized >= 90:
                return "The police seize everything, real notes too: no better than chance."
            if self.caught <= 10 and self.seized <= 10:
                return "The police let everything pass: no better than chance."
            return "The police do little better than chance."
        return "The counterfeiters are ahead: the police do worse than chance."


@dataclass(frozen=True)
class BanknoteGame:
    """A game, the latents of the counterfeits, and real notes that D never trains on."""

    state: TrainState
    z: Tensor
    real: Tensor

    @classmethod
    def create(cls, stage: config.Stage, data: config.Data, seed: int = 0) -> BanknoteGame:
        """Return the game on a dataset; the real notes are of its validation split."""
        prepared = open_data(data)
        state = make_state(stage, data, prepared, seed)
        z = cast(Generator, state.players["generator"]).latent(
            NUM_NOTES, state.rng.fold_in("looks")
        )
        real = cast(Split, prepared.dataset.valid).read(slice(NUM_NOTES))
        return cls(state, z, prepared.normalizer.to_model(torch.from_numpy(real)))

    def counterfeits(self) -> Tensor:
        """Return the current G(z) for the fixed latents."""
        with torch.no_grad():
            return self.state.players["generator"](self.z)

    def score(self, iteration: int) -> Score:
        """Score D, which classifies a note as real where D > 1/2."""
        net = self.state.players["discriminator"]
        with torch.no_grad():
            notes = self.counterfeits(), self.real
            caught, seized = (100 * float((net(x) < 0).float().mean()) for x in notes)
        return Score(iteration, caught, seized)


@dataclass(frozen=True)
class History:
    """The scores and images of one training."""

    scores: tuple[Score, ...]
    samples: dict[int, Tensor]
    """The first counterfeits, by iteration."""

    @property
    def final(self) -> Score:
        """Mean of the last scores."""
        last = self.scores[-NUM_FINAL:]
        caught, seized = (
            float(np.mean([getattr(s, name) for s in last])) for name in _SCORE_FIELDS
        )
        return Score(last[-1].iteration, caught, seized)


_SCORE_FIELDS = ("caught", "seized")


def train_and_score(
    game: BanknoteGame, iterations: int, every: int, shown_at: tuple[int, ...]
) -> History:
    """Train, and score every `every` iterations and at each iteration of `shown_at`."""
    scores: list[Score] = []
    samples: dict[int, Tensor] = {}
    for number in range(iterations + 1):
        if number:
            train_step(game.state)
        if number % every == 0 or number in shown_at:
            scores.append(game.score(number))
        if number in shown_at:
            samples[number] = game.counterfeits()[:NUM_SHOWN]
    return History(tuple(scores), samples)


def build(context: SectionContext) -> SectionContent:
    """Build the section: one training on digits, and one on one-dimensional data."""
    iterations = 12_000 if context.full else 3000
    shown_at = (0, 20, 100, 500, 1000, iterations)
    context.log("the counterfeiter analogy, on digits")
    digits = train_and_score(
        BanknoteGame.create(_stage(), DIGITS_DATA, context.seed), iterations, 25, shown_at
    )
    context.log("the counterfeiter analogy, on one-dimensional data")
    game = replace(STAGE, game=config.GANGame(k=1))
    line = train_and_score(BanknoteGame.create(game, LINE_DATA, context.seed), 400, 10, ())
    best = max(digits.scores, key=lambda score: score.accuracy)
    return SectionContent(
        blocks=(
            Text(
                "A team of counterfeiters ($G$) prints banknotes, and the police ($D$) learn to "
                "distinguish them from real ones. The counterfeiters never see a real note: they "
                "learn only from how the police classify theirs. Here the notes are handwritten "
                f"digits. The scores are of {NUM_NOTES:,} counterfeits and of held-out real notes, "
                "as numbers of 100."
            ),
            _table(digits),
            _images(context, digits),
            _curves(context, digits, line),
            Text(
                f"On digits the police classified up to {best.accuracy:.0f} of 100 notes "
                f"correctly, after {best.iteration:,} iterations; the mean of the last {NUM_FINAL} "
                f"scores is {digits.final.accuracy:.0f}. {digits.final.summary} On one-dimensional "
                "notes, as in Figure 1, the counterfeits reach the distribution of the real "
                f"notes: {line.final.accuracy:.0f} of 100, which is chance."
            ),
        ),
        checks=(
            Check(
                "digits: the police are far ahead early: maximum accuracy",
                "at least 90 of 100",
                f"{best.accuracy:.0f}, after {best.iteration:,} iterations",
                best.accuracy >= 90,
            ),
            Check(
                "digits: half of that lead is lost at the end: mean accuracy of the last "
                f"{NUM_FINAL} scores",
                f"at most {50 + (best.accuracy - 50) / 2:.0f} of 100",
                f"{digits.final.accuracy:.1f}",
                digits.final.accuracy - 50 <= (best.accuracy - 50) / 2,
            ),
            Check(
                "line: the police were ahead: maximum accuracy",
                "at least 75 of 100",
                f"{max(score.accuracy for score in line.scores):.1f}",
                max(score.accuracy for score in line.scores) >= 75,
            ),
            Check(
                "line: the police are at chance at the end: mean accuracy of the last scores",
                "50 ± 3 of 100",
                f"{line.final.accuracy:.1f}",
                abs(line.final.accuracy - 50) <= 3,
            ),
        ),
    )


def _stage() -> config.Stage:
    """Return the stage of preset `digits` with a smaller D and a higher learning rate of G."""
    stage = presets.get_preset("digits").stage
    assert isinstance(stage.generator, config.MLPGenerator)
    assert isinstance(stage.discriminator, config.MaxoutDiscriminator)
    return replace(
        stage,
        generator=replace(stage.generator, hidden_sizes=(256, 256)),
        discriminator=replace(stage.discriminator, hidden_sizes=(64, 64)),
        generator_optimizer=config.Adam(lr=2e-3),
    )


def _table(history: History) -> Table:
    return Table(
        "Counterfeits caught and real notes seized, of 100 each. In an iteration the police learn "
        "once, then the counterfeiters.",
        ("iteration", "caught", "seized", "summary"),
        tuple(
            (f"{score.iteration:,}", f"{score.caught:.0f}", f"{score.seized:.0f}", score.summary)
            for score in history.scores
            if score.iteration in history.samples
        ),
    )


def _images(context: SectionContext, history: History) -> Block:
    figure = new_figure(8.4, 0.95 * len(history.samples))
    panels = figure.subplots(len(history.samples), 1, squeeze=False).flatten()
    by_iteration = {score.iteration: score for score in history.scores}
    for axes, (number, notes) in zip(panels, history.samples.items(), strict=True):
        axes.imshow(grid(notes, columns=NUM_SHOWN, scale=6), cmap="gray", vmin=0, vmax=255)
        axes.axis("off")
        title = f"{number:,} iterations: {by_iteration[number].caught:.0f} of 100 caught"
        axes.set_title(title, loc="left", color=LIGHT.text, fontsize=9.5)
    alt = "Counterfeit digits at six iterations, from gray blurs to digits"
    caption = (
        f"The first {NUM_SHOWN} counterfeits at each of these iterations, for the same "
        "values of $z$."
    )
    return context.save_image("notes.png", png(figure), alt, caption)


def _curves(context: SectionContext, digits: History, line: History) -> Block:
    figure = new_figure(9.6, 3.4)
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, digits, "Digits", "of 100")
    _draw(right, line, "One-dimensional data", "")
    curves, names = left.get_legend_handles_labels()
    figure.legend(
        curves, names, loc="outside upper right", ncols=4, frameon=False, labelcolor=LIGHT.text
    )
    alt = (
        "Counterfeits caught and real notes seized over the iterations, on digits and on "
        "one-dimensional data"
    )
    caption = "Decisions of the police at every score, of 100; chance is 50."
    return context.save_image("score.png", png(figure), alt, caption)


def _draw(axes: Axes, history: History, title: str, unit: str) -> None:
    style_axes(axes, title, unit, x="iterations")
    reference_line(axes, 50.0, "chance")
    x = [score.iteration for score in history.scores]
    for values, label, color, width in (
        ([score.caught for score in history.scores], "counterfeits caught", LIGHT.fake, 0.9),
        ([score.seized for score in history.scores], "real notes seized", LIGHT.real, 0.9),
        ([score.accuracy for score in history.scores], "correct", LIGHT.text, 1.9),
    ):
        axes.plot(x, values, color=color, lw=width, label=label)
    axes.set_ylim(-3, 103)
