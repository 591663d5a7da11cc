"""The boundary at which files of a run are parsed: what comes out is of the types it should be.

A run directory may be a stranger's, or damaged: whatever its files hold, a sentence says so.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from advnets.config.serialize import structured
from advnets.errors import RunError

FORMAT = 2
"""Version of the run directory; another one is refused, not guessed at."""
_MOST_BYTES, _MOST_IN_LINE, _MOST_IN_NAME = 2**28, 2**26, 200
"""Sizes of a JSON file, of a line of events.jsonl and of a name in it that advnets never writes."""
_LONE = re.compile(r"\\u(d[89a-f]|0000)", re.IGNORECASE)
"""How JSON writes half a character, which no file can hold, and the null, which no path can."""

_PLAIN = str | bool | int | float | None

_CONFIG = {
    "advnets": str,
    "command": str,
    "config": dict[str, Any],
    "data": dict[str, Any],
    "parameters": dict[str, int],
    "versions": dict[str, str],
    "bit_exact_until_step": int,
}
_WITHIN = {
    "config": {"preset": str, "seed": int, "stages": tuple[dict[str, Any], ...]},
    "data": {
        "name": str,
        "shape": tuple[int, int, int],
        "train": int | None,
        "white_level": int,
        "valid": int,
        "test": int,
        "digest": str,
    },
}
"""Types of what config.json has at the top and a level below; readers need not ask again."""
_SCORE = {
    **dict.fromkeys(("metric", "samples"), str),
    **dict.fromkeys(("weights", "grid", "split", "mask", "data", "data_digest"), str | None),
    **dict.fromkeys(("extractor", "extractor_sha256", "likelihood"), str | None),
    "keep_fraction": float | None,
    "class_proportions": str | None,
    **dict.fromkeys(("seed", "step", "labels", "n_known", "n_fake"), _PLAIN),
}
_EVENT = {
    **dict.fromkeys(("step", "steps", "met", "attempt", "threads"), int),
    **dict.fromkeys(("kind", "device", "reason", "problem", "metric", "weights", "precision"), str),
    **dict.fromkeys(("epoch", "seconds", "processor_seconds", "time"), float),
    "images_per_second": float | None,
    "files": dict[str, str],
}
"""Types of known values of a score and of an event; any other one is a number, or plain."""
_LAST_DAY = 253402300799
"""Seconds after 1970 that a calendar still knows."""


def config_record(path: Path) -> dict[str, Any]:
    """Return what config.json holds; at its top and a level below the types are as they should be.

    Raises:
        RunError: it is broken, or of another version.
    """
    cure = "restore it or begin a new run"
    record = parsed_file(path, cure)
    if not isinstance(record, dict):
        raise broken(path, "it is no object", cure)
    record = cast(dict[str, Any], record)
    version = record.get("format")
    if (type(version), version) != (int, FORMAT):
        raise RunError(
            f"{path} has format {version!r:.40} and this advnets reads {FORMAT}; "
            f"use the advnets that wrote it ({record.get('advnets', 'unknown')!s:.40})"
        )
    if odd := _odd(record, _CONFIG):
        raise broken(path, odd, cure)
    for part, kinds in _WITHIN.items():
        if odd := _odd(record.get(part, {}), kinds):
            raise broken(path, f"{part}: {odd}", cure)
    return record


def score_records(path: Path) -> list[dict[str, Any]]:
    """Return the records that scores.json holds, oldest first; none where there is no file.

    Raises:
        RunError: the file cannot be read, or does not hold records.
    """
    cure = "move it away and evaluate again"
    try:
        if not path.exists():
            return []
    except OSError as error:
        raise unreadable(path, error) from None
    records = parsed_file(path, cure)
    if not isinstance(records, list) or not all(_is_record(some) for some in records):
        raise broken(path, "it is not a list of records", cure)
    for record in (records := cast(list[dict[str, Any]], records)):
        if odd := _odd(record, _SCORE) or _odd_number(record):
            raise broken(path, f"{record['metric']!r:.40}: {odd}", cure)
    return records


def event_records(path: Path) -> list[dict[str, Any]]:
    """Return all events of events.jsonl; a line cut by a kill, or odd otherwise, is passed over.

    Raises:
        RunError: the file cannot be read.
    """
    found: list[dict[str, Any]] = []
    try:
        if not path.exists():
            return []
        if not path.is_file():
            raise broken(path, "it is no file", "move it away")
        with path.open("rb") as file:
            while line := file.readline(_MOST_IN_LINE):
                if line.endswith(b"\n") and (event := parse_event(line)) is not None:
                    found.append(event)
    except OSError as error:
        raise unreadable(path, error) from None
    return found


def _is_record(some: Any) -> bool:
    return isinstance(some, dict) and {"metric", "samples"} <= some.keys()


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text holds.

    Raises:
        ValueError: it is none, is nested too deeply, or has characters that no file can hold.
    """
    try:
        found = json.loads(text)
        if _LONE.search(text if isinstance(text, str) else text.decode("utf-8")):
            json.dumps(found, ensure_ascii=False).encode("utf-8")
            if "\\u0000" in json.dumps(found):
                raise ValueError("it has null characters")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found


def parsed_file(path: Path, cure: str) -> Any:
    """Return what a JSON file of a run holds; `cure` says what helps against a broken one.

    Raises:
        RunError: it cannot be read, or is broken.
    """
    try:
        if not path.is_file():  # not a device, or a pipe that nobody writes to
            raise broken(path, "it is no file", cure)
        if path.stat().st_size > _MOST_BYTES:
            raise broken(path, f"it is larger than {_MOST_BYTES:,} bytes", cure)
        return parse_json(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError as error:
        raise broken(path, str(error), cure) from None


def broken(path: Path, why: str, cure: str) -> RunError:
    """The error that says why a file of a run is none, and what helps."""
    return RunError(f"{path} cannot be read ({why}); {cure}")


def unreadable(path: Path, error: OSError) -> RunError:
    """The error of a file that cannot be read; it may be whole: nothing is said to remove it."""
    return RunError(
        f"{path} cannot be read ({error.strerror or error}); see that it is yours to read"
    )


def _odd(record: Mapping[str, Any], kinds: Mapping[str, Any]) -> str:
    """Which known value of a record is of another type, and what it is; nothing if none is."""
    for name in kinds.keys() & record.keys():
        try:
            structured(record[name], kinds[name])
        except ValueError as error:
            return f"{name}: {error}"
    return ""


def _odd_number(record: Mapping[str, Any]) -> str:
    """Which value of a record is no number that a float can hold, if one is not."""
    for name, value in record.items():
        if type(value) is int and abs(value) >= 2**63:
            return f"{name} is out of range"
    return ""


def parse_event(line: bytes) -> dict[str, Any] | None:
    """Return an event as a training writes it; None for anything else."""
    try:
        event = parse_json(line)
    except ValueError:
        return None
    if not isinstance(event, dict):
        return None
    event = cast(dict[str, Any], event)
    odd = _odd(event, _EVENT) or _odd_number(event)
    odd = odd or any(len(name) > _MOST_IN_NAME for name in event)
    odd = odd or not 0 <= event.get("time", 0) <= _LAST_DAY
    odd = odd or min(event.get(name, 0) for name in ("step", "steps", "seconds", "epoch")) < 0
    if event.get("kind") == "log":
        known = {*_EVENT}
        odd = odd or any(type(v) not in (int, float) for k, v in event.items() if k not in known)
    return None if odd else event


def versions() -> dict[str, str]:
    """Return the versions of everything that a number may depend on."""
    import numpy as np
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
    }
