import math

import pytest
import torch

from advnets.games.augment import AUGMENTATIONS, _bilinear, augment
from advnets.rng import RNG

NOISE = RNG(3)
ALL = tuple(AUGMENTATIONS)


def images(n=64, channels=3, height=16, width=24):
    return torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", ALL)
def test_at_probability_0_nothing_changes_and_at_1_everything_does(kind):
    x = images(400)
    assert torch.equal(augment(x, (kind,), torch.tensor(0.0), NOISE), x)
    changed = (augment(x, (kind,), torch.tensor(1.0), NOISE) != x).flatten(1).any(1)
    # A shift by no pixel, one in 5 x 7, is a change to the same; so is every second mirroring.
    least = {"translate": 0.9, "flip": 0.4}.get(kind, 1.0)
    assert changed.float().mean().item() >= least


@pytest.mark.parametrize("kind", ALL)
def test_the_probability_is_the_fraction_of_changed_images(kind):
    x = images(4000, 1, 8, 8)
    changed = (augment(x, (kind,), torch.tensor(0.3), NOISE) != x).flatten(1).any(1)
    same = {"translate": 1 / 9, "flip": 1 / 2}.get(kind, 0.0)
    assert changed.float().mean().item() == pytest.approx(0.3 * (1 - same), abs=0.03)


def test_flip_mirrors_half_of_the_images():
    """At probability 1 it mirrors half of them, so that left and right never become equivalent."""
    x = NOISE.uniform("x", 2000, 1, 1, 4)
    for chosen in (1.0, 0.5):
        result = augment(x, ("flip",), torch.tensor(chosen), NOISE)
        mirrored = (result == x.flip(3)).flatten(1).all(1)
        assert torch.equal(torch.where(mirrored[:, None, None, None], x.flip(3), x), result)
        assert float(mirrored.double().mean()) == pytest.approx(chosen / 2, abs=0.04)


def test_translate_shifts_by_whole_pixels_up_to_an_eighth():
    """Each result is a crop of the edge-padded image at one of 5 x 7 offsets; all occur."""
    x = images(400)
    shifted = augment(x, ("translate",), torch.tensor(1.0), NOISE)
    padded = torch.nn.functional.pad(x, (3, 3, 2, 2), mode="replicate")
    shifts = set()
    for original, moved in zip(padded, shifted, strict=True):
        places = [
            (top, left)
            for top in range(5)
            for left in range(7)
            if torch.equal(original[:, top : top + 16, left : left + 24], moved)
        ]
        assert len(places) == 1
        shifts |= set(places)
    assert len(shifts) == 35


def test_cutout_removes_a_box_of_half_of_each_side():
    """Away from the edges it is 8 x 12 pixels in all channels; nothing else changes."""
    x = torch.ones(500, 2, 16, 24)
    cut = augment(x, ("cutout",), torch.tensor(1.0), NOISE)
    assert set(cut.unique().tolist()) == {0.0, 1.0}
    gone = 1 - cut
    rows, columns = (gone.amax(axis).sum(-1) for axis in ((1, 3), (1, 2)))
    assert torch.equal(gone.sum((1, 2, 3)), 2 * rows * columns)  # a box, the same in all channels
    assert (rows.max().item(), columns.max().item()) == (8, 12)
    assert (rows == 8).float().mean().item() == pytest.approx(9 / 16, abs=0.07)


def test_erase_removes_a_box_of_an_eighth_to_three_eighths():
    """Away from the edges its sides are uniform from 2 to 6 of 16 and from 3 to 9 of 24."""
    x = torch.ones(4000, 2, 16, 24)
    gone = 1 - augment(x, ("erase",), torch.tensor(1.0), NOISE)
    rows, columns = (gone.amax(axis).sum(-1) for axis in ((1, 3), (1, 2)))
    assert torch.equal(gone.sum((1, 2, 3)), 2 * rows * columns)
    edges = gone[:, 0, [0, -1]].amax((1, 2)) + gone[:, 0, :, [0, -1]].amax((1, 2))
    for sides, minimum, maximum in ((rows, 2, 6), (columns, 3, 9)):
        inside = sides[edges == 0]
        assert (inside.min().item(), inside.max().item()) == (minimum, maximum)
        assert inside.mean().item() == pytest.approx((minimum + maximum) / 2, rel=0.06)


