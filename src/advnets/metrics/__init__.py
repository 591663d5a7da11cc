"""Scores: how close samples are to held-out pictures.

    from advnets.metrics import frechet_distance

    frechet_distance(real, fake)  # two matrices of features, one row for each picture

Each is a pure function of matrices; `advnets.extractors` makes them of pictures.
"""

from advnets.metrics.frechet import frechet_distance, frechet_standard_error
from advnets.metrics.histogram_divergence import binned_divergence
from advnets.metrics.inception import inception_score
from advnets.metrics.memorization import memorisation
from advnets.metrics.mixture import mixture_quality
from advnets.metrics.mmd import kernel_distance
from advnets.metrics.modes import mode_coverage
from advnets.metrics.parzen import parzen_log_likelihood, parzen_score
from advnets.metrics.precision_recall import nearest_neighbour_test, prdc
from advnets.metrics.swd import sliced_wasserstein

__all__ = [
    "binned_divergence",
    "frechet_distance",
    "frechet_standard_error",
    "inception_score",
    "kernel_distance",
    "memorisation",
    "mixture_quality",
    "mode_coverage",
    "nearest_neighbour_test",
    "parzen_log_likelihood",
    "parzen_score",
    "prdc",
    "sliced_wasserstein",
]
