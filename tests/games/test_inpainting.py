"""Inpainting: the masks, and the players that get them."""

import pytest
import torch

from advnets import config
from advnets.errors import UsageError
from advnets.evaluation.inpainting import _masked_mean, _nearest
from advnets.games.inpainting import Inpainting, draw_masks
from advnets.models.conditional import InpaintingGenerator
from advnets.models.layers import Prior
from advnets.models.mlp import MLPDiscriminator
from advnets.protocols import Batch
from advnets.rng import RNG

NOISE = RNG(11)


def test_masks_hide_the_pixels_of_their_kind():
    known = {
        kind: draw_masks((kind,), 400, 12, 16, NOISE) for kind in ("pixels", "boxes", "halves")
    }
    assert all(set(values.unique().tolist()) <= {0.0, 1.0} for values in known.values())
    assert draw_masks(("all",), 3, 12, 16, NOISE).sum() == 0
    halves = known["halves"].flatten(1).mean(1)
    assert halves.unique().tolist() == [0.5]
    assert len(known["halves"].flatten(1).unique(dim=0)) == 4
    shares = known["pixels"].flatten(1).mean(1)
    assert shares.min() < 0.1 < 0.9 < shares.max()
    for mask in known["boxes"][:50, 0]:
        hidden = mask == 0
        rows, columns = hidden.any(1), hidden.any(0)
        assert hidden.sum() == rows.sum() * columns.sum() > 0  # one whole box
        assert 3 <= rows.sum() <= 9
        assert 4 <= columns.sum() <= 12
    heights = (known["boxes"] == 0).any(3).sum(2)
    widths = (known["boxes"] == 0).any(2).sum(2)
    assert (heights.min().item(), heights.max().item()) == (3, 9)
    assert (widths.min().item(), widths.max().item()) == (4, 12)


def test_d_gets_the_masks_of_g(linear_g):
    masks = {}

    class G(InpaintingGenerator):
        def condition(self, z, images, known):
            masks["g"] = known
            return super().condition(z, images, known)

    class D(MLPDiscriminator):
        def forward(self, x, rng=None):
            masks["d"] = x[:, 1:]
            return super().forward(x, rng)

    players = {
        "generator": G(linear_g(2 + 4, 1, 1, 2), (1, 1, 2), Prior("normal", 2)),
        "discriminator": D((1, 1, 4), config.MLPDiscriminator(hidden_sizes=(8,))),
    }
    batch = Batch(NOISE.normal("x", 40, 1, 1, 2))
    for phase in Inpainting(config.InpaintingGame()).phases():
        phase.losses(players, batch, NOISE)
        assert torch.equal(masks["d"][-40:], masks["g"])


def test_the_nearest_image_is_nearest_in_known_pixels():
    """Compared with a search image by image, each with its own mask."""
    test, train = NOISE.uniform("tests", 40, 1, 6, 6), NOISE.uniform("train", 200, 1, 6, 6)
    known = NOISE.dropout_mask("known", 40, 1, 6, 6, keep_prob=0.5)
    distances = ((test[:, None] - train[None]) * known[:, None]).square().flatten(2).sum(2)
    assert torch.equal(_nearest(test, known, train), train[distances.argmin(1)])


def test_unsupported_options_are_refused():
    with pytest.raises(UsageError, match="masks is empty; give at least one of pixels"):
        config.InpaintingGame(masks=())
    with pytest.raises(UsageError, match="reuse_fakes does not apply to inpainting"):
        config.InpaintingGame(reuse_fakes=True)


@pytest.mark.parametrize("channels", [1, 3])
def test_diversity_is_that_masked_mean_pixels_of_all_channels(channels):
    """Uniform values have a variance of 1/12, known pixels have none."""
    known = draw_masks(("halves",), 50, 8, 8, NOISE)
    inpaintings = NOISE.uniform("drawn", 40 * 50, channels, 8, 8).unflatten(0, (40, 50))
    differing = torch.where(known == 1, 0.5, inpaintings).var(0)
    assert _masked_mean(differing, known) == pytest.approx(1 / 12, rel=0.02)
