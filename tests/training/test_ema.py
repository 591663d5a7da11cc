from __future__ import annotations

import pytest
import torch
from torch import nn

from advnets.training.ema import EMA


def test_after_one_half_life_the_past_counts_half():
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 1.0)
    average = EMA(net, half_life=1000, batch_size=100)
    nn.init.constant_(net.weight, 0.0)
    for _ in range(10):
        average.update(net, 1)
    assert average.module.weight.item() == pytest.approx(0.5, rel=1e-5)


def test_statistics_are_copied_and_nothing_is_shared():
    net = nn.BatchNorm1d(2)
    average = EMA(net, half_life=1000, batch_size=100)
    net(torch.randn(8, 2))
    average.update(net, 1)
    assert torch.equal(average.module.running_mean, net.running_mean)
    assert average.module.num_batches_tracked.item() == 1
    assert average.module.running_mean.data_ptr() != net.running_mean.data_ptr()
    assert not any(parameter.requires_grad for parameter in average.module.parameters())


def test_a_young_average_forgets_faster():
    """With a share of 1/2, after n steps the half-life is that of n/2 steps, up to its own."""
    net = nn.Linear(1, 1)
    young, old = (EMA(net, 1000, 100, share) for share in (0.5, 0.0))
    assert [young.decay(n) for n in (1, 4, 20, 500)] == pytest.approx(
        [0.25, 0.5**0.5, 0.5**0.1, 0.5**0.1]
    )
    assert [old.decay(n) for n in (1, 500)] == pytest.approx([0.5**0.1] * 2)


def test_it_holds_less_of_the_first_weights_than_one_without_a_share():
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 1.0)
    averages = [EMA(net, 1000, 100, share) for share in (0.25, 0.0)]
    nn.init.constant_(net.weight, 0.0)
    for steps in range(1, 6):
        for average in averages:
            average.update(net, steps)
    young, old = (average.module.weight.item() for average in averages)
    assert old == pytest.approx(0.5**0.5, rel=1e-5)
    assert young == pytest.approx(0.5 ** sum(4 / n for n in range(1, 6)), rel=1e-5)
