"""From pictures to features: what metrics of two sets compare.

An extractor is named, and knows the hash of its weights: features of unlike extractors are never
to be compared.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from safetensors.torch import load
from torch import Tensor

from advnets.errors import DataError, UnknownNameError
from advnets.nets.classifier import ConvClassifier

BLOCK = 500
"""Pictures that go through a net at once."""


@runtime_checkable
class Extractor(Protocol):
    """From pictures to features."""

    @property
    def name(self) -> str:
        """What it is known by."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of its weights; "" if it has none."""
        ...

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """The features of pictures in [0, 1], one row for each."""
        ...


@dataclass(frozen=True)
class Pixels:
    """The pixels themselves."""

    name: str = "pixels"
    digest: str = ""

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """One row for each picture."""
        return pixels.flatten(1)


@dataclass(frozen=True)
class Classifier:
    """What one of the package's own classifiers judges by, and its verdict."""

    name: str
    digest: str
    net: ConvClassifier
    facts: dict[str, Any]
    """How it was trained, and its accuracy."""

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """Of the last layer but one."""
        return self._blocks(pixels, self.net.features)

    def logits(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n classes"]:
        """Softmax of them is p(class | picture)."""
        return self._blocks(pixels, self.net)

    @torch.no_grad()
    def _blocks(self, pixels: Tensor, of: Any) -> Tensor:
        if tuple(pixels.shape[1:]) != self.net.shape:
            raise DataError(
                f"pictures of shape {tuple(pixels.shape[1:])} came; extractor {self.name!r} knows "
                f"pictures of {self.net.shape}: choose another one"
            )
        return torch.cat([of(block) for block in pixels.split(BLOCK)])


WEIGHTS = {
    "digits": "0dba96d9d00d43faceb5a366eaebacd0e7a3a6bd3732be6095fc8c3ade3e59fe",
}
"""The package's own classifiers, and the SHA-256 of their weights."""


def extractor(name: str) -> Extractor:
    """An extractor by name: `pixels`, or one of the package's own classifiers.

    Raises:
        UnknownNameError: none is called so.
        DataError: its weights are not those that the package came with.
    """
    return Pixels() if name == "pixels" else classifier(name)


def classifier(name: str) -> Classifier:
    """One of the package's own classifiers: `digits` (MNIST, 28x28).

    Raises:
        UnknownNameError: none is called so.
        DataError: its weights are not those that the package came with.
    """
    if name not in WEIGHTS:
        raise UnknownNameError("extractor", name, {"pixels", *WEIGHTS})
    file = files("advnets") / "weights" / f"{name}.safetensors"
    return read_classifier(name, file.read_bytes(), WEIGHTS[name])


def read_classifier(name: str, content: bytes, expected: str) -> Classifier:
    """A classifier from the bytes of its file.

    Raises:
        DataError: their SHA-256 is another than was expected.
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise DataError(
            f"the weights of extractor {name!r} have SHA-256 {digest[:12]}… but {expected[:12]}… "
            "was expected; install advnets again"
        )
    length = int.from_bytes(content[:8], "little")
    facts = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["advnets"])
    net = ConvClassifier(tuple(facts["shape"]), facts["classes"], facts["widths"])
    net.load_state_dict(load(content))
    return Classifier(name, digest, net.eval().requires_grad_(requires_grad=False), facts)
