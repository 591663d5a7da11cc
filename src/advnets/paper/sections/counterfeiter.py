"""The counterfeiter: the two players' score over time, in plain words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from advnets import config, presets
from advnets.data.dataset import Split
from advnets.data.prepared import open_data
from advnets.paper.blocks import Check, FigureBlock, SectionContent, SectionContext, Table, Text
from advnets.plots.image_grid import grid
from advnets.plots.style import LIGHT, new_figure, png, reference_line, style_axes
from advnets.protocols import Generator
from advnets.toy.line_game import NETS
from advnets.toy.stepping import make_state
from advnets.training.step import TrainState as Board
from advnets.training.step import train_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIGITS = config.Data(source="digits", batch_size=50)
LINE = config.Data(source="gaussian:mean=2,n=100000", normalize="none", batch_size=500)
NOTES = 1000
"""Counterfeits that the police are shown, and at most as many real notes that they never saw."""
PRINTED = 20
"""Of them, shown as images."""
LAST = 10
"""Looks at the end, whose mean is the final score: a single look strays."""
AHEAD = 10
"""Notes of 100 by which the police must do better than a coin to be called ahead."""


@dataclass(frozen=True)
class Score:
    """What the police make of 100 counterfeits and of 100 real notes at one moment."""

    round: int
    caught: float
    """Counterfeits of 100 that they take for what they are."""
    seized: float
    """Real notes of 100 that they take for counterfeits."""

    @property
    def right(self) -> float:
        """Of 100 notes, half of them real, those that they judge rightly; a coin gets 50."""
        return (self.caught + 100 - self.seized) / 2

    @property
    def verdict(self) -> str:
        """Who is ahead, in a sentence."""
        lead = self.right - 50
        if lead >= 40:
            return "Hardly a counterfeit passes: the police are far ahead."
        if lead >= AHEAD:
            return "The police are ahead, but no longer sure of themselves."
        if lead > -AHEAD:
            if self.caught >= 90 and self.seized >= 90:
                return "The police seize everything, real notes too: no better than a coin."
            if self.caught <= 10 and self.seized <= 10:
                return "The police let everything pass: no better than a coin."
            return "The police do little better than a coin that is tossed for each note."
        return "The counterfeiters are ahead: a coin would serve the police better."


@dataclass(frozen=True)
class Match:
    """A game, the counterfeiters' z, and real notes that the police never train on."""

    table: Board
    z: Tensor
    real: Tensor

    @classmethod
    def laid(cls, stage: config.Stage, data: config.Data, seed: int = 0) -> Match:
        """Lay the table; the real notes are those of the validation split."""
        opened = open_data(data)
        state = make_state(stage, data, opened, seed)
        z = cast(Generator, state.players["generator"]).latent(NOTES, state.rng.fold_in("looks"))
        real = cast(Split, opened.dataset.valid).read(slice(NOTES))
        return cls(state, z, opened.normalizer.to_model(torch.from_numpy(real)))

    def notes(self) -> Tensor:
        """Counterfeits as they are printed now, of the same z at every look."""
        with torch.no_grad():
            return self.table.players["generator"](self.z)

    def score(self, number: int) -> Score:
        """Let the police judge: a note is real to them if D of it is over 1/2."""
        net = self.table.players["discriminator"]
        with torch.no_grad():
            caught, seized = (100 * float((net(x) < 0).float().mean()) for x in self._shown())
        return Score(number, caught, seized)

    def _shown(self) -> tuple[Tensor, Tensor]:
        return self.notes(), self.real


@dataclass(frozen=True)
class History:
    """A match from beginning to end."""

    scores: tuple[Score, ...]
    printed: dict[int, Tensor]
    """The first counterfeits, by round."""

    @property
    def end(self) -> Score:
        """Mean of the last looks."""
        last = self.scores[-LAST:]
        caught, seized = (float(np.mean([getattr(s, what) for s in last])) for what in _COUNTS)
        return Score(last[-1].round, caught, seized)


_COUNTS = ("caught", "seized")


def tale(match: Match, rounds: int, every: int, moments: tuple[int, ...]) -> History:
    """Play, and look every so many rounds and at every moment that is told of."""
    scores: list[Score] = []
    printed: dict[int, Tensor] = {}
    for number in range(rounds + 1):
        if number:
            train_step(match.table)
        if number % every == 0 or number in moments:
            scores.append(match.score(number))
        if number in moments:
            printed[number] = match.notes()[:PRINTED]
    return History(tuple(scores), printed)


