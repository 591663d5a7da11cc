from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from advnets.data.cifar import open_cifar10, open_cifar10_folder
from advnets.errors import DataError

NAMES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]


@pytest.fixture
def cifar(tmp_path) -> Path:
    """Batches of zeros, which take no room on the disk, with a known first and last record."""
    folder = tmp_path / "cifar10" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for i, name in enumerate(NAMES):
        path = folder / name
        path.touch()
        os.truncate(path, 30_730_000)
        with path.open("r+b") as file:
            file.write(
                bytes([i]) + bytes([10 + i]) * 1024 + bytes([20]) * 1024 + bytes([30]) * 1024
            )
            file.seek(-3073, os.SEEK_END)
            file.write(bytes([9]) + np.arange(3072).astype(np.uint8).tobytes())
    return folder


def test_batches_become_splits(cifar, tmp_path):
    """Four batches train, the fifth validates; a record is its label, then three planes."""
    splits = open_cifar10([tmp_path / "cifar10", tmp_path])
    assert splits.shape == (3, 32, 32)
    assert splits.valid is not None
    assert splits.test is not None
    assert [len(splits.train), len(splits.valid), len(splits.test)] == [40_000, 10_000, 10_000]
    for i, part in enumerate([splits.train, splits.valid, splits.test]):
        assert part.labels[0] == [0, 4, 5][i]
        assert part.images[0, :, 31, 31].tolist() == [[10, 14, 15][i], 20, 30]
        # Value 32y + x of plane c is at 1024c + 32y + x.
        assert part.labels[-1] == 9
        assert part.images[-1, 2, 3, 7] == (2 * 1024 + 3 * 32 + 7) % 256


def test_absent_batches_have_the_cure(tmp_path):
    """Nothing there: what was looked for, where, and what to unpack."""
    with pytest.raises(DataError, match=r"data_batch_1.bin .* unpack cifar-10-binary.tar.gz in"):
        open_cifar10([tmp_path / "cifar10", tmp_path])


def test_broken_batches_are_named(cifar):
    """A shorter batch, a label past 9 and an absent batch are named."""
    path = cifar / NAMES[4]
    with path.open("r+b") as file:
        file.write(b"\x0a")
    with pytest.raises(DataError, match=r"data_batch_5.bin has the label 10"):
        open_cifar10_folder(cifar)
    os.truncate(path, 3073 * 9999)
    with pytest.raises(DataError, match=r"data_batch_5.bin has 30,726,927 bytes"):
        open_cifar10_folder(cifar)
    path.unlink()
    with pytest.raises(DataError, match=r"data_batch_5.bin cannot be read"):
        open_cifar10_folder(cifar)
