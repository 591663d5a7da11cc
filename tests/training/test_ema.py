from __future__ import annotations

import pytest
import torch
from torch import nn

from advnets.training.ema import EMA, initial_share


def test_after_one_half_life_the_old_weights_count_half():
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 1.0)
    average = EMA(net, half_life=1000, batch_size=100)
    nn.init.constant_(net.weight, 0.0)
    for _ in range(10):
        average.update(net, 1)
    assert average.module.weight.item() == pytest.approx(0.5, rel=1e-5)


def test_buffers_are_copied_and_no_memory_is_shared():
    net = nn.BatchNorm1d(2)
    average = EMA(net, half_life=1000, batch_size=100)
    net(torch.randn(8, 2))
    average.update(net, 1)
    assert torch.equal(average.module.running_mean, net.running_mean)
    assert average.module.num_batches_tracked.item() == 1
    assert average.module.running_mean.data_ptr() != net.running_mean.data_ptr()
    assert not any(parameter.requires_grad for parameter in average.module.parameters())


def test_with_a_rampup_the_half_life_grows_with_the_images():
    """With a ramp-up of 1/2 the half-life after n steps is n/2 steps, at most the given one."""
    net = nn.Linear(1, 1)
    ramped, constant = (EMA(net, 1000, 100, rampup) for rampup in (0.5, 0.0))
    assert [ramped.decay(n) for n in (1, 4, 20, 500)] == pytest.approx(
        [0.25, 0.5**0.5, 0.5**0.1, 0.5**0.1]
    )
    assert [constant.decay(n) for n in (1, 500)] == pytest.approx([0.5**0.1] * 2)


def test_a_rampup_reduces_the_weight_of_the_initial_weights():
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 1.0)
    averages = [EMA(net, 1000, 100, rampup) for rampup in (0.25, 0.0)]
    nn.init.constant_(net.weight, 0.0)
    for steps in range(1, 6):
        for average in averages:
            average.update(net, steps)
    ramped, constant = (average.module.weight.item() for average in averages)
    assert constant == pytest.approx(0.5**0.5, rel=1e-5)
    assert ramped == pytest.approx(0.5 ** sum(4 / n for n in range(1, 6)), rel=1e-5)


@pytest.mark.parametrize("rampup", [0.0, 0.05, 0.5])
def test_the_share_of_the_initial_weights_is_that_of_an_average_of_zeros(rampup):
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 1.0)
    average = EMA(net, half_life=1000, batch_size=20, rampup=rampup)
    nn.init.constant_(net.weight, 0.0)
    for step in range(1, 120):
        average.update(net, step)
        share = initial_share(step, 1000, 20, rampup)
        assert average.module.weight.item() == pytest.approx(share, rel=1e-4, abs=1e-30)
    assert initial_share(0, 1000, 20, rampup) == 1
