"""`advnets compare`: the scores of runs, or of the records of a sweep, in one table."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from advnets.config import Config
from advnets.data.spec import path_exists
from advnets.errors import RunError, UsageError, printable, printable_lines
from advnets.run_directory import RunDirectory

if TYPE_CHECKING:
    from advnets.evaluation.comparison import ScoredRun
    from advnets.report.comparison import History

_REMEDY = "give a run directory, or a record file of `advnets sweep`"


@dataclass(frozen=True)
class Compare:
    """Compare the scores of runs: means over seeds, confidence intervals, paired differences.

    Runs that differ only in their seed form one row. Scores of different settings, extractors,
    sample sizes or data are not comparable: the table has the columns that all runs share, and is
    refused if there are none, unless --separate-columns is given.
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN RUN [RUN ...]")]
    """Run directories scored by `advnets evaluate`, record files of `advnets sweep`, or patterns in
    quotes, such as 'runs/digits-*'; two or more runs."""
    metrics: Annotated[tuple[str, ...], arg(metavar="METRIC ...")] = ()
    """Metrics to compare; none: all."""
    separate_columns: bool = False
    """Show scores that are not comparable in separate columns, named by what differs."""
    json: bool = False
    """Print a JSON record instead of the table."""
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    """File to write the comparison to: a table in Markdown (.md), LaTeX (.tex, for the package
    booktabs) or CSV (.csv, with all digits), or a JSON record (.json); None: print it."""
    curves: Annotated[Path | None, arg(metavar="FILE.png")] = None
    """File for a figure of the runs' training curves, instead of a comparison of scores: a panel
    for each preset and metric, a curve for each run. None: compare scores."""

    def run(self, config_of: Callable[[str], Config]) -> int:
        """Read the scores, then print or write the comparison; return the exit status.

        `config_of` returns the config that a command line of `advnets train` specifies.
        """
        from advnets.evaluation.comparison import compare
        from advnets.evaluation.registry import alias_notes, resolve_metrics
        from advnets.files import check_output, write_atomically
        from advnets.report.comparison import (
            comparison_csv,
            comparison_latex,
            comparison_markdown,
            comparison_text,
            curves_figure,
        )

        # Draw the training curves instead, if --curves is given.
        paths = matching_runs(self.runs)
        if self.curves is not None:
            if self.metrics or self.separate_columns or self.json or self.out is not None:
                raise UsageError("--curves draws no scores; leave the other options out")
            check_output(self.curves, "--curves")
            if self.curves.suffix != ".png":
                raise UsageError(f"{self.curves} is not a PNG file; give a name that ends in .png")
            image = curves_figure([read_history(path, config_of) for path in paths])
            write_atomically(self.curves, lambda part: part.write_bytes(image))
            print(printable(str(self.curves)))
            return 0

        # Check the output, then compare the scores.
        if self.out is not None:
            check_output(self.out)
            if self.out.suffix not in (".csv", ".json", ".md", ".tex"):
                raise UsageError(
                    f"{self.out} has no format of a table; give a name that ends in .csv, .json, "
                    ".md or .tex"
                )
        metrics = resolve_metrics(self.metrics)
        runs = read_scores(paths, metrics, config_of)
        record = compare(runs, metrics=metrics, separate_columns=self.separate_columns)
        for note in alias_notes(self.metrics):
            print(f"advnets: {note}", file=sys.stderr)

        # Print or write the comparison.
        as_json = json.dumps(record, indent=2, ensure_ascii=False)
        if self.out is None:
            print(printable_lines(as_json if self.json else comparison_text(record)))
            return 0
        tables = {".csv": comparison_csv, ".md": comparison_markdown, ".tex": comparison_latex}
        suffix = self.out.suffix
        text = tables[suffix](record) if suffix in tables else f"{as_json}\n"
        write_atomically(self.out, lambda part: part.write_text(text, "utf-8"))
        print(printable(str(self.out)))
        return 0


def matching_runs(paths: Sequence[Path]) -> list[Path]:
    """Return the paths, with each pattern replaced by the runs and record files that match it.

    Raises:
        UsageError: no run and no record file matches a pattern.
    """
    found: list[Path] = []
    for path in paths:
        if path_exists(str(path)) or not re.search(r"[*?\[]", str(path)):
            found.append(path)
            continue
        matches = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        runs = [match for match in matches if RunDirectory(match).exists or _is_record(match)]
        if not runs:
            raise UsageError(f"no run directory or record file matches {str(path)!r}; {_REMEDY}")
        found += [run for run in sorted(runs) if run not in found]
    return found


def _is_record(path: Path) -> bool:
    """Return whether a path may be a record file, and not one of the files of a run."""
    return path.suffix == ".json" and path.is_file() and not RunDirectory(path.parent).exists


def read_scores(
    paths: Sequence[Path],
    metrics: Sequence[str],
    config_of: Callable[[str], Config],
    steps: Mapping[Path, int] = MappingProxyType({}),
) -> list[ScoredRun]:
    """Return the scores of run directories and record files, by these metrics or by all.

    They are the scores of the newest evaluated step, or of the step that `steps` has for a path.

    Raises:
        RunError: a path is neither a run nor a record file, or has no scores by these metrics.
    """
    from advnets.evaluation.comparison import read_scored_run

    return [
        read_record(path, metrics, config_of)
        if path.suffix == ".json"
        else read_scored_run(path, metrics, steps.get(path))
        for path in paths
    ]


def read_record(
    path: Path, metrics: Sequence[str], config_of: Callable[[str], Config]
) -> ScoredRun:
    """Return the scores of a record file of `advnets sweep`, by these metrics or by all.

    Raises:
        RunError: the file is not a record of a run, or lacks scores of a metric.
    """
    from advnets.config.serialize import to_json
    from advnets.evaluation.comparison import ScoredRun
    from advnets.run_records import read_json

    record: Any = read_json(path, _REMEDY)
    try:
        command: str = record["command"]
        scores = [s for s in record["scores"] if not metrics or s["metric"] in metrics]
        if missing := set(metrics) - {score["metric"] for score in scores}:
            raise RunError(
                f"{path} has no scores of {' and '.join(sorted(missing))}; repeat the sweep with "
                "these metrics, or leave them out"
            )
        data = {"name": scores[0]["data"], "digest": scores[0]["data_digest"]}
    except (TypeError, KeyError, IndexError, AttributeError):
        raise RunError(f"{path} is not a record of a run; {_REMEDY}") from None
    return ScoredRun(path.stem, to_json(config_of(command)), data, scores)


def read_history(path: Path, config_of: Callable[[str], Config]) -> History:
    """Return the training events of a run directory, or of a record file of `advnets sweep`.

    Raises:
        RunError: the path is neither.
    """
    from advnets.experiment.stored_run import StoredRun
    from advnets.plots.training_curves import without_rolled_back
    from advnets.report.comparison import History
    from advnets.run_records import read_json

    if path.suffix != ".json":
        run = StoredRun.read(path)
        events = without_rolled_back(run.directory.events())
        logs, evaluations = (
            [event for event in events if event.get("kind") == kind] for kind in ("log", "evaluate")
        )
        return History(str(path), run.config, logs, evaluations)
    record: Any = read_json(path, _REMEDY)
    try:
        logs, evaluations = (
            [event for event in record[key] if isinstance(event, Mapping)]
            for key in ("curve", "training_eval")
        )
        return History(path.stem, config_of(record["command"]), logs, evaluations)
    except (TypeError, KeyError, AttributeError):
        raise RunError(f"{path} is not a record of a run; {_REMEDY}") from None
