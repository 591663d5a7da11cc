"""From pictures to features: what metrics of two sets compare.

An extractor is named, and knows the hash of its weights: features of unlike extractors are never
to be compared.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional as F

from advnets.data.scaling import Scaling
from advnets.errors import DataError, UnknownNameError, UsageError
from advnets.nets.classifier import ConvClassifier

BLOCK = 500
"""Pictures that go through a net at once."""


@runtime_checkable
class Convolutional(Protocol):
    """A discriminator whose convolutions can be looked at."""

    def feature_maps(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> list[Float[Tensor, "batch maps h w"]]:
        """The maps of every convolution, largest first."""
        ...


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


POOLED = 4
"""Height and width that D's maps are pooled to (Radford et al. 2015, section 5.1)."""


@dataclass(frozen=True)
class OwnDiscriminator:
    """What a discriminator has learned to see without a label.

    Source: Radford et al. 2015, section 5.1: the maps of all convolutions, each pooled by its
    largest to 4 x 4, flattened and laid end to end.
    """

    name: str
    digest: str
    net: nn.Module
    scaling: Scaling

    @torch.no_grad()
    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """One row for each picture."""
        net, device = cast(Convolutional, self.net), next(self.net.parameters()).device
        rows: list[Tensor] = []
        for block in pixels.split(BLOCK):
            maps = net.feature_maps(self.scaling.from_shares(block).to(device))
            pooled = [F.adaptive_max_pool2d(m, [min(POOLED, s) for s in m.shape[2:]]) for m in maps]
            rows.append(torch.cat([p.flatten(1) for p in pooled], 1).float().cpu())
        return torch.cat(rows)


def discriminator_extractor(net: nn.Module, scaling: Scaling) -> OwnDiscriminator:
    """A run's discriminator as an extractor, by the hash of its weights.

    Raises:
        UsageError: it has no convolutions, or is told classes.
    """
    if not isinstance(net, Convolutional) or getattr(net, "classes", 0):
        raise UsageError(
            "features of D were asked for, which a discriminator with convolutions and without "
            "labels has; give a run of a DCGAN preset"
        )
    return OwnDiscriminator("discriminator", weights_digest(net), net.eval(), scaling)


def weights_digest(net: nn.Module) -> str:
    """SHA-256, in hex, of a net's weights and buffers, by their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


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