def show(context: SectionContext) -> SectionContent:
    """The tale on digits, and its end on the line, where the counterfeiters can win."""
    rounds = 12_000 if context.full else 3000
    moments = (0, 20, 100, 500, 1000, rounds)
    context.tell("the counterfeiter, on digits")
    digits = tale(Match.laid(_stage(), DIGITS, context.seed), rounds, 25, moments)
    context.tell("the counterfeiter, on the line")
    game = replace(NETS, game=config.GANGame(k=1))
    line = tale(Match.laid(game, LINE, context.seed), 400, 10, ())
    best = max(digits.scores, key=lambda score: score.right)
    return SectionContent(
        blocks=(
            Text(
                "A team of counterfeiters ($G$) prints banknotes, and the police ($D$) learn to "
                "tell them from real ones. The counterfeiters never see a real note: they learn "
                "only from how the police judge theirs. Here the notes are handwritten digits. At "
                f"some moments {NOTES:,} counterfeits are shown to the police, and as many real "
                "notes as were kept from them; the numbers are of 100."
            ),
            _table(digits),
            _images(context, digits),
            _curves(context, digits, line),
            Text(
                f"On digits the police were right about {best.right:.0f} of 100 notes at their "
                f"best, after {best.round:,} rounds; over the last {LAST} looks it was "
                f"{digits.end.right:.0f}. {digits.end.verdict} With notes that are one number, as "
                f"in Figure 1, the counterfeits become the real thing: {line.end.right:.0f} of "
                "100, and a coin would do as well."
            ),
        ),
        checks=(
            Check(
                "digits: the police are soon far ahead",
                "right about 90 of 100 notes or more",
                f"{best.right:.0f}, after {best.round:,} rounds",
                best.right >= 90,
            ),
            Check(
                f"digits: at the end, mean of the last {LAST} looks, half of that lead is gone",
                f"right about {50 + (best.right - 50) / 2:.0f} of 100 or fewer",
                f"{digits.end.right:.1f}",
                digits.end.right - 50 <= (best.right - 50) / 2,
            ),
            Check(
                "line: the police were ahead once",
                "right about 75 of 100 or more",
                f"{max(score.right for score in line.scores):.1f}",
                max(score.right for score in line.scores) >= 75,
            ),
            Check(
                "line: at the end they do as well as a coin",
                "50 of 100 within 3",
                f"{line.end.right:.1f}",
                abs(line.end.right - 50) <= 3,
            ),
        ),
    )


def _stage() -> config.Stage:
    """The digits preset with a smaller D, and a G that learns faster, to catch up."""
    stage = presets.get_preset("digits").stage
    assert isinstance(stage.generator, config.MLPGenerator)
    assert isinstance(stage.discriminator, config.MaxoutDiscriminator)
    return replace(
        stage,
        generator=replace(stage.generator, hidden_sizes=(256, 256)),
        discriminator=replace(stage.discriminator, hidden_sizes=(64, 64)),
        generator_optimizer=config.Adam(lr=2e-3),
    )


def _table(told: History) -> Table:
    return Table(
        "Counterfeits caught of 100, and real notes seized of 100. In a round the police learn "
        "once, then the counterfeiters.",
        ("rounds", "caught", "seized", "how it stands"),
        tuple(
            (
                f"{score.round:,}",
                f"{score.caught:.0f}",
                f"{score.seized:.0f}",
                score.verdict,
            )
            for score in told.scores
            if score.round in told.printed
        ),
    )


def _images(context: SectionContext, told: History) -> FigureBlock:
    figure = new_figure(8.4, 0.95 * len(told.printed))
    places = figure.subplots(len(told.printed), 1, squeeze=False).flatten()
    by_round = {score.round: score for score in told.scores}
    for axes, (number, notes) in zip(places, told.printed.items(), strict=True):
        axes.imshow(grid(notes, columns=PRINTED, scale=6), cmap="gray", vmin=0, vmax=255)
        axes.axis("off")
        title = f"{number:,} rounds: {by_round[number].caught:.0f} of 100 caught"
        axes.set_title(title, loc="left", color=LIGHT.text, fontsize=9.5)
    alt = "Counterfeit digits at six moments, from gray blurs to digits"
    caption = f"The first {PRINTED} counterfeits at each moment, of the same values of $z$."
    return context.image("notes.png", png(figure), alt, caption)


def _curves(context: SectionContext, digits: History, line: History) -> FigureBlock:
    figure = new_figure(9.6, 3.4)
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, digits, "Digits", "of 100")
    _draw(right, line, "Numbers, as in Figure 1", "")
    curves, names = left.get_legend_handles_labels()
    figure.legend(
        curves, names, loc="outside upper right", ncols=4, frameon=False, labelcolor=LIGHT.text
    )
    alt = "Counterfeits caught and real notes seized over the rounds, on digits and on the line"
    caption = "Whether the police judge rightly, at every look; 50 of 100 is what a coin gets."
    return context.image("score.png", png(figure), alt, caption)


def _draw(axes: Axes, told: History, title: str, unit: str) -> None:
    style_axes(axes, title, unit, x="rounds")
    reference_line(axes, 50.0, "a coin")
    x = [score.round for score in told.scores]
    for values, label, color, width in (
        ([score.caught for score in told.scores], "counterfeits caught", LIGHT.fake, 0.9),
        ([score.seized for score in told.scores], "real ones seized", LIGHT.real, 0.9),
        ([score.right for score in told.scores], "judged rightly", LIGHT.text, 1.9),
    ):
        axes.plot(x, values, color=color, lw=width, label=label)
    axes.set_ylim(-3, 103)
