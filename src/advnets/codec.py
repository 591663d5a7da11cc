"""Configs as JSON and back, strictly: what does not fit is refused, never guessed at."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, cast

from cattrs import BaseValidationError, Converter, transform_error
from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union, configure_union_passthrough

from advnets.config import (
    Config,
    DiscriminatorConfig,
    Game,
    GameConfig,
    GeneratorConfig,
    OptimizerConfig,
)
from advnets.errors import RunError

T = TypeVar("T")


@cache
def _converter() -> Converter:
    converter = make_converter(forbid_extra_keys=True)
    for union in (GeneratorConfig, DiscriminatorConfig, OptimizerConfig):
        configure_tagged_union(union, converter, tag_name="kind")
    # The plain game is what runs of before there were others say nothing of.
    configure_tagged_union(GameConfig, converter, tag_name="kind", default=Game)
    configure_union_passthrough(str | bool | int | float | None, converter)
    return converter


def to_json(record: object) -> dict[str, Any]:
    """A frozen dataclass as JSON values; nets, optimizers and games carry their class as `kind`."""
    return _converter().unstructure(record)


def from_json(record: dict[str, Any], kind: type[T]) -> T:
    """The dataclass that `to_json` wrote.

    Raises:
        RunError: a field is missing, unknown, or of another type.
    """
    try:
        return _converter().structure(record, kind)
    except BaseValidationError as error:
        raise RunError(
            f"config.json does not fit this advnets ({transform_error(error)[0]}); "
            "restore the file or use the advnets that wrote it"
        ) from None


def differences(ours: Config, theirs: Config) -> list[str]:
    """Every field in which two configs differ, as `path: ours, theirs`."""
    return _differences("", to_json(ours), to_json(theirs))


def _differences(path: str, ours: object, theirs: object) -> list[str]:
    ours, theirs = by_name(ours), by_name(theirs)
    if ours == theirs:
        return []
    if not (isinstance(ours, dict) and isinstance(theirs, dict)):
        return [f"{path}: {ours!r}, {theirs!r}"]
    mine, others = cast(dict[str, object], ours), cast(dict[str, object], theirs)
    return [
        line
        for key in dict.fromkeys((*mine, *others))
        for line in _differences(f"{path}.{key}".lstrip("."), mine.get(key), others.get(key))
    ]


def by_name(value: object) -> object:
    """A list of stages as a mapping by number; anything else as it is."""
    if isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        return {str(number): item for number, item in enumerate(value)}
    return value
