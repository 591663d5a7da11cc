"""Scored runs and their comparison: means over seeds, paired differences, a column per setting.

Scores share a column only if all their settings are the same.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from advnets.config.serialize import list_to_dict
from advnets.errors import RunError, UsageError, by_interface
from advnets.evaluation.registry import METRICS, resolve_metrics
from advnets.evaluation.spec import NEVER_TRAINED, REFERENCES, VERSIONS, Record
from advnets.files import shell_quote
from advnets.metrics.uncertainty import CONFIDENCE, student_interval
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


def read_scored_run(path: Path, metrics: Sequence[str] = (), step: int | None = None) -> ScoredRun:
    """Read a run and its records of one step.

    Args:
        path: the run directory.
        metrics: names of metrics of which records are read; none: all.
        step: the step that was evaluated; None: the newest one.

    Raises:
        RunError: there is no run there, it has no scores by these metrics or of this step, or
            records lack provenance.
    """
    # Read the run's configuration and its records.
    run = RunDirectory.existing(path)
    config, scores = run.read_config(), run.scores()
    for section, names in _REQUIRED_CONFIG.items():
        if missing := [name for name in names if name not in config.get(section, {})]:
            raise RunError(f"{run.config_file} has no {section}.{missing[0]}; restore the file")
    words = ["advnets evaluate", shell_quote(path)]
    words += ["--metrics", *metrics] if metrics else []
    words += [] if step is None else ["--step", str(step)]
    model = repr(str(path)) if step is None else f"advnets.load({str(path)!r}, step={step})"
    named = f", {list(metrics)}" if metrics else ""
    command = by_interface(f"type: {' '.join(words)}", f"call advnets.evaluate({model}{named})")
    if not scores:
        raise RunError(f"{path} has no scores yet; {command}")

    # Keep complete records of one step.
    complete = [record for record in scores if has_provenance(record)]
    if not complete:
        raise RunError(
            f"the scores of {path} were written by an older advnets and lack their provenance; "
            f"{command}"
        )
    for record in complete:
        check_record(path, record, command)
    step = max(record["step"] for record in complete) if step is None else step
    step_records = [record for record in complete if record["step"] == step]
    available = {record["metric"] for record in step_records}
    missing = [name for name in metrics if name not in available]
    if missing or not step_records:
        by = f" by {' and '.join(missing)}" if missing else ""
        raise RunError(f"{path} has no scores of step {step:,}{by}; {command}")
    chosen = [record for record in step_records if not metrics or record["metric"] in metrics]
    return ScoredRun(str(path), config["config"], config["data"], chosen)


def has_provenance(record: Record) -> bool:
    """Return whether a record has all fields of its provenance."""
    return all(key in record for key in _PROVENANCE)


def check_record(path: Path, record: Record, command: str) -> None:
    """Check the types of a record's fields; the error suggests `command`, which recomputes it.

    Raises:
        RunError: a field is of another type.
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
            f"advnets does not write; {command}"
        )


_HASHES = {"extractor_sha256": "SHA-256 of the extractor", "data_digest": "digest of the data"}
_LABELS = {
    **_HASHES,
    "keep_fraction": "fraction kept by D",
    "n_fake": "samples",
    "n_real": "real images",
    "n_valid": "validation images",
}
"""The names of settings in tables and messages, where these differ from the key."""
_FREE_IN_REFERENCES = ("n_fake", "draws", "class_proportions")
"""Settings that baselines may not share with samples, as there may be fewer real images."""


