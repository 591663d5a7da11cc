"""Batches of a stream depend only on seed and index."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advnets.config import Data
from advnets.data.dataset import ArraySplit, Dataset
from advnets.data.huggingface.open import Hub, find_hub_path
from advnets.data.image_folder.pack import to_dataset
from advnets.data.loader import BatchTransform, StreamingLoader, make_loader
from advnets.data.normalization import UnitNormalizer, fit_normalizer
from advnets.errors import DataError
from advnets.experiment.train import train
from advnets.rng import RNG
from advnets.run_directory import RunDirectory
from advnets.training.checkpoint import read_checkpoint


def open_hub_path(path: Path, options: Hub, data: Data) -> Dataset:
    return to_dataset(find_hub_path(path, options, data), data)


@dataclass
class Counting:
    """A stream of numbers that records the requests for its rows."""

    n: int = 10
    length: int | None = None
    labeled: bool = True
    shape: tuple[int, int, int] = (1, 1, 2)
    white_level: int = 255
    fails_at: tuple[int, int] = (-1, -1)  # epoch and place
    requests: list[object] = field(default_factory=list)

    def order(self, seed: int, epoch: int) -> list[int]:
        return RNG(seed, step=epoch).permutation("order", self.n).tolist()

    def read_epoch(self, seed, epoch, skip, rank, world) -> Iterator[tuple[np.ndarray, int | None]]:
        self.requests.append((epoch, skip))
        for place, number in enumerate(self.order(seed, epoch)[rank::world]):
            if (epoch, place) == self.fails_at:
                raise DataError("this row is broken; mend it")
            if place >= skip:
                image = np.array([[[number, 100 + number]]], np.uint8)
                yield image, number % 3 if self.labeled else None

    def count(self, rank: int, world: int, limit: int | None = None) -> int:
        self.requests.append("count")
        count = len(range(rank, self.n, world))
        return count if limit is None else min(count, limit)

    def head(self, n: int) -> ArraySplit:
        return ArraySplit(np.zeros((1, *self.shape), np.uint8))

    def digest(self) -> str:
        return ""


def loader_of(stream, rows: int = 4, seed: int = 0, **fields) -> StreamingLoader:
    feed = BatchTransform(
        UnitNormalizer(white_level=1.0), rows, seed, torch.device("cpu"), **fields
    )
    return StreamingLoader(stream, feed)


def numbers(batch) -> list[int]:
    return batch.images[:, 0, 0, 0].int().tolist()


@pytest.fixture(params=[None, 10], ids=["length unknown", "length known"])
def stream(request) -> Counting:
    return Counting(length=request.param)


def expected(stream: Counting, n: int, seed: int = 0, rank: int = 0, world: int = 1) -> list[int]:
    rows: list[int] = []
    for epoch in range(n):
        rows += stream.order(seed, epoch)[rank::world]
        if len(rows) >= n:
            break
    return rows[:n]


def test_epochs_are_concatenated(stream):
    """Each row once per epoch; the last batch of an epoch contains the first rows of the next."""
    batches = loader_of(stream)
    rows = [numbers(batches.batch_at(i)) for i in range(10)]
    assert sum(rows, []) == expected(stream, 40)  # noqa: RUF017
    assert batches.batch_at(9).labels.tolist() == [number % 3 for number in rows[9]]
    assert "count" not in stream.requests  # only resumed processes skip


@pytest.mark.parametrize("rows", [1, 3, 4, 10, 25])
@pytest.mark.parametrize("world", [1, 2])
def test_a_batch_is_a_function_of_seed_and_index(stream, rows, world):
    """Bit-identical in a new loader, after other batches, and after going back."""
    if rows % world:
        return
    for rank in range(world):
        share = {"rank": rank, "world_size": world, "hflip": True}
        batches = loader_of(stream, rows, seed=3, **share)
        first = {i: batches.batch_at(i).images.clone() for i in range(9)}
        for i in (7, 2, 3, 8, 0, 0, 1):
            assert torch.equal(batches.batch_at(i).images, first[i])
        for i in (0, 1, 5, 7):
            fresh = loader_of(stream, rows, seed=3, **share)
            assert torch.equal(fresh.batch_at(i).images, first[i])
            assert torch.equal(fresh.batch_at(i + 1).images, first[i + 1])


def test_a_repeated_request_returns_the_same_object(stream):
    batches = loader_of(stream)
    assert batches.batch_at(3) is batches.batch_at(3)


def test_each_rank_reads_only_its_rows(stream):
    """Each through its own share, and none sees a row of another's."""
    pair = [loader_of(stream, 6, rank=rank, world_size=2) for rank in range(2)]
    rows = [[n for i in range(5) for n in numbers(loader.batch_at(i))] for loader in pair]
    assert rows == [expected(stream, 15, rank=rank, world=2) for rank in range(2)]


