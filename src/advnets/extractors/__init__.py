"""Feature extractors: functions from images to the features that metrics compare.

    >>> from advnets.extractors import load_extractor
    >>> load_extractor("digits").features(torch.rand(3, 1, 28, 28)).shape  # pixels in [0, 1]
    torch.Size([3, 128])

An extractor has a name and the SHA-256 of its weights. Features of different extractors are not
comparable.
"""

from advnets.extractors.base import ClassifierExtractor, Extractor
from advnets.extractors.registry import load_extractor
from advnets.lazy import set_attributes

__all__ = ["ClassifierExtractor", "Extractor", "load_extractor"]

set_attributes(__name__)
