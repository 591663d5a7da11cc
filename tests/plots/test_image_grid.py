import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advnets.errors import UsageError, WriteError
from advnets.plots.image_grid import GridLayout, grid, save_grid
from advnets.plots.sample_files import (
    output_format,
    save_grid_from_blocks,
    save_images,
    save_images_array,
    save_points_array,
)

GAP, GRAY = 2, 128


def random_images(n: int, *shape: int) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


def pasted_grid(images: torch.Tensor, columns: int, scale: int) -> np.ndarray:
    """Return the grid, made by pasting one enlarged image after another."""
    n, _, height, width = images.shape
    tall, wide = height * scale + GAP, width * scale + GAP
    canvas = np.full((math.ceil(n / columns) * tall + GAP, columns * wide + GAP, 3), GRAY, np.uint8)
    for i, image in enumerate((images * 255).round().to(torch.uint8)):
        top, left = i // columns * tall + GAP, i % columns * wide + GAP
        square = np.kron(image.permute(1, 2, 0).numpy(), np.ones((scale, scale, 1), np.uint8))
        canvas[top : top + height * scale, left : left + width * scale] = square
    return canvas


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("n", "columns", "scale"), [(1, 1, 1), (6, 3, 2), (7, 3, 1), (5, 2, 4)])
def test_every_image_is_at_its_position(channels, n, columns, scale):
    """The grid equals one of pasted enlarged images, byte for byte."""
    images = random_images(n, channels, 4, 5)
    image = grid(images, columns=columns, scale=scale)
    assert image.mode == {1: "L", 3: "RGB"}[channels]
    expected = pasted_grid(images, columns, scale)
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), expected)


@pytest.mark.parametrize(
    ("side", "scale"), [(1, 48), (8, 6), (20, 3), (28, 2), (32, 2), (48, 1), (64, 1)]
)
def test_small_images_are_enlarged(side, scale):
    """The default is the smallest integer scale with tiles of 48 pixels or more."""
    assert grid(random_images(1, 1, side, side)).width == side * scale + 2 * GAP


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (2, 2), (9, 3), (10, 4), (100, 10)])
def test_grids_are_nearly_square(n, columns):
    assert grid(random_images(n, 1, 48, 48)).width == columns * (48 + GAP) + GAP


def test_there_are_no_empty_columns():
    """With more columns than images the grid is one row of the images."""
    assert grid(random_images(3, 1, 48, 48), columns=10).width == 3 * (48 + GAP) + GAP


def test_black_and_white_are_exact():
    """0 becomes byte 0, and 1 byte 255."""
    image = np.asarray(grid(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1), scale=1))
    assert image[GAP, GAP] == 0
    assert image[GAP, 2 * GAP + 1] == 255


def test_a_saved_grid_is_the_grid(tmp_path):
    image = grid(random_images(4, 3, 8, 8))
    save_grid(image, tmp_path / "new" / "grid.png")
    with Image.open(tmp_path / "new" / "grid.png") as loaded:
        np.testing.assert_array_equal(np.asarray(loaded), np.asarray(image))


def test_a_grid_that_cannot_be_saved_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match="could not be written"):
        save_grid(grid(random_images(1, 1, 8, 8)), tmp_path / "file" / "grid.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_saved_as_single_files(tmp_path, channels):
    """Sorted files are in the order of the images, with their exact bytes and size."""
    images = random_images(12, channels, 6, 7)
    save_images(images.split(5), 12, tmp_path / "new" / "images")
    files = sorted((tmp_path / "new" / "images").iterdir())
    assert [file.name for file in files] == [f"{i:05}.png" for i in range(12)]
    for file, image in zip(files, images, strict=True):
        with Image.open(file) as loaded:
            array = np.asarray(loaded).reshape(6, 7, channels)
        np.testing.assert_array_equal(array, (image * 255).round().permute(1, 2, 0).numpy())


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"file could not be written \(File exists\)"):
        save_images([random_images(1, 1, 2, 2)], 1, tmp_path / "file")


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.zeros(0, 1, 8, 8), r"images have shape \(0, 1, 8, 8\); give at least one"),
        (torch.zeros(2, 2, 8, 8), "images have 2 channels; expected 1 .gray. or 3 .RGB."),
        (torch.full((1, 1, 1, 2), -1.0), "values from -1 to -1; expected 0 to 1: rescale them"),
        (torch.full((1, 1, 1, 2), 255.0), "values from 255 to 255; expected 0 to 1"),
        (torch.full((1, 1, 1, 2), math.nan), "values from nan to nan; expected 0 to 1"),
    ],
)
def test_invalid_images_are_refused(tmp_path, images, sentence):
    """Values are not clipped or rescaled, and nothing is written."""
    with pytest.raises(UsageError, match=sentence):
        grid(images)
    with pytest.raises(UsageError, match=sentence):
        save_images([images], len(images), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["columns", "scale"])
