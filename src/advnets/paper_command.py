"""`advnets paper`: the 2014 paper, run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from advnets.config import Checked, at_least
from advnets.errors import UnknownNameError, UsageError


@dataclass(frozen=True)
class Paper(Checked):
    """Show every equation, proposition, algorithm, figure and table of the 2014 paper.

    Each part is played, measured against what the paper says, and put on one page, report.html.
    What was shown already is not played again: stopped, the same command goes on.
    """

    only: Annotated[str | None, arg(metavar="PART,…")] = None
    """Parts to play, by name, with commas between; None: all. `--only list` names them."""
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
    """CIFAR-10: the named set, or the path of its pictures."""
    faces: Annotated[str, arg(metavar="SOURCE")] = "tfd"
    """Faces: the Toronto Face Database by name, or the path of others."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where named sets lie; None: the environment variable ADVNETS_DATA, else the user's cache."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds is not None:
            at_least(self, 1, "seeds")
        at_least(self, 0, "seed")
        if self.quick and self.full:
            raise UsageError("quick and full were both asked for; give one of them")

    def execute(self) -> int:
        """Play, say what was found, and where the page is."""
        from advnets.console import Console, duration
        from advnets.files import check_output
        from advnets.paper.blocks import Sources, plain
        from advnets.paper.registry import PARTS
        from advnets.paper.result import Scale
        from advnets.paper.runner import Play

        if self.only == "list":
            print(
                "\n".join(f"{name:14}{part.title} ({part.where})" for name, part in PARTS.items())
            )
            return 0
        names = list(PARTS) if self.only is None else self.only.split(",")
        for name in names:
            if name not in PARTS:
                raise UnknownNameError("part of the paper", name, PARTS)
        check_output(self.out, folder=True)
        scale = Scale(self.full, self.seeds or (3 if self.full else 1), self.seed)
        sources = Sources(self.mnist, self.cifar, self.faces)
        play = Play(PARTS, self.out, scale, sources, self.data_dir, Console(), _tell)
        broken = 0
        for result in play.run(names):
            print(f"{result.part}: {PARTS[result.part].title}, {duration(result.seconds)}")
            for check in result.shown.checks:
                broken += not check.holds
                verdict = "" if check.holds else "  DOES NOT HOLD"
                said = f"{check.claim}: {check.found} (wanted: {check.wanted})"
                print(f"  {plain(said)}{verdict}", flush=True)
        print(f"page: {self.out / 'report.html'}")
        return 1 if broken else 0


def _tell(what: str) -> None:
    print(f"  … {what}", file=sys.stderr, flush=True)
