"""Play the paper part by part: what was shown is kept, and the page grows with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from advnets import config
from advnets._version import __version__
from advnets.files import write_atomically
from advnets.paper.blocks import Result, Scale, Section, SectionContext, Sources, absent
from advnets.paper.page import page
from advnets.run_records import versions
from advnets.training.trainer import Callback


@dataclass(frozen=True)
class PaperRunner:
    """The paper, or some parts of it, in one folder."""

    parts: Mapping[str, Section]
    out: Path
    scale: Scale
    sources: Sources
    data_dir: str | None
    watcher: Callback
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
                result.write(self.folder(name))
            self.write_page()
            yield result

    def known(self, name: str) -> Result | None:
        """The stored result of a part, if it is one of this scale and version.

        What was left out for want of data is no result any more once they can be opened.
        """
        result = Result.read(self.folder(name))
        if result is None or (result.scale, result.advnets) != (self.scale, __version__):
            return None
        return None if self._found(result.shown.lacking) else result

    def folder(self, name: str) -> Path:
        """Where a part's result and images lie."""
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
        setting = SectionContext(
            folder=self.folder(name),
            runs=self.out / "runs",
            full=self.scale.full,
            seeds=self.scale.seeds,
            sources=self.sources,
            data_dir=self.data_dir,
            watcher=self.watcher,
            tell=self.tell,
            seed=self.scale.seed,
        )
        shown = self.parts[name].show(setting)
        seconds = time.monotonic() - began
        return Result(name, self.scale, __version__, versions(), seconds, shown)
