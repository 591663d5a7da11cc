from __future__ import annotations

import pytest
import torch
from torch import nn

from advnets.training.ema import WeightAverage


def test_after_one_half_life_the_past_counts_half():
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 1.0)
    average = WeightAverage(net, half_life=1000, batch_size=100)
    nn.init.constant_(net.weight, 0.0)
    for _ in range(10):
        average.update(net, 1)
    assert average.module.weight.item() == pytest.approx(0.5, rel=1e-5)


def test_statistics_are_copied_and_nothing_is_shared():
    net = nn.BatchNorm1d(2)
    average = WeightAverage(net, half_life=1000, batch_size=100)
    net(torch.randn(8, 2))
    average.update(net, 1)
    assert torch.equal(average.module.running_mean, net.running_mean)
    assert average.module.num_batches_tracked.item() == 1
    assert average.module.running_mean.data_ptr() != net.running_mean.data_ptr()
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
