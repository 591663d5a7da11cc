"""The page of the paper: its sections are built or loaded, and rendered as self-contained HTML."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

from PIL import Image

from advnets import config
from advnets._version import __version__
from advnets.errors import require
from advnets.files import write_atomically
from advnets.paper.blocks import (
    ESCAPED_MARKUP,
    Check,
    FigureBlock,
    Formula,
    Scale,
    Section,
    SectionContext,
    SectionResult,
    Sources,
    Table,
    Text,
    unavailable_reason,
    unescape_markup,
)
from advnets.report.html import Html, data_uri, document, element, void
from advnets.run_records import versions
from advnets.training.callback import Callback


@dataclass(frozen=True)
class PaperRunner:
    """A set of the paper's sections and the output folder of their results."""

    sections: Mapping[str, Section]
    out: Path
    scale: Scale
    sources: Sources
    data_dir: str | None
    callback: Callback
    log: Callable[[str], None]

    def run(self, names: Sequence[str]) -> Iterator[SectionResult]:
        """Build the named sections in the paper's order and yield each result.

        Stored results of the same scale and version are reused.

        Raises:
            StoppedError: a training was stopped by a signal; earlier sections are stored.
        """
        for name in self.sections:
            if name not in names:
                continue
            result = self.load_result(name)
            if result is None:
                result = self._build_section(name)
                result.write(self.folder(name))
            self.write_page()
            yield result

    def load_result(self, name: str) -> SectionResult | None:
        """Return a section's stored result if it has this scale and version, or None.

        A result that lacks data which can be opened now is not returned, so that it is built again.
        """
        result = SectionResult.read(self.folder(name))
        if result is None or (result.scale, result.advnets) != (self.scale, __version__):
            return None
        return None if self._any_available(result.content.missing_sources) else result

    def folder(self, name: str) -> Path:
        """Return the folder of a section's result and images."""
        return self.out / "sections" / self.scale.name / name

    def write_page(self) -> Path:
        """Write report.html with all stored results and return its path."""
        results = [result for name in self.sections if (result := self.load_result(name))]
        folders = {result.section: self.folder(result.section) for result in results}
        path = self.out / "report.html"
        text = render_page(self.sections, results, folders)
        write_atomically(path, lambda file: file.write_text(text, "utf-8"))
        return path

    def _any_available(self, missing: Sequence[str]) -> bool:
        """Return whether any of the missing data sources can be opened now."""
        sources = (getattr(self.sources, name) for name in missing)
        return any(
            not unavailable_reason(config.Data(source=source, directory=self.data_dir))
            for source in sources
        )

    def _build_section(self, name: str) -> SectionResult:
        start = time.monotonic()
        context = SectionContext(
            folder=self.folder(name),
            runs_dir=self.out / "runs",
            full=self.scale.full,
            seeds=self.scale.seeds,
            sources=self.sources,
            data_dir=self.data_dir,
            callback=self.callback,
            log=self.log,
            seed=self.scale.seed,
        )
        content = self.sections[name].build(context)
        seconds = time.monotonic() - start
        return SectionResult(name, self.scale, __version__, versions(), seconds, content)


_PIXEL_RATIO = 2
"""Pixels of a figure per CSS pixel."""
_MARKUP = r"`(?:\\.|[^`\\])+`|\$(?:\\.|[^$\\])+\$"
"""Pattern of code and of a formula; an escaped mark inside does not end them."""


def render_page(
    sections: Mapping[str, Section], results: Sequence[SectionResult], folders: Mapping[str, Path]
) -> str:
    """Return the HTML page: a summary of all checks, then one part per section result."""
    missing = [name for name in sections if name not in folders]
    html = [
        _render_summary(sections, results, missing),
        *(
            _render_section(sections[result.section], result, folders[result.section])
            for result in results
        ),
    ]
    scales = ", ".join(sorted({result.scale.name for result in results})) or "none yet"
    return document(
        title="Generative Adversarial Nets: a reproduction · advnets",
        heading="Generative Adversarial Nets: a reproduction",
        subtitle=(
            "Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville and Bengio, "
            f"2014. Sections of the paper computed on this machine, at scale: {scales}"
        ),
        sections=html,
        footer="Written by advnets paper from the stored results of its sections.",
    )


