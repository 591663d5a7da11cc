from __future__ import annotations

import pytest

from advnets import config
from advnets.training.schedules import learning_rate, momentum

SPEC = config.SGD(lr=0.1)


def test_the_learning_rate_has_a_floor():
    assert learning_rate(SPEC, 10**8) == 1e-6


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.5), (249, 0.7), (1000, 0.7), (83, 0.5 + 0.2 / 3)]
)
def test_momentum_rises_from_the_first_epoch_to_the_250th(epoch, expected):
    assert momentum(SPEC, epoch) == pytest.approx(expected)
