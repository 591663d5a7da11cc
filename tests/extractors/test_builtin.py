import hashlib
import math
from importlib.resources import files
from pathlib import PurePath
from zipfile import ZipFile

import pytest
import torch
from torch.nn import functional as F

from advnets.data.registry import open_dataset
from advnets.errors import DataError, UnknownNameError
from advnets.evaluation.registry import DEFAULT_EXTRACTORS, default_extractor
from advnets.extractors import builtin
from advnets.extractors.builtin import CLASSIFIER_DIGESTS, Pixels, load_classifier
from advnets.extractors.registry import load_extractor
from advnets.sampling.sampler import read_images


def draw(n: int, *shape: int) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


def content(name: str) -> bytes:
    return (files("advnets") / "weights" / f"{name}.safetensors").read_bytes()


def test_pixels_are_rows_of_pixels():
    images = draw(3, 2, 4, 5)
    assert torch.equal(load_extractor("pixels").features(images), images.reshape(3, 40))
    assert Pixels().digest == ""


def test_images_must_be_in_0_to_1():
    """Bytes and the networks' range are refused; `pixels` accepts any range, as points have."""
    name, images = "digits", draw(3, 1, 28, 28)
    assert torch.equal(Pixels().features(9 * images - 4), 9 * images.flatten(1) - 4)
    for wrong, value_range in ((255 * images, r"0.* to 25."), (2 * images - 1, r"-.* to ")):
        message = (
            rf"extractor '{name}' expects pixels in \[0, 1\], got torch.float32 from {value_range}"
        )
        with pytest.raises(DataError, match=message):
            load_extractor(name).features(wrong)
    with pytest.raises(
        DataError, match=r"expects images of shape \(1, 28, 28\), got \(1, 28, 27\)"
    ):
        load_extractor(name).features(images[..., :27])
    half = load_extractor(name).features(images.half())
    torch.testing.assert_close(half, load_extractor(name).features(images), rtol=0.02, atol=0.02)


def test_weights_have_the_known_hash_and_are_small():
    for name, digest in CLASSIFIER_DIGESTS.items():
        assert hashlib.sha256(content(name)).hexdigest() == digest == load_classifier(name).digest
    assert sum(len(content(name)) for name in CLASSIFIER_DIGESTS) < 5_000_000


def test_logits_are_linear_in_the_features():
    digits, images = load_classifier("digits"), draw(3, 1, 28, 28)
    features = digits.features(images)
    assert features.shape == (3, 128)
    assert (features >= 0).all()
    last = digits.net.last
    torch.testing.assert_close(digits.logits(images), F.linear(features, last.weight, last.bias))


def test_features_do_not_depend_on_the_other_images():
    digits, images = load_classifier("digits"), draw(501, 1, 28, 28)
    features = digits.features(images)
    torch.testing.assert_close(features[[0, 500]], digits.features(images[[0, 500]]))


def test_the_accuracy_on_digits_is_the_documented_one(real_data):
    judge = load_classifier("digits")
    measured = accuracy(judge, "mnist", 10_000)
    assert measured == pytest.approx(judge.info["test_accuracy"], abs=2e-4)
    assert measured >= 0.99


def test_the_accuracy_on_photographs_is_the_documented_one(real_data, tmp_path):
    """On a tenth of the test images of each class, within four standard errors."""
    judge = load_classifier("cifar-jpeg")
    run_command = judge.info["test_accuracy"]
    assert run_command >= 0.84
    assert judge.info["pixels"] == "decoded from JPEG files, not the original ones"
    few = tmp_path / "few.zip"
    with ZipFile(real_data / "cifar10" / "cifar10-jpg.zip") as archive, ZipFile(few, "w") as part:
        for name in archive.namelist():
            split, number = name.split("/")[0], int(PurePath(name).stem)
            if number < {"train": 5, "test": 100}[split]:
                part.writestr(name, archive.read(name))
    measured = accuracy(judge, str(few), 1000)
    assert abs(measured - run_command) < 4 * math.sqrt(run_command * (1 - run_command) / 1000)


@pytest.mark.slow
def test_the_accuracy_on_all_photographs_is_the_documented_one(real_data):
    """Sixty thousand files are decoded for it."""
    judge = load_classifier("cifar-jpeg")
    measured = accuracy(judge, str(real_data / "cifar10" / "cifar10-jpg.zip"), 10_000)
    assert measured == pytest.approx(judge.info["test_accuracy"], abs=2e-4)
    assert measured >= 0.84


def accuracy(judge, data: str, n: int) -> float:
    """Return the accuracy on this many test images."""
    test = open_dataset(data).test
    assert len(test) == n
    predicted = judge.logits(read_images(test, slice(None))).argmax(1).numpy()
    return (predicted == test.labels).mean()


def test_only_datasets_with_original_pixels_have_a_default_classifier():
    """The classifier of CIFAR-10 is trained on JPEG files."""
    assert DEFAULT_EXTRACTORS == {"mnist": "digits"}
    assert default_extractor("cifar10").name == "pixels"


def test_missing_or_changed_weights_are_refused(monkeypatch):
    with pytest.raises(UnknownNameError, match="no extractor is called 'digit'; did you mean digi"):
        load_extractor("digit")
    for name in ("r/nope", "net.pth", "nowhere"):
        with pytest.raises(UnknownNameError) as raised:
            load_extractor(name)
        assert str(raised.value) == (
            f"no extractor is called {name!r}; expected pixels, digits, cifar-jpeg, imagenet, "
            "inception, dinov2, discriminator, a run, or the path of a file (.pt2, .onnx, "
            ".safetensors)"
        )
    with pytest.raises(
        DataError, match=r"extractor 'digits' expects .*, got \(3, 32, 32\); choose another"
    ):
        load_extractor("digits").features(draw(2, 3, 32, 32))
    monkeypatch.setitem(builtin.CLASSIFIER_DIGESTS, "digits", "0" * 64)
    with pytest.raises(DataError, match=r"have SHA-256 .*… was expected; reinstall advnets"):
        load_extractor("digits")
