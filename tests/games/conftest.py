import pytest

from advnets import config
from advnets.models.mlp import MLPGenerator


@pytest.fixture
def linear_g():
    """Return a builder of G(z) = W z + b with normal z."""

    def build(latent_dim, *shape):
        spec = config.MLPGenerator(
            latent_dim, "normal", (), (), "linear", init_range=0.4, output_bias=0.0
        )
        return MLPGenerator(shape, spec)

    return build
