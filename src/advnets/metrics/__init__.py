"""Metrics of generated samples, as functions of matrices of features.

    >>> from advnets.metrics import prdc
    >>> real, fake = torch.rand(50, 3), torch.rand(50, 3) + 2  # features, one row for each image
    >>> prdc(real, fake).precision
    0.0

`advnets.extractors` computes features of images.
"""

from advnets.lazy import set_attributes
from advnets.metrics.frechet import frechet_distance, frechet_standard_error
from advnets.metrics.histogram_divergence import histogram_divergence
from advnets.metrics.inception_score import inception_score
from advnets.metrics.memorization import memorization
from advnets.metrics.mixture import mixture_quality
from advnets.metrics.mmd import polynomial_mmd
from advnets.metrics.modes import mode_coverage
from advnets.metrics.parzen import parzen_log_likelihood, parzen_score
from advnets.metrics.prdc import nearest_neighbor_test, prdc
from advnets.metrics.sliced_wasserstein import sliced_wasserstein

__all__ = [
    "frechet_distance",
    "frechet_standard_error",
    "histogram_divergence",
    "inception_score",
    "memorization",
    "mixture_quality",
    "mode_coverage",
    "nearest_neighbor_test",
    "parzen_log_likelihood",
    "parzen_score",
    "polynomial_mmd",
    "prdc",
    "sliced_wasserstein",
]

_SYNONYMS = {
    **dict.fromkeys(("fid", "frechet"), "frechet_distance"),
    **dict.fromkeys(("kid", "mmd", "kernel_distance"), "polynomial_mmd"),
    **dict.fromkeys(("precision", "recall", "density", "coverage"), "prdc"),
    "swd": "sliced_wasserstein",
}

set_attributes(__name__, synonyms=_SYNONYMS)
