"""What a score comes to, in a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

GENERATOR, REAL = "generator", "real training images"
"""What a record says that it scores: samples, or images of the training set in their place."""
DISCRIMINATOR, ENCODER = "D", "E"
MEAN, NEAREST, PIXELS = "mean training image", "nearest training image", "pixels"
"""The same for other players, and for what needs no net."""
NEVER_TRAINED = ", never trained"
"""What follows a player's name where it is as training began."""
FEW_IMAGES = "far too large: fewer images than features"
"""What a Fréchet distance is said to be then."""
VERSIONS = "versions."
"""What the names of versions begin with, among the settings of a score."""
BESIDE = (REAL, MEAN, NEAREST, PIXELS)
"""What stands beside the nets of any run, and hangs on none."""

# What words for a record raise where its values are of other types than advnets writes.
_FAULTS = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


def score_lines(records: Sequence[Record]) -> str:
    """Scores as tables of plain text, the real-data row beside each."""
    parzen = [record for record in records if record["metric"] == "parzen"]
    others = [record for record in records if record["metric"] != "parzen"]
    tables = [table(some) for some, table in ((parzen, _parzen), (others, _others)) if some]
    return "\n\n".join(tables)


def describe_result(record: Record) -> str:
    """What a metric found, in words."""
    try:
        return _FOUND[record["metric"]](record)
    except _FAULTS:  # somebody has written in the file
        return "a record that lacks its numbers: evaluate again"


def describe_inputs(record: Record) -> str:
    """Through what, and how many of either."""
    try:
        return _LOOKED_AT.get(record["metric"], _pairs)(record)
    except _FAULTS:
        return "–"


def _pairs(record: Record) -> str:
    n = record.get("n")
    real, fake = (record["n_real"], record["n_fake"]) if n is None else (n, n)
    return f"{record['extractor']}, {fake:,} on {real:,}"


_LOOKED_AT = {
    "probe": lambda r: (
        f"{r['extractor']}, {r['labels']:,} labels{' mirrored too' if r.get('mirrored') else ''}, "
        f"{r['n_test']:,} tests"
    ),
    "one-nn": lambda r: f"pixels, {r['n_known']:,} known, {r['n_test']:,} tests",
    "test-error": lambda r: f"{r['n_test']:,} tests",
    "reconstruction": lambda r: f"pixels, {r['n_test']:,} tests",
    "completion": lambda r: f"{r['hidden']} hidden, {r['n_test']:,} tests",
    "elbo": lambda r: f"{r['likelihood']} pixels, {r['n_test']:,} tests",
    "memorization": lambda r: (
        f"{r['extractor']}, {r['n_samples']:,} on {r['n_train']:,}, {r['n_test']:,} tests"
    ),
    "inception": lambda r: f"{r['extractor']}, {r['n']:,}",
    "modes": lambda r: f"{r['extractor']}, {r['n']:,}",
    "points": lambda r: f"points, {r['n']:,}",
    "divergence": lambda r: f"points, {r['n']:,}",
}

