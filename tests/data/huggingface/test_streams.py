"""Batches of a stream: pure in seed and index, whatever was asked for before."""

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
    """A stream of numbers, which keeps a record of what it was asked."""

    n: int = 10
    length: int | None = None
    labeled: bool = True
    shape: tuple[int, int, int] = (1, 1, 2)
    white_level: int = 255
    fails_at: tuple[int, int] = (-1, -1)  # epoch and place
    asked: list[object] = field(default_factory=list)

    def order(self, seed: int, epoch: int) -> list[int]:
        return RNG(seed, step=epoch).permutation("order", self.n).tolist()

    def read_epoch(self, seed, epoch, skip, rank, world) -> Iterator[tuple[np.ndarray, int | None]]:
        self.asked.append((epoch, skip))
        for place, number in enumerate(self.order(seed, epoch)[rank::world]):
            if (epoch, place) == self.fails_at:
                raise DataError("this row is broken; mend it")
            if place >= skip:
                image = np.array([[[number, 100 + number]]], np.uint8)
                yield image, number % 3 if self.labeled else None

    def count(self, rank: int, world: int) -> int:
        self.asked.append("count")
        return len(range(rank, self.n, world))

    def head(self, n: int) -> ArraySplit:
        return ArraySplit(np.zeros((1, *self.shape), np.uint8))

    def digest(self) -> str:
        return ""


def made(stream, rows: int = 4, seed: int = 0, **fields) -> StreamingLoader:
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


def test_one_pass_follows_the_other(stream):
    """Every row once a pass; the last batch of a pass holds the beginning of the next."""
    batches = made(stream)
    rows = [numbers(batches.batch_at(i)) for i in range(10)]
    assert sum(rows, []) == expected(stream, 40)  # noqa: RUF017
    assert batches.batch_at(9).labels.tolist() == [number % 3 for number in rows[9]]
    assert "count" not in stream.asked  # which is for those who come from elsewhere


@pytest.mark.parametrize("rows", [1, 3, 4, 10, 25])
@pytest.mark.parametrize("world", [1, 2])
def test_a_batch_is_a_function_of_seed_and_index(stream, rows, world):
    """Fresh, after others, and going back: the same bits."""
    if rows < world:
        return
    for rank in range(world):
        share = {"rank": rank, "world_size": world, "hflip": True}
        batches = made(stream, rows, seed=3, **share)
        first = {i: batches.batch_at(i).images.clone() for i in range(9)}
        for i in (7, 2, 3, 8, 0, 0, 1):
            assert torch.equal(batches.batch_at(i).images, first[i])
        for i in (0, 1, 5, 7):
            fresh = made(stream, rows, seed=3, **share)
            assert torch.equal(fresh.batch_at(i).images, first[i])
            assert torch.equal(fresh.batch_at(i + 1).images, first[i + 1])


def test_asked_again_it_is_the_same_object(stream):
    batches = made(stream)
    assert batches.batch_at(3) is batches.batch_at(3)


def test_ranks_go_their_own_ways(stream):
    """Each through its own share, and none sees a row of another's."""
    pair = [made(stream, 6, rank=rank, world_size=2) for rank in range(2)]
    rows = [[n for i in range(5) for n in numbers(one.batch_at(i))] for one in pair]
    assert rows == [expected(stream, 15, rank=rank, world=2) for rank in range(2)]


def test_epochs_do_not_tell_what_was_read(stream):
    """Where the length is not known they are 0: what a process has read so far is its own."""
    batches = made(stream)
    before = [batches.epoch_at(i) for i in (0, 5, 6)]
    for i in range(8):
        batches.batch_at(i)
    assert [batches.epoch_at(i) for i in (0, 5, 6)] == before
    assert before == ([0.0, 2.0, 2.4] if stream.length else [0.0, 0.0, 0.0])
    assert made(stream, rank=1, world_size=2).epoch_at(5) == before[1]


def test_without_labels(stream):
    assert made(replace(stream, labeled=False)).batch_at(0).labels is None


def test_images_are_flipped_by_index(stream):
    """By a draw of their own, whether one came to the batch or began with it."""
    batches = made(stream, 40, hflip=True)
    rows = batches.batch_at(2).images[:, 0, 0]
    mirrored = rows[:, 0] >= 100
    assert 5 < mirrored.sum() < 35
    assert torch.equal(rows.amin(1).int(), torch.tensor(expected(stream, 120)[80:]).int())
    rng = RNG(0, step=2, purpose="batch")
    assert torch.equal(mirrored, rng.uniform("flip", 40) < 0.5)


