"""Iterable datasets of torch, streamed through the shuffle buffer, resumed and recognized."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count, islice

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset

import advnets
from advnets.data import open_dataset, stream
from advnets.data.loader import BatchTransform, StreamingLoader
from advnets.data.normalization import UnitNormalizer
from advnets.errors import DataError, RunError, RunWarning, UsageError
from advnets.run_directory import RunDirectory
from advnets.training.checkpoint import read_checkpoint

IMAGES = np.random.default_rng(0).integers(0, 256, (90, 8, 8), np.uint8)


class Stream(IterableDataset):
    """Images of a function, with a known length only where it is given."""

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items())


class Sized(Stream):
    def __init__(self, items, length):
        super().__init__(items)
        self.length = length

    def __len__(self):
        return self.length


def images():
    return list(IMAGES)


def pairs():
    return [(torch.from_numpy(image), torch.tensor(i % 3)) for i, image in enumerate(IMAGES)]


def endless():
    return (IMAGES[i % 90] for i in count())


def failing():
    yield from IMAGES[:40]
    raise ConnectionError("the server is gone")


def loader_of(dataset, rows=20, seed=0):
    transform = BatchTransform(UnitNormalizer(white_level=1.0), rows, seed, torch.device("cpu"))
    return StreamingLoader(dataset.train, transform)


def seen(dataset, n, rows=20, first=0, **fields):
    """Return the first values of images, of some batches from `first` on."""
    loader = loader_of(dataset, rows, **fields)
    batches = [loader.batch_at(i).images for i in range(first, first + n)]
    return torch.cat(batches).flatten(1).byte().numpy()


def test_an_epoch_has_each_image_once_in_an_order_of_its_own(monkeypatch):
    monkeypatch.setattr("advnets.data.iterable.SHUFFLE_BUFFER", 25)
    opened = open_dataset(Stream(images))
    assert (opened.shape, opened.valid, opened.test) == ((1, 8, 8), None, None)
    first, second = seen(opened, 1, 90), seen(opened, 1, 90, first=1)
    rows = Counter(image.tobytes() for image in IMAGES)
    for epoch in first, second:
        assert Counter(image.tobytes() for image in epoch) == rows
    assert (first != second).any() and (first != IMAGES.reshape(90, -1)).any()
    # An image cannot come before the buffer has been filled to its place.
    place = {image.tobytes(): i for i, image in enumerate(IMAGES)}
    assert all(place[image.tobytes()] < i + 25 for i, image in enumerate(first))
    assert (seen(opened, 1, 90, seed=1) != first).any()


@pytest.mark.parametrize("items", [images, pairs, endless])
def test_a_batch_is_a_function_of_seed_and_index(items):
    """In a new loader, as after resuming, also of a stream without an end."""
    opened = open_dataset(Stream(items))
    whole = seen(opened, 12)
    for first in (1, 4, 5, 11):
        again = seen(open_dataset(Stream(items)), 1, first=first)
        np.testing.assert_array_equal(again, whole[20 * first : 20 * first + 20])


def test_labels_are_those_of_the_images():
    opened = open_dataset(Stream(pairs))
    batch = loader_of(opened, 90).batch_at(0)
    label = {image.tobytes(): i % 3 for i, image in enumerate(IMAGES)}
    read = batch.images.byte().numpy()[:, 0]
    assert batch.labels.tolist() == [label[image.tobytes()] for image in read]


def test_pil_images_and_paths_are_resized_and_cropped(tmp_path, caplog):
    files = [tmp_path / f"{i}.png" for i in range(30)]
    for file, image in zip(files, IMAGES, strict=False):
        Image.fromarray(image).save(file)
    opened = open_dataset(Stream(lambda: files), size=8, channels=1)
    np.testing.assert_array_equal(opened.train.head(30).images[:, 0], IMAGES[:30])
    drawn = open_dataset(
        Stream(lambda: [Image.fromarray(image) for image in IMAGES[:30]]), size=4, crop="random"
    )
    assert seen(drawn, 2).shape == (40, 3 * 4 * 4)
    # A broken file is skipped in both epochs, and named once.
    files[3].write_bytes(b"x")
    assert len(seen(open_dataset(Stream(lambda: files), size=8), 3)) == 60
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith(f"Stream: image 3, {files[3]}, cannot be used: ")


def test_a_run_on_a_stream_ends_in_the_same_state_after_resuming(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"out": "runs/a", "progress": False}
    with pytest.raises(UsageError, match="iterable is streamed and has no known length in epochs"):
        advnets.train(
            replace(tiny, stages=(replace(tiny.stage, steps=None, epochs=2),)),
            **given,
            data=Stream(endless),
        )
    advnets.train(tiny, data=Stream(pairs), steps=20, **given)
    notes = RunDirectory(tmp_path / "runs/a").events()[0]["data"]["notes"]
    assert "Stream is recognized by its first 16 images" in notes[0]
    more = advnets.train(data=Stream(pairs), resume=True, steps=40, **given)
    whole = advnets.train(tiny, data=Stream(pairs), steps=40, out="runs/b", progress=False)
    ends = [
        read_checkpoint(RunDirectory(run.run.path).newest_checkpoint()) for run in (more, whole)
    ]
    for name, tensor in ends[0].tensors.items():
        assert tensor.equal(ends[1].tensors[name])

    # Other images, and no data, are refused.
    for other in (lambda: list(IMAGES[::-1]), lambda: list(IMAGES[:, :4, :4]), lambda: IMAGES[:9]):
        with pytest.raises(RunError, match="the given data is not that of"):
            advnets.train(data=Stream(other), resume=True, steps=60, **given)
    with pytest.raises(DataError, match="was passed from Python, in memory"):
        advnets.train(resume=True, steps=60, **given)
    model = advnets.load("runs/a", data=Stream(pairs))
    assert advnets.evaluate(model, "swd", real=IMAGES, num_samples=40)


def test_a_stream_that_differs_each_time_is_said_to_be_unrepeatable(tiny, tmp_path):
    rng = np.random.default_rng(0)
    noisy = Stream(lambda: list(rng.integers(0, 256, (50, 8, 8), np.uint8)))
    given = {"data": noisy, "out": tmp_path / "run", "progress": False}
    message = "Stream gives other images each time it is iterated: a resumed run is not"
    with pytest.warns(RunWarning, match=message):
        advnets.train(tiny, steps=2, **given)
    (note, *_) = RunDirectory(tmp_path / "run").events()[0]["data"]["notes"]
    assert note.startswith(message)
    with pytest.warns(RunWarning, match=message):
        advnets.train(steps=4, resume=True, **given)


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        (Stream(list), UsageError, "data is a Stream, which has no images; give at least one"),
        (Stream(lambda: [{}]), UsageError, "image 0 is of type dict; give an array, tensor"),
        (Stream(lambda: [1 / 0]), DataError, r"exception after 0 images \(ZeroDivisionError"),
        (Sized(images, 100), DataError, "Sized states 100 rows.*but has 90; correct its __len__$"),
        (Stream(failing), DataError, r"after 40 images \(ConnectionError: the server is gone\);"),
        (
            Stream(lambda: [*IMAGES[:40], IMAGES[0, :4]]),
            UsageError,
            r"image 40 has shape \(1, 4, 8\) and image 0 \(1, 8, 8\); give arrays of one shape",
        ),
        (
            Stream(lambda: [(image, "cat") for image in IMAGES]),
            UsageError,
            "image 0 has the label 'cat'; expected an integer from 0: number the classes",
        ),
    ],
)
def test_what_a_stream_cannot_be_is_one_sentence(dataset, error, message):
    with pytest.raises(error, match=message):
        seen(open_dataset(dataset), 10)


def test_an_iterator_that_ends_for_good_is_named():
    once = iter(IMAGES)
    with pytest.warns(RunWarning, match="Stream gives other images each time"):
        opened = open_dataset(Stream(lambda: once))
    with pytest.raises(DataError, match="Stream gives no images in epoch 2; return a new iterator"):
        seen(opened, 10)


def test_labels_beside_a_stream_are_refused():
    with pytest.raises(UsageError, match="yield pairs of image and label from it"):
        open_dataset(Stream(images), [0] * 90)


def test_a_training_whose_stream_fails_is_resumed(tiny, tmp_path, monkeypatch):
    """The corrected stream leads to the state of one that never failed.

    With a buffer of half an epoch, the other half is read during the training.
    """
    monkeypatch.setattr("advnets.data.iterable.SHUFFLE_BUFFER", 45)
    fails = []

    class Breaking(advnets.Callback):
        def on_step(self, step):
            if step == 2:
                fails.append(True)

    def flaky():
        for image in IMAGES:
            if fails:
                raise ConnectionError("the server is gone")
            yield image

    given = {"out": tmp_path / "run", "progress": False, "batch_size": 10, "steps": 8}
    options = {"checkpoint_every": 1}
    with pytest.raises(DataError, match="the server is gone"):
        advnets.train(tiny, data=Stream(flaky), callbacks=[Breaking()], **given, **options)
    fails.clear()
    assert 2 <= [*RunDirectory(tmp_path / "run").checkpoints_by_step()][-1] < 8
    resumed = advnets.train(data=Stream(flaky), resume=True, **given)
    whole = advnets.train(
        tiny, data=Stream(images), **{**given, "out": tmp_path / "whole"}, **options
    )
    assert resumed.step == whole.step == 8
    assert resumed.info.digest == whole.info.digest
    for name, tensor in whole.generator.state_dict().items():
        assert tensor.equal(resumed.generator.state_dict()[name])


def test_the_buffer_of_streams_has_one_size():
    assert stream.SHUFFLE_BUFFER == 1000
    opened = open_dataset(Stream(lambda: islice(endless(), 5000)))
    assert len(seen(opened, 2, 1500)) == 3000
