"""A comparison of runs as a table (text, Markdown, HTML, LaTeX, CSV), and training curves."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from advnets.config import Config
from advnets.config.serialize import to_json
from advnets.errors import RunError
from advnets.evaluation.comparison import (
    MIN_SEEDS,
    ScoredRun,
    abbreviate,
    row_names,
    setting_label,
)
from advnets.evaluation.registry import METRICS, comparability
from advnets.evaluation.spec import FEW_IMAGES, REAL
from advnets.plots.training_curves import RunCurve, curve_spec, eval_metric, run_curves
from advnets.report.html import Html, element
from advnets.report.score_text import align_columns, describe_weights

Comparison = Mapping[str, Any]
"""The JSON object that `advnets.evaluation.comparison.compare` returns."""

_ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}
_MISSING = "–"
_ROUNDING = 1e-9  # relative to the mean: a smaller half width is rounding
_FIXED_POINT_RANGE = 1e-6, 1e9  # numbers beyond it are in scientific notation
_NAMED_IN_NOTE = (
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
    """Return plain text: the table, paired differences, and the settings of each column."""
    parts = [[_caption(record)], align_columns(_table_rows(record), left=4)]
    if record["differences"]:
        parts.append([_DIFFERENCES, *align_columns(_difference_rows(record), left=2)])
    return "\n\n".join("\n".join(part) for part in (*parts, _notes(record)))


def comparison_markdown(record: Comparison) -> str:
    """Return Markdown: the table, paired differences, and the settings of each column."""
    parts = [[_caption(record)], _markdown_table(_table_rows(record), left=4)]
    if record["differences"]:
        parts += [[_DIFFERENCES], _markdown_table(_difference_rows(record), left=2)]
    notes = [f"- {_escape_markdown(note)}" for note in _notes(record)]
    return "\n\n".join("\n".join(part) for part in (*parts, notes)) + "\n"


def comparison_html(record: Comparison) -> str:
    """Return HTML: the table, paired differences, and the settings of each column in a list."""
    tables = [_html_table(_caption(record), _table_rows(record))]
    if record["differences"]:
        tables.append(_html_table(_DIFFERENCES, _difference_rows(record)))
    notes = element("ul", *(element("li", note) for note in _notes(record)))
    return element("div", *tables, notes)


def _html_table(caption: str, rows: Sequence[tuple[str, ...]]) -> Html:
    heading, *others = rows
    cells = [element("tr", *(element("th", cell) for cell in heading))]
    cells += [element("tr", *(element("td", cell) for cell in row)) for row in others]
    return element("table", element("caption", caption), *cells)


def comparison_latex(record: Comparison) -> str:
    """Return LaTeX tables for the package booktabs, and the settings of each column as comments."""
    tables = [_latex_table(_table_rows(record), left=4)]
    if record["differences"]:
        tables.append([f"% {_DIFFERENCES}", *_latex_table(_difference_rows(record), left=2)])
    notes = [f"% {' '.join(note.split())}" for note in (_caption(record), *_notes(record))]
    return "\n\n".join("\n".join(part) for part in (notes, *tables)) + "\n"


def comparison_csv(record: Comparison) -> str:
    """Return CSV: a line for each row, with mean, interval and std of each column."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = [column["name"] for column in record["columns"]]
    headings = [
        heading for name in names for heading in (name, f"{name} ± half width", f"{name} std")
    ]
    writer.writerow(["run", "weights", "step", "seeds", *headings])
    for row in (*record["rows"], *record["references"]):
        numbers = [
            None if cell is None else cell[key]
            for cell in row["cells"]
            for key in ("mean", "half_width", "std")
        ]
        seeds = " ".join(map(str, row.get("seeds", ())))
        writer.writerow([row["name"], row.get("weights"), row.get("step"), seeds, *numbers])
    return file.getvalue()


_DIFFERENCES = "Paired differences of rows by seed: the later row minus the earlier one"


def _caption(record: Comparison) -> str:
    return (
        f"Means over seeds ± the {100 * record['confidence']:.0f} % interval of Student's t "
        "(standard deviation); ↓ lower is better, ↑ higher is better"
    )


def _table_rows(record: Comparison) -> list[tuple[str, ...]]:
    rows = [("run", "weights", "step", "seeds", *_headings(record))]
    for row in record["rows"]:
        step = "" if row["step"] is None else f"{row['step']:,}"
        cells = (_format_cell(cell, num_seeds=len(row["seeds"])) for cell in row["cells"])
        rows.append((row["name"], describe_weights(row), step, _join(row["seeds"]), *cells))
    for row in record["references"]:
        rows.append((row["name"], "", "", "", *map(_format_cell, row["cells"])))
    return rows


def _difference_rows(record: Comparison) -> list[tuple[str, ...]]:
    rows = [("difference", "seeds", *_headings(record))]
    for row in record["differences"]:
        name = f"{_row_name(row['row'], record)} − {_row_name(row['minus'], record)}"
        seeds = max((cell["seeds"] for cell in row["cells"] if cell), key=len)
        cells = (_format_cell(cell, sign="+", num_seeds=len(seeds)) for cell in row["cells"])
        rows.append((name, _join(seeds), *cells))
    return rows


