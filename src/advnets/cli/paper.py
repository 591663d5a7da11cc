"""`advnets paper`: the 2014 paper, run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from advnets.config import ValidatedConfig, check_min
from advnets.errors import UnknownNameError, UsageError


@dataclass(frozen=True)
class Paper(ValidatedConfig):
    """Show every equation, proposition, algorithm, figure and table of the 2014 paper.

    Each part is played, measured against what the paper says, and put on one page, report.html.
    What was shown already is not played again: stopped, the same command goes on.
    """

    sections: Annotated[str | None, arg(metavar="PART,…")] = None
    """Parts to play, by name, with commas between; None: all. `--sections list` names them."""
    quick: bool = False
    """Small nets and short trainings: ten minutes on two cores. The default."""
    full: bool = False
    """The paper's own nets and trainings: many hours; stop it whenever you like."""
    out: Path = Path("paper")
    """Where parts, trained runs and report.html go."""
    seeds: int | None = None
    """Seeds of every training that is scored; None: 3, or 1 with --quick."""
    seed: int = 0
    """Seed of every training; of several, the first."""
    mnist: Annotated[str, arg(metavar="SOURCE")] = "mnist"
    """The digits of Table 1 and Figures 2 and 3, with --full."""
    cifar: Annotated[str, arg(metavar="SOURCE")] = "cifar10"
    """CIFAR-10: the named set, or the path of its images."""
    faces: Annotated[str, arg(metavar="SOURCE")] = "tfd"
    """Faces: the Toronto Face Database by name, or the path of others."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where named sets lie; None: the environment variable ADVNETS_DATA, else the user's cache."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds is not None:
            check_min(self, 1, "seeds")
        check_min(self, 0, "seed")
        if self.quick and self.full:
            raise UsageError("quick and full were both asked for; give one of them")

    def execute(self) -> int:
        """Play, say what was found, and where the page is."""
        from advnets.cli.console import Console, duration
        from advnets.files import check_output
        from advnets.paper.blocks import Scale, Sources, plain
        from advnets.paper.registry import SECTIONS
        from advnets.paper.runner import PaperRunner

        if self.sections == "list":
            print(
                "\n".join(
                    f"{name:14}{part.title} ({part.where})" for name, part in SECTIONS.items()
                )
            )
            return 0
        names = list(SECTIONS) if self.sections is None else self.sections.split(",")
        for name in names:
            if name not in SECTIONS:
                raise UnknownNameError("part of the paper", name, SECTIONS)
        check_output(self.out, folder=True)
        scale = Scale(self.full, self.seeds or (3 if self.full else 1), self.seed)
        sources = Sources(self.mnist, self.cifar, self.faces)
        play = PaperRunner(SECTIONS, self.out, scale, sources, self.data_dir, Console(), _tell)
        broken = 0
        for result in play.run(names):
            print(f"{result.part}: {SECTIONS[result.part].title}, {duration(result.seconds)}")
            for check in result.shown.checks:
                broken += not check.passed
                verdict = "" if check.passed else "  DOES NOT HOLD"
                said = f"{check.claim}: {check.measured} (wanted: {check.expected})"
                print(f"  {plain(said)}{verdict}", flush=True)
        print(f"page: {self.out / 'report.html'}")
        return 1 if broken else 0


def _tell(what: str) -> None:
    print(f"  … {what}", file=sys.stderr, flush=True)
