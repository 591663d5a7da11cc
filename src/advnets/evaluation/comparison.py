"""Columns of a comparison: records share one only if all that they hang on is the same."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

from advnets.config.serialize import list_to_dict
from advnets.errors import UnknownNameError, UsageError
from advnets.evaluation.fields import READINGS, Record
from advnets.evaluation.score_files import ScoredRun
from advnets.metrics.uncertainty import CONFIDENCE, student_interval
from advnets.report.score_text import BESIDE, NEVER_TRAINED, VERSIONS

_CASES = {
    "grid": "{} grid",
    "labels": "{:,} labels",
    "n_known": "{:,} known",
    "hidden": "{} hidden",
    "n": "{:,} points",
}
_SPOKEN = {"extractor_sha256": "SHA-256 of the extractor", "data_digest": "digest of the data"}
_NAMES = {**_SPOKEN, "class_proportions": "class proportions"}
_OWN_TO_A_ROW = ("n_fake", "draws", "class_proportions")
"""Settings that real images have of their own: fewer of them, one draw, and their own classes."""


@dataclass(frozen=True)
class Column:
    """One number of one metric, taken in one way."""

    metric: str
    value: str
    case: Mapping[str, Any]
    """Which of the cases that one evaluation goes through."""
    settings: Mapping[str, Any]
    """What its records hang on …"""
    separated: tuple[str, ...] = ()
    """… and in what of it another column of this number is unlike."""

    @property
    def name(self) -> str:
        """The metric, the value where it has several, the case, and what sets it apart."""
        several = len(READINGS[self.metric].values) > 1 and self.value != self.metric
        value = self.value.replace("_", " ") if several else ""
        differs = ", ".join(
            f"{spoken(key)} {brief(key, self.settings.get(key))}" for key in self.separated
        )
        name = _case_name(" ".join(filter(None, (self.metric, value))), self.case)
        return f"{name} ({differs})" if differs else name

    def holds(self, record: Record) -> bool:
        """Whether a record belongs here."""
        reading = READINGS[self.metric]
        if record["metric"] != self.metric or reading.case(record) != self.case:
            return False
        free = _OWN_TO_A_ROW if record["samples"] in BESIDE else ()
        ours, theirs = (
            {key: value for key, value in some.items() if key not in free}
            for some in (self.settings, reading.settings(record))
        )
        return ours == theirs


def columns(
    runs: Sequence[ScoredRun], metrics: Sequence[str] = (), *, separate_columns: bool = False
) -> list[Column]:
    """Return a column for each metric, case, value and way in which all runs were scored.

    With `apart` also for each way in which some runs were scored. A run that the metric has not
    scored in a case at all does not count there.

    Raises:
        UsageError: there is no way in which all runs were scored, and `apart` is not wanted.
    """
    found: list[Column] = []
    own = [(run.path, r) for run in runs for r in run.records if r["samples"] not in BESIDE]
    for metric, reading in READINGS.items():
        if metrics and metric not in metrics:
            continue
        some = [(path, record) for path, record in own if record["metric"] == metric]
        for case in _unlike(reading.case(record) for _, record in some):
            here = [(path, reading.settings(r)) for path, r in some if reading.case(r) == case]
            ways = _unlike(settings for _, settings in here)
            if not separate_columns:
                ways = _of_all_runs(ways, here)
            if not ways:
                raise UsageError(_refusal(_case_name(metric, case), here))
            keys = _differing(ways)
            found += [
                Column(metric, value, case, way, keys) for way in ways for value in reading.values
            ]
    return found


def spoken(key: str) -> str:
    """What a setting is called."""
    return _NAMES.get(key, key.removeprefix(VERSIONS))


def brief(key: str, value: Any) -> str:
    """A setting in a few characters."""
    if key in _SPOKEN and value:
        return f"{value[:8]}…"
    if isinstance(value, Mapping):  # the images: their shape, and how they were cut
        cut = [some for name, some in value.items() if name != "shape" and some]
        return " ".join(["x".join(map(str, value["shape"])), *cut])
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if value is None:
        return "data" if key == "class_proportions" else "none"
    return str(value)


def _case_name(name: str, case: Mapping[str, Any]) -> str:
    return ", ".join([name, *(_CASES[key].format(some) for key, some in case.items())])


def _unlike(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each once, in the order in which they came."""
    return list({json.dumps(some, sort_keys=True): some for some in records}.values())


