"""The Inception network of published FID, KID and IS, by torch-fidelity."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.errors import DataError, MissingExtraError
from advnets.extractors.base import check_pixels, extract_in_batches, file_digest, weights_path

WEIGHTS_VARIABLE = "ADVNETS_INCEPTION"
"""The environment variable with the path of the weights."""
WEIGHTS_FILE = "weights-inception-2015-12-05-6726825d.pth"
"""The file of the weights, whose name ends in the first digits of their SHA-256."""
_DIGEST = "6726825d"
_BLOCK = 50  # images at once: at 299x299 the first layers' maps of 50 take 140 MB each
_LAYERS = ("2048", "logits_unbiased")

Net = Callable[[Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Inception:
    """Inception v3 of December 2015, as in torch-fidelity, for color images of any size.

    Pixels are rounded to bytes and resized to 299 x 299 as TensorFlow 1 did. Features are the 2,048
    of the last pooling; the logits are of 1,008 classes, without their bias.
    Sources: Szegedy et al. 2016; Heusel et al. 2017; Salimans et al. 2016.
    """

    name: str
    digest: str
    net: Net
    libraries: Mapping[str, str] = field(default_factory=dict[str, str])
    """The version of torch-fidelity, which has the network and its resizing."""

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """Return the 2,048 features of the last pooling layer, one row for each image."""
        return self._layer(pixels, 0)

    def logits(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n classes"]:
        """Return class logits without bias: their softmax is p(class | image)."""
        return self._layer(pixels, 1)

    def _layer(self, pixels: Tensor, number: int) -> Tensor:
        pixels = check_pixels(self.name, pixels, (3, None, None))

        def layer_output(block: Tensor) -> Tensor:
            return self.net((block * 255).round().byte())[number]

        return extract_in_batches(self.name, layer_output, pixels, max_batch=_BLOCK)


def load_inception() -> Inception:
    """Load Inception by torch-fidelity, with local weights: nothing is downloaded.

    Raises:
        MissingExtraError: torch-fidelity is not installed.
        DataError: its weights are missing, or have another SHA-256.
    """
    module = _torch_fidelity()
    path = weights_path(
        WEIGHTS_VARIABLE, WEIGHTS_FILE, "Inception", "the releases of torch-fidelity"
    )
    digest = _checked(path)
    net = module.FeatureExtractorInceptionV3("advnets", list(_LAYERS), str(path))
    by = {"torch-fidelity": _version("torch-fidelity")}
    return Inception("inception", digest, cast(Net, net), by)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # a copy of its source that is not installed
        return "unknown"


def _checked(path: Path) -> str:
    """Return the SHA-256 of the weights, after a check of it and that they are tensors only.

    torch-fidelity unpickles them without a check.
    """
    digest = file_digest(path)
    if not digest.startswith(_DIGEST):
        raise DataError(
            f"{path} has SHA-256 {digest[:12]}… but {_DIGEST}… was expected; "
            f"download {WEIGHTS_FILE} again"
        )
    try:
        torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise DataError(
            f"{path} is not a file of weights ({type(error).__name__}); download "
            f"{WEIGHTS_FILE} again"
        ) from None
    return digest


def _torch_fidelity() -> ModuleType:
    """Import its module of Inception without its `__init__`, which needs torchvision."""
    package = "torch_fidelity"
    spec = find_spec(package)
    if spec is None:
        raise MissingExtraError("torch-fidelity", "inception")
    own = {name: sys.modules.pop(name) for name in list(sys.modules) if _within(name, package)}
    try:
        sys.modules[package] = module_from_spec(spec)
        return importlib.import_module(f"{package}.feature_extractor_inceptionv3")
    finally:  # other code imports the whole library by these names
        for name in [name for name in sys.modules if _within(name, package)]:
            del sys.modules[name]
        sys.modules.update(own)


def _within(name: str, package: str) -> bool:
    return name.partition(".")[0] == package
