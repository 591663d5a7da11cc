"""Tests of the one-dimensional game against exact densities."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from advnets import config
from advnets.paper.toy import STAGE, Grid, Snapshot, best_response, latent_quantiles, make_line_game


def make_snapshot(p_data, p_g, discriminator):
    return Snapshot(Grid(-6.0, 6.0), p_data, p_g, discriminator, ())


def test_p_g_is_the_density_of_g_of_z():
    """A linear G of a normal z is normal: x = 1 + z / 2."""
    line = make_line_game("gaussian:n=1000", Grid(-3.0, 5.0))
    line.state.players["generator"] = nn.Linear(1, 1)
    with torch.no_grad():
        line.state.players["generator"].weight.fill_(0.5)
        line.state.players["generator"].bias.fill_(1.0)
    calls = line.snapshot(arrows=3)
    np.testing.assert_allclose(calls.p_g, norm(1, 0.5).pdf(calls.grid.centers), atol=5e-3)
    np.testing.assert_allclose(calls.p_data, norm().pdf(calls.grid.centers), atol=1e-12)
    assert calls.arrows[1] == pytest.approx((0.0, 1.0), abs=1e-6)


def test_jsd_of_two_normals_equals_the_integral():
    """The integral is computed by the trapezoid rule on another grid."""
    x = np.linspace(-10, 12, 200_001)
    p, q = norm(0, 1).pdf(x), norm(2, 0.7).pdf(x)
    m = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = 0.5 * (np.nan_to_num(p * np.log(p / m)) + np.nan_to_num(q * np.log(q / m)))
    integral = np.trapezoid(terms, x)
    cells = Grid(-10.0, 12.0, 4000)
    p, q = norm(0, 1).pdf(cells.centers), norm(2, 0.7).pdf(cells.centers)
    actual = Snapshot(cells, p, q, p, ())
    assert actual.jsd == pytest.approx(integral, rel=1e-4)


def test_max_error_is_restricted_to_the_support():
    middles = Grid(-6.0, 6.0).centers
    p = norm(0, 1).pdf(middles)
    d = np.where(abs(middles) < 2.5, 0.5, 0.9)
    assert make_snapshot(p, p, d).max_error == pytest.approx(0.4)
    d = np.where(abs(middles) < 4, 0.55, 0.9)
    assert make_snapshot(p, p, d).max_error == pytest.approx(0.05)


def test_latent_quantiles_are_those_of_the_prior():
    np.testing.assert_allclose(
        latent_quantiles(3).flatten(), norm.ppf([1 / 6, 0.5, 5 / 6]), atol=1e-6
    )


def test_best_response_updates_only_d():
    """D approaches D*; G, its optimizer and the step count do not change."""
    line = make_line_game("gaussian:mean=2,n=20000", Grid(-4.0, 8.0), batch_size=500)
    state = line.state
    before = [p.clone() for p in state.players["generator"].parameters()]
    first = line.snapshot()
    best_response(state, 150, config.Adam(lr=5e-3))
    after = line.snapshot()
    assert after.jsd == first.jsd
    assert after.max_error < first.max_error / 3
    assert all(
        torch.equal(a, b)
        for a, b in zip(before, state.players["generator"].parameters(), strict=True)
    )
    assert state.progress.step == 0
    assert all(not m.any() for m in state.optimizers["discriminator"].state["exp_avg"])


def test_callback_gets_the_metrics_of_each_iteration():
    line = make_line_game("gaussian:mean=2,n=2000", Grid(-4.0, 8.0), STAGE, batch_size=100)
    calls = []
    line.train(3, lambda number, snapshot: calls.append((number, set(snapshot.metrics))))
    assert [number for number, _ in calls] == [1, 2, 3]
    assert {"d_real", "d_fake", "value", "value/real", "value/fake"} <= calls[0][1]
