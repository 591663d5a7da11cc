"""Tests of propositions 1 and 2 and theorem 1 against closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from advnets.data.synthetic.mixtures import Gaussian
from advnets.paper.sections import proposition1, proposition2, theorem1
from advnets.paper.toy import Grid, Snapshot, bin_probabilities, density
from advnets.protocols import Generator
from advnets.rng import RNG
from advnets.theory import OPTIMUM

UNIFORM = next(pair for pair in proposition1.PAIRS if pair.name == "uniform")
SHIFTED = next(pair for pair in proposition1.PAIRS if pair.name == "shifted")
SMALL_BUDGET = proposition1.TrainingBudget(150, 200)


def test_bin_probabilities_approximate_the_cdf():
    cells = Grid(-3.0, 4.0, 700)
    p = bin_probabilities(Gaussian(mean=(1.0,), sd=(0.5,)), cells)
    expected = np.diff(norm(1, 0.5).cdf(cells.edges))
    np.testing.assert_allclose(p, expected, atol=1e-6)
    np.testing.assert_allclose(density(Gaussian(), cells), norm().pdf(cells.centers), rtol=1e-12)


class TestProposition1:
    def test_pointwise_argmax_equals_an_optimizers(self):
        a, b = 0.3, 0.05
        result = minimize_scalar(
            lambda y: -(a * math.log(y) + b * math.log1p(-y)),
            bounds=(1e-6, 1 - 1e-6),
            method="bounded",
            options={"xatol": 1e-9},
        )
        (actual,) = proposition1.pointwise_argmax(
            torch.tensor([a]).double(), torch.tensor([b]).double()
        )
        assert float(actual) == pytest.approx(result.x, abs=1e-4)
        assert proposition1.max_argmax_error(50) <= 1e-4

    def test_fixed_generator_draws_from_p_g(self):
        generator = proposition1.FixedGenerator(Gaussian(mean=(3.0,), sd=(0.5,)))
        assert isinstance(generator, Generator)
        z = generator.latent(4000, RNG(0))
        assert generator(z).shape == (4000, 1, 1, 1)
        torch.testing.assert_close(generator(z).flatten(), z.flatten())
        assert float(z.mean()) == pytest.approx(3, abs=0.05)
        assert float(z.std()) == pytest.approx(0.5, abs=0.03)

    def test_d_learns_the_closed_form(self):
        """N(-1, 1) against N(1, 1): D*(x) = sigmoid(-2x)."""
        result = proposition1.train_discriminator(SHIFTED, SMALL_BUDGET)
        known = 1 / (1 + np.exp(2 * result.snapshot.grid.centers))
        np.testing.assert_allclose(result.snapshot.optimal, known, atol=1e-12)
        assert result.max_error < 0.15
        assert result.edge_error is None
        assert result.value <= result.criterion <= result.value + 0.02

    def test_value_of_logits_equals_the_definition_and_is_always_finite(self):
        p, q = (torch.tensor(masses).double() for masses in ((0.2, 0.8), (0.5, 0.5)))
        a = torch.tensor((1.5, -0.3)).double()
        d = torch.sigmoid(a)
        written = float((p * d.log() + q * (1 - d).log()).sum())
        assert proposition1.value_of_logits(p, q, a) == pytest.approx(written)
        assert proposition1.value_of_logits(p, q, 100 * a) == pytest.approx(-0.5 * 150 - 0.8 * 30)

    def test_errors_at_edges_are_separate(self):
        x = proposition1.GRID.centers
        p, q = (np.where((x >= low) & (x <= low + 3), 1 / 3, 0.0) for low in (-2, -1))
        with np.errstate(invalid="ignore"):
            best = p / (p + q)
        d = np.where(abs(x - 1) < 0.05, 0.9, np.nan_to_num(best))
        result = proposition1.PairResult(
            UNIFORM, Snapshot(proposition1.GRID, p, q, d, ()), 0.0, 0.0
        )
        assert result.max_error == 0
        assert result.edge_error == pytest.approx(0.9)
        assert result.snapshot.jsd == pytest.approx(math.log(2) / 3, abs=1e-6)
        d = np.where(abs(x) < 0.05, 0.9, d)
        result = proposition1.PairResult(
            UNIFORM, Snapshot(proposition1.GRID, p, q, d, ()), 0.0, 0.0
        )
        assert result.max_error == pytest.approx(0.4)

    def test_there_are_ten_different_pairs(self):
        assert len({(pair.data, pair.generated) for pair in proposition1.PAIRS}) == 10

    @pytest.mark.slow
    def test_every_check_of_the_section_passes(self, context):
        section = proposition1.build(context)
        assert [check.claim for check in section.checks if not check.passed] == []


class TestTheorem1:
    @pytest.mark.parametrize("kind", theorem1.KINDS)
    def test_pairs_of_every_kind_are_distributions(self, kind):
        for p in theorem1.KINDS[kind](np.random.default_rng(3), 20):
            assert p.shape == (20, theorem1.NUM_VALUES)
            assert (p >= 0).all()
            np.testing.assert_allclose(p.sum(1), 1)

    def test_kinds_have_the_properties_in_their_names(self):
        draws = {
            kind.partition(":")[0]: draw(np.random.default_rng(0), 200)
            for kind, draw in theorem1.KINDS.items()
        }
        assert 0.05 < (draws["sparse"][0] > 0).mean() < 0.2
        assert draws["extreme"][0].min() < 1e-250
        assert (draws["disjoint"][0] * draws["disjoint"][1] == 0).all()
        assert abs(draws["close"][0] / draws["close"][1] - 1).max() < 1e-3

    def test_disjoint_pairs_have_jsd_log_2_and_criterion_0(self):
        result = theorem1.measure_pairs(theorem1.KINDS["disjoint: no common value"], 100)
        assert result.jsd_range == pytest.approx((math.log(2), math.log(2)))
        assert result.min_criterion == pytest.approx(0, abs=1e-12)
        assert result.max_gap <= theorem1.TOLERANCE

    def test_paths_end_at_the_minimum_with_zero_derivative(self):
        paths = theorem1.criterion_along_paths()
        for way in paths.values():
            assert OPTIMUM < float(way[-1]) < OPTIMUM + 1e-5
        # A way that leaves p_data nowhere bare falls with the square of the distance.
        near = paths["one of the two modes"] - OPTIMUM
        rest = 1 - theorem1.MIX_WEIGHTS
        assert float(near[-1] / near[-40]) == pytest.approx(
            float((rest[-1] / rest[-40]) ** 2), rel=0.05
        )
        slope = theorem1.gradient_at_optimum()
        torch.testing.assert_close(slope, torch.full_like(slope, -math.log(2)))

    def test_every_check_of_the_section_passes(self, context):
        section = theorem1.build(context)
        assert [check.claim for check in section.checks if not check.passed] == []
        assert (context.folder / "paths.png").exists()


class TestProposition2:
    def test_two_point_values_are_lines_below_the_criterion(self):
        """V = .35 log d1 + .65 log d2 + q log(1 - d1) + (1 - q) log(1 - d2)."""
        q = torch.linspace(0.1, 0.9, 9).double()
        d = torch.tensor([[0.3, 0.6]]).double()
        actual = proposition2.two_point_values(d, q)[0]
        by_hand = [
            0.35 * math.log(0.3)
            + 0.65 * math.log(0.6)
            + at * math.log(0.7)
            + (1 - at) * math.log(0.4)
            for at in q.tolist()
        ]
        assert actual.tolist() == pytest.approx(by_hand)
        assert (actual <= proposition2.two_point_criterion(q)).all()

    def test_line_of_the_optimal_discriminator_is_tangent_at_one_point(self):
        q = torch.linspace(0.1, 0.9, 9).double()
        gap = proposition2.two_point_criterion(q) - proposition2.two_point_values(
            proposition2.two_point_optimal_discriminator(q), q
        )
        torch.testing.assert_close(gap.diagonal(), torch.zeros(9).double())
        assert (gap + torch.eye(9) > 1e-6).all()

    def test_criterion_of_a_shift_has_one_minimum_in_a_flat_surrounding(self):
        theta, criterion = proposition2.criterion_of_shift()
        assert theta[80] == 0
        assert float(criterion[80]) == pytest.approx(OPTIMUM)
        assert float(criterion[0]) == pytest.approx(0, abs=1e-3)
        torch.testing.assert_close(criterion, criterion.flip(0))

    def test_descent_begins_at_its_start_and_stops_when_converged(self):
        trajectory = proposition2.descend_to_goal(Gaussian(sd=(3.0,)))
        torch.testing.assert_close(
            trajectory[0], bin_probabilities(Gaussian(sd=(3.0,)), proposition2.GRID)
        )
        divergence = proposition2.jsd_along(trajectory)
        assert divergence[-1] <= proposition2.CONVERGED_JSD < divergence[-2]
        assert (divergence.diff() < 0).all()

    def test_every_check_of_the_section_passes(self, context):
        section = proposition2.build(context)
        assert [check.claim for check in section.checks if not check.passed] == []
        assert {path.name for path in context.folder.iterdir()} == {
            "descent.png",
            "lines.png",
            "parameter.png",
        }
