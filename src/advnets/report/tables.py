"""What a run was told and what it found, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advnets.report.html import Html, element, facts_table

Record = Mapping[str, Any]

_SHORT_DIGEST = 16
_FILES_SHOWN = 20
"""Files that are named one by one."""


def settings(config: Record) -> Html:
    """The config, a table for each part of it."""
    stages = config.get("stages", [])
    tables: list[Html] = []
    for number, stage in enumerate(stages, start=1):
        tables += _tables(f"Stage {number}" if len(stages) > 1 else "Training", stage)
    rest = {name: value for name, value in config.items() if name != "stages"}
    tables += _tables("Run", rest)
    columns = element("div", *tables, class_="columns")
    return element("section", element("h2", "Settings"), columns)


def left_out(record: Record, events: Sequence[Record]) -> Html:
    """Return the files of the data that are not used: by kind, and those with reasons by name."""
    unused = record.get("data", {}).get("unused") or {}
    last = next((event for event in reversed(events) if event.get("kind") == "skipped_files"), {})
    files = last.get("files") or {}
    tables: list[Html] = []
    if unused:
        tables.append(
            facts_table("Kinds that are not read", {k: _said(v) for k, v in unused.items()})
        )
    if files:
        shown = dict(list(files.items())[:_FILES_SHOWN])
        if len(files) > len(shown):
            shown["and more"] = f"{len(files) - len(shown):,}; events.jsonl has all"
        tables.append(facts_table("Left out, and why", shown))
    if not tables:
        return Html("")
    columns = element("div", *tables, class_="columns")
    return element("section", element("h2", "Files not used"), columns)


def origins(record: Record) -> Html:
    """Facts of the data, versions, and the command that began the run."""
    data = {k: v for k, v in record.get("data", {}).items() if k != "unused"}
    facts: dict[str, object] = {"name": data.pop("name", "unknown")}
    if "shape" in data:
        facts["image"] = size(data.pop("shape"))
    for name in ("train", "valid", "test"):
        if name in data:
            facts[f"{name} images"] = data.pop(name)
    if "digest" in data:
        facts["digest"] = str(data.pop("digest"))[:_SHORT_DIGEST]
    versions = {"advnets": record.get("advnets", "unknown"), **record.get("versions", {})}
    tables = element(
        "div", *_tables("Data", {**facts, **data}), *_tables("Versions", versions), class_="columns"
    )
    began = element("p", "The run was begun with:")
    command = element("pre", element("code", record.get("command", "(no command on record)")))
    return element("section", element("h2", "Data, versions, command"), tables, began, command)


def size(shape: Sequence[int]) -> str:
    """Channels, height and width as a person says them; of points of a line or plane, which."""
    channels, height, width = shape
    if height == width == 1:
        return {1: "on a line", 2: "in a plane"}.get(channels, f"of {channels} numbers")
    return f"{height} × {width}, {({1: 'gray', 3: 'color'}).get(channels, f'{channels} channels')}"


def _tables(title: str, part: Record) -> list[Html]:
    """A table of the plain values, and one for each record within."""
    if "kind" in part:  # which of several classes the record is of
        title = f"{title}: {part['kind']}"
    plain = {
        name.replace("_", " "): _said(value)
        for name, value in part.items()
        if name != "kind" and not isinstance(value, Mapping)
    }
    tables = [facts_table(title, plain)] if plain else []
    for name, value in part.items():
        if isinstance(value, Mapping):
            tables += _tables(name.replace("_", " ").capitalize(), value)
    return tables


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == []:
        return "none"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return str(value).removesuffix(".0")  # 1.000004 is not 1
    if isinstance(value, list):
        return ", ".join(map(_said, value))
    return str(value)
