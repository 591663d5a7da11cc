"""Near duplicates by codes of an autoencoder, on digits and copies of them."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from advnets.cli.main import main
from advnets.data.image_folder import audit
from advnets.data.image_folder.audit import autoencoder_codes, group_by_codes

COPIES = 40
STEPS = 500
"""Training steps: few images need few."""


@pytest.fixture(scope="module")
def images():
    """Return 400 digits in color of 32 x 32, then re-encoded or darker copies of the first 40."""
    gray = (load_digits().images[:400] * 15.9).astype(np.uint8)
    tints = np.random.default_rng(0).uniform(0.4, 1, (400, 3, 1, 1))
    large = gray.repeat(4, 1).repeat(4, 2)[:, None] * tints
    first = large.astype(np.uint8)
    return np.concatenate((first, np.stack([copy(first[i], i) for i in range(COPIES)])))


@pytest.fixture(scope="module")
def bits(images):
    """Return their codes, trained once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "STEPS", STEPS)
        return autoencoder_codes(images)


def copy(image, number):
    file_image = Image.fromarray(image.transpose(1, 2, 0))
    if number % 2:
        return (image * 0.96).astype(np.uint8)
    file = io.BytesIO()
    file_image.save(file, "JPEG", quality=70)
    return np.asarray(Image.open(file)).transpose(2, 0, 1)


@pytest.fixture
def coded(bits, monkeypatch):
    """Replace training by these codes."""
    monkeypatch.setattr(audit, "autoencoder_codes", lambda *_: bits)


@pytest.mark.usefixtures("coded")
def test_copies_are_found_with_few_false_positives(images):
    """Radford et al. report less than 1 false collision in 100."""
    groups = group_by_codes(images)
    pairs = {(a, b) for group in groups for a in group for b in group if a < b}
    copies = {(i, 400 + i) for i in range(COPIES)}
    assert len(pairs & copies) >= 0.9 * COPIES
    assert len(pairs - copies) <= 4


def test_codes_are_reproducible(images, monkeypatch):
    monkeypatch.setattr(audit, "STEPS", 20)
    few = images[:50]
    assert np.array_equal(autoencoder_codes(few), autoencoder_codes(few))
    assert autoencoder_codes(few).shape == (50, 128)


@pytest.mark.usefixtures("coded")
def test_groups_equal_those_of_all_pairs(images, bits):
    """Comparing by bands loses no pair."""
    distances = (bits[:, None] != bits[None]).sum(2)
    expected = {
        tuple(pair)
        for pair in np.argwhere(np.triu(distances <= audit.MAX_CODE_DISTANCE, 1)).tolist()
    }
    names = {(a, b) for group in group_by_codes(images) for a in group for b in group if a < b}
    assert len(expected - names) <= 0.02 * len(expected)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_have_no_duplicates(count):
    assert group_by_codes(np.zeros((count, 3, 32, 32), np.uint8)) == []


def test_the_commands_report_and_remove_near_duplicates(images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(audit, "STEPS", 200)
    folder = tmp_path / "own"
    folder.mkdir()
    chosen = [*range(100), *range(400, 410)]
    for number in chosen:
        Image.fromarray(images[number].transpose(1, 2, 0)).save(folder / f"{number:03}.png")
    assert main(["data", "audit", str(folder), "--near-duplicates", "--json"]) == 0
    groups = json.loads(capsys.readouterr().out)["near_duplicates"]
    pairs = [group for group in groups if len(group) == 2]
    assert sum(int(b[:3]) - int(a[:3]) == 400 for a, b in pairs) >= 8
    out = tmp_path / "pack"
    assert main(["data", "pack", str(folder), str(out), "--without-near-duplicates"]) == 0
    run_command = capsys.readouterr().out
    left_out = sum(len(group) - 1 for group in groups)
    assert f"near-duplicates skipped: {left_out}" in run_command
    assert len(np.load(out / "images.npy", mmap_mode="r")) == len(chosen) - left_out
