"""Whether a Parzen score is blur: the same samples, compared by features of a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advnets.paper.blocks import Table, Text
from advnets.paper.studies.likelihoods import with_error
from advnets.report.score_text import GENERATOR, REAL

Record = Mapping[str, Any]

METRICS = ("frechet", "prdc", "neighbor")
WORDS = Text(
    "What the window does not see, features of a classifier do (or pixels, where there is none): "
    "the Fréchet distance between samples and test images; precision, the share of samples that "
    "lie where images do; recall, the share of images that lie where samples do (k = 5); "
    "coverage, the share of images with a sample near them; and how often the nearest other "
    "image tells what is real, which is .5 at best. Means over seeds, ± their standard error."
)
"""What the table's columns are."""
_COLUMNS = (
    ("Fréchet", "frechet", "value", "{:.2f}"),
    ("precision", "prdc", "precision", "{:.3f}"),
    ("recall", "prdc", "recall", "{:.3f}"),
    ("coverage", "prdc", "coverage", "{:.3f}"),
    ("nearest", "neighbor", "accuracy", "{:.3f}"),
)
"""A column's name, its metric, which number of it, and how it is written."""


def likeness(runs: Mapping[str, Sequence[Sequence[Record]]]) -> Table:
    """Rows of features: for each name the mean over its seeds' records, then real images."""
    some = next(iter(runs.values()))
    rows = [(name, *_cells(seeds, GENERATOR)) for name, seeds in runs.items()]
    rows.append((REAL, *_cells(some[:1], REAL)))
    seen = next(record for record in some[0] if record["metric"] == "frechet")
    return Table(
        f"{seen['n_fake']:,} samples against {seen['n_real']:,} test images, through "
        f"`{seen['extractor']}`",
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
        cells.append(with_error(values, form))
    return cells
