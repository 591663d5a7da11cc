"""How often p_g draws each class, as a classifier of real pictures tells them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from jaxtyping import Float, Float64
from torch import Tensor

from advnets.data.dataset import Part, Splits
from advnets.errors import require
from advnets.experiment.sampler import pixels

_DRAWS = 1000
"""Of as many pictures from p_data, for what chance alone does."""


@dataclass(frozen=True)
class Shares:
    """Class frequencies of data and of samples."""

    p_data: Float64[np.ndarray, " classes"]
    p_g: Float64[np.ndarray, " classes"]
    accuracy: float
    """Of the classifier, on test pictures."""
    chance: float
    """The total variation distance that 95% of as many pictures from p_data stay below."""

    @property
    def distance(self) -> float:
        """Total variation, ½ Σ |p_g - p_data|: from 0 to 1."""
        return float(total_variation(self.p_g, self.p_data))


def class_shares(splits: Splits, samples: Float[Tensor, "n pixels"], seed: int = 0) -> Shares:
    """Tell the samples' classes by their 3 nearest training pictures, and count them.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    neighbors: Any = require("sklearn.neighbors", "paper")
    train, test = (cast(Part, part) for part in (splits.train, splits.test))
    labels = cast(np.ndarray, train.labels)
    # Every distance, by products of matrices: in hundreds of dimensions a tree has no advantage.
    classifier = neighbors.KNeighborsClassifier(3, algorithm="brute")
    classifier.fit(pixels(train, slice(None)).numpy(), labels)
    p_data = frequencies(labels, int(labels.max()) + 1)
    chance = np.random.default_rng(seed).multinomial(len(samples), p_data, _DRAWS) / len(samples)
    return Shares(
        p_data,
        frequencies(classifier.predict(samples.numpy()), len(p_data)),
        float(classifier.score(pixels(test, slice(None)).numpy(), test.labels)),
        float(np.quantile(total_variation(chance, p_data), 0.95)),
    )


def frequencies(labels: np.ndarray, classes: int) -> Float64[np.ndarray, " classes"]:
    """The share of each class."""
    return np.bincount(labels, minlength=classes) / len(labels)


def total_variation(p: np.ndarray, q: np.ndarray) -> Any:
    """½ Σ |p - q| over the last axis."""
    return np.abs(p - q).sum(-1) / 2
