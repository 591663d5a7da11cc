"""What a part of the paper shows, as plain data, and what it is given to show it with."""

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
from advnets.training.trainer import Callback

_MARK = r"[$`{}\\]"
ESCAPED = rf"\\{_MARK}"
"""Pattern of an escaped mark, as `literal` writes it."""


def literal(text: str) -> str:
    """Return text from data or messages with everything escaped that would mark code or a formula.

    A dollar sign, backtick, brace or backslash is then shown as itself.
    """
    return re.sub(_MARK, r"\\\g<0>", text)


def unescaped(text: str) -> str:
    """Return what `literal` was given."""
    return re.sub(ESCAPED, lambda mark: mark[0][1], text)


def plain(text: str) -> str:
    """Return text as a terminal shows it, without the marks of code and formulas."""
    return re.sub(f"{ESCAPED}|{_MARK}", lambda mark: mark[0][1:], text)


@dataclass(frozen=True)
class Text:
    """A paragraph. Text between `backticks` is code, between $dollars$ a formula in LaTeX."""

    text: str


@dataclass(frozen=True)
class Formula:
    """A formula of its own line, in LaTeX, with its number in the paper."""

    latex: str
    number: str = ""


@dataclass(frozen=True)
class FigureBlock:
    """An image file in the part's folder."""

    file: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first cell of a row names it."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Check:
    """A claim that is measured: what was found beside what was wanted."""

    claim: str
    expected: str
    measured: str
    passed: bool


Block = Text | Formula | FigureBlock | Table


@dataclass(frozen=True)
class SectionContent:
    """All that a part shows, in order, and the claims it has measured."""

    blocks: tuple[Block, ...]
    checks: tuple[Check, ...] = ()
    lacking: tuple[str, ...] = ()
    """Sources, by their names in `Sources`, that could not be opened and are told of instead."""


@dataclass(frozen=True)
class Sources:
    """Where the paper's three kinds of images come from: names of sets, or paths."""

    mnist: str = "mnist"
    cifar: str = "cifar10"
    faces: str = "tfd"


def absent(data: config.Data) -> str:
    """Why data cannot be opened; nothing where they can."""
    try:
        open_data(data)
    except DataError as error:
        return str(error)
    return ""


def not_shown(what: str, reason: str, source: str) -> Text:
    """That something is left out for want of its data, why, and how to give them."""
    return Text(
        f"{what} is not shown: {literal(reason)}; or give the path of a file that you have "
        f"with `--{source}`"
    )


@dataclass(frozen=True)
class SectionContext:
    """What a part is given: its folder, its scale, and the way to trained runs."""

    folder: Path
    """Where the part's images go."""
    runs: Path
    """Where trained runs lie, which parts share."""
    full: bool
    """Whether the paper's own scale is asked for, or a small one."""
    seeds: int
    """Seeds of every training that is scored."""
    sources: Sources
    data_dir: str | None
    watcher: Callback
    tell: Callable[[str], None]
    seed: int = 0
    """Seed of every training; of several, the first."""

    @property
    def all_seeds(self) -> range:
        """The seeds of trainings that are scored."""
        return range(self.seed, self.seed + self.seeds)

    def data(self, spec: config.Data, source: str) -> config.Data:
        """A preset's data, from where this paper is told to take them."""
        return replace(spec, source=source, directory=self.data_dir)

    def image(self, name: str, content: bytes, alt: str, caption: str) -> FigureBlock:
        """Write an image file and give its block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / name, lambda part: part.write_bytes(content))
        return FigureBlock(name, alt, caption)

    def trained(self, name: str, run: config.Config) -> TrainedModel:
        """The run of this name: loaded if it is complete, else trained, or on from where it stood.

        Raises:
            StoppedError: it was asked to stop on the way.
            ConfigDiffersError: a run of this name was begun with another config.
        """
        out = self.runs / name
        self.tell(f"{name}: {out}")
        ending = train(run, out, self.watcher, resume=RunDirectory(out).exists)
        if not ending.complete:
            raise StoppedError(
                f"{out} was stopped at step {ending.step:,}; everything is saved: the same "
                "command goes on from there"
            )
        if ending.problem is not None:
            raise DivergedError(f"{out}: {ending.problem}")
        return load(out)


@dataclass(frozen=True)
class Section:
    """A part of the paper, by the name that --sections knows it by."""

    title: str
    where: str
    """Which section, figure or table of the paper."""
    show: Callable[[SectionContext], SectionContent]


_FILE = "result.json"


@dataclass(frozen=True)
class Scale:
    """At what scale the paper is played; a result of another scale is not this one's."""

    full: bool
    seeds: int
    seed: int = 0

    @property
    def name(self) -> str:
        """As the command line has it."""
        return "full" if self.full else "quick"


@dataclass(frozen=True)
class Result:
    """A part that was played."""

    part: str
    scale: Scale
    advnets: str
    versions: Mapping[str, str]
    seconds: float
    shown: SectionContent

    @classmethod
    def read(cls, folder: Path) -> Result | None:
        """The result that lies in a folder, if a whole one does."""
        try:
            stored = json.loads((folder / _FILE).read_text("utf-8"))
            return _converter().structure(stored, cls)
        except (OSError, ValueError, KeyError, ExceptionGroup):
            return None

    def write(self, folder: Path) -> None:
        """Lay the result into a folder, beside its images."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_converter().unstructure(self), indent=1, ensure_ascii=False)
        write_atomically(folder / _FILE, lambda part: part.write_text(text, "utf-8"))


def _converter() -> Any:
    converter = make_converter(forbid_extra_keys=True)
    configure_tagged_union(Block, converter, tag_name="kind")
    return converter
