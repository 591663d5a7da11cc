"""A run and its score records, read from its directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advnets.errors import RunError
from advnets.evaluation.registry import METRICS
from advnets.evaluation.spec import Record
from advnets.files import shell_quote
from advnets.run_directory import RunDirectory

_PROVENANCE = (
    *("weights", "keep_fraction", "class_proportions", "split", "seed", "step"),
    *("data", "data_digest", "images", "versions"),
    *("extractor", "extractor_sha256", "n_real", "n_fake", "interval"),
)
"""Fields that every record has."""

_REQUIRED_CONFIG = {"config": ("preset", "seed"), "data": ("name", "digest")}


@dataclass(frozen=True)
class ScoredRun:
    """A run and the score records of its newest evaluated step."""

    path: str
    config: Mapping[str, Any]
    """The section `config` of config.json."""
    data: Mapping[str, Any]
    """The section `data` of config.json."""
    records: Sequence[Record]

    @property
    def seed(self) -> int:
        """The seed of its training."""
        return self.config["seed"]


def read_scored_run(path: Path, metrics: Sequence[str] = ()) -> ScoredRun:
    """Read a run and its records, of some metrics or, for none, of all.

    Raises:
        RunError: there is no run there, it has no scores by these metrics, or records lack
            provenance.
    """
    # Read the run's configuration and its records.
    run = RunDirectory.existing(path)
    config, scores = run.read_config(), run.scores()
    for section, names in _REQUIRED_CONFIG.items():
        if missing := [name for name in names if name not in config.get(section, {})]:
            raise RunError(f"{run.config_file} has no {section}.{missing[0]}; restore the file")
    command = " ".join(
        ("advnets evaluate", shell_quote(path), *(("--metrics", *metrics) if metrics else ()))
    )
    if not scores:
        raise RunError(f"{path} has no scores yet; type: {command}")

    # Keep complete records of the newest step.
    complete = [record for record in scores if has_provenance(record)]
    if not complete:
        raise RunError(
            f"the scores of {path} were written by an older advnets and lack their provenance; "
            f"type: {command}"
        )
    for record in complete:
        check_record(path, record, command)
    last = max(record["step"] for record in complete)
    newest = [record for record in complete if record["step"] == last]
    available = {record["metric"] for record in newest}
    if missing := [name for name in metrics if name not in available]:
        raise RunError(
            f"{path} has no scores of step {last:,} by {' and '.join(missing)}; type: {command}"
        )
    chosen = [record for record in newest if not metrics or record["metric"] in metrics]
    return ScoredRun(str(path), config["config"], config["data"], chosen)


def has_provenance(record: Record) -> bool:
    """Return whether a record has all fields of its provenance."""
    return all(key in record for key in _PROVENANCE)


def check_record(path: Path, record: Record, command: str) -> None:
    """Check the types of a record's provenance and values; `command` is what to type otherwise.

    Raises:
        RunError: one of them is of another type.
    """
    valid = {key: type(record[key]) is int for key in ("seed", "step", "n_real", "n_fake")}
    valid |= {key: isinstance(record[key], Mapping) for key in ("versions", "interval")}
    valid["images"] = isinstance(record["images"], Mapping) and "shape" in record["images"]
    spec = METRICS.get(record["metric"])
    for key in spec.values if spec else ():
        valid[key] = isinstance(record.get(key, ""), int | float | None)
    if invalid := [key for key, fits in valid.items() if not fits]:
        listed = ", ".join(f"{key} {record.get(key, 'missing')!r}" for key in invalid)
        raise RunError(
            f"the scores of {path} hold a record of {record['metric']} with {listed}, which "
            f"advnets does not write; type: {command}"
        )
