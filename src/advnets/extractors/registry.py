"""Extractors by name or file."""

from __future__ import annotations

from pathlib import Path

from advnets.errors import UnknownNameError
from advnets.extractors.base import Extractor
from advnets.extractors.builtin import CLASSIFIER_DIGESTS, Pixels, load_classifier
from advnets.extractors.file import READERS, load_extractor_file
from advnets.extractors.inception import load_inception


def extractor(name: str, *, trust_code: bool = False) -> Extractor:
    """Return an extractor: `pixels`, `inception`, a built-in classifier, or that of a file.

    Opening a .pt2 file can run any code in it, which `trust_code` allows.

    Raises:
        UnknownNameError: there is no such extractor.
        DataError: its file is missing or invalid.
        MissingExtraError: a library that it needs is not installed.
        UsageError: it is a .pt2 file without `trust_code`.
    """
    if name == "pixels":
        return Pixels()
    if name == "inception":
        return load_inception()
    if name in CLASSIFIER_DIGESTS:
        return load_classifier(name)
    if Path(name).suffix in READERS or len(Path(name).parts) > 1:
        return load_extractor_file(Path(name), trust_code=trust_code)
    raise UnknownNameError("extractor", name, {"pixels", "inception", *CLASSIFIER_DIGESTS})


def classifier_advice(shape: tuple[int, int, int], *, built_in: bool = False) -> str:
    """Return a clause that names the classifiers for images of a shape, as values of --extractor.

    With `built_in` Inception is not one of them.
    """
    names = [name for name in CLASSIFIER_DIGESTS if load_classifier(name).net.shape == shape]
    if shape[0] == 3 and not built_in:
        names.append("inception")
    if names:
        return f"add --extractor {' or '.join(names)}"
    return (
        f"none of this package is for images of {' x '.join(map(str, shape))}: give the "
        ".safetensors file of one as --extractor, or another metric"
    )
