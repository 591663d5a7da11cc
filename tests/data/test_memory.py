"""Data in memory: arrays, tensors, datasets of torch, lists, each read as the others are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

import advnets
from advnets.data import open_dataset
from advnets.data.prepared import open_run_data
from advnets.errors import DataError, RunError, UsageError

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (120, 6, 8, 3), np.uint8)
GRAY = RANDOM.integers(0, 256, (120, 6, 8), np.uint8)
LABELS = np.arange(120) % 4


def all_pixels(dataset):
    """The images of all splits, in a fixed order."""
    parts = [dataset.train, dataset.valid, dataset.test]
    images = np.concatenate([part.read(slice(None)) for part in parts])
    return images[np.lexsort(images.reshape(len(images), -1).T)]


def sorted_rows(images):
    return images[np.lexsort(images.reshape(len(images), -1).T)]


class Items(TorchDataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Unsized(TorchDataset):
    def __getitem__(self, index):
        return RGB[index]


class Failing(Items):
    def __getitem__(self, index):
        if index == 5:
            raise ValueError("no such file")
        return super().__getitem__(index)


def test_an_exception_in_a_dataset_names_the_item():
    message = r"Failing raised an exception at item 5 \(ValueError: no such file\); correct it"
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(Failing(RGB))
    assert isinstance(caught.value.__cause__, ValueError)


def test_images_that_are_resized_or_converted_are_noted():
    """As image files are; arrays keep their shape."""
    images = [Image.fromarray(image) for image in GRAY]
    resized = open_dataset(images)
    assert resized.shape == (3, 32, 32)
    assert resized.notes == (
        "PIL images, the first of 1 x 6 x 8, are read as 3 x 32 x 32; set size, width, channels",
    )
    kept = open_dataset(Items(images), size=6, width=8, channels=1)
    assert (kept.shape, kept.notes, kept.digest()) == ((1, 6, 8), (), open_dataset(GRAY).digest())


def test_each_image_is_in_one_split_and_a_tenth_each_is_held_out():
    dataset = open_dataset(RGB)
    sizes = [len(part) for part in (dataset.train, dataset.valid, dataset.test)]
    assert sum(sizes) == 120 and min(sizes[1:]) >= 5 and max(sizes[1:]) <= 22
    assert np.array_equal(all_pixels(dataset), sorted_rows(RGB.transpose(0, 3, 1, 2)))
    assert dataset.shape == (3, 6, 8)


def paths(folder):
    folder.mkdir()
    for number, image in enumerate(RGB):
        Image.fromarray(image).save(folder / f"{number}.png")
    return [folder / f"{number}.png" for number in range(len(RGB))]


@pytest.mark.parametrize(
    "given",
    [
        lambda _: RGB.transpose(0, 3, 1, 2),
        lambda _: RGB / 255,
        lambda _: (RGB / 255).astype(np.float16),
        lambda _: torch.from_numpy(RGB.transpose(0, 3, 1, 2).copy()),
        lambda _: torch.from_numpy(RGB),
        lambda _: torch.from_numpy(RGB).double() / 255,
        lambda _: (torch.from_numpy(RGB) / 255).requires_grad_(),
        lambda _: torch.from_numpy(np.repeat(RGB, 2, 0))[::2],
        lambda _: RGB[::-1][::-1],
        lambda _: np.asfortranarray(RGB),
        lambda _: np.frombuffer(RGB.tobytes(), np.uint8).reshape(RGB.shape),  # read-only
        lambda _: (RGB / 255).astype(">f4"),
        lambda _: (RGB / 255).astype(np.longdouble),
        lambda _: [Image.fromarray(image) for image in RGB],
        lambda _: list(RGB),
        lambda _: Items([torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in RGB]),
        lambda _: Items([Image.fromarray(image) for image in RGB]),
        lambda tmp_path: paths(tmp_path / "photos"),
        lambda tmp_path: list(map(str, paths(tmp_path / "photos"))),
    ],
)
def test_all_forms_of_the_same_images_are_the_same_dataset(given, tmp_path):
    opened = open_dataset(given(tmp_path), size=6, width=8)
    assert opened.digest() == open_dataset(RGB).digest()


def test_gray_images_and_labels():
    for array in GRAY, GRAY[..., None], GRAY[:, None]:
        dataset = open_dataset(array, LABELS)
        assert dataset.shape == (1, 6, 8)
        assert dataset.class_names() == ("0", "1", "2", "3")
        by_image = {image.tobytes(): label for image, label in zip(GRAY, LABELS, strict=True)}
        for part in dataset.train, dataset.valid, dataset.test:
            for image, label in zip(part.read(slice(None)), part.labels, strict=True):
                assert by_image[image.tobytes()] == label
    names = np.array(["cat", "dog", "eel", "fox"])[LABELS]
    named = open_dataset(GRAY, names)
    assert open_dataset(GRAY, names.astype(object)).digest() == named.digest()
    assert open_dataset(GRAY, LABELS.astype(">i8")).digest() == named.digest()
    assert named.class_names() == ("cat", "dog", "eel", "fox")
    assert named.digest() == dataset.digest()
    pairs = Items(
        [(torch.from_numpy(image), int(n)) for image, n in zip(GRAY, LABELS, strict=True)]
    )
    assert open_dataset(pairs).digest() == dataset.digest()
    assert open_dataset(GRAY, torch.from_numpy(LABELS) * 5 + 3).class_names() == (
        "3",
        "8",
        "13",
        "18",
    )


def test_copies_of_an_image_are_in_one_split():
    dataset = open_dataset(np.concatenate([GRAY, GRAY]))
    seen = [
        {image.tobytes() for image in part.read(slice(None))}
        for part in (dataset.train, dataset.valid, dataset.test)
    ]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]


def test_half_precision_items_are_rounded_as_floats():
    """bfloat16, which numpy lacks, has 8 bits of precision."""
    half = (torch.from_numpy(GRAY) / 255).bfloat16()
    whole = open_dataset(half.float()).digest()
    assert open_dataset(half).digest() == open_dataset(Items(list(half))).digest() == whole


def test_one_image_is_trained_on(tiny, tmp_path):
    given = {"out": tmp_path / "run", "progress": False, "steps": 2}
    assert advnets.train(tiny, data=GRAY[:1], **given).info.train == 1


def test_few_images_are_all_for_training():
    dataset = open_dataset(RGB[:9])
    assert (len(dataset.train), dataset.valid, dataset.test) == (9, None, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (RGB.astype(np.int64), "values of type int64; expected uint8, or floats from 0 to 1"),
        (RGB.astype(np.float32), "values from 0 to 255; expected uint8, or floats from 0 .black"),
        (RGB / 127.5 - 1, "the array has values from -1 to 1"),
        (RGB * np.nan, "the array has values that are NaN; replace them"),
        (RGB[..., :2], r"the array has shape \(120, 6, 8, 2\); expected \(N, height, width\)"),
        (RGB > 5, "values of type bool; expected uint8"),
        (RGB.astype(object), "values of type object; expected uint8"),
        (np.where(RGB > 250, np.inf, 0.0), "the array has values from 0 to inf"),
        (torch.from_numpy(RGB).to_sparse(), "the tensor is a sparse tensor, .* a dense tensor"),
        (torch.empty(5, 8, 8, device="meta"), "the tensor is a meta tensor"),
        (RGB[0, 0], r"the array has shape \(8, 3\)"),
        (RGB[:0], r"the array has shape \(0, 6, 8, 3\)"),
        (torch.zeros(3, 4), r"the tensor has shape \(3, 4\)"),
        ([], "data has no images; give at least one"),
        (7, "data is of type int; give an array or tensor"),
        (iter(list(RGB)), "data is a list_iterator, which has no length or no order; give an"),
        ([object()], "image 0 is of type object; give an array"),
        (Items([{"image": RGB[0]}]), "image 0 is of type dict; give an array, tensor, PIL image"),
        ((RGB, LABELS), "data is a tuple of images and labels; give data=X and labels=y"),
        ((RGB, list(LABELS)), "data is a tuple of images and labels; give data=X and labels=y"),
        (DataLoader(Items(RGB)), "data is a DataLoader, which makes batches; give its dataset"),
        (Unsized(), "data is a Unsized, a torch Dataset without __len__; define __len__, or"),
        ([RGB[0], RGB[0, :3]], r"image 1 has shape \(3, 3, 8\) and image 0 \(3, 6, 8\)"),
        (Items([(RGB[0], 1), RGB[0]]), "only some items are pairs of an image and a label"),
    ],
)
def test_other_objects_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        open_dataset(given)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:-1], "labels has 119 values for 120 images; give one for each"),
        (LABELS / 2, "labels has shape .120,. and values of type float64; expected an integer"),
        (np.eye(120), "labels has shape .120, 120."),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(UsageError, match=message):
        open_dataset(RGB, labels)


def test_options_that_do_not_apply_are_refused(tmp_path):
    for options, message in (
        ({"stream": True}, "stream applies to files, and the images are in memory"),
        ({"crop": "random"}, "crop is random, which applies to folders of images"),
    ):
        with pytest.raises(UsageError, match=message):
            open_dataset([Image.fromarray(RGB[0])], **options)
    with pytest.raises(UsageError, match="labels belong to images in memory"):
        open_dataset("digits", LABELS)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"x")
    for path, reason in ((broken, "is not an image"), (tmp_path / "no.png", "No such file")):
        with pytest.raises(DataError, match=f"image 0, .*{path.name}, cannot be used: {reason}"):
            open_dataset([path])


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_run_on_data_in_memory_asks_for_the_same_data(tiny, in_folder, run_command):
    given = {"data": GRAY, "labels": LABELS, "out": "runs/a", "progress": False}
    trained = advnets.train(tiny, steps=20, **given)
    records = trained.evaluate("frechet", num_samples=30)
    assert trained.info.classes == ("0", "1", "2", "3")

    # Resuming with the same data ends in the state of an uninterrupted training.
    more = advnets.train(resume=True, steps=40, **given)
    whole = advnets.train(tiny, steps=40, **{**given, "out": "runs/b"})
    for name, tensor in whole.generator.state_dict().items():
        assert tensor.equal(more.generator.state_dict()[name])

    # Other data, other labels and no data are refused.
    for other in (
        {"data": GRAY[::-1]},
        {"labels": None},
        {"data": GRAY[:100], "labels": LABELS[:100]},
    ):
        with pytest.raises(
            RunError, match=r"the given data is not that of .*: its digest .*; give the same"
        ):
            advnets.train(resume=True, steps=50, **(given | other))
    message = r"the data of runs/a was passed from Python, in memory .array, digest"
    with pytest.raises(DataError, match=message):
        advnets.train(resume=True, out="runs/a", steps=50, progress=False)
    with pytest.raises(DataError, match=message):
        advnets.load("runs/a").evaluate("frechet")
    for command in (
        ("train", "--resume", "--out", "runs/a", "--steps", "50"),
        ("evaluate", "runs/a"),
    ):
        status, _, err = run_command(*command)
        assert status == 1
        assert "was passed from Python, in memory" in err and len(err.splitlines()) == 1
    status, _, err = run_command("train", "runs/a/config.json", "--out", "runs/c")
    assert (status, len(err.splitlines())) == (2, 1) and "in memory" in err

    # What needs no data works, and with its data everything does.
    assert run_command("sample", "runs/a", "--out", "a.png")[0] == 0
    data = open_dataset(GRAY, LABELS)
    by_labels = advnets.evaluate("runs/a", "frechet", data=GRAY, labels=LABELS, num_samples=30)
    with pytest.raises(RunError, match="the given data is not that of"):
        advnets.evaluate("runs/a", "frechet", data=GRAY)
    loaded = advnets.load("runs/a", data=data)
    with pytest.raises(UsageError, match="give them to advnets"):
        advnets.evaluate(loaded, "frechet", labels=LABELS)
    again = loaded.evaluate("frechet", num_samples=30)
    assert again == by_labels
    assert again[0]["data_digest"] == records[0]["data_digest"]
    stored = replace(loaded.config.data, source="memory:")
    assert open_run_data(loaded.run.path, stored, loaded.info, data).info == loaded.info


def test_the_folder_of_a_run_is_named_by_the_preset(in_folder):
    model = advnets.train("digits", data=GRAY, steps=2, progress=False)
    assert str(model.run.path) == "runs/digits"
    with pytest.raises(UsageError, match="size applies to image files, and data is an array"):
        advnets.train("digits", data=GRAY, size=8, steps=2)
    with pytest.raises(UsageError, match="labels apply to data in memory"):
        advnets.train("digits", labels=LABELS, steps=2)
    message = "was passed from Python, in memory .* digest .*; pass the same images again from Pyt"
    with pytest.raises(RunError, match=message):
        advnets.train(out="runs/digits", data="digits", resume=True, progress=False)
    with pytest.raises(RunError, match=message):
        advnets.load("runs/digits", data="digits").evaluate("swd")


def test_real_images_replace_the_test_images(tiny, in_folder):
    """The distance is that of the samples' pixels to all images that are given."""
    from advnets.metrics import frechet_distance

    model = advnets.train(tiny, out="runs/a", progress=False)
    real = RANDOM.random((300, 8, 8)).astype(np.float32)
    (record,) = advnets.evaluate(model, metrics=["frechet"], real=real, num_samples=200)
    pixels = torch.from_numpy(np.rint(real * 255) / 255).reshape(300, 64).float()
    expected = frechet_distance(pixels, model.sample(200).flatten(1))
    assert record["value"] == pytest.approx(float(expected), rel=1e-4)
    assert (record["n_real"], record["samples"], record["data"]) == (300, "generator", "images")
    own = model.evaluate("frechet", num_samples=200)
    assert len(model.run.scores()) == 1 + len(own)  # scores on other images are kept beside them

    sizes = r"real has images of shape \(1, 6, 8\), expected images of shape \(1, 8, 8\)"
    with pytest.raises(UsageError, match=sizes):
        model.evaluate("frechet", real=GRAY)
    with pytest.raises(UsageError, match="parzen needs other images of the run too; leave real"):
        model.evaluate("parzen", real=real)
    named = model.evaluate("frechet", real="digits", num_samples=200)
    assert named[0]["value"] == own[0]["value"]


