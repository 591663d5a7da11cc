"""What a run that is to go on was begun with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from advnets.codec import from_json
from advnets.config import Config
from advnets.errors import UsageError
from advnets.presets.catalogue import DEFAULT, default_out, is_data, starting_point
from advnets.runs import RunDirectory


def begun_config(out: Path | None, name: str | None, source: str | None = None) -> Config:
    """The config of the run in `out`, or of the one that goes where this preset's on a source does.

    Raises:
        RunError: there is no run.
        UsageError: it was begun with another preset, or on other data, than the name says.
    """
    start = starting_point(name or DEFAULT)
    if source is not None:
        start = replace(start, data=replace(start.data, source=source))
    path = out or default_out(start)
    stored = from_json(RunDirectory.existing(path).read_config()["config"], Config)
    if name is None:
        return stored
    if start.preset != stored.preset:
        raise UsageError(f"{path} was begun with preset {stored.preset}, not {name}; leave it out")
    if is_data(name) and start.data.source != stored.data.source:
        raise UsageError(f"{path} was begun on {stored.data.source}, not {name}; leave it out")
    return stored
