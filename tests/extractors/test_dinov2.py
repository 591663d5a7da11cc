"""The extractor `dinov2`: its network equals the original and that of transformers."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from advnets.errors import DataError
from advnets.extractors import dinov2
from advnets.extractors.base import ClassifierExtractor
from advnets.extractors.registry import load_extractor

RECORDED = json.loads((Path(__file__).parent / "dinov2.json").read_text("utf-8"))


@pytest.fixture
def tool(monkeypatch):
    """Import tools/dinov2.py, which recorded the features."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "tools")
    return importlib.import_module("dinov2")


@pytest.mark.parametrize("source", ["facebookresearch/dinov2", "transformers"])
def test_features_equal_those_of_other_implementations(source, tool):
    """From the bytes of an image to the class token, with a grid of 37 x 37 and of 16 x 16."""
    record = RECORDED[source]
    net = dinov2.network_of(tool.random_weights(record["shapes"]))
    features = dinov2.DINOv2("dinov2", "", net).features(tool.random_images())
    torch.testing.assert_close(features, torch.tensor(record["features"]), atol=2e-4, rtol=1e-4)


def test_positions_are_interpolated_by_cubic_convolution():
    """Keys 1981 with a = -0.75; the place of patch i is (i + 0.5) 37 / 16.1 - 0.5."""
    table = torch.randn(1, 1 + 37 * 37, 2, generator=torch.Generator().manual_seed(0))

    def kernel(t, a=-0.75):
        t = np.abs(t)
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        return np.where(t <= 1, near, np.where(t < 2, a * (t**3 - 5 * t**2 + 8 * t - 4), 0))

    places = (np.arange(16) + 0.5) * 37 / 16.1 - 0.5
    taps = np.floor(places).astype(int)[:, None] + np.arange(-1, 3)
    weights = np.zeros((16, 37))
    for row, columns, values in zip(weights, taps, kernel(places[:, None] - taps), strict=True):
        np.add.at(row, columns.clip(0, 36), values)
    grid = table[0, 1:].numpy().reshape(37, 37, 2)
    expected = np.einsum("ia,jb,abc->ijc", weights, weights, grid).reshape(256, 2)
    result = dinov2.interpolate_positions(table, 16)
    torch.testing.assert_close(result[0, 1:], torch.tensor(expected).float(), atol=1e-5, rtol=1e-5)
    assert torch.equal(result[:, 0], table[:, 0])
    assert dinov2.interpolate_positions(table, 37) is table


@pytest.fixture
def small(tool, tmp_path, monkeypatch):
    """Write the weights of ViT-S/14, with random numbers, and return their path."""
    shapes = {}
    for name, shape in RECORDED["facebookresearch/dinov2"]["shapes"].items():
        sizes = {128: 384, 384: 1152, 512: 1536}
        wide = [sizes.get(size, size) for size in shape]
        for block in range(12) if name.startswith("blocks.0.") else (0,):
            if not name.startswith("blocks.1."):
                shapes[name.replace("blocks.0.", f"blocks.{block}.")] = wide
    path = tmp_path / "weights.pth"
    torch.save(tool.random_weights(shapes), path)
    monkeypatch.setenv(dinov2.WEIGHTS_VARIABLE, str(path))
    return path


def test_a_file_of_weights_is_named_by_its_network_and_hash(small):
    loaded = load_extractor("dinov2")
    assert loaded.name == "dinov2-vits14"
    assert loaded.digest == hashlib.sha256(small.read_bytes()).hexdigest()
    assert not isinstance(loaded, ClassifierExtractor)
    gray = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    features = loaded.features(gray)
    assert features.shape == (1, 384)
    torch.testing.assert_close(features, loaded.features(gray.expand(-1, 3, -1, -1)))
    with pytest.raises(DataError, match="'dinov2-vits14' expects images of 1 or 3 channels, got 4"):
        loaded.features(torch.rand(1, 4, 32, 32))


def test_missing_or_other_weights_are_refused(small, tmp_path, monkeypatch):
    """Registers, other depths, pickled code and truncated files are no such weights."""
    weights = torch.load(small, weights_only=True)
    without = {name: tensor for name, tensor in weights.items() if "blocks.11." not in name}
    for content in (
        {**weights, "register_tokens": torch.zeros(1, 4, 384)},
        without,
        {"code": print},
        [1],
    ):
        torch.save(content, small)
        with pytest.raises(DataError, match=r"weights.pth has no weights of DINOv2 ViT-S/14, B/14"):
            load_extractor("dinov2")
    for content in (b"", b"no weights", b"PK\x03\x04"):
        small.write_bytes(content)
        with pytest.raises(DataError, match=r"weights.pth has no weights of DINOv2 ViT-S/14, B/14"):
            load_extractor("dinov2")
    other = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    monkeypatch.setenv(dinov2.WEIGHTS_VARIABLE, str(other))
    with pytest.raises(DataError, match=r"model.safetensors has no weights of DINOv2"):
        load_extractor("dinov2")
    monkeypatch.setenv(dinov2.WEIGHTS_VARIABLE, "nowhere.pth")
    with pytest.raises(
        DataError,
        match=r"weights of DINOv2 are not at nowhere.pth; download dinov2_vitl14",
    ):
        load_extractor("dinov2")