@dataclass(frozen=True)
class Column:
    """One value of one metric, computed with the same settings in all runs."""

    metric: str
    value: str
    case: Mapping[str, Any]
    """The fields that distinguish it from other records of the same evaluation."""
    settings: Mapping[str, Any]
    """All that the value depends on, other than the run."""
    distinguishing: tuple[str, ...] = ()
    """The settings in which it differs from other columns of the same value."""

    @property
    def name(self) -> str:
        """The metric, the value where it has several, the case, and the distinguishing settings."""
        several = len(METRICS[self.metric].values) > 1 and self.value != self.metric
        value = self.value.replace("_", " ") if several else ""
        differs = ", ".join(
            f"{setting_label(key)} {abbreviate(key, self.settings.get(key))}"
            for key in self.distinguishing
        )
        name = _case_name(" ".join(filter(None, (self.metric, value))), self.metric, self.case)
        return f"{name} ({differs})" if differs else name

    def contains(self, record: Record) -> bool:
        """Return whether a record belongs to this column."""
        spec = METRICS[self.metric]
        if record["metric"] != self.metric or spec.case(record) != self.case:
            return False
        free = _FREE_IN_REFERENCES if record["samples"] in REFERENCES else ()
        own, other = (
            {key: value for key, value in settings.items() if key not in free}
            for settings in (self.settings, spec.settings(record))
        )
        return own == other


_RunSettings = Sequence[tuple[str, dict[str, Any]]]
"""The path of a run and the settings of one of its records, for several records."""


def columns(
    runs: Sequence[ScoredRun], metrics: Sequence[str] = (), *, separate_columns: bool = False
) -> list[Column]:
    """Return a column for each metric, case, value and combination of settings that all runs share.

    With `separate_columns`, settings of only some runs have columns too. "All runs" are those with
    a record of the metric and case.

    Raises:
        UsageError: no settings are shared by all runs, and `separate_columns` is off.
    """
    result: list[Column] = []
    scored = [(run.path, r) for run in runs for r in run.records if r["samples"] not in REFERENCES]
    for metric, spec in METRICS.items():
        if metrics and metric not in metrics:
            continue
        records = [(path, record) for path, record in scored if record["metric"] == metric]
        for case in _unique(spec.case(record) for _, record in records):
            # Select the settings that get columns.
            all_settings = [
                (path, spec.settings(record))
                for path, record in records
                if spec.case(record) == case
            ]
            paths = {path for path, _ in all_settings}
            variants = [
                settings
                for settings in _unique(settings for _, settings in all_settings)
                if separate_columns
                or {path for path, other in all_settings if other == settings} == paths
            ]
            if not variants:
                name = _case_name(metric, metric, case)
                raise UsageError(_not_comparable_message(name, all_settings))

            # Add a column for each value, named by the settings in which the columns differ.
            keys = _differing_keys(variants)
            result += [
                Column(metric, value, case, settings, keys)
                for settings in variants
                for value in spec.values
            ]
    return result


def setting_label(key: str) -> str:
    """Return the words for a setting in a sentence or heading."""
    return _LABELS.get(key, key.removeprefix(VERSIONS).replace("_", " "))


def abbreviate(key: str, value: Any) -> str:
    """Return the value of a setting in a few characters."""
    if key in _HASHES and value:
        return f"{value[:8]}…"
    if isinstance(value, Mapping):  # the images: their shape and preprocessing
        preprocessing = [part for name, part in value.items() if name != "shape" and part]
        return " ".join(["x".join(map(str, value["shape"])), *preprocessing])
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if value is None:
        return "data" if key == "class_proportions" else "none"
    return str(value)


def _case_name(name: str, metric: str, case: Mapping[str, Any]) -> str:
    formats = METRICS[metric].cases
    return ", ".join([name, *(formats[key].format(value) for key, value in case.items())])