def test_the_epoch_is_0_if_the_length_is_unknown(stream):
    """The images that a process has read before make no difference."""
    batches = loader_of(stream)
    before = [batches.epoch_at(i) for i in (0, 5, 6)]
    for i in range(8):
        batches.batch_at(i)
    assert [batches.epoch_at(i) for i in (0, 5, 6)] == before
    assert before == ([0.0, 2.0, 2.4] if stream.length else [0.0, 0.0, 0.0])
    assert loader_of(stream, rank=1, world_size=2).epoch_at(5) == before[1]


def test_streams_without_labels_have_batches_without_labels(stream):
    assert loader_of(replace(stream, labeled=False)).batch_at(0).labels is None


def test_images_are_flipped_by_index(stream):
    """Whether they are at the beginning of a batch or continue the last one."""
    batches = loader_of(stream, 40, hflip=True)
    rows = batches.batch_at(2).images[:, 0, 0]
    mirrored = rows[:, 0] >= 100
    assert 5 < mirrored.sum() < 35
    assert torch.equal(rows.amin(1).int(), torch.tensor(expected(stream, 120)[80:]).int())
    rng = RNG(0, step=2, purpose="batch")
    assert torch.equal(mirrored, rng.uniform("flip", 40) < 0.5)


def test_an_error_is_raised_for_its_batch(stream):
    """Also one that occurred while reading ahead: earlier batches are complete, the error is raised
    again on a new request, and other indices are not affected."""
    failing = replace(stream, fails_at=(1, 3))  # in the fourth batch
    batches = loader_of(failing)
    for i in range(3):
        assert numbers(batches.batch_at(i)) == expected(stream, 40)[4 * i : 4 * i + 4]
    for _ in range(2):
        with pytest.raises(DataError, match="this row is broken"):
            batches.batch_at(3)
    assert numbers(batches.batch_at(1)) == expected(stream, 40)[4:8]
    batches.batch_at(2)  # batch 3 is read ahead
    assert numbers(batches.batch_at(0)) == expected(stream, 40)[:4]


@pytest.mark.parametrize("first", [0, 3])
def test_a_rank_without_rows_is_refused(first):
    """There are more processes than rows."""
    with pytest.raises(
        DataError, match="rank 2 of 3 has no images in an epoch; use fewer processes"
    ):
        loader_of(Counting(n=2), 3, rank=2, world_size=3).batch_at(first)


def test_the_thread_ends_with_its_loader(stream):
    def reading() -> set[threading.Thread]:
        return {t for t in threading.enumerate() if t.name.startswith("advnets-stream")}

    before = reading()
    batches = loader_of(stream)
    batches.batch_at(0)
    (thread,) = reading() - before
    del batches
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


CODE = """
import sys
from advnets.config import Data
from advnets.data.huggingface.open import Hub, find_hub_path
from advnets.data.normalization import fit_normalizer
from advnets.data.loader import BatchTransform, make_loader
from pathlib import Path
import torch
from PIL import Image
torch.set_num_threads(1)
stream = find_hub_path(Path(sys.argv[1]), Hub(), Data(size=8, channels=1, stream=True)).train
normalizer = fit_normalizer("unit", stream)
batches = make_loader(stream, BatchTransform(normalizer, 5, 0, torch.device("cpu")))
for i in range(int(sys.argv[2])):
    batches.batch_at(i)
if sys.argv[3] == "raise":
    raise SystemExit(7)
"""


