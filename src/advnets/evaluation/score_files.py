"""A run and what it was scored, from its directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advnets.errors import RunError
from advnets.evaluation.fields import READINGS, Record
from advnets.files import shell_quote
from advnets.run_directory import RunDirectory

_STAMPS = (
    *("weights", "keep", "class_proportions", "split", "seed", "step"),
    *("data", "data_digest", "images", "versions"),
    *("extractor", "extractor_sha256", "n_real", "n_fake", "interval"),
)

_NEEDED = {"config": ("preset", "seed"), "data": ("name", "digest")}


@dataclass(frozen=True)
class ScoredRun:
    """A run and its scores."""

    path: str
    config: Mapping[str, Any]
    """What config.json says of the config …"""
    data: Mapping[str, Any]
    """… and of the data."""
    records: Sequence[Record]
    """Of the newest step that was scored."""

    @property
    def seed(self) -> int:
        """What the run was trained with."""
        return self.config["seed"]


def read_scored_run(path: Path, metrics: Sequence[str] = ()) -> ScoredRun:
    """A run with its scores, by all metrics or by these.

    Raises:
        RunError: there is no run; it was not scored, or not so; its records lack stamps.
    """
    run = RunDirectory.existing(path)
    told, scores = run.read_config(), run.scores()
    for part, names in _NEEDED.items():
        if lacking := [name for name in names if name not in told.get(part, {})]:
            raise RunError(f"{run.config_file} has no {part}.{lacking[0]}; restore the file")
    cure = " ".join(
        ("advnets evaluate", shell_quote(path), *(("--metrics", *metrics) if metrics else ()))
    )
    if not scores:
        raise RunError(f"{path} has no scores yet; type: {cure}")
    whole = [record for record in scores if with_provenance(record)]
    if not whole:
        raise RunError(
            f"the scores of {path} are an older advnets's and do not say what they hang on; "
            f"type: {cure}"
        )
    for record in whole:
        check_whole(path, record, cure)
    last = max(record["step"] for record in whole)
    newest = [record for record in whole if record["step"] == last]
    known = {record["metric"] for record in newest}
    if lacking := [name for name in metrics if name not in known]:
        raise RunError(
            f"{path} has no scores of step {last:,} by {' and '.join(lacking)}; type: {cure}"
        )
    chosen = [record for record in newest if not metrics or record["metric"] in metrics]
    return ScoredRun(str(path), told["config"], told["data"], chosen)


def with_provenance(record: Record) -> bool:
    """Whether it says all that it hangs on."""
    return all(key in record for key in _STAMPS)


def check_whole(path: Path, record: Record, cure: str) -> None:
    """Refuse a record whose stamps or numbers are no such.

    Raises:
        RunError: one of them is of another kind; `cure` is what to type.
    """
    reading = READINGS.get(record["metric"])
    whole = {key: type(record[key]) is int for key in ("seed", "step", "n_real", "n_fake")}
    whole |= {key: isinstance(record[key], Mapping) for key in ("versions", "interval")}
    whole["images"] = isinstance(record["images"], Mapping) and "shape" in record["images"]
    for key in reading.values if reading else ():
        whole[key] = isinstance(record.get(key, ""), int | float | None)
    if broken := [key for key, fits in whole.items() if not fits]:
        told = ", ".join(f"{key} {record.get(key, 'nowhere')!r}" for key in broken)
        raise RunError(
            f"the scores of {path} hold a record of {record['metric']} with {told}, which "
            f"advnets does not write; type: {cure}"
        )
