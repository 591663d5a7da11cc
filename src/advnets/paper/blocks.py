"""What a part of the paper shows, as plain data, and what it is given to show it with."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from advnets import config
from advnets.errors import DataError, DivergedError, StoppedError
from advnets.experiment.setup import open_data
from advnets.experiment.train import train
from advnets.experiment.trained_model import Trained, load
from advnets.files import write_atomically
from advnets.run_directory import RunDirectory
from advnets.training.trainer import Watcher

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
class Words:
    """A paragraph. Text between `backticks` is code, between $dollars$ a formula in LaTeX."""

    text: str


@dataclass(frozen=True)
class Formula:
    """A formula of its own line, in LaTeX, with its number in the paper."""

    latex: str
    number: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture file in the part's folder."""

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
    wanted: str
    found: str
    holds: bool


Block = Words | Formula | Picture | Table


@dataclass(frozen=True)
class Shown:
    """All that a part shows, in order, and the claims it has measured."""

    blocks: tuple[Block, ...]
    checks: tuple[Check, ...] = ()
    lacking: tuple[str, ...] = ()
    """Sources, by their names in `Sources`, that could not be opened and are told of instead."""


@dataclass(frozen=True)
class Sources:
    """Where the paper's three kinds of pictures come from: names of sets, or paths."""

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


def not_shown(what: str, reason: str, source: str) -> Words:
    """That something is left out for want of its data, why, and how to give them."""
    return Words(
        f"{what} is not shown: {literal(reason)}; or give the path of a file that you have "
        f"with `--{source}`"
    )


@dataclass(frozen=True)
class Setting:
    """What a part is given: its folder, its scale, and the way to trained runs."""

    folder: Path
    """Where the part's pictures go."""
    runs: Path
    """Where trained runs lie, which parts share."""
    full: bool
    """Whether the paper's own scale is asked for, or a small one."""
    seeds: int
    """Seeds of every training that is scored."""
    sources: Sources
    data_dir: str | None
    watcher: Watcher
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

    def picture(self, name: str, content: bytes, alt: str, caption: str) -> Picture:
        """Write a picture file and give its block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / name, lambda part: part.write_bytes(content))
        return Picture(name, alt, caption)

    def trained(self, name: str, run: config.Config) -> Trained:
        """The run of this name: loaded if it is complete, else trained, or on from where it stood.

        Raises:
            StoppedError: it was asked to stop on the way.
            ConfigDiffersError: a run of this name was begun with another config.
        """
        out = self.runs / name
        self.tell(f"{name}: {out}")
        ending = train(run, out, self.watcher, resume=RunDirectory(out).begun)
        if not ending.complete:
            raise StoppedError(
                f"{out} was stopped at step {ending.step:,}; everything is saved: the same "
                "command goes on from there"
            )
        if ending.problem is not None:
            raise DivergedError(f"{out}: {ending.problem}")
        return load(out)


@dataclass(frozen=True)
class Part:
    """A part of the paper, by the name that --only knows it by."""

    title: str
    where: str
    """Which section, figure or table of the paper."""
    show: Callable[[Setting], Shown]
