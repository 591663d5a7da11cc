"""What can be computed of a run, by name."""

from __future__ import annotations

from collections.abc import Callable

from advnets.experiment.completed import completion_records
from advnets.experiment.inferred import elbo_records, reconstruction_records
from advnets.experiment.modes import inception_records, mode_records, point_records
from advnets.experiment.probe import nearest_records, probe_records
from advnets.experiment.scores import (
    Record,
    Subject,
    frechet_records,
    kernel_records,
    memorisation_records,
    neighbour_records,
    parzen_records,
    prdc_records,
    sliced_records,
)
from advnets.experiment.told import class_records, error_records
from advnets.extractors.named import extractor
from advnets.extractors.protocol import Extractor

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

EXTRACTORS = {"mnist": "digits"}
"""What looks at a set unless another extractor is asked for, by the set's name; else pixels.

Only a classifier that was trained on the very pixels of a set stands here.
"""

OWN = "discriminator"
"""The extractor that is the run's own D: its features are of that run alone."""


def extractor_of(data: str, asked: str | None = None) -> Extractor:
    """The extractor that is asked for, else the one that looks at this set.

    Raises:
        UnknownNameError: none is called so.
        DataError: its file is absent, broken, or no extractor.
        MissingExtraError: it needs a library that is not installed.
    """
    return extractor(asked or EXTRACTORS.get(data, "pixels"))
