from __future__ import annotations

import pytest
import torch

from advnets import config
from advnets.training.schedules import learning_rate, momentum, optimizer, settings

SPEC = config.SGD(lr=0.1)


def test_sgd_moves_as_the_authors_library_does():
    """Against v <- m v - lr g, p <- p + v, with a rate that falls and a momentum that rises."""
    spec = config.SGD(lr=0.1, lr_decay=1.01, saturate=20)
    torch.manual_seed(0)
    gradients = torch.randn(60, 5, dtype=torch.float64)
    p = torch.zeros(5, dtype=torch.float64)
    ours = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    velocity = torch.zeros_like(p)
    mover = optimizer(spec, [ours])
    for n, gradient in enumerate(gradients):
        epoch = n // 3
        velocity = momentum(spec, epoch) * velocity - learning_rate(spec, n) * gradient
        p = p + velocity
        for group in mover.param_groups:
            group.update(settings(spec, n, epoch))
        ours.grad = gradient.clone()
        mover.step()
    torch.testing.assert_close(ours.detach(), p, rtol=1e-12, atol=1e-12)


def test_the_learning_rate_has_a_floor():
    assert learning_rate(SPEC, 10**8) == 1e-6


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.5), (249, 0.7), (1000, 0.7), (83, 0.5 + 0.2 / 3)]
)
def test_momentum_rises_from_the_first_epoch_to_the_250th(epoch, expected):
    assert momentum(SPEC, epoch) == pytest.approx(expected)


def test_adam_is_torchs():
    torch.manual_seed(0)
    spec = config.Adam(lr=1e-2)
    ours, theirs = torch.ones(4, requires_grad=True), torch.ones(4, requires_grad=True)
    mine = optimizer(spec, [ours])
    reference = torch.optim.Adam([theirs], 1e-2, (0.5, 0.999), foreach=False)
    for _ in range(20):
        gradient = torch.randn(4)
        for parameter, mover in ((ours, mine), (theirs, reference)):
            parameter.grad = gradient.clone()
            mover.step()
    torch.testing.assert_close(ours, theirs)
