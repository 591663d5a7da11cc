from __future__ import annotations

import pytest

from advnets import config
from advnets.models.mlp import MLPGenerator


@pytest.fixture
def linear_g():
    """Makes G(z) = W z + b of normal z."""

    def made(latent_dim, *shape):
        spec = config.MLPGenerator(
            latent_dim, "normal", (), (), "linear", init_range=0.4, output_bias=0.0
        )
        return MLPGenerator(shape, spec)

    return made
