"""Readers of the JSON files of a run, which check their content.

A run directory may be from somebody else, or damaged: for any content of a file, the result has the
expected types, or an error says in one sentence what is wrong.
"""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from advnets.config.serialize import structure
from advnets.errors import RunError

FORMAT = 2
"""The version of the format of run directories; other versions are refused."""
_MAX_FILE_BYTES, _MAX_LINE_BYTES, _MAX_NAME_LENGTH = 2**28, 2**26, 200
"""Upper bounds of a JSON file, of a line of events.jsonl and of a name in it."""
_INVALID_ESCAPE = re.compile(r"\\u(d[89a-f]|0000)", re.IGNORECASE)
"""JSON escapes of a surrogate half, which no file can hold, and of null, which no path can."""

_SCALAR = str | bool | int | float | None

_CONFIG_TYPES = {
    "advnets": str,
    "command": str,
    "config": dict[str, Any],
    "data": dict[str, Any],
    "parameters": dict[str, int],
    "versions": dict[str, str],
    "bit_exact_until_step": int,
}
_SECTION_TYPES = {
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
"""The types of the first two levels of config.json."""
_SCORE_TYPES = {
    **dict.fromkeys(("metric", "samples"), str),
    **dict.fromkeys(("weights", "grid", "split", "mask", "data", "data_digest"), str | None),
    **dict.fromkeys(("extractor", "extractor_sha256", "likelihood"), str | None),
    "keep_fraction": float | None,
    "class_proportions": str | None,
    **dict.fromkeys(("seed", "step", "labels", "n_known", "n_fake"), _SCALAR),
}
_EVENT_TYPES = {
    **dict.fromkeys(("step", "steps", "diverged_step", "attempt", "threads"), int),
    **dict.fromkeys(("kind", "device", "reason", "problem", "detail"), str),
    **dict.fromkeys(("metric", "weights", "best", "precision"), str),
    **dict.fromkeys(("epoch", "seconds", "cpu_seconds", "time"), float),
    "images_per_second": float | None,
    "files": dict[str, str],
}
"""The types of the known fields of a score and of an event; other fields are not checked."""
_MAX_TIME = 253402300799
"""The last second of the year 9999, as a Unix time."""


def config_record(path: Path) -> dict[str, Any]:
    """Return the content of config.json, with the types of its first two levels checked.

    Raises:
        RunError: it is damaged, or of another version.
    """
    advice = "restore it or start a new run"
    record = read_json(path, advice)
    if not isinstance(record, dict):
        raise damaged_file_error(path, "it is not a JSON object", advice)
    record = cast(dict[str, Any], record)
    if "format" not in record and "config" not in record:
        raise RunError(
            f"{path} is not the config.json of a run; give that of a run, or write options as YAML "
            "or TOML"
        )
    version = record.get("format")
    if (type(version), version) != (int, FORMAT):
        raise RunError(
            f"{path} has format {version!r:.40} and this advnets reads {FORMAT}; "
            f"use the advnets that wrote it ({record.get('advnets', 'unknown')!s:.40})"
        )
    if mismatch := _mismatch(record, _CONFIG_TYPES):
        raise damaged_file_error(path, mismatch, advice)
    for section, types in _SECTION_TYPES.items():
        if mismatch := _mismatch(record.get(section, {}), types):
            raise damaged_file_error(path, f"{section}: {mismatch}", advice)
    return record


def score_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of scores.json, oldest first; none if there is no file.

    Raises:
        RunError: the file cannot be read, or does not hold records.
    """
    advice = "move it away and evaluate again"
    try:
        if not path.exists():
            return []
    except OSError as error:
        raise unreadable_file_error(path, error) from None
    records = read_json(path, advice)
    if not isinstance(records, list) or not all(_is_record(item) for item in records):
        raise damaged_file_error(path, "it is not a list of records", advice)
    for record in (records := cast(list[dict[str, Any]], records)):
        if mismatch := _mismatch(record, _SCORE_TYPES) or _out_of_range(record):
            raise damaged_file_error(path, f"{record['metric']!r:.40}: {mismatch}", advice)
    return records


def event_records(path: Path) -> list[dict[str, Any]]:
    """Return the events of events.jsonl; a line that was cut off or is invalid is skipped.

    Raises:
        RunError: the file cannot be read.
    """
    events: list[dict[str, Any]] = []
    try:
        if not path.exists():
            return []
        if not path.is_file():
            raise damaged_file_error(path, "it is not a file", "move it away")
        with path.open("rb") as file:
            while line := file.readline(_MAX_LINE_BYTES):
                if line.endswith(b"\n") and (event := parse_event(line)) is not None:
                    events.append(event)
    except OSError as error:
        raise unreadable_file_error(path, error) from None
    return events


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and {"metric", "samples"} <= value.keys()


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON text.

    Raises:
        ValueError: the text is invalid, nested too deeply, or has characters that no file can hold.
    """
    try:
        value = json.loads(text)
        if _INVALID_ESCAPE.search(text if isinstance(text, str) else text.decode("utf-8")):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
            if "\\u0000" in json.dumps(value):
                raise ValueError("it has null characters")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def read_json(path: Path, advice: str) -> Any:
    """Return the value of a JSON file of a run; `advice` says what to do if it is damaged.

    Raises:
        RunError: the file cannot be read, or is damaged.
    """
    try:
        if not path.is_file():  # such as a device or a pipe
            raise damaged_file_error(path, "it is not a file", advice)
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise damaged_file_error(path, f"it is larger than {_MAX_FILE_BYTES:,} bytes", advice)
        return parse_json(path.read_bytes())
    except OSError as error:
        raise unreadable_file_error(path, error) from None
    except ValueError as error:
        raise damaged_file_error(path, str(error), advice) from None


def damaged_file_error(path: Path, why: str, advice: str) -> RunError:
    """Return the error for a damaged file: `why` it is, and the advice what to do."""
    return RunError(f"{path} cannot be read ({why}); {advice}")


def unreadable_file_error(path: Path, error: OSError) -> RunError:
    """Return the error for a file that cannot be read but may be intact."""
    return RunError(f"{path} cannot be read ({error.strerror or error}); check its permissions")


def _mismatch(record: Mapping[str, Any], types: Mapping[str, Any]) -> str:
    """Return a description of the first field of another type; empty if there is none."""
    for name in types.keys() & record.keys():
        try:
            structure(record[name], types[name])
        except ValueError as error:
            return f"{name}: {error}"
    return ""


def _out_of_range(record: Mapping[str, Any]) -> str:
    """Return a description of the first integer beyond 64 bits; empty if there is none."""
    for name, value in record.items():
        if type(value) is int and abs(value) >= 2**63:
            return f"{name} is out of range"
    return ""


def parse_event(line: bytes) -> dict[str, Any] | None:
    """Parse a line of events.jsonl; return None if it is not a valid event."""
    try:
        event = parse_json(line)
    except ValueError:
        return None
    if not isinstance(event, dict):
        return None
    event = cast(dict[str, Any], event)
    valid = not (_mismatch(event, _EVENT_TYPES) or _out_of_range(event))
    valid = valid and all(len(name) <= _MAX_NAME_LENGTH for name in event)
    valid = valid and 0 <= event.get("time", 0) <= _MAX_TIME
    valid = valid and all(event.get(n, 0) >= 0 for n in ("step", "steps", "seconds", "epoch"))
    if event.get("kind") == "log":
        metrics = [value for name, value in event.items() if name not in _EVENT_TYPES]
        valid = valid and all(type(value) in (int, float) for value in metrics)
    return event if valid else None


def versions() -> dict[str, str]:
    """Return the versions of all software that a result may depend on, and the machine type."""
    import numpy as np
    import torch

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
    }
