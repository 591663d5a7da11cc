"""Score records as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advnets.evaluation.registry import METRICS, comparability

Record = Mapping[str, Any]

# A record of a damaged file may have values of any type.
_INVALID = (KeyError, TypeError, ValueError, AttributeError, OverflowError)


def score_lines(records: Sequence[Record]) -> str:
    """Return records as tables of plain text, with those of real images for comparison."""
    parzen = [record for record in records if record["metric"] == "parzen"]
    others = [record for record in records if record["metric"] != "parzen"]
    tables = [table(group) for group, table in ((parzen, _parzen_table), (others, _table)) if group]
    return "\n\n".join(tables)


def describe_result(record: Record) -> str:
    """Return the result of a record in one line."""
    try:
        return METRICS[record["metric"]].describe(record)
    except _INVALID:
        return "an incomplete record: evaluate again"


def describe_inputs(record: Record) -> str:
    """Return the extractor and the numbers of images of a record in a few words."""
    try:
        return METRICS[record["metric"]].describe_inputs(record)
    except _INVALID:
        return "–"


def comparability_lines(records: Sequence[Record]) -> list[str]:
    """Return lines that say which published scores these compare with, one for each extractor."""
    metrics: dict[tuple[str, str], dict[str, None]] = {}
    for record in records:
        try:
            if clause := comparability(record):
                metrics.setdefault((record["extractor"], clause), {})[record["metric"]] = None
        except _INVALID:
            continue
    return [
        f"{', '.join(names)} by {extractor}: {clause}"
        for (extractor, clause), names in metrics.items()
    ]


def _parzen_table(records: Sequence[Record]) -> str:
    rows = [("samples", "weights", "σ grid", "σ", "nats", "s.e.", "n", "test")]
    for record in records:
        rows.append(
            (
                record["samples"],
                describe_weights(record),
                record["grid"],
                f"{record['sigma']:.3f}{'*' if record['sigma_on_edge'] else ''}",
                f"{record['mean']:.1f}",
                f"{record['standard_error']:.1f}",
                f"{record['n_samples']:,}",
                f"{record['n_test']:,}",
            )
        )
    edge = ["* at the edge of its grid: a wider grid could give a higher log-likelihood"]
    return "\n".join(
        (
            "Parzen window log-likelihood of test images, in nats",
            *align_columns(rows, left=3),
            *(edge if any(record["sigma_on_edge"] for record in records) else []),
            "A score above that of real images means smoother than the data, not better than the "
            "data (Theis et al. 2016).",
        )
    )


def _table(records: Sequence[Record]) -> str:
    rows = [("samples", "weights", "features, images", "result")]
    rows += [
        (r["samples"], describe_weights(r), describe_inputs(r), describe_result(r)) for r in records
    ]
    memorization = [
        "Real training images are copies of themselves: their row shows the largest copy fraction."
    ]
    return "\n".join(
        (
            "Scores of samples against test images; the row of real training images has their "
            "scores at this sample size",
            *align_columns(rows, left=4),
            *(memorization if any(r["metric"] == "memorization" for r in records) else []),
            *_class_accuracy_lines([r for r in records if r["metric"] == "usefulness"]),
            *comparability_lines(records),
        )
    )


def _class_accuracy_lines(records: Sequence[Record]) -> list[str]:
    """Return lines of the accuracy of all and of each class, a column for each training set."""
    if not records:
        return []

    def cell(accuracy: float | None, interval: Sequence[float] | None) -> str:
        if accuracy is None or interval is None:
            return "–"
        return f"{100 * accuracy:.1f} [{', '.join(f'{100 * bound:.1f}' for bound in interval)}]"

    rows = [
        ("class", *(r["trained_on"] for r in records)),
        ("all", *(cell(r["accuracy"], r["interval"]["accuracy"]) for r in records)),
    ]
    for number in range(len(records[0]["class_accuracy"])):
        cells = (cell(r["class_accuracy"][number], r["class_intervals"][number]) for r in records)
        rows.append((str(number), *cells))
    return [
        "Accuracy by class and training set in % [95 % interval]",
        *align_columns(rows, left=len(rows[0])),
    ]


def describe_weights(record: Record) -> str:
    """Return the weights of a record, the fraction kept by D, and uniform class proportions."""
    kept = record.get("keep_fraction")
    uniform = record.get("class_proportions") == "uniform"
    return (
        (record["weights"] or "")
        + ("" if kept is None else f", {kept:g} kept by D")
        + (", uniform class proportions" if uniform else "")
    )


def align_columns(rows: Sequence[tuple[str, ...]], left: int) -> list[str]:
    """Return rows as lines with aligned columns: the first `left` to the left, others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
