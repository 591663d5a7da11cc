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
from advnets.extractors.registry import extractor
from advnets.sampling.sampler import read_images


def drawn(n: int, *shape: int) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


def content(name: str) -> bytes:
    return (files("advnets") / "weights" / f"{name}.safetensors").read_bytes()


def test_pixels_are_rows_of_pixels():
    given = drawn(3, 2, 4, 5)
    assert torch.equal(extractor("pixels").features(given), given.reshape(3, 40))
    assert Pixels().digest == ""


def test_images_are_numbers_in_0_to_1():
    """Of bytes, or in the nets' own range, a score would be of other features than it says.

    Pixels themselves may be of any range, as those of points are.
    """
    name, given = "digits", drawn(3, 1, 28, 28)
    assert torch.equal(Pixels().features(9 * given - 4), 9 * given.flatten(1) - 4)
    for wrong, came in ((255 * given, r"0.* to 25."), (2 * given - 1, r"-.* to ")):
        message = rf"extractor '{name}' expects pixels in \[0, 1\], got torch.float32 from {came}"
        with pytest.raises(DataError, match=message):
            extractor(name).features(wrong)
    with pytest.raises(
        DataError, match=r"expects images of shape \(1, 28, 28\), got \(1, 28, 27\)"
    ):
        extractor(name).features(given[..., :27])
    half = extractor(name).features(given.half())
    torch.testing.assert_close(half, extractor(name).features(given), rtol=0.02, atol=0.02)


def test_weights_are_those_the_package_knows_and_small():
    for name, digest in CLASSIFIER_DIGESTS.items():
        assert hashlib.sha256(content(name)).hexdigest() == digest == load_classifier(name).digest
    assert sum(len(content(name)) for name in CLASSIFIER_DIGESTS) < 5_000_000


def test_features_are_what_the_logits_are_made_of():
    digits, given = load_classifier("digits"), drawn(3, 1, 28, 28)
    features = digits.features(given)
    assert features.shape == (3, 128)
    assert (features >= 0).all()
    last = digits.net.last
    torch.testing.assert_close(digits.logits(given), F.linear(features, last.weight, last.bias))


def test_features_of_a_image_do_not_hang_on_the_others():
    digits, given = load_classifier("digits"), drawn(501, 1, 28, 28)
    features = digits.features(given)
    torch.testing.assert_close(features[[0, 500]], digits.features(given[[0, 500]]))


def test_digits_are_told_as_often_as_the_weights_say(real_data):
    judge = load_classifier("digits")
    found = accuracy(judge, "mnist", 10_000)
    assert found == pytest.approx(judge.info["test_accuracy"], abs=2e-4)
    assert found >= 0.99


def test_photographs_are_told_as_often_as_the_weights_say(real_data, tmp_path):
    """Of a tenth of each class's test images, within four standard errors."""
    judge = load_classifier("cifar-jpeg")
    said = judge.info["test_accuracy"]
    assert said >= 0.84
    assert judge.info["pixels"] == "decoded from JPEG files, not the original ones"
    few = tmp_path / "few.zip"
    with ZipFile(real_data / "cifar10" / "cifar10-jpg.zip") as whole, ZipFile(few, "w") as part:
        for name in whole.namelist():
            split, number = name.split("/")[0], int(PurePath(name).stem)
            if number < {"train": 5, "test": 100}[split]:
                part.writestr(name, whole.read(name))
    found = accuracy(judge, str(few), 1000)
    assert abs(found - said) < 4 * math.sqrt(said * (1 - said) / 1000)


@pytest.mark.slow
def test_all_photographs_are_told_just_as_often(real_data):
    """Sixty thousand files are decoded for it."""
    judge = load_classifier("cifar-jpeg")
    found = accuracy(judge, str(real_data / "cifar10" / "cifar10-jpg.zip"), 10_000)
    assert found == pytest.approx(judge.info["test_accuracy"], abs=2e-4)
    assert found >= 0.84


def accuracy(judge, data: str, n: int) -> float:
    """On so many test images, which are all."""
    test = open_dataset(data).test
    assert len(test) == n
    told = judge.logits(read_images(test, slice(None))).argmax(1).numpy()
    return (told == test.labels).mean()


def test_none_but_the_original_pixels_have_a_classifier_by_default():
    """CIFAR-10's is trained on others."""
    assert DEFAULT_EXTRACTORS == {"mnist": "digits"}
    assert default_extractor("cifar10").name == "pixels"


def test_what_is_not_there_or_not_the_same_is_refused(monkeypatch):
    with pytest.raises(UnknownNameError, match="no extractor is called 'digit'; did you mean digi"):
        extractor("digit")
    with pytest.raises(
        DataError, match=r"extractor 'digits' expects .*, got \(3, 32, 32\); choose another"
    ):
        extractor("digits").features(drawn(2, 3, 32, 32))
    monkeypatch.setitem(builtin.CLASSIFIER_DIGESTS, "digits", "0" * 64)
    with pytest.raises(DataError, match=r"have SHA-256 .*… was expected; reinstall advnets"):
        extractor("digits")
