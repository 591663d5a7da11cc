"""Whether samples lie where data lies, and data where samples lie: by nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.errors import UsageError
from advnets.metrics.distance import half_squared_distances, nearest, nearest_others
from advnets.metrics.features import check_features


@dataclass(frozen=True)
class Manifold:
    """Precision, recall, density and coverage, and the neighbours that they hang on."""

    precision: float
    """Share of samples that lie in a ball about a real picture, in [0, 1]."""
    recall: float
    """Share of real pictures that lie in a ball about a sample, in [0, 1]."""
    density: float
    """Real pictures' balls that a sample lies in, over `neighbours`; 1 for p_g = p_data."""
    coverage: float
    """Share of real pictures in whose ball a sample lies, in [0, 1]."""
    neighbours: int
    """A ball reaches to the so-many-th nearest picture of its own set."""


@torch.no_grad()
def prdc(real: Float[Tensor, "n d"], fake: Float[Tensor, "m _"], neighbours: int = 5) -> Manifold:
    """Precision, recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    A ball about a point has the distance to its k-th nearest other point of its own set as radius,
    and holds what is nearer. Compare only at the same k and the same numbers of pictures.

    Raises:
        UsageError: `neighbours` is not at least 1 and less than either set.
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.
    """
    check_features(2, real=real, fake=fake)
    fewest = min(len(real), len(fake))
    if not 1 <= neighbours < fewest:
        raise UsageError(
            f"{neighbours} neighbours were asked for in sets of {fewest}; give 1 to {fewest - 1}"
        )
    # The distances are of blocks as -½‖x - y‖²: nearer is larger.
    real_edge, fake_edge = (_edges(points, neighbours) for points in (real, fake))
    recalled, covered = (torch.zeros_like(real_edge, dtype=torch.bool) for _ in range(2))
    balls = torch.zeros_like(fake_edge, dtype=torch.long)
    for rows, columns, block in half_squared_distances(real, fake):
        # Truth as numbers: truth values are summed and searched several times more slowly.
        inside = torch.gt(block, real_edge[rows, None], out=torch.empty_like(block))
        balls[columns] += inside.sum(0).long()
        covered[rows] |= block.amax(1) > real_edge[rows]
        recalled[rows] |= torch.gt(block, fake_edge[None, columns], out=inside).amax(1) > 0
    return Manifold(
        precision=float((balls > 0).double().mean()),
        recall=float(recalled.double().mean()),
        density=float(balls.double().mean()) / neighbours,
        coverage=float(covered.double().mean()),
        neighbours=neighbours,
    )


@dataclass(frozen=True)
class TwoSample:
    """How well the nearest other picture tells what is real; 1/2 for p_g = p_data."""

    accuracy: float
    """Share of all pictures whose nearest other one is of their own kind."""
    of_real: float
    """The same of real pictures; less than 1/2 says that samples crowd around each of them."""
    of_fake: float
    """The same of samples; more than 1/2 says that they keep to themselves."""
    n: int
    """Pictures of each kind."""


@torch.no_grad()
def nearest_neighbour_test(real: Float[Tensor, "n d"], fake: Float[Tensor, "m _"]) -> TwoSample:
    """Leave-one-out accuracy of a 1-nearest-neighbour classifier of real against generated.

    Source: Lopez-Paz and Oquab 2017; Xu et al. 2018, “An empirical study on evaluation metrics of
    generative adversarial networks”.

    Raises:
        UsageError: the sets are of unlike size.
        DataError: a set has fewer than 2 rows, widths differ, or numbers are not finite.
    """
    check_features(2, real=real, fake=fake)
    if len(real) != len(fake):
        raise UsageError(
            f"{len(real)} real and {len(fake)} generated pictures came; the nearest-neighbour test "
            "takes as many of either"
        )
    own = [nearest_others(points)[:, 0] for points in (real, fake)]
    across = [nearest(real, fake)[0][:, 0], nearest(fake, real)[0][:, 0]]
    of_real, of_fake = (
        float((mine < theirs).double().mean()) for mine, theirs in zip(own, across, strict=True)
    )
    return TwoSample((of_real + of_fake) / 2, of_real, of_fake, len(real))


def _edges(points: Float[Tensor, "n d"], neighbours: int) -> Float[Tensor, " n"]:
    """-½ r² of each point's ball."""
    radius = nearest_others(points, neighbours)[:, -1]
    return -0.5 * radius.square()
