"""The extractor `imagenet`: EfficientNet-Lite0 equals an independent implementation of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch.nn import functional as F

from advnets.errors import DataError, MissingExtraError
from advnets.extractors import efficientnet
from advnets.extractors.base import ClassifierExtractor
from advnets.extractors.registry import load_extractor


@pytest.fixture(scope="module")
def imagenet():
    return load_extractor("imagenet")


def test_logits_equal_those_of_an_independent_implementation(imagenet):
    spec = importlib.util.find_spec(efficientnet.PACKAGE)
    weights = Path(spec.origin).parent / efficientnet.WEIGHTS_FILE
    reference = EfficientNet.from_name("efficientnet-lite0")
    reference.load_state_dict(torch.load(weights, weights_only=True))
    images = torch.rand(12, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = reference.eval()((images * 255 - 127) / 128)
    torch.testing.assert_close(imagenet.logits(images), expected, atol=1e-4, rtol=1e-4)
    assert imagenet.features(images).shape == (12, 1280)
    assert imagenet.digest == efficientnet.DIGEST
    assert isinstance(imagenet, ClassifierExtractor)


def test_images_are_resized_by_antialiased_bicubic_interpolation(imagenet):
    images = torch.rand(2, 3, 300, 280, generator=torch.Generator().manual_seed(1))
    resized = F.interpolate(images, (224, 224), mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(imagenet.features(images), imagenet.features(resized))


def test_a_gray_image_has_the_features_of_the_same_image_in_rgb(imagenet):
    gray = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        imagenet.features(gray), imagenet.features(gray.expand(-1, 3, -1, -1))
    )
    with pytest.raises(DataError, match="'imagenet' expects images of 1 or 3 channels, got 4"):
        imagenet.features(torch.rand(1, 4, 32, 32))


def test_missing_or_changed_weights_are_refused_with_what_to_install(tmp_path, monkeypatch):
    package = tmp_path / efficientnet.PACKAGE
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('is never imported')\n")
    (package / efficientnet.WEIGHTS_FILE).write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"has SHA-256 .* but 579344248a93… was expected; install"):
        load_extractor("imagenet")
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(MissingExtraError, match=r"pytorch-model is not installed.*\[imagenet\]"):
        load_extractor("imagenet")


def test_cifar10_images_have_nearest_neighbors_of_their_class_more_often_than_by_pixels(
    imagenet, real_data
):
    with ZipFile(real_data / "cifar10" / "cifar10-jpg.zip") as archive:
        names = [name for name in archive.namelist() if name.startswith("test/")]
        images = [np.array(Image.open(archive.open(name)).convert("RGB")) for name in names[::40]]
    classes = torch.arange(len(images)) // (len(images) // 10)
    pixels = torch.tensor(np.stack(images)).permute(0, 3, 1, 2) / 255

    def accuracy(features):
        distances = torch.cdist(features, features).fill_diagonal_(torch.inf)
        return (classes[distances.argmin(1)] == classes).double().mean()

    assert accuracy(imagenet.features(pixels)) > accuracy(pixels.flatten(1)) + 0.2
