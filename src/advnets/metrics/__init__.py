"""Scores: how close samples are to held-out pictures.

    from advnets.metrics import frechet_distance

    frechet_distance(real, fake)  # two matrices of features, one row for each picture

Each is a pure function of matrices; `advnets.extractors` makes them of pictures.
"""

from advnets.metrics.binned import binned_divergence
from advnets.metrics.copies import memorisation
from advnets.metrics.frechet import frechet_distance, frechet_standard_error
from advnets.metrics.inception import inception_score
from advnets.metrics.kernel import kernel_distance
from advnets.metrics.manifold import nearest_neighbour_test, prdc
from advnets.metrics.modes import mode_coverage
from advnets.metrics.parzen import parzen_log_likelihood, parzen_score
from advnets.metrics.points import mixture_quality
from advnets.metrics.sliced import sliced_wasserstein

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
