"""The scores of a run, each beside what real images score and with what it does not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advnets.report.html import Html, element, join
from advnets.report.score_text import REAL, describe_inputs, describe_result

Record = Mapping[str, Any]

_PUBLISHED = {"mnist": "225 ± 2 nats for adversarial nets on MNIST"}
"""Table 1 of Goodfellow et al. (2014), by the name of the data."""


def score_section(scores: Sequence[Record], data: str) -> Html:
    """The tables of scores, newest step first, with the caveats that belong to them."""
    heading = element("h2", "Scores")
    if not scores:
        none = element(
            "p",
            "None yet; ",
            element("code", "advnets evaluate"),
            " adds them (see “Next steps”).",
        )
        return element("section", heading, none)
    parzen = [score for score in scores if score.get("metric") == "parzen"]
    others = [score for score in scores if score.get("metric") != "parzen"]
    parts = [_parzen_table(parzen), _caveat(data)] if parzen else []
    return element("section", heading, *parts, *([_feature_table(others)] if others else []))


def _parzen_table(parzen: Sequence[Record]) -> Html:
    generated = sorted(
        (score for score in parzen if score.get("samples") != REAL),
        key=lambda score: -_number(score, "step"),
    )
    rows: list[Html] = []
    shown: list[Record] = []
    for score in generated:
        real = beside(score, parzen)
        rows.append(_row(score, real))
        if real is not None:
            rows.append(_row(real, None))
            shown.append(real)
    rows += [
        _row(score, None) for score in parzen if score.get("samples") == REAL and score not in shown
    ]
    return _table(
        "Parzen window log-likelihood: samples on test images",
        ("Samples", "Nats ± s.e.", "σ", "Grid of σ", "Scored", "Step", "Seed"),
        ("Nats ± s.e.", "σ", "Scored", "Step", "Seed"),
        rows,
    )


def _feature_table(scores: Sequence[Record]) -> Html:
    """Other metrics: newest step first, each beside its real-data row, as they were found."""
    ordered = sorted(scores, key=lambda s: -_number(s, "step"))
    rows = [
        element(
            "tr",
            element("th", _samples(score), scope="row"),
            element("td", describe_result(score)),
            element("td", describe_inputs(score)),
            *_place(score),
            class_="beside" if score.get("samples") == REAL else None,
        )
        for score in ordered
    ]
    return _table(
        "What each metric found, through what, of how many",
        ("Samples", "Found", "Features, images", "Step", "Seed"),
        ("Step", "Seed"),
        rows,
    )


def _table(
    caption: str, columns: Sequence[str], numbers: Sequence[str], rows: Sequence[Html]
) -> Html:
    """A table that can be scrolled sideways; the named columns hold numbers."""
    head = element(
        "tr",
        *(
            element("th", name, scope="col", class_="number" if name in numbers else None)
            for name in columns
        ),
    )
    table = element(
        "table",
        element("caption", caption),
        element("thead", head),
        element("tbody", *rows),
    )
    return element("div", table, class_="scroll", role="region", tabindex="0", aria_label=caption)


def beside(score: Record, scores: Sequence[Record]) -> Record | None:
    """The newest real-data row that was scored as this one was, or None."""
    same = ("metric", "grid", "n_samples", "n_valid", "n_test", "split")
    fitting = [
        real
        for real in scores
        if real.get("samples") == REAL and all(real.get(key) == score.get(key) for key in same)
    ]
    return fitting[-1] if fitting else None


def newest_real(scores: Sequence[Record]) -> float | None:
    """Mean log-likelihood of real images on the paper's grid, which is that of the events."""
    means = [
        _number(score, "mean")
        for score in scores
        if score.get("samples") == REAL and score.get("grid") == "paper"
    ]
    return means[-1] if means else None


def _row(score: Record, real: Record | None) -> Html:
    mean, error = _number(score, "mean"), _number(score, "standard_error")
    flags: list[Html] = []
    if real is not None and mean > _number(real, "mean"):
        flags.append(element("span", "above real images: smoother than data", class_="flag"))
    if score.get("sigma_on_edge"):
        flags.append(element("span", "σ is on the edge of its grid", class_="flag"))
    counts = f"{_number(score, 'n_samples'):,.0f} on {_number(score, 'n_test'):,.0f}"
    return element(
        "tr",
        element("th", _samples(score), *flags, scope="row"),
        element("td", f"{mean:,.1f} ± {error:.1f}", class_="number mean"),
        element("td", f"{_number(score, 'sigma'):.3f}", class_="number"),
        element("td", score.get("grid", "")),
        element("td", counts, class_="number"),
        *_place(score),
        class_="beside" if score.get("samples") == REAL else None,
    )


def _samples(score: Record) -> str:
    """What is scored, with the weights that it comes from."""
    weights = {"last": ", last weights", "ema": ", averaged weights"}
    kept = score.get("keep")
    share = "" if kept is None else f", the {kept:g} that D judges most real"
    classes = ", uniform class proportions" if score.get("class_proportions") == "uniform" else ""
    named = str(score.get("samples", "")) + weights.get(score.get("weights") or "", "")
    return named + share + classes


def _place(score: Record) -> tuple[Html, Html]:
    """Step and seed; real images are of no step."""
    step = "–" if score.get("samples") == REAL else f"{_number(score, 'step'):,.0f}"
    return (
        element("td", step, class_="number"),
        element("td", score.get("seed", ""), class_="number"),
    )


def _caveat(data: str) -> Html:
    text = (
        "A higher Parzen log-likelihood does not mean better samples (Theis et al. 2016, "
        "“A note on the evaluation of generative models”). Read a score beside the row of real "
        "training images: one above it says “smoother than data”, not “better than data”. "
        "s.e. is the standard error over test images, not over seeds. "
        "Scores compare only at the same grid of σ and the same numbers of images."
    )
    published = None
    if data in _PUBLISHED:
        published = element(
            "p",
            f"Goodfellow et al. (2014), table 1, print {_PUBLISHED[data]}, from 10,000 samples and "
            "with σ from the paper's grid: only rows made so compare with it.",
        )
    return join([element("p", text, class_="caveat"), published])


def _number(score: Record, key: str) -> float:
    value = score.get(key)
    return float(value) if isinstance(value, int | float) else float("nan")
