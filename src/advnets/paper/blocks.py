"""The data model of the paper's page: content blocks, checks, sections and their context."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union

from advnets import config
from advnets.data.prepared import open_data
from advnets.errors import DataError, DivergedError, StoppedError
from advnets.experiment.train import train
from advnets.experiment.trained_model import TrainedModel, load
from advnets.files import write_atomically
from advnets.run_directory import RunDirectory
from advnets.training.callback import Callback

_MARK = r"[$`{}\\]"
ESCAPED_MARKUP = rf"\\{_MARK}"
"""Pattern of an escaped markup character, as `escape_markup` writes it."""


def escape_markup(text: str) -> str:
    """Escape the characters that mark code or formulas in block text.

    A dollar sign, backtick, brace or backslash in text from data or messages is then shown
    literally.
    """
    return re.sub(_MARK, r"\\\g<0>", text)


def unescape_markup(text: str) -> str:
    """Undo `escape_markup`."""
    return re.sub(ESCAPED_MARKUP, lambda mark: mark[0][1], text)


def strip_markup(text: str) -> str:
    """Return text for a terminal, without the marks of code and formulas."""
    return re.sub(f"{ESCAPED_MARKUP}|{_MARK}", lambda mark: mark[0][1:], text)


@dataclass(frozen=True)
class Text:
    """A paragraph; text between `backticks` is code, text between $dollars$ a LaTeX formula."""

    text: str


@dataclass(frozen=True)
class Formula:
    """A displayed LaTeX formula, with its equation number in the paper."""

    latex: str
    number: str = ""


@dataclass(frozen=True)
class FigureBlock:
    """An image file in the section's folder."""

    file: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table with a header; the first cell of each row is its row header."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Check:
    """A measured claim: the expected value, the measured value, and whether it passed."""

    claim: str
    expected: str
    measured: str
    passed: bool


Block = Text | Formula | FigureBlock | Table


@dataclass(frozen=True)
class SectionContent:
    """The blocks of a section, in order, and the claims it measured."""

    blocks: tuple[Block, ...]
    checks: tuple[Check, ...] = ()
    missing_sources: tuple[str, ...] = ()
    """Fields of `Sources` whose data could not be opened; a note stands in the place of their
    results."""


@dataclass(frozen=True)
class Sources:
    """The data sources of the paper's three datasets: names of datasets, or paths."""

    mnist: str = "mnist"
    cifar: str = "cifar10"
    faces: str = "tfd"


def unavailable_reason(data: config.Data) -> str:
    """Return the message why data cannot be opened, or "" if they can."""
    try:
        open_data(data)
    except DataError as error:
        return str(error)
    return ""


def unavailable_note(subject: str, reason: str, source: str) -> Text:
    """Return a note that results are omitted because their data are missing.

    The note says why the data cannot be opened and how to supply them.
    """
    return Text(
        f"{subject} is not shown: {escape_markup(reason)}; or pass the path of your own file "
        f"with `--{source}`"
    )


@dataclass(frozen=True)
class SectionContext:
    """The arguments of a section's `build`: folders, scale, data sources and trained runs."""

    folder: Path
    """Folder of the section's images."""
    runs_dir: Path
    """Folder of the trained runs, which sections share."""
    full: bool
    """Whether to use the paper's networks and training lengths instead of small ones."""
    seeds: int
    """Number of seeds of every evaluated training."""
    sources: Sources
    data_dir: str | None
    callback: Callback
    log: Callable[[str], None]
    seed: int = 0
    """Seed of every training; the first one where several are trained."""

    @property
    def all_seeds(self) -> range:
        """The seeds of the evaluated trainings."""
        return range(self.seed, self.seed + self.seeds)

    def data(self, spec: config.Data, source: str) -> config.Data:
        """Return a preset's data config with this context's source and data directory."""
        return replace(spec, source=source, directory=self.data_dir)

    def save_image(self, name: str, content: bytes, alt: str, caption: str) -> FigureBlock:
        """Write an image file into the section's folder and return its block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / name, lambda file: file.write_bytes(content))
        return FigureBlock(name, alt, caption)

    def train_or_load(self, name: str, run: config.Config) -> TrainedModel:
        """Return the named run: loaded if complete, otherwise trained or resumed.

        Raises:
            StoppedError: training was stopped by a signal.
            ConfigDiffersError: a run of this name has another config.
            DivergedError: training diverged.
        """
        out = self.runs_dir / name
        self.log(f"{name}: {out}")
        if run.intervals.eval_every is None:
            run = replace(run, intervals=replace(run.intervals, eval_every=0))
        result = train(run, out, [self.callback], resume=RunDirectory(out).exists)
        if not result.complete:
            raise StoppedError(
                f"{out} was stopped at step {result.step:,} and saved; run the same command again "
                "to resume"
            )
        if result.problem is not None:
            raise DivergedError(f"{out}: {result.problem}")
        return load(out)


@dataclass(frozen=True)
class Section:
    """A section of the page: its title, its place in the paper, and the function that builds it."""

    title: str
    reference: str
    """Section, figure, table or equation of the paper."""
    build: Callable[[SectionContext], SectionContent]


_RESULT_FILE = "result.json"


@dataclass(frozen=True)
class Scale:
    """The scale at which sections are built; results of another scale are not reused."""

    full: bool
    seeds: int
    seed: int = 0

    @property
    def name(self) -> str:
        """Name of the scale on the command line: quick or full."""
        return "full" if self.full else "quick"


@dataclass(frozen=True)
class SectionResult:
    """The stored content of a section, with the versions and the scale that made it."""

    section: str
    scale: Scale
    advnets: str
    versions: Mapping[str, str]
    seconds: float
    content: SectionContent

    @classmethod
    def read(cls, folder: Path) -> SectionResult | None:
        """Read the result stored in a folder; return None if there is none or it is damaged."""
        try:
            stored = json.loads((folder / _RESULT_FILE).read_text("utf-8"))
            return _converter().structure(stored, cls)
        except (OSError, ValueError, KeyError, ExceptionGroup):
            return None

    def write(self, folder: Path) -> None:
        """Write the result into a folder, next to its images."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_converter().unstructure(self), indent=1, ensure_ascii=False)
        write_atomically(folder / _RESULT_FILE, lambda file: file.write_text(text, "utf-8"))


def _converter() -> Any:
    converter = make_converter(forbid_extra_keys=True)
    configure_tagged_union(Block, converter, tag_name="kind")
    return converter
