"""Size and speed on real files: takes minutes and prints its numbers (`pytest -m slow -s`)."""

import statistics
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from advnets import config, presets
from advnets.data.image_folder.decode import Frame
from advnets.data.image_folder.pack import IMAGES, find_images, pack, write_record
from advnets.data.prepared import open_data
from advnets.experiment import setup
from advnets.protocols import Batch
from advnets.training.step import TrainState, train_step

pytestmark = pytest.mark.slow

ADVNETS = Path(sys.executable).parent / "advnets"
SIXTY_THOUSAND = 60_000


@pytest.fixture(scope="module")
def jpegs(real_data) -> Path:
    """Return the path of CIFAR-10 as a zip of 60,000 JPEGs."""
    path = real_data / "cifar10" / "cifar10-jpg.zip"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def test_sixty_thousand_jpegs_are_packed_in_fifteen_seconds(jpegs, tmp_path):
    """Measured on two cores, including the start of the process."""
    began = time.monotonic()
    completed = subprocess.run(
        [ADVNETS, "data", "pack", jpegs, tmp_path / "pack"],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.monotonic() - began
    print(f"\n{completed.stdout}from typing to the end: {seconds:.1f} s")
    assert seconds < 15


def test_a_second_start_on_sixty_thousand_files_takes_under_three_seconds(jpegs, tmp_path):
    """Measured from the command to the start of training, on a packed folder of 60,000 files."""
    folder = tmp_path / "folder"
    with zipfile.ZipFile(jpegs) as archive:
        archive.extractall(folder)
    seconds: list[float] = []
    for start in range(4):
        out = tmp_path / f"run{start}"
        began = time.monotonic()
        process = subprocess.Popen(
            [ADVNETS, "train", folder, "--steps", "1", "--out", out],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        assert process.stderr.readline().startswith("training ")
        seconds.append(time.monotonic() - began)
        process.communicate()
    print(f"\nfirst start {seconds[0]:.1f} s, then", *(f"{second:.2f} s" for second in seconds[1:]))
    assert statistics.median(seconds[1:]) < 3


@pytest.fixture
def million(tmp_path) -> Path:
    """Write a pack of a million 64x64x3 images: one random block, repeated."""
    folder = tmp_path / "million"
    folder.mkdir()
    block = np.random.default_rng(0).integers(0, 256, (5000, 3, 64, 64), dtype=np.uint8)
    shape = (1_000_000, 3, 64, 64)
    images = np.lib.format.open_memmap(folder / IMAGES, "w+", np.uint8, shape)
    for start in range(0, len(images), len(block)):
        images[start : start + len(block)] = block
    images.flush()
    write_record(
        folder,
        Frame(64, 64),
        name="million",
        counts=(980_000, 10_000, 10_000, 0),
        classes=(),
        skipped_files=(),
        unsupported_files={},
        notes=(),
        identity="",
    )
    return folder


def memory(process: subprocess.Popen[str]) -> Iterator[dict[str, int]]:
    """Return the memory of a running process in MiB."""
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        except OSError:
            return
        fields = dict(line.split(":", 1) for line in lines)
        if "RssAnon" in fields:
            yield {name: int(fields[name].split()[0]) >> 10 for name in ("RssAnon", "RssFile")}
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc here")
def test_a_million_images_take_little_memory(million, tmp_path):
    """Training needs less than 2 GiB of anonymous memory; mapped memory can be released."""
    process = subprocess.Popen(
        [ADVNETS, "train", million, "--steps", "200", "--out", tmp_path / "run"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    samples = list(memory(process))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    maximum = {name: max(sample[name] for sample in samples) for name in ("RssAnon", "RssFile")}
    print(
        f"\na million 64x64x3 images: RssAnon {maximum['RssAnon']} MiB at most, {maximum}\n{errors}"
    )
    assert maximum["RssAnon"] < 2048


class Constant:
    """A loader that returns the same batch."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def batch_at(self, index: int) -> Batch:
        return self._batch

    def epoch_at(self, index: int) -> float:
        return 0.0


def seconds_of(table: TrainState) -> float:
    began = time.perf_counter()
    train_step(table)
    return time.perf_counter() - began


@pytest.mark.parametrize(
    ("crop", "flip"), [("center", False), ("center", True), ("random", False), ("random", True)]
)
def test_a_pack_is_as_fast_as_a_constant_batch(jpegs, tmp_path, crop, flip):
    """With the smallest networks, whose speed depends most on the data: at least 0.95 x."""
    frame = Frame(28, 32, crop=crop) if crop == "random" else Frame(32, 32)
    pack(find_images(jpegs), frame, tmp_path / "pack")
    start = presets.get_preset("digits")
    run = replace(start, data=replace(start.data, source=str(tmp_path / "pack"), hflip=flip))
    data = open_data(run.data)
    run = setup.resolve_config(run, data.info, config.Runtime("cpu", "float32", 1))
    torch.set_num_threads(1)
    fed, constant = (setup.make_train_state(run, data, 0, torch.device("cpu")) for _ in range(2))
    constant.loader = Constant(fed.loader.batch_at(0))
    for table in (fed, constant):
        for _ in range(10):
            train_step(table)
    pairs = [(seconds_of(constant), seconds_of(fed)) for _ in range(300)]
    ratio = statistics.median(first for first, _ in pairs) / statistics.median(
        second for _, second in pairs
    )
    print(f"\ncrop {crop}, flip {flip}: {ratio:.3f} x the loop on a constant batch")
    assert ratio >= 0.95
