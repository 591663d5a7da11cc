"""The paper on one page that needs nothing but itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any

from PIL import Image

from advnets.errors import require
from advnets.paper.blocks import (
    ESCAPED,
    Check,
    FigureBlock,
    Formula,
    Result,
    Section,
    Table,
    Text,
    unescaped,
)
from advnets.report.html import Html, data_uri, document, element, void

_DENSITY = 2
"""Pixels of a drawn figure to one of the page."""
_MARKED = r"`(?:\\.|[^`\\])+`|\$(?:\\.|[^$\\])+\$"
"""Pattern of code and of a formula; a mark within them that is escaped does not end them."""


def page(
    parts: Mapping[str, Section], results: Sequence[Result], folders: Mapping[str, Path]
) -> str:
    """The page of the parts that were played, each under its heading, after what they come to."""
    missing = [name for name in parts if name not in folders]
    sections = [
        _overview(parts, results, missing),
        *(_section(parts[result.part], result, folders[result.part]) for result in results),
    ]
    scales = ", ".join(sorted({result.scale.name for result in results})) or "nothing yet"
    return document(
        title="Generative Adversarial Nets, run · advnets",
        heading="Generative Adversarial Nets, run",
        kicker=(
            "Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville and Bengio, "
            f"2014: every part of the paper as this machine has it; scale: {scales}"
        ),
        sections=sections,
        footer="Written by advnets paper from the parts' own results.",
    )


def _overview(parts: Mapping[str, Section], results: Sequence[Result], missing: list[str]) -> Html:
    """Every claim that was measured, and whether it holds."""
    checks = [(result.part, check) for result in results for check in result.shown.checks]
    held = sum(check.passed for _, check in checks)
    blocks: list[object] = [
        element("h2", "What counts"),
        element("p", f"{held} of {len(checks)} measured claims hold.", class_="lead"),
        _checks(
            (element("a", parts[name].title, href=f"#{name}"), check) for name, check in checks
        ),
    ]
    if missing:
        named = ", ".join(f"{parts[name].title} ({name})" for name in missing)
        scale = f" --{results[-1].scale.name}" if results else ""
        command = element("code", f"advnets paper{scale}")
        said = "Not shown yet, and what ", command, f" would go on with: {named}."
        blocks.append(element("p", *said, class_="note"))
    return element("section", *blocks)


def _section(part: Section, result: Result, folder: Path) -> Html:
    versions = ", ".join(f"{name} {said}" for name, said in result.versions.items())
    return element(
        "section",
        element("h2", part.title),
        element("p", part.where, class_="where"),
        *(block_html(block, folder) for block in result.shown.blocks),
        _checks(("", check) for check in result.shown.checks) if result.shown.checks else None,
        element(
            "p",
            element("code", f"advnets paper --{result.scale.name} --sections {result.part}"),
            f" took {result.seconds:,.0f} s; advnets {result.advnets}, {versions}",
            class_="where",
        ),
        id=result.part,
    )


def _checks(rows: Iterable[tuple[object, Check]]) -> Html:
    head = element("tr", *(element("th", name) for name in ("claim", "wanted", "found", "")))
    body = [
        element(
            "tr",
            element("th", where, ": " if where else "", *marked(check.claim), scope="row"),
            element("td", *marked(check.expected)),
            element("td", *marked(check.measured)),
            element(
                "td",
                "holds" if check.passed else "does not hold",
                class_="holds" if check.passed else "fails",
            ),
        )
        for where, check in rows
    ]
    state = element("table", element("thead", head), element("tbody", *body), class_="checks")
    return element("div", state, class_="scroll")


def marked(text: str) -> list[object]:
    """Text with its `code` and its $formulas$ as elements."""
    return [_mark(piece) for piece in re.split(f"({ESCAPED}|{_MARKED})", text) if piece]


def _mark(piece: str) -> object:
    if re.fullmatch(_MARKED, piece) is None:
        return unescaped(piece)
    inner = piece[1:-1]
    return element("code", unescaped(inner)) if piece[0] == "`" else math_html(inner)


def math_html(latex: str, display: str = "inline") -> Html:
    """A formula as MathML, which browsers set themselves.

    Raises:
        MissingExtraError: latex2mathml is not installed.
    """
    converter: Any = require("latex2mathml.converter", "paper")
    return Html(converter.convert(latex, display=display))


@singledispatch
def block_html(block: object, folder: Path) -> Html:
    """A block as HTML."""
    raise NotImplementedError(f"no way to show {type(block).__name__}")


@block_html.register
def _(block: Text, folder: Path) -> Html:  # noqa: ARG001
    return element("p", *marked(block.text))


@block_html.register
def _(block: Formula, folder: Path) -> Html:  # noqa: ARG001
    number = element("span", f"({block.number})", class_="equation") if block.number else None
    return element("div", math_html(block.latex, "block"), number, class_="formula")


@block_html.register
def _(block: FigureBlock, folder: Path) -> Html:
    path = folder / block.file
    with Image.open(path, formats=("PNG", "GIF")) as image:
        width, kind = image.width, path.suffix.removeprefix(".")
    drawn = data_uri(path.read_bytes(), kind)
    tag = void("img", src=drawn, alt=block.alt, width=width // _DENSITY)
    return element("figure", tag, element("figcaption", *marked(block.caption)))


@block_html.register
def _(block: Table, folder: Path) -> Html:  # noqa: ARG001
    head = element("tr", *(element("th", *marked(name)) for name in block.header))
    body = [
        element(
            "tr",
            element("th", *marked(row[0]), scope="row"),
            *(element("td", *marked(cell)) for cell in row[1:]),
        )
        for row in block.rows
    ]
    caption = element("caption", *marked(block.caption))
    state = element("table", caption, element("thead", head), element("tbody", *body))
    return element("div", state, class_="scroll")
