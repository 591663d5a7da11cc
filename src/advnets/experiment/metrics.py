"""What can be computed of a run, by name."""

from __future__ import annotations

from collections.abc import Callable

from advnets.errors import UnknownNameError, UsageError
from advnets.experiment.classification import class_records, error_records
from advnets.experiment.encoders import elbo_records, reconstruction_records
from advnets.experiment.inpainting import completion_records
from advnets.experiment.linear_probe import nearest_records, probe_records
from advnets.experiment.modes import (
    divergence_records,
    inception_records,
    mode_records,
    point_records,
)
from advnets.experiment.neighbors import memorisation_records, neighbour_records, prdc_records
from advnets.experiment.scores import (
    Record,
    Subject,
    frechet_records,
    kernel_records,
    parzen_records,
    sliced_records,
)
from advnets.extractors.base import Extractor
from advnets.extractors.named import extractor

METRICS: dict[str, Callable[[Subject], list[Record]]] = {
    "parzen": parzen_records,
    "frechet": frechet_records,
    "kernel": kernel_records,
    "sliced": sliced_records,
    "prdc": prdc_records,
    "neighbour": neighbour_records,
    "memorisation": memorisation_records,
    "inception": inception_records,
    "modes": mode_records,
    "points": point_records,
    "divergence": divergence_records,
    "probe": probe_records,
    "one-nn": nearest_records,
    "classes": class_records,
    "test-error": error_records,
    "reconstruction": reconstruction_records,
    "completion": completion_records,
    "elbo": elbo_records,
}

UNDRAWN = ("probe", "test-error", "reconstruction", "completion", "elbo")
"""Those that look at no samples."""

LOOKING = (
    "frechet",
    "kernel",
    "sliced",
    "prdc",
    "neighbour",
    "memorisation",
    "inception",
    "classes",
)
"""Those that look through the extractor that is asked for."""

SAMPLED = ("parzen", *LOOKING)
"""Those that look at as many samples as are asked for: others have a number of their own."""

EXTRACTORS = {"mnist": "digits"}
"""What looks at a set unless another extractor is asked for, by the set's name; else pixels.

Only a classifier that was trained on the very pixels of a set stands here.
"""

OWN = "discriminator"
"""The extractor that is the run's own D: its features are of that run alone."""


def extractor_of(data: str, asked: str | None = None, *, trust_code: bool = False) -> Extractor:
    """The extractor that is asked for, else the one that looks at this set.

    Raises:
        UnknownNameError: none is called so.
        DataError: its file is absent, broken, or no extractor.
        UsageError: its file can run code, which is not trusted.
        MissingExtraError: it needs a library that is not installed.
    """
    return extractor(asked or EXTRACTORS.get(data, "pixels"), trust_code=trust_code)


LEAST = 10
"""Samples that every metric makes something of; fewer tell nothing."""


def check_asked(
    metrics: tuple[str, ...],
    *,
    extractor: str | None,
    keep: float,
    num: int | None,
    labels: tuple[int, ...],
    class_shares: str,
) -> None:
    """Refuse what nobody knows, and what would be asked for in vain.

    Raises:
        UnknownNameError: a metric is called so by nobody.
        UsageError: there is none, or none that looks at what else is given.
    """
    if not metrics:
        raise UsageError("no metric was asked for; give at least one, as --metrics frechet")
    for name in metrics:
        if name not in METRICS:
            raise UnknownNameError("metric", name, METRICS)
        if keep != 1 and name in UNDRAWN:
            raise UsageError(
                f"keep is {keep}, and the metric {name} looks at no samples; leave --keep, or "
                "ask for the metric apart"
            )
        if class_shares != "data" and name in UNDRAWN:
            raise UsageError(
                f"class shares are {class_shares}, and the metric {name} looks at no samples; "
                "leave --class-shares, or ask for the metric apart"
            )
    if extractor is not None and not set(metrics) & {*LOOKING}:
        raise UsageError(
            f"extractor is {extractor}, and none of {', '.join(metrics)} looks through one; ask "
            f"for one of {', '.join(LOOKING)}, or leave --extractor out"
        )
    if num is not None and not set(metrics) & {*SAMPLED}:
        raise UsageError(
            f"num is {num}, and none of {', '.join(metrics)} looks at as many samples as are asked "
            f"for; ask for one of {', '.join(SAMPLED)}, or leave --num out"
        )
    if num is not None and num < LEAST:
        raise UsageError(f"num is {num}; metrics look at {LEAST} samples and more")
    if labels and "probe" not in metrics:
        raise UsageError(
            f"labels are {' '.join(map(str, labels))}, which the metric probe alone is given; ask "
            "for it, or leave --labels out"
        )
