"""Runs side by side, as a table of plain text or of Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from advnets.report.score_text import FEW_IMAGES, REAL, VERSIONS, align_columns, weights_of

Comparison = Mapping[str, Any]
"""What `experiment.compare` gives."""

_ARROWS = {"less": " ↓", "more": " ↑", None: ""}
_NONE = "–"
_ROUNDING = 1e-9  # of a mean: what is less is no spread
_LEAST, _MOST = 1e-6, 1e9  # of numbers that are written out
_SAID = (
    "extractor",
    "extractor_sha256",
    "n_real",
    "n_fake",
    "data",
    "data_digest",
    "images",
    "split",
)


def comparison_text(record: Comparison) -> str:
    """Plain text: the table, paired differences, and what each column hangs on."""
    parts = [[_caption(record)], align_columns(_table(record), left=4)]
    if record["differences"]:
        parts.append([_DIFFERENCES, *align_columns(_differences(record), left=2)])
    return "\n\n".join("\n".join(part) for part in (*parts, _notes(record)))


def comparison_markdown(record: Comparison) -> str:
    """The same in Markdown."""
    parts = [[_caption(record)], _piped(_table(record), left=4)]
    if record["differences"]:
        parts += [[_DIFFERENCES], _piped(_differences(record), left=2)]
    notes = [f"- {_escaped(note)}" for note in _notes(record)]
    return "\n\n".join("\n".join(part) for part in (*parts, notes)) + "\n"


_DIFFERENCES = "Paired differences: the first less the second, seed by seed"


def _caption(record: Comparison) -> str:
    return (
        f"Means over seeds ± the {record['confidence']:.0%} interval of Student's t; "
        "↓ less is better, ↑ more is"
    )


def _table(record: Comparison) -> list[tuple[str, ...]]:
    rows = [("run", "weights", "step", "seeds", *_headings(record))]
    for row in record["rows"]:
        step = "" if row["step"] is None else f"{row['step']:,}"
        cells = (_told(cell, of=len(row["seeds"])) for cell in row["cells"])
        rows.append((row["name"], weights_of(row), step, _listed(row["seeds"]), *cells))
    for row in record["beside"]:
        rows.append((row["name"], "", "", "", *map(_told, row["cells"])))
    return rows


def _differences(record: Comparison) -> list[tuple[str, ...]]:
    rows = [("difference", "seeds", *_headings(record))]
    for row in record["differences"]:
        what = f"{_called(row['of'], record)} − {_called(row['less'], record)}"
        seeds = max((cell["seeds"] for cell in row["cells"] if cell), key=len)
        cells = (_told(cell, sign="+", of=len(seeds)) for cell in row["cells"])
        rows.append((what, _listed(seeds), *cells))
    return rows


def _headings(record: Comparison) -> list[str]:
    return [f"{column['name']}{_ARROWS[column['better']]}" for column in record["columns"]]


def _called(label: Mapping[str, Any], record: Comparison) -> str:
    """A row's name; with weights and step where others have the same."""
    if sum(row["name"] == label["name"] for row in record["rows"]) == 1:
        return label["name"]
    return f"{label['name']} ({weights_of(label)}, {label['step']:,})"


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _told(cell: Mapping[str, Any] | None, *, sign: str = "", of: int = 0) -> str:
    """Mean ± half width, and of how many seeds where the row has more."""
    if cell is None or cell["mean"] is None:
        return _NONE
    mean, half = cell["mean"], cell["half_width"]
    spread = half if half is not None and half > _ROUNDING * abs(mean) else 0.0
    if mean and not _LEAST < abs(mean) < _MOST:
        return f"{mean:{sign}.4g}" + ("" if half is None else f" ± {spread:.2g}")
    digits = _decimals(spread, 2) if spread else _decimals(mean, 4)
    width = "" if half is None else f" ± {spread:,.{digits if spread else 0}f}"
    fewer = f" of {len(cell['seeds'])}" if len(cell["seeds"]) < of else ""
    return f"{mean:{sign},.{digits}f}{width}{fewer}"


