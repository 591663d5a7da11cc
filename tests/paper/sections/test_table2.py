"""Table 2: what is measured of samples, of chains, and of the way from real images to G."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neural_network import BernoulliRBM
from torch import nn

from advnets import config
from advnets.cli.console import Console
from advnets.data.prepared import open_data
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.games.gan import GAN
from advnets.paper import trainings
from advnets.paper.blocks import SectionContext, Sources
from advnets.paper.sections import table2
from advnets.paper.studies import gibbs_chains
from advnets.paper.studies.gradient_path import game_variants, initial_differences, swap_batch
from advnets.paper.studies.sample_statistics import correlation, gallery, sharpness
from advnets.protocols import Batch
from advnets.rng import RNG


class Asked(SectionContext):
    """A context that says which run was asked for, and trains none."""

    def train_or_load(self, name, run):
        raise LookupError(name, run)


def context(folder, kind=SectionContext, *, full=False):
    return kind(
        folder,
        folder / "runs",
        full,
        1,
        Sources(),
        "somewhere",
        Console(),
        lambda what: None,
    )


@pytest.fixture(scope="module")
def digits():
    return open_data(config.Data())


def test_sharpness_is_the_mean_difference_of_neighbors():
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    ramp = (torch.arange(8) / 8).expand(8, 8)  # 1/8 across, 0 down
    for image, expected in ((board.float(), 1.0), (ramp, 1 / 16), (torch.full((8, 8), 0.3), 0.0)):
        assert sharpness(image.view(1, 1, 8, 8)) == pytest.approx(expected, abs=1e-7)


def test_correlation_is_that_of_an_autoregression():
    """x' = .6 x + .8 e has a correlation of .6, whatever the mean and scale of a pixel."""
    rng = torch.Generator().manual_seed(0)
    x, e = torch.randn(2, 4000, 8, generator=rng)
    scale = torch.tensor([1.0, 2.0, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0])
    assert correlation(x * scale + 5, (0.6 * x + 0.8 * e) * scale) == pytest.approx(0.6, abs=0.03)
    assert correlation(x, x) == pytest.approx(1)
    assert correlation(x, e) == pytest.approx(0, abs=0.03)


def test_a_gallery_holds_rows_of_any_length():
    png = gallery({"one": torch.rand(3, 1, 8, 8), "another": torch.rand(20, 1, 8, 8)})
    assert png.startswith(b"\x89PNG")


def machine(weight):
    """A machine of one hidden unit, which says as strongly as its weight what four pixels are."""
    rbm = BernoulliRBM(1, random_state=0)
    rbm.components_ = np.full((1, 4), weight)
    rbm.intercept_hidden_ = np.array([-2.0 * weight])
    rbm.intercept_visible_ = np.full(4, -weight / 2)
    return rbm


def test_chains_of_a_machine_without_weights_forget_at_once():
    """Its pixels are independent coins; here of probability 1/2, in every image."""
    told = gibbs_chains.run_chains(machine(0.0), (1, 3))
    assert [station.steps for station in told.snapshots] == [1, 3]
    for station in told.snapshots:
        torch.testing.assert_close(station.images, torch.full((gibbs_chains.NUM_CHAINS, 4), 0.5))
    assert told.states.mean() == pytest.approx(0.5, abs=0.05)


def test_chains_of_a_machine_of_two_modes_stay_where_they_are():
    """Hidden on means all pixels are lit, and off none is; a chain changes seldom."""
    told = gibbs_chains.run_chains(machine(8.0), (1, 20))
    assert told.snapshots[0].correlation > 0.9
    assert told.snapshots[0].correlation > told.snapshots[1].correlation
    lit = told.snapshots[1].images > 0.5
    assert torch.equal(lit.all(1), lit.any(1))
    assert told.snapshots[1].seconds > told.snapshots[0].seconds


@pytest.mark.parametrize("play", game_variants())
def test_with_d_frozen_no_real_image_reaches_g(play, digits):
    done = swap_batch(play, game_variants()[play], digits)
    assert done.generator_differs == 0
    assert done.generator_moved > 0.9 * done.generator_size
    assert done.discriminator_differs > 0


class Normed(nn.Module):
    """A discriminator with batch norm."""

    def __init__(self):
        super().__init__()
        self.norm, self.output = nn.BatchNorm1d(4), nn.Linear(4, 1)

    def forward(self, x, rng=None):
        return self.output(torch.relu(self.norm(x.flatten(1)))).squeeze(1)


class Linear(nn.Module):
    """A generator of images of four pixels."""

    latent_dim = 3

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 4)

    def latent(self, n, rng):
        return rng.normal("z", n, 3)

    def forward(self, z, rng=None):
        return self.net(z).view(-1, 1, 2, 2)


@pytest.mark.parametrize(("updates", "same"), [("alternating", True), ("simultaneous", False)])
def test_batch_norm_in_d_lets_them_through_where_one_pass_sees_both(updates, same):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        players = {"generator": Linear(), "discriminator": Normed()}
        batches = torch.rand(2, 10, 1, 2, 2)
    phase = GAN(config.GANGame(updates=updates)).phases()[-1]
    gradients = [
        torch.autograd.grad(
            phase.losses(players, Batch(batch), RNG(0)).losses["generator"],
            players["generator"].net.weight,
        )[0]
        for batch in batches
    ]
    assert torch.equal(*gradients) is same


def test_data_begin_the_output_bias_alone(digits):
    assert list(initial_differences(digits, "marginals")) == ["output.bias"]
    assert initial_differences(digits, 0.0) == {}


@pytest.mark.parametrize(("full", "name"), [(False, "digits-0"), (True, "mnist-0")])
def test_the_run_that_is_scored(tmp_path, full, name):
    with pytest.raises(LookupError) as raised:
        trainings.reference_run(context(tmp_path, Asked, full=full))
    asked, run = raised.value.args
    assert asked == name
    if full:
        assert (run.preset, run.seed, run.stage.epochs) == ("paper-mnist", 0, 100)
        assert (run.stage.ema_half_life, run.intervals.eval_every) == (1_500_000, 5000)
    else:
        assert run.preset == "digits"


def test_the_table_is_whole():
    assert len(table2.PAPER_TABLE.rows) == 5
    assert all(len(row) == len(table2.PAPER_TABLE.header) == 5 for row in table2.PAPER_TABLE.rows)


def test_the_part_is_shown(tiny, tmp_path, monkeypatch, quiet):
    train(tiny, tmp_path / "run", quiet)
    monkeypatch.setattr(table2, "reference_run", lambda _: load(tmp_path / "run"))
    monkeypatch.setattr(table2, "LENGTHS", (1, 20))
    monkeypatch.setattr(
        table2, "game_variants", lambda: {"simultaneous": game_variants()["simultaneous"]}
    )
    shown = table2.build(context(tmp_path / "table2"))
    assert (tmp_path / "table2" / "samples.png").exists()
    measured = next(b for b in shown.blocks if getattr(b, "caption", "").startswith("Sampling"))
    assert [row[0] for row in measured.rows] == [
        "real images",
        "$G$, one forward pass",
        "RBM, every 1 step",
        "RBM, every 20 steps",
        "RBM, binary states",
    ]
    held = {check.claim: check.passed for check in shown.checks}
    assert held["consecutive steps of a chain are correlated"]
    assert held["consecutive samples of $G$ are independent: correlation"]
