"""A run and what it was scored, from its directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advnets.errors import RunError
from advnets.experiment.readings import Record
from advnets.runs import RunDirectory

_STAMPS = ("data_digest", "pictures", "n_real", "n_fake", "versions")


@dataclass(frozen=True)
class Scored:
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


def read_scored(path: Path, metrics: Sequence[str] = ()) -> Scored:
    """A run with its scores, by all metrics or by these.

    Raises:
        RunError: there is no run; it was not scored, or not so; its records lack stamps.
    """
    run = RunDirectory.existing(path)
    told, scores = run.read_config(), run.scores()
    cure = " ".join(("advnets evaluate", str(path), *(("--metrics", *metrics) if metrics else ())))
    if not scores:
        raise RunError(f"{path} has no scores yet; type: {cure}")
    stamped = [record for record in scores if all(key in record for key in _STAMPS)]
    if not stamped:
        raise RunError(
            f"the scores of {path} are an older advnets's and do not say what they hang on; "
            f"type: {cure}"
        )
    last = max(record["step"] for record in stamped)
    newest = [record for record in stamped if record["step"] == last]
    known = {record["metric"] for record in newest}
    if lacking := [name for name in metrics if name not in known]:
        raise RunError(
            f"{path} has no scores of step {last:,} by {' and '.join(lacking)}; type: {cure}"
        )
    chosen = [record for record in newest if not metrics or record["metric"] in metrics]
    return Scored(str(path), told["config"], told["data"], chosen)
