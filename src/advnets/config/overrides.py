"""Options by name: the names of the flags of `advnets train`, with underscores, such as game.r1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from tyro.conf import Suppress

from advnets.config.run import Config
from advnets.config.serialize import list_to_dict, structure, to_json
from advnets.errors import UnknownNameError, UsageError, suggestion

_SECTIONS = ("data", "stage", "runtime", "intervals")
"""The parts of a config whose options have no prefix."""


@dataclass(frozen=True)
class _Option:
    """The place of an option in a config, and its type."""

    path: tuple[str, ...]
    type: Any


def option_names(config: Config) -> tuple[str, ...]:
    """Return the names of all options of a config; they depend on its models and its game."""
    return ("lr", *_options(config))


def apply_overrides(config: Config, overrides: Mapping[str, object]) -> Config:
    """Return a config with some options changed, all checked as those of a preset are.

    The names are those of the flags of `advnets train`, with underscores: `batch_size`, `game.r1`,
    `generator.latent_dim`. `lr` is the learning rate of both players. `steps` replaces `epochs`,
    and the reverse. For a preset with two stages, the options are those of the last stage.

    Raises:
        UnknownNameError: no option has this name; the message suggests the nearest ones.
        UsageError: a value has the wrong type or is invalid; or both `epochs` and `steps`, or `lr`
            and the learning rate of a player, are given.
    """
    options = _options(config)
    tree: dict[str, Any] = {}
    for name, value in overrides.items():
        if name == "lr":
            continue
        if name not in options:
            raise _unknown_option(name, options)
        option = options[name]
        *parents, field = option.path
        section = tree
        for parent in parents:
            section = section.setdefault(parent, {})
        section[field] = _convert(name, value, option.type)

    # Apply the length, which is either epochs or steps, and the learning rate of both players.
    length = {name: overrides[name] for name in ("epochs", "steps") if name in overrides}
    given = [name for name, value in length.items() if value is not None]
    if len(given) == 2:
        raise UsageError(
            f"epochs is {length['epochs']} and steps is {length['steps']}; give one of them"
        )
    if given:
        (other,) = {"epochs", "steps"} - {*given}
        tree.setdefault("stage", {})[other] = None
    if (lr := overrides.get("lr")) is not None:
        for player in ("generator", "discriminator"):
            name = f"{player}_optimizer"
            if f"{name}.lr" in overrides:
                raise UsageError(
                    f"lr and {name}.lr were both given; give lr alone, or one for each player"
                )
            rates = tree.setdefault("stage", {}).setdefault(name, {})
            rates["lr"] = _convert("lr", lr, float)

    # Replace each section once, as its values are checked together.
    try:
        if "stage" in tree:
            tree["stages"] = (*config.stages[:-1], _replace_nested(config.stage, tree.pop("stage")))
        return _replace_nested(config, tree)
    except UsageError as error:
        raise UsageError(_use_option_names(str(error), overrides)) from None


def differences(first: Config, second: Config) -> dict[str, str]:
    """Return `first value, second value` by option, or by field, in which two configs differ.

    Learning rates of both players that differ in the same way are one, `lr`.
    """
    # Name the options as the flags are.
    names: dict[str, str] = {}
    for config in (first, second):
        for name, option in _options(config).items():
            path = ".".join(option.path)
            names[path.replace("stage.", f"stages.{len(config.stages) - 1}.", 1)] = name
    found = _differences("", to_json(first), to_json(second))
    stage = f"stages.{len(second.stages) - 1}."
    values = {names.get(path, path.removeprefix(stage)): change for path, change in found}

    rates = [f"{player}_optimizer.lr" for player in ("generator", "discriminator")]
    if len({values.get(rate, rate) for rate in rates}) == 1:
        values = {"lr": values[rates[0]], **{n: v for n, v in values.items() if n not in rates}}
    return values


def _differences(path: str, first: object, second: object) -> list[tuple[str, str]]:
    first, second = list_to_dict(first), list_to_dict(second)
    if first == second:
        return []
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return [(path, f"{first!r}, {second!r}")]
    left, right = cast(dict[str, object], first), cast(dict[str, object], second)
    return [
        change
        for key in dict.fromkeys((*left, *right))
        for change in _differences(f"{path}.{key}".lstrip("."), left.get(key), right.get(key))
    ]


def _options(config: Config) -> dict[str, _Option]:
    """Return the options of a config by name."""
    options = {"seed": _Option(("seed",), int)}
    for section in _SECTIONS:
        options |= _section_options(getattr(config, section), (section,), "")
    return options


def _section_options(section: Any, path: tuple[str, ...], prefix: str) -> dict[str, _Option]:
    hints = get_type_hints(type(section), include_extras=True)
    options: dict[str, _Option] = {}
    for field in fields(section):
        metadata = getattr(hints[field.name], "__metadata__", ())
        if Suppress in metadata:
            continue
        renamed = [name for item in metadata if (name := getattr(item, "name", None))]
        name = prefix + (renamed or [field.name])[0].replace("-", "_")
        value = getattr(section, field.name)
        if is_dataclass(value):
            options |= _section_options(value, (*path, field.name), f"{name}.")
        else:
            hint = get_args(hints[field.name])[0] if metadata else hints[field.name]
            options[name] = _Option((*path, field.name), hint)
    return options


def _unknown_option(name: str, options: Mapping[str, _Option]) -> UnknownNameError:
    """Return the error for an unknown name; it suggests options with the same last part."""
    typed = name.removeprefix("--").replace("-", "_")
    if typed in ("lr", *options):
        return UnknownNameError("option", name, (), listed=f"did you mean {typed}?")
    ending = [known for known in options if known.rpartition(".")[2] == typed.rpartition(".")[2]]
    if ending:
        return UnknownNameError("option", name, ending, listed=f"did you mean {ending[0]}?")
    known = "`advnets train --help-all` lists the flags that options are named after"
    return UnknownNameError("option", name, ("lr", *options), listed=known)


def _use_option_names(message: str, names: Iterable[str]) -> str:
    """Replace the fields in a message, such as r1, by the given option names, such as game.r1."""
    for name in names:
        field = name.rpartition(".")[2]
        message = re.sub(rf"(?<![\w.]){field}(?= (is|are|has|and|or|does)\b)", name, message)
    return message


def _replace_nested(section: Any, values: Mapping[str, Any]) -> Any:
    """Return a section with other values; those of its subsections are nested mappings."""
    changed = {
        name: _replace_nested(getattr(section, name), value) if isinstance(value, dict) else value
        for name, value in values.items()
    }
    return replace(section, **changed)


def _convert(name: str, value: Any, expected: Any) -> Any:
    """Convert the value of an option: lists to tuples, paths to strings, NumPy scalars to numbers.

    A string in place of several is one of them.

    Raises:
        UsageError: it has the wrong type, or is not one of the possible values.
    """
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, Path):
        value = str(value)
    several = get_origin(expected) is tuple and str in get_args(expected)
    try:
        return structure((value,) if several and isinstance(value, str) else value, expected)
    except ValueError:
        choices = get_args(expected) if get_origin(expected) is Literal else ()
        hint = suggestion(value, map(str, choices)) if isinstance(value, str) else ""
        raise UsageError(
            f"{name} is {value!r:.80}; it must be {_describe(expected)}" + (hint and f"; {hint}")
        ) from None


_TYPE_NAMES = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "a string",
    NoneType: "None",
}


def _describe(expected: Any) -> str:
    """Return a phrase for the values of a type."""
    kind: Any = get_origin(expected)
    parts: list[Any] = [*get_args(expected)]
    if kind is Literal:
        return "one of " + ", ".join(map(str, parts)) if len(parts) > 1 else repr(parts[0])
    if kind in (Union, UnionType):
        return " or ".join(map(_describe, parts))
    if kind is tuple:
        length = "any number of values" if ... in parts else f"{len(parts)} values"
        return f"a tuple of {length}, each {_describe(parts[0])}"
    return _TYPE_NAMES[expected]
