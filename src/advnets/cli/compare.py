"""`advnets compare RUN RUN …`: scores of runs side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from advnets.errors import UsageError, printable, printable_lines


@dataclass(frozen=True)
class Compare:
    """Put the scores of runs side by side: means over seeds, intervals, paired differences.

    Runs that differ only in seed are one row. Scores of unlike settings, extractors, numbers of
    images or data do not compare: those that all runs have alike are shown, and where there are
    none the table is refused, unless --separate-columns.
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN")]
    """The run directories, each scored by `advnets evaluate`; at least two."""
    metrics: tuple[str, ...] = ()
    """Which metrics; none: all that were taken."""
    separate_columns: bool = False
    """Show scores that do not compare in columns of their own, named by what differs."""
    json: bool = False
    """Print a record instead of the table."""
    out: Annotated[Path | None, arg(metavar="FILE.md|FILE.json")] = None
    """Write the table (.md) or the record (.json) there instead."""

    def execute(self) -> int:
        """Read, compare, print or write."""
        from advnets.evaluation.comparison import check_metrics, compare
        from advnets.evaluation.score_files import read_scored_run
        from advnets.files import check_output, write_atomically
        from advnets.report.comparison import comparison_markdown, comparison_text

        if self.out is not None:
            check_output(self.out)
            if self.out.suffix not in (".md", ".json"):
                raise UsageError(f"{self.out} is to hold a table; give a name in .md or .json")
        check_metrics(self.metrics)
        runs = [read_scored_run(path, self.metrics) for path in self.runs]
        record = compare(runs, metrics=self.metrics, separate_columns=self.separate_columns)
        as_json = json.dumps(record, indent=2, ensure_ascii=False)
        if self.out is None:
            print(printable_lines(as_json if self.json else comparison_text(record)))
            return 0
        text = f"{as_json}\n" if self.out.suffix == ".json" else comparison_markdown(record)
        write_atomically(self.out, lambda part: part.write_text(text, "utf-8"))
        print(printable(str(self.out)))
        return 0
