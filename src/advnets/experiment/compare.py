"""Runs side by side: seeds of one config are a row, each cell a mean with its interval."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

from advnets.config.serialize import by_name
from advnets.errors import UnknownNameError, UsageError
from advnets.experiment.columns import Column, columns
from advnets.experiment.readings import READINGS, Record
from advnets.experiment.score_files import Scored
from advnets.metrics.student_t import CONFIDENCE, student_interval
from advnets.views.score_text import BESIDE, NEVER_TRAINED

Cell = dict[str, Any]
_Kind = tuple[str | None, int | None, float | None, str | None]

_IGNORED = ("seed", "ticks", "data.directory", "data.source", "runtime.threads")
_MOST = 3  # fields that a row is named by


@dataclass(frozen=True)
class _Row:
    """Runs of one config, sampled alike: with which weights, at which step, how many kept."""

    name: str
    runs: tuple[Scored, ...]
    weights: str | None
    step: int | None
    keep: float | None
    """The share of samples that is left, where D has rejected some."""
    untrained: str | None
    """What it is called, if it is of nets that were never trained."""

    def holds(self, record: Record) -> bool:
        """Whether a record of one of these runs belongs here."""
        return _kind(record) == (self.weights, self.step, self.keep, self.untrained)


def compare(
    runs: Sequence[Scored], *, metrics: Sequence[str] = (), apart: bool = False
) -> dict[str, Any]:
    """A table of runs, as JSON: rows, columns, cells, paired differences, what stands beside.

    Runs that differ only in seed are a row; a cell is a mean over their seeds with a 95 % interval
    of Student's t. Records share a column only if all that they hang on is the same; with `apart`
    those that are unlike stand in columns of their own.

    Raises:
        UnknownNameError: no metric is called so.
        UsageError: fewer than two runs came, two are of one config and seed, or records are unlike.
    """
    check_metrics(metrics)
    if len(runs) < 2:
        raise UsageError(f"{len(runs)} run was given; give at least two to compare")
    runs = _named_alike(runs)
    rows, across = _rows(runs), columns(runs, metrics, apart=apart)
    differences = [
        (later, earlier, [_difference(later, earlier, column) for column in across])
        for earlier, later in combinations([row for row in rows if row.untrained is None], 2)
    ]
    beside = {name: [_beside(name, runs, column) for column in across] for name in BESIDE}
    return {
        "confidence": CONFIDENCE,
        "columns": [
            {
                "name": c.name,
                **asdict(c),
                "better": READINGS[c.metric].values[c.value],
                "few_pictures": any(
                    c.holds(r) and r.get("few_pictures") for run in runs for r in run.records
                ),
            }
            for c in across
        ],
        "rows": [
            {
                **_label(row),
                "seeds": [run.seed for run in row.runs],
                "runs": [run.path for run in row.runs],
                "cells": [_cell(_values(row, column)) for column in across],
            }
            for row in rows
        ],
        "differences": [
            {"of": _label(later), "less": _label(earlier), "cells": cells}
            for later, earlier, cells in differences
            if any(cells)
        ],
        "beside": [{"name": name, "cells": cells} for name, cells in beside.items() if any(cells)],
    }


def check_metrics(metrics: Sequence[str]) -> None:
    """Refuse metrics that nobody knows.

    Raises:
        UnknownNameError: none is called so.
    """
    for name in metrics:
        if name not in READINGS:
            raise UnknownNameError("metric", name, READINGS)


def _named_alike(runs: Sequence[Scored]) -> list[Scored]:
    """The same with one name for each extractor, its first: what it is, its hash tells."""
    names: dict[str, str] = {}
    return [replace(run, records=[_renamed(r, names) for r in run.records]) for run in runs]


def _renamed(record: Record, names: dict[str, str]) -> Record:
    digest = record.get("extractor_sha256")
    if not digest:
        return record
    return {**record, "extractor": names.setdefault(digest, record["extractor"])}


def _label(row: _Row) -> dict[str, Any]:
    return {"name": row.name, "weights": row.weights, "step": row.step, "keep": row.keep}


def _rows(runs: Sequence[Scored]) -> list[_Row]:
    """A row for each config, its weights, the step that it was scored at, and the share kept."""
    groups: dict[str, list[Scored]] = {}
    for run in runs:
        groups.setdefault(json.dumps(_config(run), sort_keys=True), []).append(run)
    rows: list[_Row] = []
    for name, group in zip(_names(list(groups.values())), groups.values(), strict=True):
        _check_seeds(group)
        for kind in dict.fromkeys(_kind(record) for run in group for record in run.records):
            some = [run for run in group if any(_kind(r) == kind for r in run.records)]
            if kind is not None:
                by_seed = tuple(sorted(some, key=lambda run: run.seed))
                called = f"{name}: {kind[-1]}" if kind[-1] else name
                rows.append(_Row(called, by_seed, *kind))
    return rows


def _kind(record: Record) -> _Kind | None:
    """Which row of its run a record is in; None: it stands beside."""
    if record["samples"] in BESIDE:
        return None
    if record["samples"].endswith(NEVER_TRAINED):
        return None, None, None, record["samples"]
    return record["weights"], record["step"], record.get("keep"), None


def _config(run: Scored) -> dict[str, Any]:
    """The config as paths and values, without what leaves the trained nets as they are."""
    found: dict[str, Any] = {"data": run.data["name"], "digest of the data": run.data["digest"][:8]}

    def walk(path: str, value: object) -> None:
        value = by_name(value)
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{path}.{key}" if path else str(key), inner)
        elif path not in _IGNORED and path.partition(".")[0] not in _IGNORED:
            found[path] = value

    walk("", run.config)
    return found


def _names(groups: Sequence[Sequence[Scored]]) -> list[str]:
    """Presets; where several rows are of one, with what they differ in, or by their first run."""
    configs = [_config(group[0]) for group in groups]
    names: list[str] = []
    for mine, group in zip(configs, groups, strict=True):
        alike = [config for config in configs if config["preset"] == mine["preset"]]
        keys = dict.fromkeys(key for config in alike for key in config)
        differ = [key for key in keys if any(c.get(key) != mine.get(key) for c in alike)]
        said = [f"{key.removeprefix('stages.0.')} {mine.get(key)}" for key in differ]
        fitting = len(said) <= _MOST
        names.append(", ".join([mine["preset"], *said]) if fitting else group[0].path)
    return names


def _check_seeds(group: Sequence[Scored]) -> None:
    seen: dict[int, str] = {}
    for run in group:
        if run.seed in seen:
            raise UsageError(
                f"{seen[run.seed]} and {run.path} are of one config and one seed ({run.seed}); "
                "leave out one of them"
            )
        seen[run.seed] = run.path


_Values = dict[int, dict[int, float | None]]
"""Of each seed of training, by the seed that samples were drawn with."""


def _values(row: _Row, column: Column) -> _Values:
    """What a row has in a column; None stands for what is infinite, which JSON lacks."""
    found: _Values = {}
    for run in row.runs:
        of_run = {
            r["seed"]: _finite(r[column.value])
            for r in run.records
            if row.holds(r) and column.holds(r)
        }
        if of_run:
            found[run.seed] = of_run
    return found


def _finite(value: float | int | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _cell(values: _Values) -> Cell | None:
    """Mean and interval over seeds of training; neither where a number is infinite.

    Where a run was scored with samples of several seeds, its value is their mean.
    """
    if not values:
        return None
    means = {seed: _mean(list(some.values())) for seed, some in values.items()}
    finite = [value for value in means.values() if value is not None]
    found = student_interval(finite) if len(finite) == len(means) else None
    return {
        "mean": found.mean if found else None,
        "half_width": found.half_width if found else None,
        "seeds": list(means),
        "values": list(means.values()),
        "sampled_with": sorted({seed for some in values.values() for seed in some}),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _difference(later: _Row, earlier: _Row, column: Column) -> Cell | None:
    """The later row less the earlier one, where they share at least two seeds.

    Seed by seed of training, and of each only samples that were drawn with one seed.
    """
    mine, theirs = _values(later, column), _values(earlier, column)
    pairs: _Values = {}
    for seed in mine.keys() & theirs.keys():
        shared = mine[seed].keys() & theirs[seed].keys()
        less = {n: _less(mine[seed][n], theirs[seed][n]) for n in sorted(shared)}
        if less:
            pairs[seed] = less
    return _cell(dict(sorted(pairs.items()))) if len(pairs) > 1 else None


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _beside(name: str, runs: Sequence[Scored], column: Column) -> Cell | None:
    """What hangs on no run: all that were evaluated with one seed say the same, so one is taken.

    Of as many pictures as the column has samples; where there are no such, as many as there are.
    """
    found = [r for run in runs for r in run.records if r["samples"] == name and column.holds(r)]
    as_many = [r for r in found if r["n_fake"] == column.settings.get("n_fake")] or found
    first = {r["seed"]: r for r in reversed(as_many) if r["n_fake"] == as_many[0]["n_fake"]}
    values: _Values = {seed: {seed: _finite(r[column.value])} for seed, r in sorted(first.items())}
    cell = _cell(values)
    return None if cell is None else {**cell, "n_fake": as_many[0]["n_fake"]}