def _decimals(value: float, digits: int) -> int:
    """Places after the point that show so many digits of a number; 8 at most."""
    if value == 0:
        return 0
    return min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), 8)


def _notes(record: Comparison) -> list[str]:
    """What the columns hang on, said once for those of one metric taken in one way."""
    notes: dict[str, list[str]] = {}
    for number, column in enumerate(record["columns"]):
        notes.setdefault(_hangs_on(record, number), []).append(column["name"])
    lines = [f"{', '.join(names)}: {what}" for what, names in notes.items()]
    sampled = _sampled(record)
    if len({seed for seeds in sampled for seed in seeds}) > 1:
        told = "; ".join(
            f"{', '.join(names)}: {_listed(seeds)}" for seeds, names in sampled.items()
        )
        lines.append(f"Samples were drawn with unlike seeds, by rows: {told}")
    if any(column["metric"] == "parzen" for column in record["columns"]):
        lines.append(
            "Above the real images' row a Parzen score says smoother than data, not better than "
            "data (Theis et al. 2016)."
        )
    return lines


def _sampled(record: Comparison) -> dict[tuple[int, ...], list[str]]:
    """The rows by the seeds that their samples were drawn with."""
    rows: dict[tuple[int, ...], list[str]] = {}
    for row in record["rows"]:
        seeds = {seed for cell in row["cells"] if cell for seed in cell["sampled_with"]}
        rows.setdefault(tuple(sorted(seeds)), []).append(_called(row, record))
    rows.pop((), None)
    return rows


def _hangs_on(record: Comparison, number: int) -> str:
    settings: Mapping[str, Any] = record["columns"][number]["settings"]
    real, fake = settings["n_real"], settings["n_fake"]
    counts = [f"{fake:,} samples"] if fake else []
    counts += [f"{real:,} images"] if real else []
    images = settings["images"]
    cut = [images[key] for key in ("crop", "background") if images[key]]
    shape = " x ".join(map(str, images["shape"]))
    seen = settings.get("extractor", ""), settings.get("extractor_sha256", "")
    parts = [
        f"{seen[0]} {seen[1][:8]}".strip(),
        " on ".join(counts),
        f"{settings['data']} {settings['data_digest'][:8]} of {', '.join([shape, *cut])}",
        settings.get("split", ""),
        *(
            f"{key.removeprefix(VERSIONS)} {_plain(value)}"
            for key, value in settings.items()
            if key not in _SAID
        ),
        *_fewer(record, number, fake),
        FEW_IMAGES if record["columns"][number]["few_images"] else "",
    ]
    return "; ".join(part for part in parts if part)


def _plain(value: object) -> str:
    number = isinstance(value, int) and not isinstance(value, bool)
    return f"{value:,}" if number else str(value)


def _fewer(record: Comparison, number: int, fake: int) -> list[str]:
    """How many real images stand for samples, where they are not as many."""
    cells = [row["cells"][number] for row in record["beside"] if row["name"] == REAL]
    return [f"{cell['n_fake']:,} {REAL}" for cell in cells if cell and cell["n_fake"] != fake]


def _piped(rows: Sequence[tuple[str, ...]], left: int) -> list[str]:
    """Rows as a table of Markdown, the first so many columns set left and the others right."""
    head, *others = ("| " + " | ".join(_escaped(cell) for cell in row) + " |" for row in rows)
    marks = ["---" if i < left else "---:" for i in range(len(rows[0]))]
    return [head, f"|{'|'.join(marks)}|", *others]


def _escaped(text: str) -> str:
    r"""Return text in which no character marks anything up, such as names of runs and data.

    An underscore within a word marks nothing and stays as it is.
    """
    text = re.sub(r"([\\`*\[\]#|]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;").replace("<", "&lt;")