def _render_summary(
    sections: Mapping[str, Section], results: Sequence[SectionResult], missing: list[str]
) -> Html:
    """Return the table of all checks and the list of sections that have no result yet."""
    checks = [(result.section, check) for result in results for check in result.content.checks]
    num_passed = sum(check.passed for _, check in checks)
    blocks: list[object] = [
        element("h2", "Summary of checks"),
        element("p", f"{num_passed} of {len(checks)} checks pass.", class_="lead"),
        _render_checks(
            (element("a", sections[name].title, href=f"#{name}"), check) for name, check in checks
        ),
    ]
    if missing:
        titles = ", ".join(f"{sections[name].title} ({name})" for name in missing)
        scale = f" --{results[-1].scale.name}" if results else ""
        command = element("code", f"advnets paper{scale}")
        note = "Not built yet: ", titles, "; continue with ", command, "."
        blocks.append(element("p", *note, class_="note"))
    return element("section", *blocks)


def _render_section(section: Section, result: SectionResult, folder: Path) -> Html:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    return element(
        "section",
        element("h2", section.title),
        element("p", section.reference, class_="location"),
        *(render_block(block, folder) for block in result.content.blocks),
        _render_checks(("", check) for check in result.content.checks)
        if result.content.checks
        else None,
        element(
            "p",
            element("code", f"advnets paper --{result.scale.name} --sections {result.section}"),
            f" took {result.seconds:,.0f} s; advnets {result.advnets}, {versions}",
            class_="location",
        ),
        id=result.section,
    )


def _render_checks(rows: Iterable[tuple[object, Check]]) -> Html:
    """Return checks as a table; the first item of a row is a link or empty."""
    head = element(
        "tr", *(element("th", name) for name in ("claim", "expected", "measured", "pass"))
    )
    body = [
        element(
            "tr",
            element("th", link, ": " if link else "", *markup_to_html(check.claim), scope="row"),
            element("td", *markup_to_html(check.expected)),
            element("td", *markup_to_html(check.measured)),
            element(
                "td", "yes" if check.passed else "no", class_="pass" if check.passed else "fail"
            ),
        )
        for link, check in rows
    ]
    table = element("table", element("thead", head), element("tbody", *body), class_="checks")
    return element("div", table, class_="scroll")


def markup_to_html(text: str) -> list[object]:
    """Return text as a list of strings and elements, with `code` and $formulas$ rendered."""
    return [
        _markup_piece(piece) for piece in re.split(f"({ESCAPED_MARKUP}|{_MARKUP})", text) if piece
    ]


def _markup_piece(piece: str) -> object:
    if re.fullmatch(_MARKUP, piece) is None:
        return unescape_markup(piece)
    inner = piece[1:-1]
    return element("code", unescape_markup(inner)) if piece[0] == "`" else latex_to_mathml(inner)


def latex_to_mathml(latex: str, display: str = "inline") -> Html:
    """Return a LaTeX formula as MathML, which browsers render themselves.

    Raises:
        MissingExtraError: latex2mathml is not installed.
    """
    converter: Any = require("latex2mathml.converter", "paper")
    return Html(converter.convert(latex, display=display))


@singledispatch
def render_block(block: object, folder: Path) -> Html:
    """Return a block as HTML; image files are read from `folder`."""
    raise NotImplementedError(f"no renderer for blocks of type {type(block).__name__}")


@render_block.register
def _render_text(block: Text, folder: Path) -> Html:  # noqa: ARG001
    return element("p", *markup_to_html(block.text))


@render_block.register
def _render_formula(block: Formula, folder: Path) -> Html:  # noqa: ARG001
    number = element("span", f"({block.number})", class_="equation") if block.number else None
    return element("div", latex_to_mathml(block.latex, "block"), number, class_="formula")


@render_block.register
def _render_figure(block: FigureBlock, folder: Path) -> Html:
    path = folder / block.file
    with Image.open(path, formats=("PNG", "GIF")) as image:
        width, kind = image.width, path.suffix.removeprefix(".")
    data = data_uri(path.read_bytes(), kind)
    tag = void("img", src=data, alt=block.alt, width=width // _PIXEL_RATIO)
    return element("figure", tag, element("figcaption", *markup_to_html(block.caption)))


@render_block.register
def _render_table(block: Table, folder: Path) -> Html:  # noqa: ARG001
    head = element("tr", *(element("th", *markup_to_html(name)) for name in block.header))
    body = [
        element(
            "tr",
            element("th", *markup_to_html(row[0]), scope="row"),
            *(element("td", *markup_to_html(cell)) for cell in row[1:]),
        )
        for row in block.rows
    ]
    caption = element("caption", *markup_to_html(block.caption))
    table = element("table", caption, element("thead", head), element("tbody", *body))
    return element("div", table, class_="scroll")
