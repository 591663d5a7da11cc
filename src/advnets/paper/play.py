"""Play the paper part by part: what was shown is kept, and the page grows with it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union

from advnets import config
from advnets._version import __version__
from advnets.experiment.build import versions
from advnets.files import write_atomically
from advnets.paper.page import page
from advnets.paper.part import Block, Part, Setting, Shown, Sources, absent
from advnets.training.loop import Watcher

_RESULT = "result.json"


@dataclass(frozen=True)
class Scale:
    """At what scale the paper is played; a result of another scale is not this one's."""

    full: bool
    seeds: int

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
    shown: Shown


@dataclass(frozen=True)
class Play:
    """The paper, or some parts of it, in one folder."""

    parts: Mapping[str, Part]
    out: Path
    scale: Scale
    sources: Sources
    data_dir: str | None
    watcher: Watcher
    tell: Callable[[str], None]

    def run(self, names: Sequence[str]) -> Iterator[Result]:
        """Play these parts in the paper's order; give each result as it comes.

        Raises:
            StoppedError: a training was asked to stop; the parts before it are kept.
        """
        for name in self.parts:
            if name not in names:
                continue
            result = self.known(name)
            if result is None:
                result = self._played(name)
                self._keep(result)
            self.write_page()
            yield result

    def known(self, name: str) -> Result | None:
        """The stored result of a part, if it is one of this scale and version.

        What was left out for want of data is no result any more once they can be opened.
        """
        path = self.folder(name) / _RESULT
        try:
            result = _converter().structure(json.loads(path.read_text("utf-8")), Result)
        except (OSError, ValueError, KeyError, ExceptionGroup):
            return None
        same = result.scale == self.scale and result.advnets == __version__
        return result if same and not self._found(result.shown.lacking) else None

    def folder(self, name: str) -> Path:
        """Where a part's result and pictures lie."""
        return self.out / "parts" / self.scale.name / name

    def write_page(self) -> Path:
        """Write report.html of all that is known."""
        known = [result for name in self.parts if (result := self.known(name))]
        folders = {result.part: self.folder(result.part) for result in known}
        path = self.out / "report.html"
        text = page(self.parts, known, folders)
        write_atomically(path, lambda part: part.write_text(text, "utf-8"))
        return path

    def _found(self, lacking: Sequence[str]) -> bool:
        """Whether data that were lacking can be opened now."""
        sources = (getattr(self.sources, name) for name in lacking)
        return any(
            not absent(config.Data(source=source, directory=self.data_dir)) for source in sources
        )

    def _played(self, name: str) -> Result:
        began = time.monotonic()
        setting = Setting(
            folder=self.folder(name),
            runs=self.out / "runs",
            full=self.scale.full,
            seeds=self.scale.seeds,
            sources=self.sources,
            data_dir=self.data_dir,
            watcher=self.watcher,
            tell=self.tell,
        )
        shown = self.parts[name].show(setting)
        seconds = time.monotonic() - began
        return Result(name, self.scale, __version__, versions(), seconds, shown)

    def _keep(self, result: Result) -> None:
        folder = self.folder(result.part)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_converter().unstructure(result), indent=1, ensure_ascii=False)
        write_atomically(folder / _RESULT, lambda part: part.write_text(text, "utf-8"))


def _converter() -> Any:
    converter = make_converter(forbid_extra_keys=True)
    configure_tagged_union(Block, converter, tag_name="kind")
    return converter
