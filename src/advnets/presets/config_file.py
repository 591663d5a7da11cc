"""Files in place of a preset: the config.json of a run, and overrides in YAML or TOML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from advnets.config import Config
from advnets.config.overrides import apply_overrides
from advnets.config.serialize import from_json
from advnets.errors import UsageError, require
from advnets.files import read_regular_file
from advnets.presets.registry import DEFAULT, get_preset
from advnets.run_records import config_record

_MAX_BYTES = 1 << 20
_EXPONENT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+\Z")
"""A number with an exponent; YAML 1.1, which PyYAML reads, lacks 1e-3 and 1.0e3."""


def read_config_file(path: Path) -> Config:
    """Return the config of a file: that of a run's config.json, or a preset with overrides.

    A YAML or TOML file contains the name of a `preset` and values of options. Options are named as
    the flags are, with underscores; those with dots may be written as nested sections.

    Raises:
        RunError: a config.json is damaged, or of another version.
        UsageError: the file cannot be read, or a name or value in it is invalid.
        MissingExtraError: PyYAML, which reads YAML, is not installed.
    """
    if path.suffix.lower() == ".json":
        return from_json(config_record(path).get("config"), Config, str(path))
    overrides = _overrides(path)
    preset = overrides.pop("preset", DEFAULT)
    try:
        return apply_overrides(get_preset(str(preset)), overrides)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _overrides(path: Path) -> dict[str, Any]:
    """Return the options in a YAML or TOML file by dotted names."""
    try:
        text = read_regular_file(path, _MAX_BYTES).decode("utf-8")
        table: Any = tomllib.loads(text) if path.suffix.lower() == ".toml" else _parse_yaml(text)
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; give a file of options, or a preset") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UsageError(f"{path} cannot be read ({reason[:200]}); correct the file") from None
    if not isinstance(table, dict):
        raise UsageError(f"{path} is not a table of names and values; write them as batch_size: 64")
    return dict(_flatten(cast(dict[object, Any], table), ""))


def _parse_yaml(text: str) -> Any:
    """Return the value of a YAML text; aliases, which can grow without limit, are refused.

    Numbers such as 1e-3 are numbers, as in YAML 1.2.
    """
    yaml: Any = require("yaml", "yaml")
    loader: Any = type("Loader", (yaml.SafeLoader,), {})
    loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("+-.0123456789"))
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, loader)):
            raise ValueError("it has an alias (*name); replace it by its value")
        return yaml.load(text, loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _flatten(table: Mapping[object, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(cast(dict[object, Any], value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
