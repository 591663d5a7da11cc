"""Building sections of the paper, with stored results and a page that grows with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from advnets import config
from advnets._version import __version__
from advnets.files import write_atomically
from advnets.paper.blocks import (
    Scale,
    Section,
    SectionContext,
    SectionResult,
    Sources,
    unavailable_reason,
)
from advnets.paper.page import render_page
from advnets.run_records import versions
from advnets.training.trainer import Callback


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
