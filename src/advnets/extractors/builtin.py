"""Pixels as features."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from advnets.errors import DataError, UnknownNameError
from advnets.extractors.base import (
    check_image_shape,
    check_pixels,
    extract_in_batches,
    shorten_error,
)
from advnets.models.classifier import ConvClassifier


@dataclass(frozen=True)
class Pixels:
    """The pixels themselves."""

    name: str = "pixels"
    digest: str = ""

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """One row for each image."""
        return check_image_shape(self.name, pixels).flatten(1)


CLASSIFIER_DIGESTS = {
    "digits": "0dba96d9d00d43faceb5a366eaebacd0e7a3a6bd3732be6095fc8c3ade3e59fe",
    "cifar-jpeg": "466cc1dab5bdb6642cc521a0c25a9884fabb420e9a06a5db97091a70ed5a398f",
}
"""The package's own classifiers, and the SHA-256 of their weights."""

_BATCH_SIZE = 100  # whose maps stay near the processor


@dataclass(frozen=True)
class Classifier:
    """What one of our classifiers judges by, and its verdict."""

    name: str
    digest: str
    net: ConvClassifier
    info: dict[str, Any]
    """How it was trained, and its accuracy."""

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """Of the last layer but one."""
        pixels = check_pixels(self.name, pixels, self.net.shape)
        return extract_in_batches(self.name, self.net.features, pixels, max_batch=_BATCH_SIZE)

    def logits(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n classes"]:
        """Softmax of them is p(class | image)."""
        pixels = check_pixels(self.name, pixels, self.net.shape)
        return extract_in_batches(self.name, self.net, pixels, max_batch=_BATCH_SIZE)


def load_classifier(name: str) -> Classifier:
    """One of the package's own classifiers: `digits` (MNIST, 28x28), or `cifar-jpeg` (32x32).

    The latter has learned from CIFAR-10 as JPEG files, whose pixels are not the original ones: its
    facts say so, and it looks at nothing unless it is asked for.

    Raises:
        UnknownNameError: none is called so.
        DataError: its weights are not those that the package came with.
    """
    if name not in CLASSIFIER_DIGESTS:
        raise UnknownNameError("classifier", name, CLASSIFIER_DIGESTS)
    try:
        content = (files("advnets") / "weights" / f"{name}.safetensors").read_bytes()
    except FileNotFoundError:
        raise DataError(f"the weights of extractor {name!r} lack; install advnets again") from None
    found, expected = hashlib.sha256(content).hexdigest(), CLASSIFIER_DIGESTS[name]
    if found != expected:
        raise DataError(
            f"the weights of extractor {name!r} have SHA-256 {found[:12]}… but {expected[:12]}… "
            "was expected; install advnets again"
        )
    return parse_classifier(name, content)


def parse_classifier(name: str, content: bytes) -> Classifier:
    """A classifier from the bytes of a safetensors file that `tools/classifiers.py` wrote.

    Its metadata say, under `advnets`, the `shape` of an image, the number of `classes` and the
    `widths` of the net.

    Raises:
        DataError: they are no such file, or their weights are of another net than they say.
    """
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        facts = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["advnets"])
        channels, height, width = facts["shape"]
        sizes = [channels, height, width, facts["classes"], *facts["widths"]]
        if not all(type(size) is int and size > 0 for size in sizes):
            raise ValueError(f"sizes {sizes}")
        net = ConvClassifier((channels, height, width), facts["classes"], facts["widths"])
        net.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name} holds no classifier of ours ({_reason(error)}); give what "
            "tools/classifiers.py writes: its weights, with shape, classes and widths"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    net = net.to(memory_format=torch.channels_last)  # pyright: ignore
    return Classifier(name, digest, net.eval().requires_grad_(requires_grad=False), facts)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"its metadata lack {error.args[0]}"
    return shorten_error(error)