def test_color_changes_nothing_in_expectation():
    """Brightness, saturation and contrast are affine in the pixels, with the image as mean."""
    x = images(1, 3, 8, 8).expand(6000, 3, 8, 8)
    recolored = augment(x, ("color",), torch.tensor(1.0), NOISE)
    torch.testing.assert_close(recolored.mean(0), x[0], rtol=0, atol=0.05)
    brighter = (recolored - x).mean((1, 2, 3))
    assert brighter.abs().max().item() == pytest.approx(0.25, abs=0.01)
    gray, was = (
        colors.mean(1) - colors.mean((1, 2, 3))[:, None, None] for colors in (recolored, x)
    )
    contrast = (gray * was).sum((1, 2)) / was.square().sum((1, 2))
    torch.testing.assert_close(gray, contrast[:, None, None] * was, rtol=1e-3, atol=1e-4)
    assert (contrast.min().item(), contrast.max().item()) == pytest.approx((0.5, 1.5), abs=0.01)


def test_kinds_of_augmentation_are_independent():
    """The images that one kind changes are independent of those that another changes."""
    x, half = images(4000, 3, 8, 8), torch.tensor(0.5)
    changed = [(augment(x, (kind,), half, NOISE) != x).flatten(1).any(1).double() for kind in ALL]
    difference = torch.corrcoef(torch.stack(changed)) - torch.eye(len(ALL))
    assert difference.abs().max().item() < 4 / math.sqrt(4000)
    # Together they do in turn what each does alone.
    expected = x
    for kind in ALL:
        expected = augment(expected, (kind,), half, NOISE)
    assert torch.equal(augment(x, ALL, half, NOISE), expected)
    # Boxes that two kinds cut lie apart, too.
    ones = torch.ones(4000, 1, 16, 16)
    rows = torch.arange(16.0)[:, None]
    middles = []
    for kind in ("cutout", "erase"):
        gone = 1 - augment(ones, (kind,), torch.tensor(1.0), NOISE)
        middles.append((gone * rows).sum((1, 2, 3)) / gone.sum((1, 2, 3)))
    assert abs(torch.corrcoef(torch.stack(middles))[0, 1].item()) < 4 / math.sqrt(4000)


def test_color_equals_its_formula():
    """x + b; s times as far from the pixel's gray; c times as far from the mean of the image."""
    x = images(50, 3, 5, 4).double().numpy()
    result = augment(torch.from_numpy(x).float(), ("color",), torch.tensor(1.0), NOISE)
    brighter, colorful, contrast = (
        NOISE.fold_in("augment colour").uniform("colour", 50, 3, 1, 1, 1).double().numpy()[:, i]
        for i in range(3)
    )
    for n in range(50):
        moved = x[n] + (brighter[n] - 0.5) / 2
        gray = moved.mean(axis=0)
        moved = gray + 2 * colorful[n] * (moved - gray)
        middle = moved.mean()
        moved = middle + (0.5 + contrast[n]) * (moved - middle)
        torch.testing.assert_close(
            result[n].double(), torch.from_numpy(moved), rtol=1e-4, atol=1e-5
        )


def test_bilinear_values_equal_those_of_grid_sample():
    x = images(8, 2, 12, 9)
    rows, columns = (
        NOISE.uniform(name, 8, 12, 9, low=-3.0, high=14.0) for name in ("rows", "columns")
    )
    grid = torch.stack((2 * columns / 8 - 1, 2 * rows / 11 - 1), 3)
    expected = torch.nn.functional.grid_sample(x, grid, padding_mode="border", align_corners=True)
    torch.testing.assert_close(_bilinear(x, rows, columns), expected)