def _headings(record: Comparison) -> list[str]:
    return [f"{column['name']}{_ARROWS[column['better']]}" for column in record["columns"]]


def _row_name(label: Mapping[str, Any], record: Comparison) -> str:
    """Return a row's name, with weights and step if several rows have this name."""
    if sum(row["name"] == label["name"] for row in record["rows"]) == 1:
        return label["name"]
    return f"{label['name']} ({describe_weights(label)}, {label['step']:,})"


def _join(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _format_cell(cell: Mapping[str, Any] | None, *, sign: str = "", num_seeds: int = 0) -> str:
    """Return mean ± half width (std), with the number of seeds if it is less than the row's."""
    if cell is None or cell["mean"] is None:
        return _MISSING
    mean = cell["mean"]
    half, std = (
        width if width is None or width > _ROUNDING * abs(mean) else 0.0
        for width in (cell["half_width"], cell["std"])
    )

    # Round to two digits of the interval, or of the standard deviation if there is no interval.
    low, high = _FIXED_POINT_RANGE
    if mean and not low < abs(mean) < high:
        number, width = ".4g", ".2g"
    else:
        number = width = f",.{_decimals(half or std or mean, 2 if half or std else 4)}f"
    interval = "" if half is None else f" ± {half:{width if half else '.0f'}}"
    deviation = "" if std is None else f" ({std:{width if std else '.0f'}})"
    n = len(cell["seeds"])
    fewer = f" [{n} seed{'s' if n > 1 else ''}]" if n < num_seeds else ""
    return f"{mean:{sign}{number}}{interval}{deviation}{fewer}"


def _decimals(value: float, digits: int) -> int:
    """Return the number of decimal places for this many significant digits, at most 8."""
    if value == 0:
        return 0
    return min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), 8)


def _notes(record: Comparison) -> list[str]:
    """Return notes on the settings of columns, sample seeds, rows without interval, and caveats."""
    notes: dict[str, list[str]] = {}
    for number, column in enumerate(record["columns"]):
        notes.setdefault(_settings(record, number), []).append(column["name"])
    lines = [f"{', '.join(names)}: {settings}" for settings, names in notes.items()]
    by_sample_seeds = _rows_by_sample_seeds(record)
    if len({seed for seeds in by_sample_seeds for seed in seeds}) > 1:
        listed = "; ".join(
            f"{', '.join(names)}: {_join(seeds)}" for seeds, names in by_sample_seeds.items()
        )
        lines.append(f"Samples were drawn with different seeds: {listed}")
    if few := _few_seeds(record):
        lines.append(f"No interval for fewer than {MIN_SEEDS} seeds: {'; '.join(few)}")
    if any(column["metric"] == "parzen" for column in record["columns"]):
        lines.append(
            "A Parzen log-likelihood above that of real images means smoother than the data, not "
            "better than the data (Theis et al. 2016)."
        )
    return lines


def _few_seeds(record: Comparison) -> list[str]:
    """Return the names of rows that have too few seeds for an interval."""
    return [
        f"{_row_name(row, record)} ({n} seed{'s' if n > 1 else ''})"
        for row in record["rows"]
        if (n := max((len(cell["seeds"]) for cell in row["cells"] if cell), default=0)) > 0
        if n < MIN_SEEDS
    ]


def _rows_by_sample_seeds(record: Comparison) -> dict[tuple[int, ...], list[str]]:
    """Return the names of rows by the seeds of their samples."""
    rows: dict[tuple[int, ...], list[str]] = {}
    for row in record["rows"]:
        seeds = {seed for cell in row["cells"] if cell for seed in cell["sample_seeds"]}
        rows.setdefault(tuple(sorted(seeds)), []).append(_row_name(row, record))
    rows.pop((), None)
    return rows


def _settings(record: Comparison, number: int) -> str:
    """Return the settings of a column in one line."""
    # Write out counts, images and extractor.
    settings: Mapping[str, Any] = record["columns"][number]["settings"]
    real, fake = settings["n_real"], settings["n_fake"]
    counts = [f"{fake:,} samples"] if fake else []
    counts += [f"{real:,} real images"] if real else []
    images = settings["images"]
    preprocessing = [images[key] for key in ("crop", "background") if images[key]]
    shape = " x ".join(map(str, images["shape"]))
    name, digest = settings.get("extractor"), settings.get("extractor_sha256")

    # Add the other settings by name, and caveats.
    parts = [
        METRICS[record["columns"][number]["metric"]].title,
        f"extractor {name}" if name else "",
        f"SHA-256 {digest[:8]}…" if digest else "",
        " and ".join(counts),
        f"data {settings['data']} of {', '.join([shape, *preprocessing])}",
        f"digest {settings['data_digest'][:8]}…",
        f"{settings['split']} images" if settings.get("split") else "",
        *(
            f"{setting_label(key)} {abbreviate(key, value)}"
            for key, value in settings.items()
            if key not in _NAMED_IN_NOTE
        ),
        *_describe_real_count(record, number, fake),
        FEW_IMAGES if record["columns"][number]["few_images"] else "",
        comparability({"metric": record["columns"][number]["metric"], **settings}),
    ]
    return "; ".join(part for part in parts if part)


