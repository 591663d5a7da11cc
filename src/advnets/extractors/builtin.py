"""The built-in extractors: pixels, and classifiers of digits and of CIFAR-10."""

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
from advnets.models.classifiers import ConvClassifier


@dataclass(frozen=True)
class Pixels:
    """The extractor whose features are the pixels."""

    name: str = "pixels"
    digest: str = ""

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """Return the pixels, one row for each image."""
        return check_image_shape(self.name, pixels).flatten(1)


CLASSIFIER_DIGESTS = {
    "digits": "0dba96d9d00d43faceb5a366eaebacd0e7a3a6bd3732be6095fc8c3ade3e59fe",
    "cifar-jpeg": "466cc1dab5bdb6642cc521a0c25a9884fabb420e9a06a5db97091a70ed5a398f",
}
"""The built-in classifiers, with the SHA-256 of their weights."""

_BATCH_SIZE = 100  # its feature maps fit in the cache


@dataclass(frozen=True)
class Classifier:
    """A built-in classifier: features of its last hidden layer, and class logits."""

    name: str
    digest: str
    net: ConvClassifier
    info: dict[str, Any]
    """Its architecture, training and accuracy."""

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """Return the features of the last hidden layer, one row for each image."""
        pixels = check_pixels(self.name, pixels, self.net.shape)
        return extract_in_batches(self.name, self.net.features, pixels, max_batch=_BATCH_SIZE)

    def logits(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n classes"]:
        """Return class logits: their softmax is p(class | image)."""
        pixels = check_pixels(self.name, pixels, self.net.shape)
        return extract_in_batches(self.name, self.net, pixels, max_batch=_BATCH_SIZE)


def load_classifier(name: str) -> Classifier:
    """Load a built-in classifier: `digits` (MNIST, 28x28), or `cifar-jpeg` (CIFAR-10, 32x32).

    `cifar-jpeg` was trained on JPEG files of CIFAR-10, whose pixels differ slightly from the
    original ones; therefore it is not the default extractor of any dataset.

    Raises:
        UnknownNameError: there is no such classifier.
        DataError: its weights are missing, or do not have the expected SHA-256.
    """
    if name not in CLASSIFIER_DIGESTS:
        raise UnknownNameError("classifier", name, CLASSIFIER_DIGESTS)
    try:
        content = (files("advnets") / "weights" / f"{name}.safetensors").read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"the weights of extractor {name!r} are missing; reinstall advnets"
        ) from None
    digest, expected = hashlib.sha256(content).hexdigest(), CLASSIFIER_DIGESTS[name]
    if digest != expected:
        raise DataError(
            f"the weights of extractor {name!r} have SHA-256 {digest[:12]}… but {expected[:12]}… "
            "was expected; reinstall advnets"
        )
    return parse_classifier(name, content)


def parse_classifier(name: str, content: bytes) -> Classifier:
    """Return the classifier in a safetensors file that `tools/classifiers.py` wrote.

    The metadata of the file have, under `advnets`, the `shape` of an image, the number of `classes`
    and the `widths` of the network.

    Raises:
        DataError: it is not such a file, or its weights do not fit its metadata.
    """
    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["advnets"])
        channels, height, width = metadata["shape"]
        sizes = [channels, height, width, metadata["classes"], *metadata["widths"]]
        if not all(type(size) is int and size > 0 for size in sizes):
            raise ValueError(f"sizes {sizes}")
        net = ConvClassifier((channels, height, width), metadata["classes"], metadata["widths"])
        net.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name} is not a classifier ({_reason(error)}); give a file that tools/classifiers.py "
            "wrote: weights, with shape, classes and widths in the metadata"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    net = net.to(memory_format=torch.channels_last)  # pyright: ignore
    return Classifier(name, digest, net.eval().requires_grad_(requires_grad=False), metadata)


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"its metadata have no {error.args[0]}"
    return shorten_error(error)