def test_affine_rotates_scales_and_shears_about_the_center_within_its_ranges():
    """The map is read off images of their own coordinates: columns = scale (turn - shear)."""
    n, side = 2000, 33
    place = torch.arange(side) - 16.0
    x = torch.stack(torch.meshgrid(place, place, indexing="ij")).expand(n, 2, side, side)
    moved = augment(x, ("affine",), torch.tensor(1.0), NOISE)[:, :, 8:25, 8:25]
    torch.testing.assert_close(moved[:, :, 8, 8], torch.zeros(n, 2), rtol=0, atol=1e-4)
    of_row, of_column = (moved.diff(dim=axis).mean((2, 3)) for axis in (2, 3))
    high, turn = of_row[:, 0].hypot(of_column[:, 0]), of_column[:, 0].atan2(of_row[:, 0])
    wide = of_column[:, 1] / turn.cos()
    shear = of_row[:, 1] / wide + turn.sin()
    for result, middle, bound in (
        (turn.rad2deg(), 0.0, 15.0),
        (high, 1.0, 0.15),
        (wide, 1.0, 0.15),
        (shear, 0.0, 0.2),
    ):
        spread = (result - middle).abs().max().item()
        assert 0.98 * bound < spread < 1.001 * bound
        assert result.mean().item() == pytest.approx(middle, abs=0.05 * bound)
    difference = torch.corrcoef(torch.stack((turn, high, wide, shear))) - torch.eye(4)
    assert difference.abs().max().item() < 5 / math.sqrt(n)


def test_elastic_shifts_are_normal_at_grid_points_and_smooth_between():
    """The field is read off images of their own coordinates, away from the edges."""
    n, side = 2000, 33
    place = torch.arange(side) * 1.0
    x = torch.stack(torch.meshgrid(place, place, indexing="ij")).expand(n, 2, side, side)
    shift = (augment(x, ("elastic",), torch.tensor(1.0), NOISE) - x)[:, :, 8:25, 8:25]
    knots = shift[:, :, ::8, ::8] / side
    assert knots.std().item() == pytest.approx(0.04, rel=0.03)
    assert knots.mean().item() == pytest.approx(0.0, abs=0.001)
    products = knots[..., 0] * knots[..., 1]
    assert products.mean().item() == pytest.approx(0.0, abs=0.04**2 / 20)
    # Half way between knots a cubic weighs them with .594 and -.094 along each side.
    between = (2 * (0.59375**2 + 0.09375**2)) ** 2
    ratio = shift[:, :, 4, 4].var().item() / shift[:, :, 8, 8].var().item()
    assert ratio == pytest.approx(between, rel=0.1)
    # From pixel to pixel an eighth of a knot's way, and no jump.
    bends = shift.diff(n=2, dim=3).std().item()
    assert bends < 0.1 * shift.std().item()


def test_concatenated_batches_are_augmented_as_separate_ones():
    """Images and samples in one pass, or in two, are augmented alike."""
    real, fake = images(8), images(8) + 1
    half = torch.tensor(0.5)
    joint = augment(torch.cat((real, fake)), ALL, half, NOISE.split_streams("real", "fake"))
    separate = [
        augment(x, ALL, half, NOISE.split_streams(name))
        for x, name in ((real, "real"), (fake, "fake"))
    ]
    assert torch.equal(joint, torch.cat(separate))


def test_second_derivatives_are_right():
    """Gradient penalties need them; checked by finite differences."""
    x = images(3, 2, 8, 8).double().requires_grad_()
    probability = torch.tensor(1.0)
    # Of a square, so that the second derivative is not 0.
    assert torch.autograd.gradgradcheck(
        lambda x: augment(x, ALL, probability, NOISE).square().sum(), x, atol=1e-6
    )