def test_an_error_reaches_who_asks(stream):
    """Also one that was met while reading ahead; the batches before it are whole, it comes again,
    and no one who asks for another index is told of it."""
    failing = replace(stream, fails_at=(1, 3))  # in the fourth batch
    batches = made(failing)
    for i in range(3):
        assert numbers(batches.batch_at(i)) == expected(stream, 40)[4 * i : 4 * i + 4]
    for _ in range(2):
        with pytest.raises(DataError, match="this row is broken"):
            batches.batch_at(3)
    assert numbers(batches.batch_at(1)) == expected(stream, 40)[4:8]
    batches.batch_at(2)  # and 3 is read ahead
    assert numbers(batches.batch_at(0)) == expected(stream, 40)[:4]


@pytest.mark.parametrize("first", [0, 3])
def test_a_rank_without_rows(first):
    """There are more processes than rows."""
    with pytest.raises(
        DataError, match="rank 2 of 3 has no images in an epoch; use fewer processes"
    ):
        made(Counting(n=2), 3, rank=2, world_size=3).batch_at(first)


def test_the_thread_ends_with_the_batches(stream):
    def reading() -> set[threading.Thread]:
        return {t for t in threading.enumerate() if t.name.startswith("advnets-stream")}

    before = reading()
    batches = made(stream)
    batches.batch_at(0)
    (mine,) = reading() - before
    del batches
    gc.collect()
    mine.join(10)
    assert not mine.is_alive()


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
def test_a_program_ends_in_the_middle_of_a_pass(tmp_path, write_parquet, write_tar, kind, end):
    """It neither waits nor crashes, and prints nothing."""
    write = write_parquet if kind == "parquet" else write_tar
    for i in range(3):
        write(tmp_path / f"train-{i}.{kind}", range(20 * i, 20 * i + 20))
    command = [sys.executable, "-c", CODE, str(tmp_path), "3", end]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7 if end == "raise" else 0, "", "")


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_streamed_files_come_again_to_the_bit(tmp_path, write_parquet, write_tar, kind):
    """The batches of real shards, over the border of a pass, with windows cut at random."""
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
def test_a_run_on_a_stream_resumes_to_the_bit(
    tmp_path, tiny, write_parquet, write_tar, kind, quiet
):
    """Six steps and six more end where twelve do, over the border of a pass."""
    write = write_parquet if kind == "parquet" else write_tar
    for i in range(3):
        write(tmp_path / "set" / f"train-{i}.{kind}", range(30 * i, 30 * i + 30))
    data = Data(
        source=str(tmp_path / "set"), stream=True, size=8, channels=1, batch_size=20, hflip=True
    )

    def asked(steps: int):
        return replace(tiny, data=data, stages=(replace(tiny.stage, steps=steps),))

    ends = []
    for name, parts in {"whole": [12], "halves": [6, 12]}.items():
        for i, steps in enumerate(parts):
            train(asked(steps), tmp_path / name, quiet, resume=i > 0)
        ends.append(read_checkpoint(RunDirectory(tmp_path / name).newest_checkpoint()))
    whole, halves = ends
    assert whole.tensors.keys() == halves.tensors.keys()
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, halves.tensors[name]), name
    assert whole.metadata["progress"] == halves.metadata["progress"]
    facts = RunDirectory(tmp_path / "whole").read_config()["data"]
    assert facts["train"] == (90 if kind == "parquet" else None)


def test_odd_metadata_are_no_warning(tmp_path, write_parquet):
    """In the thread that reads neither, where warnings cannot be caught for a while."""
    content = io.BytesIO()
    odd = b"Exif\0\0MM\0*\0\0\0\x08\0\x05" + b"\1" * 20
    Image.new("L", (8, 8), 9).save(content, "JPEG", exif=odd)
    path = write_parquet(tmp_path / "x.parquet", [content.getvalue()] * 3)
    opened = open_hub_path(path, Hub(), Data(size=8, channels=1, stream=True)).train
    feed = BatchTransform(UnitNormalizer(), 2, 0, torch.device("cpu"))
    with warnings.catch_warnings():  # as they would come to the user
        batch = make_loader(opened, feed).batch_at(2)
    assert torch.equal((batch.images * 255).round(), torch.full((2, 1, 8, 8), 9.0))
