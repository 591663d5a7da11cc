from __future__ import annotations

import pytest
import torch

from advnets.games.augment import AUGMENTATIONS, augmented
from advnets.noise import Noise

NOISE = Noise(3)
ALL = tuple(AUGMENTATIONS)


def pictures(n=64, channels=3, height=16, width=24):
    return torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ALL)
def test_at_probability_0_nothing_changes_and_at_1_everything_does(kind):
    x = pictures()
    assert torch.equal(augmented(x, (kind,), torch.tensor(0.0), NOISE), x)
    changed = (augmented(x, (kind,), torch.tensor(1.0), NOISE) != x).flatten(1).any(1)
    # A shift by no pixel, one in 5 x 7, is a change to the same.
    assert changed.float().mean().item() >= (0.9 if kind == "translate" else 1.0)


@pytest.mark.parametrize("kind", ALL)
def test_as_many_change_as_the_probability_says(kind):
    x = pictures(4000, 1, 8, 8)
    changed = (augmented(x, (kind,), torch.tensor(0.3), NOISE) != x).flatten(1).any(1)
    same = {"translate": 1 / 9}.get(kind, 0.0)
    assert changed.float().mean().item() == pytest.approx(0.3 * (1 - same), abs=0.03)


def test_a_flip_is_a_mirror():
    x = pictures()
    assert torch.equal(augmented(x, ("flip",), torch.tensor(1.0), NOISE), x.flip(-1))


def test_a_shift_is_one_of_whole_pixels_up_to_an_eighth():
    """Every result is the picture, padded by its edge, cut at one of 5 x 7 places; all occur."""
    x = pictures(400)
    shifted = augmented(x, ("translate",), torch.tensor(1.0), NOISE)
    padded = torch.nn.functional.pad(x, (3, 3, 2, 2), mode="replicate")
    met = set()
    for one, other in zip(padded, shifted, strict=True):
        places = [
            (top, left)
            for top in range(5)
            for left in range(7)
            if torch.equal(one[:, top : top + 16, left : left + 24], other)
        ]
        assert len(places) == 1
        met |= set(places)
    assert len(met) == 35


def test_a_cut_is_a_box_of_half_of_each_side():
    """Where it does not hang over an edge, 8 x 12 pixels in all channels; nothing else changes."""
    x = torch.ones(500, 2, 16, 24)
    cut = augmented(x, ("cutout",), torch.tensor(1.0), NOISE)
    assert set(cut.unique().tolist()) == {0.0, 1.0}
    gone = 1 - cut
    rows, columns = (gone.amax(axis).sum(-1) for axis in ((1, 3), (1, 2)))
    assert torch.equal(gone.sum((1, 2, 3)), 2 * rows * columns)  # a box, the same in all channels
    assert (rows.max().item(), columns.max().item()) == (8, 12)
    assert (rows == 8).float().mean().item() == pytest.approx(9 / 16, abs=0.07)


def test_colours_keep_their_place_on_the_mean():
    """Brightness, saturation and contrast are affine in the pixels, and no change on the mean."""
    x = pictures(1, 3, 8, 8).expand(6000, 3, 8, 8)
    recoloured = augmented(x, ("colour",), torch.tensor(1.0), NOISE)
    torch.testing.assert_close(recoloured.mean(0), x[0], rtol=0, atol=0.05)
    brighter = (recoloured - x).mean((1, 2, 3))
    assert brighter.abs().max().item() == pytest.approx(0.25, abs=0.01)
    grey, was = (some.mean(1) - some.mean((1, 2, 3))[:, None, None] for some in (recoloured, x))
    contrast = (grey * was).sum((1, 2)) / was.square().sum((1, 2))
    torch.testing.assert_close(grey, contrast[:, None, None] * was, rtol=1e-3, atol=1e-4)
    assert (contrast.min().item(), contrast.max().item()) == pytest.approx((0.5, 1.5), abs=0.01)


def test_parts_of_a_stack_are_changed_as_they_would_be_alone():
    """Pictures and samples in one pass, or in two, are augmented alike."""
    real, fake = pictures(8), pictures(8) + 1
    half = torch.tensor(0.5)
    together = augmented(torch.cat((real, fake)), ALL, half, NOISE.stacked("real", "fake"))
    apart = [
        augmented(x, ALL, half, NOISE.stacked(name)) for x, name in ((real, "real"), (fake, "fake"))
    ]
    assert torch.equal(together, torch.cat(apart))


def test_gradients_of_gradients_go_through():
    """As penalties on slopes need them, checked by finite differences."""
    x = pictures(3, 2, 8, 8).double().requires_grad_()
    one = torch.tensor(1.0)
    # Of a square, so that the second derivative is not 0.
    assert torch.autograd.gradgradcheck(
        lambda x: augmented(x, ALL, one, NOISE).square().sum(), x, atol=1e-6
    )