@pytest.mark.parametrize(("kind", "end"), [("parquet", "return"), ("tar", "raise")])
def test_a_program_can_end_in_the_middle_of_an_epoch(tmp_path, write_parquet, write_tar, kind, end):
    """It does not wait or crash, and prints nothing."""
    write = write_parquet if kind == "parquet" else write_tar
    for i in range(3):
        write(tmp_path / f"train-{i}.{kind}", range(20 * i, 20 * i + 20))
    (tmp_path / "README.md").write_text("# A card without metadata")
    command = [sys.executable, "-c", CODE, str(tmp_path), "3", end]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (completed.returncode, completed.stdout, completed.stderr) == (
        7 if end == "raise" else 0,
        "",
        "",
    )


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_batches_of_shards_are_reproducible_bit_by_bit(tmp_path, write_parquet, write_tar, kind):
    """Over the end of an epoch, with random crops."""
    write = write_parquet if kind == "parquet" else write_tar
    for i in range(3):
        write(tmp_path / f"train-{i}.{kind}", range(7 * i, 7 * i + 7))
    data = Data(size=6, width=4, channels=1, stream=True, crop="random")
    opened = open_hub_path(tmp_path, Hub(), data).train
    scaling = fit_normalizer("unit", opened)
    feed = BatchTransform(scaling, 5, 1, torch.device("cpu"), hflip=True)
    batches = make_loader(opened, feed)
    assert isinstance(batches, StreamingLoader)
    first = [batches.batch_at(i) for i in range(10)]
    for i in (4, 9):
        fresh = make_loader(open_hub_path(tmp_path, Hub(), data).train, feed).batch_at(i)
        assert torch.equal(fresh.images, first[i].images)
        assert torch.equal(fresh.labels, first[i].labels)


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_a_run_on_a_stream_resumes_bit_exactly(
    tmp_path, tiny, write_parquet, write_tar, kind, console
):
    """6 + 6 steps equal 12 steps, over the end of an epoch."""
    write = write_parquet if kind == "parquet" else write_tar
    for i in range(3):
        write(tmp_path / "set" / f"train-{i}.{kind}", range(30 * i, 30 * i + 30))
    data = Data(
        source=str(tmp_path / "set"), stream=True, size=8, channels=1, batch_size=20, hflip=True
    )

    def run_config(steps: int):
        return replace(tiny, data=data, stages=(replace(tiny.stage, steps=steps),))

    ends = []
    for name, parts in {"whole": [12], "halves": [6, 12]}.items():
        for i, steps in enumerate(parts):
            train(run_config(steps), tmp_path / name, [console], resume=i > 0)
        ends.append(read_checkpoint(RunDirectory(tmp_path / name).newest_checkpoint()))
    uninterrupted, halves = ends
    assert uninterrupted.tensors.keys() == halves.tensors.keys()
    for name, tensor in uninterrupted.tensors.items():
        assert torch.equal(tensor, halves.tensors[name]), name
    assert uninterrupted.metadata["progress"] == halves.metadata["progress"]
    facts = RunDirectory(tmp_path / "whole").read_config()["data"]
    assert facts["train"] == (90 if kind == "parquet" else None)


def test_invalid_metadata_give_no_warning(tmp_path, write_parquet):
    """Neither in the reading thread, where warnings cannot be caught."""
    content = io.BytesIO()
    odd = b"Exif\0\0MM\0*\0\0\0\x08\0\x05" + b"\1" * 20
    Image.new("L", (8, 8), 9).save(content, "JPEG", exif=odd)
    path = write_parquet(tmp_path / "x.parquet", [content.getvalue()] * 3)
    opened = open_hub_path(path, Hub(), Data(size=8, channels=1, stream=True)).train
    feed = BatchTransform(UnitNormalizer(), 2, 0, torch.device("cpu"))
    with warnings.catch_warnings():  # as a user would see them
        batch = make_loader(opened, feed).batch_at(2)
    assert torch.equal((batch.images * 255).round(), torch.full((2, 1, 8, 8), 9.0))
