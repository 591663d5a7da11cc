"""`advnets paper`: reproduce the 2014 paper."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from advnets.config import DataDir, ValidatedConfig, check_min
from advnets.data.spec import check_source
from advnets.errors import UnknownNameError, UsageError


@dataclass(frozen=True)
class Paper(ValidatedConfig):
    """Reproduce every equation, proposition, algorithm, figure and table of the 2014 paper.

    Each section is computed, checked against the paper's claims, and written to one page,
    report.html. Finished sections are stored: after an interruption the same command resumes.
    """

    sections: Annotated[str | None, arg(metavar="SECTION,…")] = None
    """Names of the sections to build, separated by commas; `--sections list` lists them. None: all
    sections."""
    quick: bool = False
    """Use small networks and short trainings: ten minutes on two cores. This is the default."""
    full: bool = False
    """Use the paper's networks and training lengths, which takes many hours; it can be
    interrupted."""
    out: Annotated[Path, arg(metavar="DIR")] = Path("paper")
    """Output folder of the results, the trained runs and report.html."""
    seeds: int | None = None
    """Number of seeds of every model that is evaluated. None: 3 with --full, else 1."""
    seed: int = 0
    """Random seed of every training; with several seeds, the first one."""
    mnist: Annotated[str, arg(metavar="SOURCE")] = "mnist"
    """Dataset or path of the digits in Table 1 and Figures 2 and 3 with --full."""
    cifar: Annotated[str, arg(metavar="SOURCE")] = "cifar10"
    """Dataset or path of the CIFAR-10 images."""
    faces: Annotated[str, arg(metavar="SOURCE")] = "tfd"
    """Dataset or path of the face images, such as the Toronto Face Database."""
    data_dir: DataDir = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds is not None:
            check_min(self, 1, "seeds")
        check_min(self, 0, "seed")
        if self.quick and self.full:
            raise UsageError("--quick and --full exclude each other; give one of them")

    def execute(self) -> int:
        """Build the sections, print their checks and the path of the page."""
        from advnets.cli.console import Console, duration
        from advnets.files import check_output
        from advnets.paper.blocks import Scale, Sources, strip_markup
        from advnets.paper.page import PaperRunner
        from advnets.paper.sections import SECTIONS

        if self.sections == "list":
            print(
                "\n".join(
                    f"{name:15}{section.title} ({section.reference})"
                    for name, section in SECTIONS.items()
                )
            )
            return 0
        names = list(SECTIONS) if self.sections is None else self.sections.split(",")
        for name in names:
            if name not in SECTIONS:
                raise UnknownNameError("section of the paper", name, SECTIONS)
        for source in (self.mnist, self.cifar, self.faces):
            check_source(source)
        check_output(self.out, folder=True)
        scale = Scale(self.full, self.seeds or (3 if self.full else 1), self.seed)
        sources = Sources(self.mnist, self.cifar, self.faces)
        runner = PaperRunner(SECTIONS, self.out, scale, sources, self.data_dir, Console(), _log)
        failures = 0
        for result in runner.run(names):
            print(f"{result.section}: {SECTIONS[result.section].title}, {duration(result.seconds)}")
            for check in result.content.checks:
                failures += not check.passed
                status = "pass" if check.passed else "FAIL"
                text = f"{check.claim}: {check.measured} (expected: {check.expected})"
                print(f"  {status}: {strip_markup(text)}", flush=True)
        print(f"page: {self.out / 'report.html'}")
        return 1 if failures else 0


def _log(message: str) -> None:
    print(f"  … {message}", file=sys.stderr, flush=True)