def test_less_than_one_is_refused(name):
    with pytest.raises(UsageError, match=f"{name} is 0; expected 1 or more"):
        grid(random_images(1, 1, 2, 2), **{name: 0})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("n", "columns"), [(1, None), (11, None), (11, 4), (12, 4), (30, 100)])
@pytest.mark.parametrize("block", [1, 4, 7, 100])
def test_a_grid_written_row_by_row_is_the_grid(tmp_path, channels, n, columns, block):
    """The file has the pixels of `grid` for blocks of any size."""
    images = random_images(n, channels, 5, 6)
    layout = GridLayout.create(n, (channels, 5, 6), columns)
    save_grid_from_blocks(images.split(block), layout, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as image:
        image.verify()
    with Image.open(tmp_path / "grid.png") as image:
        assert image.mode == {1: "L", 3: "RGB"}[channels]
        assert image.size == (layout.width, layout.height)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(grid(images, columns)))


def test_an_array_written_block_by_block_is_that_of_numpy(tmp_path):
    first_images = random_images(11, 3, 5, 6)
    save_images_array(first_images.split(4), 11, (3, 5, 6), tmp_path / "a.npz")
    images = (first_images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez_compressed(tmp_path / "b.npz", images=images)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    points = torch.randn(11, 2, 1, 1)
    save_points_array(points.split(4), 11, 2, tmp_path / "p.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "p.npz")["points"], points.flatten(1))


@pytest.mark.parametrize("write", [save_grid_from_blocks, save_images_array, save_images])
def test_an_error_while_drawing_leaves_no_file(tmp_path, write):
    def blocks():
        yield random_images(4, 1, 5, 6)
        raise UsageError("no more")

    out = tmp_path / "deep" / "out"
    metadata = {
        save_grid_from_blocks: (GridLayout.create(8, (1, 5, 6), None), out),
        save_images_array: (8, (1, 5, 6), out),
        save_images: (8, out),
    }
    with pytest.raises(UsageError, match="no more"):
        write(blocks(), *metadata[write])
    assert not list(tmp_path.iterdir())


def test_numbered_files_are_replaced_together_or_not_at_all(tmp_path):
    """All old files are replaced, or on a failure none; other files remain."""
    old, new = random_images(9, 1, 5, 6), 1 - random_images(3, 1, 5, 6)
    save_images([old], 9, tmp_path)
    (tmp_path / ".DS_Store").touch()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def failing():
        yield new
        raise OSError(28, "No space left on device")

    with pytest.raises(
        UsageError, match=r"9 numbered PNG files \(00000.png, …\); give another fol"
    ):
        save_images([new], 3, tmp_path)
    with pytest.raises(WriteError, match="No space left"):
        save_images(failing(), 6, tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    save_images([new], 3, tmp_path, overwrite=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".DS_Store", "00000.png", "00001.png", "00002.png"]
    with Image.open(tmp_path / "00002.png") as image:
        np.testing.assert_array_equal(np.asarray(image), (new[2, 0] * 255).round())


def test_other_files_are_never_replaced(tmp_path):
    (tmp_path / "1.png").touch()
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"has 1\.png; expected a new"):
            save_images([random_images(1, 1, 5, 6)], 1, tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.png", "grid"),
        ("a.PNG", "grid"),
        ("a.npz", "array"),
        ("samples", "folder"),
        ("samples.v1", "folder"),
        ("2026.11.30", "folder"),
        (".hidden", "folder"),
    ],
)
def test_the_suffix_is_that_of_the_format(name, form):
    assert output_format(Path(name)) == form


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "gif", "webp", "npy", "zip", "mp4", "csv"])
def test_other_file_formats_are_refused(ending):
    with pytest.raises(
        UsageError, match=f"ends in .{ending}; give a name that ends in .png or .npz, or a"
    ):
        output_format(Path(f"samples.{ending}"))
