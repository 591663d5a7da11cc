"""Tests of sample statistics, of Gibbs chains, and of how real images reach G."""

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
from advnets.paper.sections.table2 import game_variants, initial_differences, swap_batch
from advnets.paper.studies.sample_statistics import correlation, gallery, sharpness
from advnets.protocols import Batch
from advnets.rng import RNG


class RecordingContext(SectionContext):
    """A context that says which run was name_ for, and trains none."""

    def train_or_load(self, name, run):
        raise LookupError(name, run)


def context(folder, kind=SectionContext, *, full=False):
    return kind(
        folder, folder / "runs", full, 1, Sources(), "somewhere", Console(), lambda message: None
    )


@pytest.fixture(scope="module")
def digits():
    return open_data(config.Data())


def test_sharpness_is_the_mean_difference_of_neighbors():
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2
    ramp = (torch.arange(8) / 8).expand(8, 8)  # 1/8 across, 0 down
    for image, expected in ((board.float(), 1.0), (ramp, 1 / 16), (torch.full((8, 8), 0.3), 0.0)):
        assert sharpness(image.view(1, 1, 8, 8)) == pytest.approx(expected, abs=1e-7)


def test_correlation_of_an_autoregression():
    """x' = 0.6 x + 0.8 e has a correlation of 0.6, for any mean and scale of a pixel."""
    rng = torch.Generator().manual_seed(0)
    x, e = torch.randn(2, 4000, 8, generator=rng)
    scale = torch.tensor([1.0, 2.0, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0])
    assert correlation(x * scale + 5, (0.6 * x + 0.8 * e) * scale) == pytest.approx(0.6, abs=0.03)
    assert correlation(x, x) == pytest.approx(1)
    assert correlation(x, e) == pytest.approx(0, abs=0.03)


def test_a_gallery_holds_rows_of_any_length():
    png = gallery({"one": torch.rand(3, 1, 8, 8), "another": torch.rand(20, 1, 8, 8)})
    assert png.startswith(b"\x89PNG")


def make_rbm(weight):
    """Return an RBM with one hidden unit that determines four pixels as strongly as its weight."""
    rbm = BernoulliRBM(1, random_state=0)
    rbm.components_ = np.full((1, 4), weight)
    rbm.intercept_hidden_ = np.array([-2.0 * weight])
    rbm.intercept_visible_ = np.full(4, -weight / 2)
    return rbm


def test_chains_of_an_rbm_without_weights_are_independent():
    """Its pixels are independent, with probability 1/2 in every image."""
    samples = table2.run_chains(make_rbm(0.0), (1, 3))
    assert [snapshot.steps for snapshot in samples.snapshots] == [1, 3]
    for snapshot in samples.snapshots:
        torch.testing.assert_close(snapshot.images, torch.full((table2.NUM_CHAINS, 4), 0.5))
    assert samples.states.mean() == pytest.approx(0.5, abs=0.05)


def test_chains_of_a_bimodal_rbm_rarely_change_mode():
    """All pixels are on if the hidden unit is on, else off; a chain rarely changes."""
    samples = table2.run_chains(make_rbm(8.0), (1, 20))
    assert samples.snapshots[0].correlation > 0.9
    assert samples.snapshots[0].correlation > samples.snapshots[1].correlation
    lit = samples.snapshots[1].images > 0.5
    assert torch.equal(lit.all(1), lit.any(1))
    assert samples.snapshots[1].seconds > samples.snapshots[0].seconds


@pytest.mark.parametrize("game", game_variants())
def test_with_d_frozen_no_real_image_reaches_g(game, digits):
    swap = swap_batch(game, game_variants()[game], digits)
    assert swap.generator_differs == 0
    assert swap.generator_moved > 0.9 * swap.generator_size
    assert swap.discriminator_differs > 0


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
def test_batch_norm_in_d_leaks_real_images_in_simultaneous_updates(updates, same):
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


def test_only_the_initial_output_bias_depends_on_data(digits):
    assert list(initial_differences(digits, "marginals")) == ["output.bias"]
    assert initial_differences(digits, 0.0) == {}


@pytest.mark.parametrize(("full", "name"), [(False, "digits-0"), (True, "mnist-0")])
def test_reference_run_per_scale(tmp_path, full, name):
    with pytest.raises(LookupError) as raised:
        trainings.reference_run(context(tmp_path, RecordingContext, full=full))
    name_, run = raised.value.args
    assert name_ == name
    if full:
        assert (run.preset, run.seed, run.stage.epochs) == ("paper-mnist", 0, 100)
        assert (run.stage.ema_half_life, run.intervals.eval_every) == (1_500_000, 5000)
    else:
        assert run.preset == "digits"


def test_paper_table_is_complete():
    assert len(table2.PAPER_TABLE.rows) == 5
    assert all(len(row) == len(table2.PAPER_TABLE.header) == 5 for row in table2.PAPER_TABLE.rows)


def test_section_is_built(tiny, tmp_path, monkeypatch, console):
    train(tiny, tmp_path / "run", [console])
    monkeypatch.setattr(table2, "reference_run", lambda _: load(tmp_path / "run"))
    monkeypatch.setattr(table2, "LENGTHS", (1, 20))
    monkeypatch.setattr(
        table2, "game_variants", lambda: {"simultaneous": game_variants()["simultaneous"]}
    )
    section = table2.build(context(tmp_path / "table2"))
    assert (tmp_path / "table2" / "samples.png").exists()
    table = next(b for b in section.blocks if getattr(b, "caption", "").startswith("Sampling"))
    assert [row[0] for row in table.rows] == [
        "real images",
        "$G$, one forward pass",
        "RBM, every 1 step",
        "RBM, every 20 steps",
        "RBM, binary states",
    ]
    outcomes = {check.claim: check.passed for check in section.checks}
    assert outcomes["consecutive steps of a chain are correlated"]
    assert outcomes["consecutive samples of $G$ are independent: correlation"]
