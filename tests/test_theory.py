import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

from advnets.errors import UsageError
from advnets.theory import (
    OPTIMUM,
    descend,
    jensen_shannon,
    kullback_leibler,
    optimal_discriminator,
    subgradient,
    value_at,
    virtual_criterion,
)


def draw(*shape, seed=0, sparse=False):
    """Return random distributions, some far from uniform, with zeros if `sparse`."""
    generator = torch.Generator().manual_seed(seed)
    mass = torch.rand(*shape, generator=generator, dtype=torch.float64) ** 8
    if sparse:
        mass = mass * (torch.rand(*shape, generator=generator) < 0.5)
        mass[..., seed % shape[-1]] += 0.1
    return mass / mass.sum(-1, keepdim=True)


def point(*values):
    return torch.tensor(values, dtype=torch.float64)


class TestDivergences:
    @pytest.mark.parametrize("sparse", [False, True])
    def test_agree_with_scipy(self, sparse):
        p, q = draw(50, 30, sparse=sparse), draw(50, 30, seed=1)
        np.testing.assert_allclose(
            kullback_leibler(p, q), rel_entr(p.numpy(), q.numpy()).sum(-1), rtol=1e-12
        )
        distance = jensenshannon(p.numpy(), q.numpy(), axis=-1)
        np.testing.assert_allclose(jensen_shannon(p, q), distance**2, rtol=1e-10)

    def test_kl_is_infinite_where_q_is_zero_and_p_is_not(self):
        assert kullback_leibler(point(0.5, 0.5), point(1.0, 0.0)) == math.inf
        assert kullback_leibler(point(1.0, 0.0), point(0.5, 0.5)) == pytest.approx(math.log(2))

    def test_the_jensen_shannon_divergence_of_disjoint_distributions_is_log_2(self):
        assert jensen_shannon(point(1.0, 0.0), point(0.0, 1.0)) == pytest.approx(math.log(2))

    @pytest.mark.parametrize("wrong", [(0.5, 0.6), (1.5, -0.5), (math.nan, 1.0)])
    def test_tensors_that_are_no_distributions_are_refused(self, wrong):
        with pytest.raises(UsageError, match="expected non-negative probabilities that sum to 1"):
            kullback_leibler(point(*wrong), point(0.5, 0.5))


class TestTheorem1:
    def test_the_criterion_is_the_divergence(self):
        """C(G) = -log 4 + 2 JSD, C as the value of D*, JSD by scipy."""
        p, q = draw(1000, 40), draw(1000, 40, seed=1, sparse=True)
        by_divergence = -math.log(4) + 2 * jensenshannon(p.numpy(), q.numpy(), axis=-1) ** 2
        np.testing.assert_allclose(virtual_criterion(p, q), by_divergence, atol=1e-12, rtol=0)

    def test_its_minimum_is_where_p_g_is_p_data(self):
        p = draw(20, 10, sparse=True)
        torch.testing.assert_close(virtual_criterion(p, p), torch.full((20,), OPTIMUM).double())

    @given(st.integers(0, 10**6))
    def test_no_discriminator_exceeds_the_optimal_one(self, seed):
        """max_D V(D, G) = V(D*, G), compared with random D."""
        p, q, r = draw(5, seed=seed), draw(5, seed=seed + 1), draw(5, seed=seed + 2)
        assert value_at(p, q, r) <= virtual_criterion(p, q) + 1e-12


class TestProposition2:
    def test_the_subgradient_is_the_slope_of_c(self):
        """Compared with autograd through D*, as V is stationary in D at D*."""
        p, q = draw(30), draw(30, seed=1).requires_grad_()
        d = optimal_discriminator(p, q)
        criterion = (p * d.log() + q * (1 - d).log()).sum()
        (slope,) = torch.autograd.grad(criterion, q)
        torch.testing.assert_close(subgradient(p, q.detach()), slope)

    def test_c_lies_above_its_tangent_planes(self):
        p, q, r = draw(200, 6), draw(200, 6, seed=1), draw(200, 6, seed=2)
        tangent = virtual_criterion(p, q) + (subgradient(p, q) * (r - q)).sum(-1)
        assert (virtual_criterion(p, r) >= tangent - 1e-12).all()

    @pytest.mark.parametrize("rate", [0.05, 0.5, 1.0])
    def test_descent_never_increases_c_and_converges(self, rate):
        p, q = draw(30, sparse=True), draw(30, seed=1)
        last = math.inf
        for _ in range(int(40 / rate)):
            now = float(virtual_criterion(p, q))
            assert now <= last + 1e-14
            last, q = now, descend(p, q, rate)
        assert jensen_shannon(p, q) < 1e-6
        assert float(q.sum()) == pytest.approx(1)

    def test_at_rate_1_it_is_the_mean(self):
        p, q = draw(30), draw(30, seed=1, sparse=True)
        torch.testing.assert_close(descend(p, q, 1.0), (p + q) / 2)

    def test_it_is_the_step_along_the_subgradient(self):
        p, q = draw(30), draw(30, seed=1)
        moved = q * torch.exp(-0.3 * subgradient(p, q))
        torch.testing.assert_close(descend(p, q, 0.3), moved / moved.sum())

    @pytest.mark.parametrize("rate", [0.0, -1.0, 1.1, math.nan])
    def test_other_rates_are_refused(self, rate):
        with pytest.raises(UsageError, match="above 0 and at most 1"):
            descend(draw(3), draw(3, seed=1), rate)