def _unique(mappings: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each mapping once, in order of first appearance."""
    return list({json.dumps(mapping, sort_keys=True): mapping for mapping in mappings}.values())


def _differing_keys(variants: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the names of settings that differ; that of a hash only if no other ones do."""
    known = dict.fromkeys(key for variant in variants for key in variant)
    first = variants[0]
    keys = [key for key in known if any(v.get(key) != first.get(key) for v in variants)]
    for key in _HASHES:
        others = [other for other in keys if other != key]
        if _num_distinct(variants, others) == _num_distinct(variants, keys):
            keys = others
    return tuple(keys)


def _num_distinct(variants: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> int:
    """Return how many variants differ in these settings."""
    return len(_unique({key: variant.get(key) for key in keys} for variant in variants))


def _not_comparable_message(name: str, all_settings: _RunSettings) -> str:
    """Return the message about the first two runs that were scored with different settings."""
    first, settings = all_settings[0]
    second, others = next((path, s) for path, s in all_settings if s != settings)
    differences = ", ".join(
        f"{setting_label(key)} ({abbreviate(key, settings.get(key))} and "
        f"{abbreviate(key, others.get(key))})"
        for key in _differing_keys([settings, others])
    )
    paths = first if first == second else f"{first} and {second}"
    return (
        f"scores by {name} of {paths} differ in {differences} and cannot be compared; evaluate all "
        "runs with the same settings, or add --separate-columns"
    )


Cell = dict[str, Any]
"""Mean, half width of its interval, standard deviation, and the values by seed."""
MIN_SEEDS = 3
"""The smallest number of seeds with an interval; an interval of two seeds is too wide to use."""
_Kind = tuple[str | None, int | None, float | None, str | None]
"""Weights, step, fraction kept by D, and the name of an untrained player."""

_IGNORED_CONFIG = ("seed", "intervals", "data.directory", "data.source", "runtime.threads")
"""Config fields by which rows are not distinguished."""
_DATA = "data", "digest of the data"
"""Keys of the data in a flat config."""
_WITHOUT_OPTION = ("schedule_steps", "on_top_of_previous", "kind")
"""Suffixes of config fields that no option of `advnets train` sets."""
_MAX_NAMED_OPTIONS = 3


@dataclass(frozen=True)
class _Row:
    """Runs of one config that differ only in seed, scored at one step with one kind of weights."""

    name: str
    runs: tuple[ScoredRun, ...]
    weights: str | None
    step: int | None
    keep_fraction: float | None
    """The fraction of samples that discriminator rejection sampling kept, if it was used."""
    untrained: str | None
    """The name of the untrained player that is scored, if it is one."""

    def contains(self, record: Record) -> bool:
        """Return whether a record of one of these runs belongs to this row."""
        kind = (self.weights, self.step, self.keep_fraction, self.untrained)
        return _kind(record) == kind


def compare(
    runs: Sequence[ScoredRun],
    *,
    metrics: str | Sequence[str] = (),
    separate_columns: bool = False,
) -> dict[str, Any]:
    """Return a comparison of runs as JSON: columns, rows, paired differences, references.

    Runs that differ only in seed are one row; a cell is the mean over their seeds with a 95 %
    interval of Student's t. Scores share a column only if all their settings are the same; with
    `separate_columns` others have columns of their own. References are scores that depend on no
    run, such as those of real images.

    Raises:
        UnknownNameError: there is no such metric.
        UsageError: there are fewer than two runs, two have the same config and seed, or scores
            cannot be compared.
    """
    names = resolve_metrics(metrics)
    if len(runs) < 2:
        count = "1 run was" if runs else "no runs were"
        raise UsageError(f"{count} given; give at least two to compare")

    # Find rows and columns, and the differences of all pairs of trained rows.
    runs = _unify_names(runs)
    rows, all_columns = _rows(runs), columns(runs, names, separate_columns=separate_columns)
    differences = [
        (later, earlier, [_difference(later, earlier, column) for column in all_columns])
        for earlier, later in combinations([row for row in rows if row.untrained is None], 2)
    ]
    references = {
        name: [_reference(name, runs, column) for column in all_columns] for name in REFERENCES
    }

    # Write them as JSON.
    return {
        "confidence": CONFIDENCE,
        "columns": [
            {
                "name": c.name,
                **asdict(c),
                "better": METRICS[c.metric].values[c.value].better,
                "few_images": any(
                    c.contains(r) and r.get("few_images") for run in runs for r in run.records
                ),
            }
            for c in all_columns
        ],
        "rows": [
            {
                **_row_label(row),
                "seeds": [run.seed for run in row.runs],
                "runs": [run.path for run in row.runs],
                "cells": [_summarize(_values(row, column)) for column in all_columns],
            }
            for row in rows
        ],
        "differences": [
            {"row": _row_label(later), "minus": _row_label(earlier), "cells": cells}
            for later, earlier, cells in differences
            if any(cells)
        ],
        "references": [
            {"name": name, "cells": cells} for name, cells in references.items() if any(cells)
        ],
    }


def _unify_names(runs: Sequence[ScoredRun]) -> list[ScoredRun]:
    """Return the runs with one name for all data, and for all extractors, of the same digest.

    The same data may have several names, such as those of a folder and its copy.
    """
    names: dict[tuple[str, str], str] = {}

    def unify(record: Record) -> Record:
        keys = ("data", "data_digest"), ("extractor", "extractor_sha256")
        return {**record} | {
            name: names.setdefault((name, record[digest]), record[name])
            for name, digest in keys
            if record.get(digest)
        }

    return [replace(run, records=[unify(record) for record in run.records]) for run in runs]


def _row_label(row: _Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "weights": row.weights,
        "step": row.step,
        "keep_fraction": row.keep_fraction,
    }


def _rows(runs: Sequence[ScoredRun]) -> list[_Row]:
    """Return a row for each config, kind of weights, step and fraction kept."""
    groups: dict[str, list[ScoredRun]] = {}
    for name, run in zip(row_names(runs), runs, strict=True):
        groups.setdefault(name, []).append(run)
    rows: list[_Row] = []
    for name, group in groups.items():
        _check_seeds(group)
        for kind in dict.fromkeys(_kind(record) for run in group for record in run.records):
            runs_of_row = [run for run in group if any(_kind(r) == kind for r in run.records)]
            if kind is not None:
                by_seed = tuple(sorted(runs_of_row, key=lambda run: run.seed))
                rows.append(_Row(f"{name}: {kind[-1]}" if kind[-1] else name, by_seed, *kind))
    return rows


def _kind(record: Record) -> _Kind | None:
    """Return what distinguishes the row of a record from others of its run; None: a reference."""
    if record["samples"] in REFERENCES:
        return None
    if record["samples"].endswith(NEVER_TRAINED):
        return None, None, None, record["samples"]
    return record["weights"], record["step"], record.get("keep_fraction"), None


def _flat_config(run: ScoredRun) -> dict[str, Any]:
    """Return the config by path, without the fields that do not change the trained networks."""
    name, digest = _DATA
    flat: dict[str, Any] = {name: run.data["name"], digest: f"{run.data['digest'][:8]}…"}

    def flatten(path: str, value: object) -> None:
        value = list_to_dict(value)
        if isinstance(value, Mapping):
            for key, inner in value.items():
                flatten(f"{path}.{key}" if path else str(key), inner)
        elif path not in _IGNORED_CONFIG and path.partition(".")[0] not in _IGNORED_CONFIG:
            flat[path] = value

    flatten("", run.config)
    return flat


def row_names(runs: Sequence[ScoredRun]) -> list[str]:
    """Return the name of the row of each run; runs of one config share a row.

    The name is the preset with the options in which its rows differ, or if these are more than
    three, the path of the first run.
    """
    keys = [json.dumps(_flat_config(run), sort_keys=True) for run in runs]
    groups: dict[str, list[ScoredRun]] = {}
    for key, run in zip(keys, runs, strict=True):
        groups.setdefault(key, []).append(run)
    names = dict(zip(groups, _group_names(list(groups.values())), strict=True))
    return [names[key] for key in keys]


def _group_names(groups: Sequence[Sequence[ScoredRun]]) -> list[str]:
    """Return the name of the row of each group."""
    configs = [_flat_config(group[0]) for group in groups]
    names: list[str] = []
    for config, group in zip(configs, groups, strict=True):
        same_preset = [other for other in configs if other["preset"] == config["preset"]]
        keys = dict.fromkeys(key for other in same_preset for key in other)
        differing = [k for k in keys if any(o.get(k) != config.get(k) for o in same_preset)]
        # The length of schedules has no option, and follows from that of the training.
        options = [k for k in differing if not k.endswith(".schedule_steps")] or differing
        words = [_describe_option(key, config.get(key)) for key in options]
        short = len(words) <= _MAX_NAMED_OPTIONS
        names.append(", ".join([config["preset"], *words]) if short else group[0].path)
    return names


def _describe_option(path: str, value: object) -> str:
    """Return a field of a config as `name=value` of its option, or in words if it has none."""
    name = re.sub(r"^(stages\.0|data|runtime)\.", "", path)
    stage = re.match(r"stages\.(\d+)\.", name)
    suffix = f" of stage {int(stage[1]) + 1}" if stage else ""
    name = name.removeprefix(stage[0] if stage else "")
    if path in _DATA or name.endswith(_WITHOUT_OPTION):
        return f"{name.removesuffix('.kind').replace('_', ' ')} {value}{suffix}"
    text = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return f"{name}={text}{suffix}"


def _check_seeds(group: Sequence[ScoredRun]) -> None:
    """Check that the runs of a row have different seeds.

    Raises:
        UsageError: two runs have the same seed.
    """
    paths: dict[int, str] = {}
    for run in group:
        if run.seed in paths:
            raise UsageError(
                f"{paths[run.seed]} and {run.path} have the same config and the same seed "
                f"({run.seed}); leave one of them out"
            )
        paths[run.seed] = run.path


_Values = dict[int, dict[int, float | None]]
"""Values by the seed of the training and then by the seed of the samples."""


def _values(row: _Row, column: Column) -> _Values:
    """Return the values of a row in a column; None is infinity, which JSON does not have."""
    values: _Values = {}
    for run in row.runs:
        by_sample_seed = {
            r["seed"]: _finite_or_none(r[column.value])
            for r in run.records
            if row.contains(r) and column.contains(r)
        }
        if by_sample_seed:
            values[run.seed] = by_sample_seed
    return values


def _finite_or_none(value: float | int | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _summarize(values: _Values) -> Cell | None:
    """Return mean, interval and standard deviation over training seeds; None without values.

    All three are None if a value is infinite, and the interval is None for fewer than three seeds.
    The value of a run that was scored with samples of several seeds is the mean over these.
    """
    if not values:
        return None
    means = {seed: _mean(list(by_sample_seed.values())) for seed, by_sample_seed in values.items()}
    finite = [value for value in means.values() if value is not None]
    interval = student_interval(finite) if len(finite) == len(means) else None
    return {
        "mean": interval.mean if interval else None,
        "half_width": interval.half_width if interval and interval.n >= MIN_SEEDS else None,
        "std": statistics.stdev(finite) if interval and interval.n > 1 else None,
        "seeds": list(means),
        "values": list(means.values()),
        "sample_seeds": sorted({seed for by_sample in values.values() for seed in by_sample}),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _difference(later: _Row, earlier: _Row, column: Column) -> Cell | None:
    """Return the later row minus the earlier one, paired by training seed and sample seed.

    Return None if they share fewer than two training seeds.
    """
    first, second = _values(later, column), _values(earlier, column)
    pairs: _Values = {}
    for seed in first.keys() & second.keys():
        shared = first[seed].keys() & second[seed].keys()
        differences = {n: _subtract(first[seed][n], second[seed][n]) for n in sorted(shared)}
        if differences:
            pairs[seed] = differences
    return _summarize(dict(sorted(pairs.items()))) if len(pairs) > 1 else None


def _subtract(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _reference(name: str, runs: Sequence[ScoredRun], column: Column) -> Cell | None:
    """Return the cell of a reference, whose value is equal in all runs of one sample seed.

    Records with as many images as the column has samples are used, or if there are none, others.
    """
    records = [
        r for run in runs for r in run.records if r["samples"] == name and column.contains(r)
    ]
    equal_count = [r for r in records if r["n_fake"] == column.settings.get("n_fake")] or records
    by_seed = {
        r["seed"]: r for r in reversed(equal_count) if r["n_fake"] == equal_count[0]["n_fake"]
    }
    values: _Values = {
        seed: {seed: _finite_or_none(r[column.value])} for seed, r in sorted(by_seed.items())
    }
    cell = _summarize(values)
    return None if cell is None else {**cell, "n_fake": equal_count[0]["n_fake"]}
