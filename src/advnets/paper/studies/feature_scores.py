"""Scores in a classifier's feature space, which complement Parzen log-likelihoods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advnets.evaluation.spec import GENERATOR, REAL
from advnets.paper.blocks import Table, Text
from advnets.paper.studies.likelihoods import format_mean

Record = Mapping[str, Any]

METRICS = ("frechet", "prdc", "two-sample-1nn")
FEATURES_TEXT = Text(
    "Features of a classifier (or pixels, where there is none) show what the Parzen score does "
    "not: the Fréchet distance between samples and test images; precision, the fraction of "
    "samples within the real manifold; recall, the fraction of real images within the manifold of "
    "samples (k = 5); coverage, the fraction of real images with a sample in their neighborhood; "
    "and the accuracy of a 1-nearest-neighbor two-sample test, ideally 0.5. Means over "
    "seeds, ± their standard error."
)
"""Description of the table's columns."""
_COLUMNS = (
    ("Fréchet", "frechet", "value", "{:.2f}"),
    ("precision", "prdc", "precision", "{:.3f}"),
    ("recall", "prdc", "recall", "{:.3f}"),
    ("coverage", "prdc", "coverage", "{:.3f}"),
    ("1-NN accuracy", "two-sample-1nn", "accuracy", "{:.3f}"),
)
"""Column name, metric, field of its record, and number format."""


def features_table(scores: Mapping[str, Sequence[Sequence[Record]]]) -> Table:
    """Return the table of feature scores: the mean over seeds for each name, then real images."""
    first_scores = next(iter(scores.values()))
    rows = [(name, *_cells(seeds, GENERATOR)) for name, seeds in scores.items()]
    rows.append((REAL, *_cells(first_scores[:1], REAL)))
    frechet = next(record for record in first_scores[0] if record["metric"] == "frechet")
    return Table(
        f"{frechet['n_fake']:,} samples against {frechet['n_real']:,} test images, through "
        f"`{frechet['extractor']}`",
        ("samples", *(name for name, *_ in _COLUMNS)),
        tuple(rows),
    )


def _cells(seeds: Sequence[Sequence[Record]], row: str) -> list[str]:
    cells: list[str] = []
    for _, metric, key, form in _COLUMNS:
        values = [
            next(r[key] for r in records if r["metric"] == metric and r["samples"] == row)
            for records in seeds
        ]
        cells.append(format_mean(values, form))
    return cells