def _describe_real_count(record: Comparison, number: int, fake: int) -> list[str]:
    """Return the number of real images in place of samples if it differs from `fake`."""
    cells = [row["cells"][number] for row in record["references"] if row["name"] == REAL]
    return [f"{cell['n_fake']:,} {REAL}" for cell in cells if cell and cell["n_fake"] != fake]


@dataclass(frozen=True)
class History:
    """The events of a run's training, from its directory or from its record."""

    name: str
    """The name in a legend if two runs of one config have the same seed."""
    config: Config
    logs: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]


def curves_figure(histories: Sequence[History]) -> bytes:
    """Draw the training curves of runs, a panel for each preset and metric; return a PNG file.

    If the runs of a panel differ in options, those with the same options have one color. A curve is
    the score of evaluations during training (`--eval-every`), of the EMA weights if there are any.
    For runs without evaluations, it is D(x), or D(x, G(z)) for a D of pairs.

    Raises:
        RunError: a run has neither evaluations nor logs of D(x).
        MissingExtraError: matplotlib is not installed.
    """
    # Count the rows and the repeated seeds of each panel.
    curves = [_run_curve(history) for history in histories]
    names = row_names(
        [ScoredRun(h.name, to_json(h.config), {"name": "", "digest": ""}, ()) for h in histories]
    )
    rows = {(curve.title, name) for curve, name in zip(curves, names, strict=True)}
    num_rows = Counter(title for title, _ in rows)
    seeds = Counter((c.title, h.config.seed) for c, h in zip(curves, histories, strict=True))
    repeated = {title for (title, _), count in seeds.items() if count > 1}

    # Label curves by their row if a panel has several, else by the seed.
    labels = [
        name.removeprefix(f"{history.config.preset}, ")
        if num_rows[curve.title] > 1
        else (history.name if curve.title in repeated else curve.label)
        for curve, name, history in zip(curves, names, histories, strict=True)
    ]
    return run_curves([replace(c, label=label) for c, label in zip(curves, labels, strict=True)])


def _run_curve(history: History) -> RunCurve:
    """Return the curve of a run, labeled by its seed.

    Raises:
        RunError: the run has neither evaluations nor logs of D(x).
    """
    evaluations = history.evaluations
    metric = METRICS.get(eval_metric(evaluations)) if evaluations else None
    if metric is not None and (curve := metric.curve):
        title, unit, value = curve.title, curve.unit, curve.value
        weights = "ema" if any(e.get("weights") == "ema" for e in evaluations) else "last"
        events = [event for event in evaluations if event.get("weights", "last") == weights]
    elif spec := curve_spec(history.logs):
        (value, title), *_ = spec.probabilities.items()
        unit, events = spec.unit, history.logs
    else:
        raise RunError(
            f"{history.name} has no training curve: it was trained without --eval-every, and its "
            "game has no D(x); leave it out"
        )
    config = history.config
    return RunCurve(
        f"{config.preset}: {title}",
        unit,
        f"seed {config.seed}",
        events,
        value,
        config.images_per_step,
    )


def _markdown_table(rows: Sequence[tuple[str, ...]], left: int) -> list[str]:
    """Return rows as a Markdown table, the first `left` columns left-aligned, others right."""
    head, *others = (
        "| " + " | ".join(_escape_markdown(cell) for cell in row) + " |" for row in rows
    )
    marks = ["---" if i < left else "---:" for i in range(len(rows[0]))]
    return [head, f"|{'|'.join(marks)}|", *others]


def _escape_markdown(text: str) -> str:
    r"""Return text with the characters that Markdown interprets escaped.

    An underscore within a word has no meaning in Markdown and stays as it is.
    """
    text = re.sub(r"([\\`*\[\]#|]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _latex_table(rows: Sequence[tuple[str, ...]], left: int) -> list[str]:
    """Return rows as a LaTeX table, the first `left` columns left-aligned, others right."""
    head, *others = (" & ".join(map(_escape_latex, row)) + r" \\" for row in rows)
    columns = "l" * left + "r" * (len(rows[0]) - left)
    begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
    return [begin, r"\toprule", head, r"\midrule", *others, r"\bottomrule", end]


_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        **{character: f"{{{character}}}" for character in "[]*"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\char34{}",
        "±": r"$\pm$",
        "−": "$-$",
        "–": r"\textendash{}",
        "↓": r"$\downarrow$",
        "↑": r"$\uparrow$",
        "σ": r"$\sigma$",
        "…": r"\ldots{}",
    }
)
"""The characters that LaTeX interprets, or that its usual fonts lack.

After the end of a row it would read [ or * as an argument, and it joins two hyphens.
"""


def _escape_latex(text: str) -> str:
    """Return text escaped for LaTeX, with the minus of a number as in a formula."""
    text = " ".join(text.split())
    sign = "$-$" if re.match(r"-[\d.]", text) else ""
    escaped = text[bool(sign) :].translate(_LATEX)
    return sign + re.sub(r"-(?=-)|(?<=-)-", "{-}", escaped)
