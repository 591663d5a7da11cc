"""Tests of the scores of both players, and of their summary."""

from dataclasses import replace

import pytest
from torch import nn

from advnets import config
from advnets.paper.sections.counterfeiter import (
    DIGITS_DATA,
    LINE_DATA,
    BanknoteGame,
    History,
    Score,
    train_and_score,
)
from advnets.paper.sections.counterfeiter import _stage as stage
from advnets.paper.toy import STAGE


class Brightness(nn.Module):
    """A D that classifies a note as real if it is brighter than a threshold."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, x, rng=None):
        return x.flatten(1).mean(1) - self.threshold


@pytest.mark.parametrize(
    ("caught", "seized", "right", "text"),
    [
        (100, 0, 100, "far ahead"),
        (80, 20, 80, "police are ahead"),
        (60, 50, 55, "little better than chance"),
        (96, 95, 50.5, "seize everything"),
        (1, 2, 49.5, "let everything pass"),
        (10, 60, 25, "counterfeiters are ahead"),
    ],
)
def test_summary_follows_the_score(caught, seized, right, text):
    score = Score(0, float(caught), float(seized))
    assert score.accuracy == right
    assert text in score.summary


def test_score_counts_the_decisions_of_d():
    """The expected counts are computed directly, with a D that thresholds brightness."""
    match = BanknoteGame.create(stage(), DIGITS_DATA)
    match.state.players["discriminator"] = Brightness(0.31)
    score = match.score(7)
    assert score.caught == pytest.approx(
        100 * (match.counterfeits().mean((1, 2, 3)) < 0.31).double().mean().item(), abs=1e-4
    )
    assert score.seized == pytest.approx(
        100 * (match.real.mean((1, 2, 3)) < 0.31).double().mean().item(), abs=1e-4
    )
    assert 0 < score.seized < 100


def test_real_notes_are_not_training_images():
    match = BanknoteGame.create(stage(), DIGITS_DATA)
    trained = {
        tuple(row)
        for n in range(24)
        for row in match.state.loader.batch_at(n).images.flatten(1).tolist()
    }
    real = [tuple(row) for row in match.real.flatten(1).tolist()]
    assert len(real) == 300
    assert not trained & set(real)


def test_scores_and_samples_are_taken_at_the_given_iterations():
    history = train_and_score(BanknoteGame.create(stage(), DIGITS_DATA), 7, 3, (0, 5))
    assert [score.iteration for score in history.scores] == [0, 3, 5, 6]
    assert {number: len(notes) for number, notes in history.samples.items()} == {0: 20, 5: 20}


def test_final_score_is_the_mean_of_the_last_ones():
    scores = tuple(Score(n, float(n), 10.0) for n in range(30))
    assert History(scores, {}).final == Score(29, 24.5, 10.0)


def test_seizing_everything_has_chance_accuracy():
    match = BanknoteGame.create(replace(STAGE, game=config.GANGame(k=1)), LINE_DATA)
    match.state.players["discriminator"] = Brightness(1e6)
    assert match.score(0) == Score(0, 100.0, 100.0)
    assert match.score(0).accuracy == 50