def test_points_in_memory_are_trained_on_and_compared_as_those_of_a_file(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    points = np.random.default_rng(0).normal(size=(300, 2))
    np.save("p.npy", points)
    short = {"steps": 2, "progress": False, "device": "cpu", "threads": 1, "eval_every": 0}
    model = advnets.train("ring", data=points, out="a", **short)
    file = advnets.train("ring", data="p.npy", out="b", **short)
    assert torch.equal(model.sample(5), file.sample(5))
    given = torch.from_numpy(points)
    assert advnets.train(data=given, out="a", resume=True, steps=4, progress=False).step == 4

    (record,) = advnets.evaluate(model, "swd", real=points.astype(np.float32), num_samples=300)
    assert (record["n_real"], record["data"]) == (300, "images")
    for other in points[:, :1], np.zeros((9, 8, 8)):
        with pytest.raises(UsageError, match=r"real has .*, expected points of 2 coordinates as"):
            advnets.evaluate(model, "swd", real=other, num_samples=30)
    for wrong in points[:0], points * np.nan, points.astype(str):
        with pytest.raises(UsageError, match=r"expected one or more rows of finite numbers"):
            advnets.train("ring", data=wrong, **short)
    with pytest.raises(UsageError, match="labels was given, and data are points; leave it out"):
        advnets.train("ring", data=points, labels=[0] * 300, **short)
