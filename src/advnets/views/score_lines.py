"""What a score comes to, in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

GENERATOR, REAL = "generator", "real training pictures"
"""What a record says that it scores: samples, or pictures of the training set in their place."""
DISCRIMINATOR = "D"
MEAN, NEAREST = "mean training picture", "nearest training picture"
"""The same for other players, and for what needs no net."""


def score_lines(records: Sequence[Record]) -> str:
    """Scores as tables of plain text, the real-data row beside each."""
    parzen = [record for record in records if record["metric"] == "parzen"]
    others = [record for record in records if record["metric"] != "parzen"]
    tables = [table(some) for some, table in ((parzen, _parzen), (others, _others)) if some]
    return "\n\n".join(tables)


def found(record: Record) -> str:
    """What a metric of features found, in words."""
    return _FOUND[record["metric"]](record)


def looked_at(record: Record) -> str:
    """Through what, and how many of either."""
    if record["metric"] in _LOOKED_AT:
        return _LOOKED_AT[record["metric"]](record)
    n = record.get("n")
    real, fake = (record["n_real"], record["n_fake"]) if n is None else (n, n)
    return f"{record['extractor']}, {fake:,} on {real:,}"


_LOOKED_AT = {
    "probe": lambda r: f"{r['extractor']}, {r['labels']:,} labels, {r['n_test']:,} tests",
    "one-nn": lambda r: f"pixels, {r['n_known']:,} known, {r['n_test']:,} tests",
    "test-error": lambda r: f"{r['n_test']:,} tests",
    "reconstruction": lambda r: f"pixels, {r['n_test']:,} tests",
    "completion": lambda r: f"{r['hidden']} hidden, {r['n_test']:,} tests",
    "elbo": lambda r: f"{r['likelihood']} pixels, {r['n_test']:,} tests",
}

_FOUND = {
    "frechet": lambda r: f"Fréchet distance {r['value']:.3g}",
    "prdc": lambda r: (
        f"precision {r['precision']:.3f}, recall {r['recall']:.3f}, density {r['density']:.3f}, "
        f"coverage {r['coverage']:.3f} (k = {r['neighbours']})"
    ),
    "neighbour": lambda r: (
        f"nearest neighbour tells {r['accuracy']:.1%} (of real {r['of_real']:.1%}, "
        f"of samples {r['of_fake']:.1%})"
    ),
    "probe": lambda r: (
        f"linear SVM right {r['accuracy']:.2%}"
        + (f" ± {r['deviation']:.2%} over {r['draws']} draws" if r["deviation"] else "")
    ),
    "classes": lambda r: (
        f"of the class asked for {r['accuracy']:.2%}; within a class coverage {r['coverage']:.3f} "
        f"(least {r['least_coverage']:.3f}), recall {r['recall']:.3f}"
    ),
    "test-error": lambda r: f"class wrong {r['error']:.2%}",
    "reconstruction": lambda r: f"squared error a pixel {r['error']:.4f}",
    "completion": lambda r: (
        f"squared error of the mean {r['error']:.4f}"
        + (f", completions differ by {r['diversity']:.3f}" if r["diversity"] is not None else "")
    ),
    "elbo": lambda r: (
        f"ELBO {r['elbo']:.1f} ± {r['standard_error']:.1f} nats (KL {r['divergence']:.1f}); "
        f"of {r['draws']} draws {r['bound_of_many']:.1f}"
    ),
    "one-nn": lambda r: f"nearest known picture wrong {r['error']:.2%}",
}


def _parzen(records: Sequence[Record]) -> str:
    rows = [("samples", "weights", "σ grid", "σ", "nats", "s.e.", "n", "test")]
    for record in records:
        rows.append(
            (
                record["samples"],
                record["weights"] or "",
                record["grid"],
                f"{record['sigma']:.3f}{'*' if record['sigma_on_edge'] else ''}",
                f"{record['mean']:.1f}",
                f"{record['standard_error']:.1f}",
                f"{record['n_samples']:,}",
                f"{record['n_test']:,}",
            )
        )
    edge = ["* on the edge of its grid: a wider one could give more"]
    return "\n".join(
        (
            "Parzen window log-likelihood of test pictures, in nats",
            *_aligned(rows, left=3),
            *(edge if any(record["sigma_on_edge"] for record in records) else []),
            "Above the real pictures' row a score says smoother than data, not better than data "
            "(Theis et al. 2016).",
        )
    )


def _others(records: Sequence[Record]) -> str:
    rows = [("samples", "weights", "features", "found")]
    rows += [(r["samples"], r["weights"] or "", looked_at(r), found(r)) for r in records]
    return "\n".join(
        (
            "Features of samples and of test pictures: as alike as two sets of real pictures are "
            "where a row equals that of real ones",
            *_aligned(rows, left=4),
        )
    )


def _aligned(rows: Sequence[tuple[str, ...]], left: int) -> list[str]:
    """Rows in columns, the first so many set left and the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
