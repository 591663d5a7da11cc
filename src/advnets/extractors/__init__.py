"""From images to features: what metrics of two sets compare.

    from advnets.extractors import extractor

    extractor("digits").features(images)  # (n, 1, 28, 28) in [0, 1] to (n, 128)

An extractor is named, and knows the hash of its weights: features of unlike extractors are never
to be compared.
"""

from advnets.extractors.base import ClassifierExtractor, Extractor
from advnets.extractors.registry import extractor

__all__ = ["ClassifierExtractor", "Extractor", "extractor"]