_FOUND = {
    "parzen": lambda r: (
        f"Parzen log-likelihood {r['mean']:.1f} ± {r['standard_error']:.1f} nats at σ "
        f"{r['sigma']:.3f}"
    ),
    "frechet": lambda r: (
        f"Fréchet distance {r['value']:.3g}{_give_or_take(r, '.1g')}"
        + (f", {FEW_IMAGES}" if r.get("few_images") else "")
    ),
    "kernel": lambda r: (
        f"kernel distance {r['value']:.3g} ± {r['standard_error']:.1g} over {r['subsets']:,} "
        f"subsets of {r['size']:,}"
    ),
    "sliced": lambda r: (
        f"sliced Wasserstein distance {r['value']:.3g}{_give_or_take(r, '.1g')} over "
        f"{r['directions']:,} directions"
    ),
    "prdc": lambda r: (
        f"precision {r['precision']:.3f}, recall {r['recall']:.3f}, density {r['density']:.3f}, "
        f"coverage {r['coverage']:.3f} (k = {r['neighbors']})"
    ),
    "neighbor": lambda r: (
        f"nearest neighbor tells {r['accuracy']:.1%} (of real {r['of_real']:.1%}, "
        f"of samples {r['of_fake']:.1%})"
    ),
    "memorization": lambda r: (
        f"{r['share']:.2%} lie on a training image, {r['expected_share']:.2%} of test images "
        f"do (z = {r['z']:.1f}, p {_chance(r['p_value'])}){_nearer(r)}"
    ),
    "inception": lambda r: (
        f"inception score {r['mean']:.2f} ± {r['deviation']:.2f} over {r['splits']} splits"
    ),
    "modes": lambda r: (
        f"{r['seen']:,} of {r['modes']:,} modes, KL to even shares {r['kl_uniform']:.3f}, to those "
        f"of real images {number(r['kl_reference'], '.3f', 'infinite')} nats"
    ),
    "points": lambda r: (
        f"{r['seen']:,} of {r['modes']:,} modes, {r['high_quality']:.1%} within 3 σ, shares "
        f"{format_range(r['shares'])}, spreads {format_range(r['spreads'])}, KL {r['kl']:.2g}, JSD {r['jsd']:.2g} "
        "nats"
    ),
    "divergence": lambda r: (
        f"KL {number(r['kl'], '.2g', 'infinite')}, JSD {r['jsd']:.2g} nats over {r['bins']:,} bins"
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
    "one-nn": lambda r: f"nearest known image wrong {r['error']:.2%}",
}


def _give_or_take(record: Record, form: str) -> str:
    """The standard error, where there is one."""
    error = record.get("standard_error")
    return "" if error is None else f" ± {error:{form}}"


def _nearer(record: Record) -> str:
    """How many are nearer to a training image than others are, in records that say so."""
    if "nearer" not in record:
        return ""
    return (
        f"; {record['nearer']:.1%} nearer to one than others are, {record['expected_nearer']:.1%} "
        f"of test images (p {_chance(record['nearer_p_value'])})"
    )


def _chance(p: float) -> str:
    return f"= {p:.1g}" if p else "< 1e-300"  # float64 ends there


def number(value: float | None, form: str, none: str) -> str:
    """In that form; what `none` says where there is none."""
    return none if value is None else format(value, form)


def format_range(values: Sequence[float | None]) -> str:
    """From the least to the largest; of none a dash."""
    known = [value for value in values if value is not None]
    return f"{min(known):.2f} to {max(known):.2f}" if known else "–"


def _parzen(records: Sequence[Record]) -> str:
    rows = [("samples", "weights", "σ grid", "σ", "nats", "s.e.", "n", "test")]
    for record in records:
        rows.append(
            (
                record["samples"],
                weights_of(record),
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
            "Parzen window log-likelihood of test images, in nats",
            *align_columns(rows, left=3),
            *(edge if any(record["sigma_on_edge"] for record in records) else []),
            "Above the real images' row a score says smoother than data, not better than data "
            "(Theis et al. 2016).",
        )
    )


def _others(records: Sequence[Record]) -> str:
    rows = [("samples", "weights", "features", "found")]
    rows += [(r["samples"], weights_of(r), describe_inputs(r), describe_result(r)) for r in records]
    copies = ["Real training images lie on themselves: so a row would read, were all copies."]
    return "\n".join(
        (
            "Features of samples and of test images: as alike as two sets of real images are "
            "where a row equals that of real ones",
            *align_columns(rows, left=4),
            *(copies if any(record["metric"] == "memorization" for record in records) else []),
        )
    )


def weights_of(record: Record) -> str:
    """Of which weights samples are, which share of them D has let stand, and of which classes."""
    kept = record.get("keep")
    classes = ", uniform class proportions" if record.get("class_proportions") == "uniform" else ""
    return (record["weights"] or "") + ("" if kept is None else f", keep {kept:g}") + classes


def align_columns(rows: Sequence[tuple[str, ...]], left: int) -> list[str]:
    """Rows in columns, the first so many set left and the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
