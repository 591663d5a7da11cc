"""An extractor by its name or the path of its file."""

from __future__ import annotations

from pathlib import Path

from advnets.errors import UnknownNameError
from advnets.extractors.base import Extractor
from advnets.extractors.builtin import CLASSIFIER_DIGESTS, Pixels, load_classifier
from advnets.extractors.file import READERS, load_extractor_file
from advnets.extractors.inception import load_inception


def extractor(name: str, *, trust_code: bool = False) -> Extractor:
    """An extractor: `pixels`, `inception`, one of the package's own classifiers, or a file's.

    Opening a .pt2 file can run any code that is in it, which `trust_code` allows.

    Raises:
        UnknownNameError: none is called so.
        DataError: its file is not there, or is not what it should be.
        MissingExtraError: a library that it needs is not installed.
        UsageError: it is a .pt2 file, and the code in it is not trusted.
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
