"""Put presets side by side by the records of their seeds, as `advnets compare` does with runs.

    python tools/compare.py results/records modern-mnist vae-mnist --metrics frechet prdc neighbor

Records are those that tools/seeds.py keeps, all seeds of each name. What `advnets compare` would
refuse is refused here too: numbers that hang on unlike settings share no column.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import seeds

from advnets.cli.main import config_of
from advnets.config.serialize import to_json
from advnets.errors import AdvnetsError
from advnets.evaluation.comparison import check_metrics, compare
from advnets.evaluation.score_files import ScoredRun
from advnets.report.comparison import comparison_markdown


def scored(name: str, record: Mapping[str, Any], metrics: Sequence[str]) -> ScoredRun:
    """What a record says of its run, by these metrics, or by all."""
    chosen = [one for one in record["scores"] if not metrics or one["metric"] in metrics]
    if lacking := set(metrics) - {one["metric"] for one in chosen}:
        raise SystemExit(f"{name} was not scored by {' and '.join(sorted(lacking))}")
    data = {"name": chosen[0]["data"], "digest": chosen[0]["data_digest"]}
    return ScoredRun(name, to_json(config_of(record["command"])), data, chosen)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("records", type=Path)
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--metrics", nargs="+", default=())
    asked = parser.parse_args(arguments)
    try:
        check_metrics(asked.metrics)
        runs = runs_of(asked.records, asked.names, asked.metrics)
        print(comparison_markdown(compare(runs, metrics=asked.metrics)), end="")
    except AdvnetsError as error:
        raise SystemExit(f"compare.py: {error}") from None


def runs_of(records: Path, names: Sequence[str], metrics: Sequence[str]) -> list[ScoredRun]:
    """What is on record under these names."""
    return [
        scored(path.stem, json.loads(path.read_text("utf-8")), metrics)
        for name in names
        for path in seeds.files_of(records, name).values()
    ]


if __name__ == "__main__":
    main()
