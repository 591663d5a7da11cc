"""Columns of a comparison: records share one only if all that they hang on is the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from advnets.errors import UsageError
from advnets.experiment.readings import READINGS, Record
from advnets.experiment.score_files import Scored
from advnets.views.score_text import BESIDE, VERSIONS

_CASES = {
    "grid": "{} grid",
    "labels": "{:,} labels",
    "n_known": "{:,} known",
    "hidden": "{} hidden",
    "n": "{:,} points",
}
_SPOKEN = {"extractor_sha256": "SHA-256 of the extractor", "data_digest": "digest of the data"}
_NAMES = {**_SPOKEN, "class_shares": "class shares"}
_OWN_TO_A_ROW = ("n_fake", "draws", "class_shares")
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
    apart: tuple[str, ...] = ()
    """… and in what of it another column of this number is unlike."""

    @property
    def name(self) -> str:
        """The metric, the value where it has several, the case, and what sets it apart."""
        several = len(READINGS[self.metric].values) > 1 and self.value != self.metric
        value = self.value.replace("_", " ") if several else ""
        differs = ", ".join(
            f"{spoken(key)} {brief(key, self.settings.get(key))}" for key in self.apart
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
    runs: Sequence[Scored], metrics: Sequence[str] = (), *, apart: bool = False
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
            if not apart:
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
    if isinstance(value, Mapping):  # the pictures: their shape, and how they were cut
        cut = [some for name, some in value.items() if name != "shape" and some]
        return " ".join(["x".join(map(str, value["shape"])), *cut])
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if value is None:
        return "data" if key == "class_shares" else "none"
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
        "runs alike, or say --apart to see each in a column of its own"
    )
