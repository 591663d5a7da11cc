"""Parzen log-likelihood, and distances between generated and test images."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from torch import Tensor

from advnets.errors import FewImagesWarning
from advnets.evaluation.context import (
    EvaluationContext,
    Record,
    compare_features,
    require_test_split,
)
from advnets.evaluation.spec import (
    FEW_IMAGES,
    MetricSpec,
    Value,
    normal_interval,
    plus_minus,
)
from advnets.metrics.frechet import frechet_distance, frechet_standard_error
from advnets.metrics.mmd import polynomial_mmd
from advnets.metrics.parzen import GRIDS
from advnets.metrics.sliced_wasserstein import sliced_wasserstein
from advnets.plots.training_curves import PARZEN_CURVE, MetricCurve
from advnets.sampling.sampler import parzen_score_on_data, require_held_out


def parzen_records(context: EvaluationContext) -> list[Record]:
    """Compute Parzen log-likelihoods, with σ from the paper's grid and from the fine grid."""
    scores = [
        (samples, parzen_score_on_data(images, context.data, grid))
        for grid in GRIDS
        for samples, images in context.sample_sets.items()
    ]
    return [
        context.record("parzen", samples, n_real=s.n_test, n_fake=s.n_samples, **asdict(s))
        for samples, s in scores
    ]


PARZEN = MetricSpec(
    name="parzen",
    title="Parzen log-likelihood",
    help="Parzen window log-likelihood of test images, σ from the paper's grid and a fine one",
    records=parzen_records,
    values={"mean": Value("higher", normal_interval())},
    describe=lambda r: (
        f"Parzen log-likelihood {r['mean']:.1f} ± {r['standard_error']:.1f} nats at σ "
        f"{r['sigma']:.3f}"
    ),
    details=("valid_mean", "standard_error", "sigma", "sigma_on_edge"),
    cases={"grid": "{} grid"},
    needs="validation images",
    aliases=("parzen-window", "log-likelihood"),
    curve=PARZEN_CURVE,
    check_data=require_held_out,
)


Score = Callable[[Tensor, Tensor, int], Record]
"""A function of test features, features and a seed that returns their distance as `value`."""


def _feature_distance(name: str, score: Score, **fields: Any) -> MetricSpec:
    """Return the metric of a distance between features of samples and of test images."""

    def records(context: EvaluationContext) -> list[Record]:
        return compare_features(
            context, name, lambda test, features: score(test, features, context.seed)
        )

    return MetricSpec(
        name=name,
        records=records,
        values={"value": Value("lower", normal_interval())},
        uses_extractor=True,
        check_data=require_test_split,
        **fields,
    )


def _frechet(test: Tensor, features: Tensor, _seed: int) -> Record:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FewImagesWarning)
        value = frechet_distance(test, features)
    return {
        "value": value,
        "standard_error": frechet_standard_error(test, features),
        "few_images": any(issubclass(one.category, FewImagesWarning) for one in caught),
    }


FRECHET = _feature_distance(
    "frechet",
    _frechet,
    title="Fréchet distance",
    help="Fréchet distance between Gaussian fits to features",
    describe=lambda r: (
        f"Fréchet distance {r['value']:.3g}{plus_minus(r, '.1g')}"
        + (f", {FEW_IMAGES}" if r.get("few_images") else "")
    ),
    details=("standard_error", "few_images"),
    aliases=("fid", "frechet-distance"),
    published=True,
    curve=MetricCurve("Fréchet distance", "to test images", "value"),
)
MMD = _feature_distance(
    "mmd",
    lambda test, features, seed: asdict(polynomial_mmd(test, features, seed=seed)),
    title="MMD",
    help="squared maximum mean discrepancy of features, cubic polynomial kernel",
    describe=lambda r: (
        f"MMD² {r['value']:.3g} ± {r['standard_error']:.1g} over "
        + ("1 subset" if r["subsets"] == 1 else f"{r['subsets']:,} subsets")
        + f" of {r['subset_size']:,}"
    ),
    details=("standard_error", "std"),
    aliases=("kid",),
    published=True,
    curve=MetricCurve("MMD²", "to test images", "value"),
)
SWD = _feature_distance(
    "swd",
    lambda test, features, seed: asdict(sliced_wasserstein(test, features, seed=seed)),
    title="sliced Wasserstein distance",
    help="sliced 2-Wasserstein distance of features",
    describe=lambda r: (
        f"sliced Wasserstein distance {r['value']:.3g}{plus_minus(r, '.1g')} over "
        f"{r['directions']:,} directions"
    ),
    details=("standard_error",),
    aliases=("sliced-wasserstein",),
)
