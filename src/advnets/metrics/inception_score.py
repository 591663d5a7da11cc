"""The inception score: confidence and diversity of the classes of samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from advnets.errors import UsageError
from advnets.metrics.validation import check_rows, shuffle_by_content

_MIN_PER_SPLIT = 20
"""The smallest number of samples in a split; with fewer, the score depends mostly on it."""


@dataclass(frozen=True)
class InceptionScore:
    """The score, from 1 to the number of classes, with the settings it depends on."""

    mean: float
    """Mean over splits."""
    std: float
    """Standard deviation over splits, divided by n and not by n - 1, as in publications."""
    splits: int
    n: int
    """Samples, of all splits."""


@torch.no_grad()
def inception_score(
    class_logits: Float[Tensor, "n classes"], *, splits: int = 10
) -> InceptionScore:
    """Return exp E_x KL(p(y | x) ‖ p(y)), p(y) = E_x p(y | x), in each of several splits.

    It does not use real images, depends on the classifier, and grows with the number of samples
    in a split: compare only with the same classifier and numbers. Computed in float64.
    Source: Salimans et al. 2016, “Improved techniques for training GANs”, section 4.

    Args:
        class_logits: a classifier's logits of samples, (n, classes).
        splits: number of splits.

    Raises:
        UsageError: there is no split.
        DataError: there are fewer than 20 samples for each split, or numbers that are not finite.
    """
    if splits < 1:
        raise UsageError(f"{splits} splits were requested; give at least 1, and 10 is usual")
    check_rows("class logits", class_logits, _MIN_PER_SPLIT * splits)
    parts = shuffle_by_content(class_logits).log_softmax(1).tensor_split(splits)
    scores = torch.stack([_mutual_information(part) for part in parts]).exp()
    return InceptionScore(
        mean=float(scores.mean()),
        std=float(scores.std(correction=0)),
        splits=splits,
        n=len(class_logits),
    )


def _mutual_information(log_p: Float64[Tensor, "n classes"]) -> Float64[Tensor, ""]:
    """E KL(p(y | x) ‖ p(y)) = H(p(y)) - E H(p(y | x)), which needs no log of a p(y) that is 0."""
    p = log_p.exp()
    marginal = p.mean(0)
    return (p * log_p).sum(1).mean() - torch.xlogy(marginal, marginal).sum()
