"""The section of scores in a run's report: tables, baselines of real images, and caveats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advnets.evaluation.spec import REAL
from advnets.report.html import Html, element, join
from advnets.report.score_text import comparability_lines, describe_inputs, describe_result

Record = Mapping[str, Any]

_PUBLISHED = {"mnist": "225 ± 2 nats for adversarial nets on MNIST"}
"""Results in table 1 of Goodfellow et al. (2014), by the name of the data."""


def score_section(scores: Sequence[Record], data: str) -> Html:
    """Return the tables of scores, newest step first, with their caveats."""
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
    matched: list[Record] = []
    for score in generated:
        real = matching_real(score, parzen)
        rows.append(_row(score, real))
        if real is not None:
            rows.append(_row(real, None))
            matched.append(real)
    rows += [
        _row(score, None)
        for score in parzen
        if score.get("samples") == REAL and score not in matched
    ]
    return _table(
        "Parzen window log-likelihood: samples on test images",
        ("Samples", "Nats ± s.e.", "σ", "Grid of σ", "Scored", "Step", "Seed"),
        ("Nats ± s.e.", "σ", "Scored", "Step", "Seed"),
        rows,
    )


def _feature_table(scores: Sequence[Record]) -> Html:
    """Return the table of all other metrics, newest step first."""
    ordered = sorted(scores, key=lambda s: -_number(s, "step"))
    rows = [
        element(
            "tr",
            element("th", _samples(score), scope="row"),
            element("td", describe_result(score)),
            element("td", describe_inputs(score)),
            *_step_and_seed(score),
            class_="reference" if score.get("samples") == REAL else None,
        )
        for score in ordered
    ]
    table = _table(
        "Scores of samples against test images",
        ("Samples", "Result", "Features, images", "Step", "Seed"),
        ("Step", "Seed"),
        rows,
    )
    return join([table, *(element("p", line) for line in comparability_lines(ordered))])


def _table(
    caption: str, columns: Sequence[str], numbers: Sequence[str], rows: Sequence[Html]
) -> Html:
    """Return a table that scrolls horizontally; `numbers` names the numeric columns."""
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


def matching_real(score: Record, scores: Sequence[Record]) -> Record | None:
    """Return the newest score of real images with the same settings as `score`, or None."""
    settings = ("metric", "grid", "n_samples", "n_valid", "n_test", "split")
    matching = [
        real
        for real in scores
        if real.get("samples") == REAL and all(real.get(key) == score.get(key) for key in settings)
    ]
    return matching[-1] if matching else None


def newest_real(scores: Sequence[Record]) -> float | None:
    """Return the newest Parzen log-likelihood of real images on the paper's grid, or None."""
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
        flags.append(element("span", "above real images: smoother than the data", class_="flag"))
    if score.get("sigma_on_edge"):
        flags.append(element("span", "σ is at the edge of its grid", class_="flag"))
    counts = f"{_number(score, 'n_samples'):,.0f} on {_number(score, 'n_test'):,.0f}"
    return element(
        "tr",
        element("th", _samples(score), *flags, scope="row"),
        element("td", f"{mean:,.1f} ± {error:.1f}", class_="number mean"),
        element("td", f"{_number(score, 'sigma'):.3f}", class_="number"),
        element("td", score.get("grid", "")),
        element("td", counts, class_="number"),
        *_step_and_seed(score),
        class_="reference" if score.get("samples") == REAL else None,
    )


def _samples(score: Record) -> str:
    """Return what is scored: samples of which weights, kept by D or not, of which classes."""
    weights = {"last": ", last weights", "ema": ", EMA weights"}
    kept = score.get("keep_fraction")
    rejection = "" if kept is None else f", the fraction {kept:g} with the highest D(x)"
    uniform = score.get("class_proportions") == "uniform"
    classes = ", uniform class proportions" if uniform else ""
    samples = str(score.get("samples", ""))
    return samples + weights.get(score.get("weights") or "", "") + rejection + classes


def _step_and_seed(score: Record) -> tuple[Html, Html]:
    """Return the cells of step and seed; real images have no step."""
    step = "–" if score.get("samples") == REAL else f"{_number(score, 'step'):,.0f}"
    return (
        element("td", step, class_="number"),
        element("td", score.get("seed", ""), class_="number"),
    )


def _caveat(data: str) -> Html:
    text = (
        "A higher Parzen log-likelihood does not mean better samples (Theis et al. 2016, "
        "“A note on the evaluation of generative models”). Compare a score with that of real "
        "training images: a higher one means “smoother than the data”, not “better than the "
        "data”. s.e. is the standard error over test images, not over training seeds. "
        "Scores are comparable only with the same grid of σ and the same numbers of images."
    )
    published = None
    if data in _PUBLISHED:
        published = element(
            "p",
            f"Goodfellow et al. (2014), table 1, report {_PUBLISHED[data]}, for 10,000 samples and "
            "σ from the paper's grid: only scores with these settings are comparable.",
        )
    return join([element("p", text, class_="caveat"), published])


def _number(score: Record, key: str) -> float:
    value = score.get(key)
    return float(value) if isinstance(value, int | float) else float("nan")
