"""Tests of the saturation of G's loss against calculus and the limits of float32."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from advnets.paper.sections import saturation
from advnets.paper.studies import bad_start
from advnets.paper.toy import Grid, Snapshot


@pytest.mark.parametrize("verdict", [0.5, 1e-2, 1e-4])
def test_gradient_norms_match_calculus(verdict):
    """-1/(1 - D) and -1/D in D; -D and D - 1 in the logit; and their ratio again in G."""
    comparison = saturation.compare_losses(verdict)
    assert comparison.probability == pytest.approx(verdict, rel=5e-6)
    weak, strong = comparison.minimax, comparison.non_saturating
    assert (weak.probability, strong.probability) == pytest.approx(
        (1 / (1 - verdict), 1 / verdict), rel=5e-6
    )
    assert (weak.logit, strong.logit) == pytest.approx((verdict, 1 - verdict), rel=5e-6)
    for ratio in comparison.ratios.values():
        assert ratio == pytest.approx((1 - verdict) / verdict, rel=1e-5)
    assert comparison.cosine == pytest.approx(1)


def test_check_fails_for_a_ratio_that_differs_from_theory():
    """At D(G(z)) = 1/100 the ratio is 99 instead of the expected 9999."""
    comparison = saturation.compare_losses(1e-2)
    passed = [check.passed for check in saturation._gradient_checks(comparison)]
    assert passed == [False, False, False, True]


class TestRanges:
    def test_logit_limits_are_those_of_float32(self):
        """1 + e^-a rounds to 1 below 2^-24; e^a leaves the normal numbers at 2^-126."""
        limit = saturation.logit_limits()
        assert limit.high == pytest.approx(24 * math.log(2), abs=0.011)
        # Where denormal numbers cannot be flushed they reach to 2^-149.
        assert -149 * math.log(2) - 0.011 <= limit.low <= -126 * math.log(2) + 0.011

    @pytest.mark.parametrize("name", saturation.LOSSES)
    def test_both_forms_of_a_loss_are_equal(self, name):
        written = saturation.LOSSES[name]
        real, fake = torch.linspace(-9, 9, 41).double(), torch.linspace(5, -7, 41).double()
        naive, actual = written.naive(real, fake), written.stable(real, fake)
        assert actual.item() == pytest.approx(naive.item(), rel=1e-6)

    def test_only_the_stable_form_is_finite_for_large_weights(self):
        limit = saturation.logit_limits()
        small, large = (saturation.measure_init_range(r, 1, limit) for r in (0.05, 5.0))
        assert set(small.failures.values()) == {(0, 0)}
        assert set(large.failures.values()) == {(1, 0)}
        assert large.predicted == dict.fromkeys(saturation.LOSSES, 1)
        assert large.max_logit > limit.high > small.max_logit

    def test_check_fails_if_the_stable_form_is_not_finite(self):
        tried = saturation.measure_init_range(5.0, 1, saturation.logit_limits())
        broken = replace(tried, failures=dict.fromkeys(saturation.LOSSES, (1, 1)))
        assert all(check.passed for check in saturation._range_checks([tried], 1))
        assert not saturation._range_checks([broken], 1)[0].passed


class TestBadStart:
    def test_only_the_non_saturating_loss_leaves_the_common_start(self):
        """Plain descent along a gradient thousands of times smaller goes nowhere."""
        optimizer = bad_start.OPTIMIZERS["gradient descent"]
        slow, fast = (
            bad_start.train_from_bad_start(objective, optimizer, 25)
            for objective in bad_start.OBJECTIVES
        )
        np.testing.assert_array_equal(slow.start.p_g, fast.start.p_g)
        assert slow.initial_grad_norms == fast.initial_grad_norms
        assert fast.initial_grad_norms["non-saturating"] > 1000 * fast.initial_grad_norms["minimax"]
        assert len(slow.jsd) == 26
        assert slow.jsd[0] == pytest.approx(math.log(2), abs=1e-3)
        assert slow.jsd[-1] > 0.69
        assert fast.iterations_to_half is not None

    def test_iterations_to_half_of_log_2(self):
        p = np.full(4, 0.25)
        start = Snapshot(Grid(0.0, 4.0, 4), p, p, p, ())
        history = bad_start.History(start, {}, 0.0, [0.69, 0.5, 0.34, 0.6, 0.1])
        assert history.iterations_to_half == 2
        assert history.final_jsd == 0.5
        assert bad_start.History(start, {}, 0.0, [0.69]).iterations_to_half is None


@pytest.mark.slow
def test_every_check_of_the_section_passes(context):
    section = saturation.build(context)
    assert [check.claim for check in section.checks if not check.passed] == []
    assert {path.name for path in context.folder.iterdir()} == {
        "pull.png",
        "start.png",
        "ranges.png",
    }
