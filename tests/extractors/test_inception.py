"""The Inception extractor, with a mock of torch-fidelity."""

from __future__ import annotations

import hashlib
import sys

import pytest
import torch

from advnets.errors import DataError, MissingExtraError
from advnets.extractors import inception
from advnets.extractors.base import ClassifierExtractor
from advnets.extractors.registry import load_extractor

MODULE = """
import torch
from torch_fidelity.part import SCALE

class FeatureExtractorInceptionV3(torch.nn.Module):
    def __init__(self, name, features_list, path):
        super().__init__()
        assert features_list == ["2048", "logits_unbiased"]
        self.by = torch.load(path, weights_only=False)["by"] * SCALE

    def forward(self, x):
        assert x.dtype == torch.uint8
        rows = x.flatten(1).float() @ self.by
        return rows, rows[:, :1]
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Install a mock torch_fidelity whose `__init__` must not run, and weights for it."""
    package = tmp_path / "torch_fidelity"
    package.mkdir()
    (package / "__init__.py").write_text("import no_such_torchvision\n")
    (package / "part.py").write_text("SCALE = 2\n")
    (package / "feature_extractor_inceptionv3.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    weights = tmp_path / "weights.pth"
    torch.save({"by": torch.eye(12)[:, :5]}, weights)
    monkeypatch.setenv(inception.WEIGHTS_VARIABLE, str(weights))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "_DIGEST", digest[:8])
    return weights


def test_images_are_passed_as_bytes_in_blocks(library):
    loaded = load_extractor("inception")
    images = torch.rand(120, 3, 2, 2)
    expected = (images * 255).round().flatten(1)[:, :5] * 2
    torch.testing.assert_close(loaded.features(images), expected)
    torch.testing.assert_close(loaded.logits(images), expected[:, :1])
    assert isinstance(loaded, ClassifierExtractor)
    assert loaded.digest == hashlib.sha256(library.read_bytes()).hexdigest()
    assert not [name for name in sys.modules if name.startswith("torch_fidelity")]
    with pytest.raises(
        DataError, match=r"extractor 'inception' expects images of shape \(3, any, any\)"
    ):
        loaded.features(torch.rand(2, 1, 28, 28))


def test_a_missing_library_or_missing_weights_are_refused_with_advice(library, monkeypatch):
    monkeypatch.setenv(inception.WEIGHTS_VARIABLE, "nowhere.pth")
    with pytest.raises(DataError, match=r"weights of Inception are not at nowhere.pth; download"):
        load_extractor("inception")
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MissingExtraError, match=r"torch-fidelity is not installed.*\[inception\]"):
        load_extractor("inception")


def test_other_weights_and_pickled_code_are_refused(library, monkeypatch):
    """The file is checked to contain only tensors before torch-fidelity unpickles it."""
    torch.save({"by": print}, library)
    with pytest.raises(DataError, match=r"weights.pth has SHA-256 .* but .* was"):
        load_extractor("inception")
    digest = hashlib.sha256(library.read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "_DIGEST", digest[:8])
    with pytest.raises(
        DataError, match=r"weights.pth is not a file of weights \(UnpicklingError\)"
    ):
        load_extractor("inception")
