"""Readers of data do not wait for pipes or devices."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advnets.data.datasets.fetch import extract
from advnets.errors import DataError

SUFFIXES = ("zip", "csv", "npy", "mat", "parquet", "tar", "png", "")


def check(path: Path) -> subprocess.CompletedProcess[str]:
    """Run `advnets data audit`, which must not hang."""
    return subprocess.run(
        [sys.executable, "-m", "advnets", "data", "audit", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_pipe_given_as_data_is_refused(tmp_path, run_command):
    """The name does not matter. A thread makes a reader that blocks fail the test."""
    results: list[tuple[int, str, str]] = []
    for suffix in SUFFIXES:
        path = tmp_path / f"pipe.{suffix}".rstrip(".")
        os.mkfifo(path)
        results.clear()
        thread = threading.Thread(
            target=lambda p=path: results.append(run_command("data", "audit", p))
        )
        thread.daemon = True
        thread.start()
        thread.join(60)
        assert results, f"{path.name} is waited for"
        code, _, errors = results[0]
        assert code == 1
        assert "a named pipe, not a regular file" in errors


def test_an_endless_device_is_refused(tmp_path):
    """A link to /dev/zero, by each name."""
    for suffix in SUFFIXES[:3]:
        path = tmp_path / f"zero.{suffix}"
        path.symlink_to("/dev/zero")
        completed = check(path)
        assert completed.returncode == 1
        assert "a device, not a regular file" in completed.stderr


@pytest.mark.parametrize(
    "name", ["train-images-idx3-ubyte", "data_batch_1.bin", "train_32x32.mat", "a.parquet", "a.tar"]
)
def test_a_pipe_within_a_folder_of_data_is_refused(tmp_path, name):
    """A pipe among files of a dataset or shards is refused, or is not taken for one."""
    os.mkfifo(tmp_path / name)
    completed = check(tmp_path)
    assert completed.returncode == 1, completed.stdout
    assert "bug of advnets" not in completed.stderr


def test_pipes_and_devices_among_images_are_named(tmp_path):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    completed = check(tmp_path)
    assert completed.returncode == 0
    assert "pipe.png cannot be read: a named pipe, not a regular file" in completed.stdout


def test_a_pipe_in_place_of_an_archive_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a named pipe"):
        extract(tmp_path / "pipe", (), tmp_path / "out")


@pytest.mark.parametrize("name", ["pack.json", "images.npy", "labels.npy"])
def test_a_pipe_within_a_pack_is_refused(tmp_path, name):
    for i in range(4):
        place = tmp_path / "images" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9), i, np.uint8)).save(place / f"{i}.png")
    command = [sys.executable, "-m", "advnets", "data", "pack"]
    subprocess.run([*command, str(tmp_path / "images"), str(tmp_path / "pack")], check=True)
    (tmp_path / "pack" / name).unlink()
    os.mkfifo(tmp_path / "pack" / name)
    completed = check(tmp_path / "pack")
    assert completed.returncode == 1
    assert "bug of advnets" not in completed.stderr
    shutil.rmtree(tmp_path / "pack")


def test_the_error_of_a_table_names_the_path(tmp_path):
    from advnets.data.synthetic.kde import read_point_file

    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match=r"pipe.csv cannot be read \(a named pipe, not a regular"):
        read_point_file(tmp_path / "pipe.csv")
