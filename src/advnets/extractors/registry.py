"""Extractors by name or file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from advnets.errors import UnknownNameError
from advnets.extractors.base import Extractor
from advnets.extractors.builtin import CLASSIFIER_DIGESTS, Pixels, load_classifier
from advnets.extractors.dinov2 import load_dinov2
from advnets.extractors.efficientnet import load_imagenet
from advnets.extractors.file import READERS, load_extractor_file
from advnets.extractors.inception import load_inception

EXTRACTORS: dict[str, Callable[[], Extractor]] = {
    "pixels": Pixels,
    **{name: partial(load_classifier, name) for name in CLASSIFIER_DIGESTS},
    "imagenet": load_imagenet,
    "inception": load_inception,
    "dinov2": load_dinov2,
}
"""Functions that load the extractors, by name."""


OWN_DISCRIMINATOR = "discriminator"
"""The name of the run's own D as extractor; its scores are not comparable between runs."""


def load_extractor(name: str, *, trust_code: bool = False) -> Extractor:
    """Load an extractor by its name in EXTRACTORS, or from a file.

    Opening a .pt2 file can run any code in it; `trust_code` allows this.

    Raises:
        UnknownNameError: there is no such extractor.
        DataError: its file is missing or invalid.
        MissingExtraError: a library that it needs is not installed.
        UsageError: it is a .pt2 file without `trust_code`.
    """
    if name in EXTRACTORS:
        return EXTRACTORS[name]()
    if Path(name).suffix in READERS or len(Path(name).parts) > 1:
        return load_extractor_file(Path(name), trust_code=trust_code)
    raise UnknownNameError("extractor", name, [*EXTRACTORS, OWN_DISCRIMINATOR])


def classifier_advice(shape: tuple[int, int, int], *, built_in: bool = False) -> str:
    """Return a clause for a message that names the classifiers for images of a shape.

    With `built_in`, it names only the classifiers of this package.
    """
    names = [name for name in CLASSIFIER_DIGESTS if load_classifier(name).net.shape == shape]
    if shape[0] == 3 and not built_in:
        names += ["imagenet", "inception"]
    if names:
        return f"add --extractor {' or '.join(names)}"
    return (
        f"no classifier of this package is for images of {' x '.join(map(str, shape))}: give the "
        ".safetensors file of one as --extractor, or another metric"
    )