def _of_all_runs(
    ways: Sequence[dict[str, Any]], here: Sequence[tuple[str, dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Return the ways in which each of the runs was scored that are named by `here`."""
    paths = {path for path, _ in here}
    return [way for way in ways if {path for path, settings in here if settings == way} == paths]


def _differing(ways: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Settings that are not all alike; a hash only where no plainer one tells the same."""
    known = dict.fromkeys(key for way in ways for key in way)
    keys = [key for key in known if any(way.get(key) != ways[0].get(key) for way in ways)]
    for key in _SPOKEN:
        others = [other for other in keys if other != key]
        if _told_apart(ways, others) == _told_apart(ways, keys):
            keys = others
    return tuple(keys)


def _told_apart(ways: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> int:
    """How many ways these settings alone would tell from each other."""
    return len(_unlike({key: way.get(key) for key in keys} for way in ways))


def _refusal(name: str, here: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """What is unlike in the first two that are."""
    first, how = here[0]
    other, unlike = next((path, settings) for path, settings in here if settings != how)
    told = ", ".join(
        f"{spoken(key)} ({brief(key, how.get(key))} and {brief(key, unlike.get(key))})"
        for key in _differing([how, unlike])
    )
    whose = first if first == other else f"{first} and {other}"
    return (
        f"{name} of {whose} differs in {told}, so that the numbers do not compare; evaluate all "
        "runs alike, or say --separate-columns to see each in a column of its own"
    )


Cell = dict[str, Any]
_Kind = tuple[str | None, int | None, float | None, str | None]

_IGNORED = ("seed", "ticks", "data.directory", "data.source", "runtime.threads")
_MOST = 3  # fields that a row is named by


@dataclass(frozen=True)
class _Row:
    """Runs of one config, sampled alike: with which weights, at which step, how many kept."""

    name: str
    runs: tuple[ScoredRun, ...]
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
    runs: Sequence[ScoredRun], *, metrics: Sequence[str] = (), separate_columns: bool = False
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
    rows, across = _rows(runs), columns(runs, metrics, separate_columns=separate_columns)
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
                "few_images": any(
                    c.holds(r) and r.get("few_images") for run in runs for r in run.records
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


def _named_alike(runs: Sequence[ScoredRun]) -> list[ScoredRun]:
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


def _rows(runs: Sequence[ScoredRun]) -> list[_Row]:
    """A row for each config, its weights, the step that it was scored at, and the share kept."""
    groups: dict[str, list[ScoredRun]] = {}
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


def _config(run: ScoredRun) -> dict[str, Any]:
    """The config as paths and values, without what leaves the trained nets as they are."""
    found: dict[str, Any] = {"data": run.data["name"], "digest of the data": run.data["digest"][:8]}

    def walk(path: str, value: object) -> None:
        value = list_to_dict(value)
        if isinstance(value, Mapping):
            for key, inner in value.items():
                walk(f"{path}.{key}" if path else str(key), inner)
        elif path not in _IGNORED and path.partition(".")[0] not in _IGNORED:
            found[path] = value

    walk("", run.config)
    return found


def _names(groups: Sequence[Sequence[ScoredRun]]) -> list[str]:
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


def _check_seeds(group: Sequence[ScoredRun]) -> None:
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


def _beside(name: str, runs: Sequence[ScoredRun], column: Column) -> Cell | None:
    """What hangs on no run: all that were evaluated with one seed say the same, so one is taken.

    Of as many images as the column has samples; where there are no such, as many as there are.
    """
    found = [r for run in runs for r in run.records if r["samples"] == name and column.holds(r)]
    as_many = [r for r in found if r["n_fake"] == column.settings.get("n_fake")] or found
    first = {r["seed"]: r for r in reversed(as_many) if r["n_fake"] == as_many[0]["n_fake"]}
    values: _Values = {seed: {seed: _finite(r[column.value])} for seed, r in sorted(first.items())}
    cell = _cell(values)
    return None if cell is None else {**cell, "n_fake": as_many[0]["n_fake"]}
