"""Invalid numbers are refused everywhere: in Python, as a flag, in config.json."""

import math
import typing
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path

import jaxtyping
import pytest

from advnets import config, presets
from advnets.cli import commands
from advnets.cli.arguments import config_of
from advnets.config.serialize import from_json, to_json
from advnets.errors import RunError, UsageError
from advnets.visualize import view_classes

BAD = [math.inf, -math.inf, math.nan, 1e39]
COUNTS = {
    *("seed", "label_seed", "steps", "epochs", "schedule_steps", "ema_half_life", "labels"),
    *("log_every", "sample_every", "checkpoint_every", "eval_every", "momentum_epochs"),
    *("keep_checkpoints", "step", "patience"),
}
"""Integers that memory does not depend on, such as numbers of steps."""
HUNGRY = ("advnets.config", "advnets.visualize")
"""Modules whose numbers determine the memory that is allocated."""


def kinds(root, known=()):
    """Return every dataclass that a type contains."""
    collected = dict.fromkeys(known)
    if is_dataclass(root) and root not in collected:
        collected[root] = None
        for hint in typing.get_type_hints(root).values():
            collected |= dict.fromkeys(kinds(hint, tuple(collected)))
    for part in typing.get_args(root):
        collected |= dict.fromkeys(kinds(part, tuple(collected)))
    return tuple(collected)


def holds(hint, kind):
    """Return whether a value of this type may be, or contain, a number of this kind."""
    if hint is kind:
        return True
    if is_dataclass(hint):
        return False
    return any(holds(part, kind) for part in typing.get_args(hint))


def example(kind):
    """Return an instance of a dataclass."""
    if kind is config.Config:
        return presets.get_preset("digits")
    paths = {"run": Path(), "out": Path("x.png"), "boxes": Path("x.json")}
    needed = paths | {"path": "digits", "expression": "3 - 5"}
    needed |= {"step": 0, "identity": "", "differences": ()}
    lacking = [f for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    return kind(**{field.name: needed[field.name] for field in lacking})


def with_number(instance, name, number):
    """Return the instance with another number in a field, in a tuple where the field is one."""
    hint = typing.get_type_hints(type(instance))[name]
    nested = typing.get_origin(hint) is tuple
    value = (number, number) if nested else number
    return replace(instance, **{name: (value,) if name == "pools" else value})


def numbers(kind):
    """Return pairs of a dataclass and a field that contains numbers of this kind."""
    return [
        pytest.param(owner, field.name, id=f"{owner.__name__}.{field.name}")
        for owner in dict.fromkeys(
            (*kinds(commands.Command), *view_classes().values(), *kinds(config.Config))
        )
        for field in fields(owner)
        if holds(typing.get_type_hints(owner)[field.name], kind)
    ]


@pytest.mark.parametrize("number", BAD)
@pytest.mark.parametrize(("kind", "name"), numbers(float))
def test_non_finite_numbers_are_refused_from_python(kind, name, number):
    with pytest.raises(UsageError, match=f"{name} is "):
        with_number(example(kind), name, number)


@pytest.mark.parametrize("number", [10**9, 10**12, 10**30])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        value
        for value in numbers(int)
        if value.values[1] not in COUNTS and value.values[0].__module__.startswith(HUNGRY)
    ],
)
def test_sizes_beyond_any_memory_are_refused(kind, name, number):
    with pytest.raises(UsageError, match=f"{name} is "):
        with_number(example(kind), name, number)


def flags():
    """Return every flag of `train` that takes a float, with a preset that has it."""
    collected = {}
    for preset in presets.PRESETS:
        start = presets.get_preset(preset)
        parts = {
            "": [start.data, start.stage, start.runtime],
            "generator.": [start.stage.generator],
            "discriminator.": [start.stage.discriminator],
            "game.": [start.stage.game],
            "game.encoder.": [getattr(start.stage.game, "encoder", None)],
            "generator-optimizer.": [start.stage.generator_optimizer],
            "discriminator-optimizer.": [start.stage.discriminator_optimizer],
        }
        for prefix, instances in parts.items():
            for instance in filter(None, instances):
                for field in fields(instance):
                    if holds(typing.get_type_hints(type(instance))[field.name], float):
                        flag = f"--{prefix}{field.name.replace('_', '-')}"
                        collected.setdefault((type(instance), flag), preset)
    return [
        pytest.param(preset, flag, id=f"{preset} {flag}") for (_, flag), preset in collected.items()
    ]


@pytest.mark.parametrize(("preset", "flag"), flags())
def test_infinity_is_refused_by_every_flag(run_command, tmp_path, preset, flag):
    several = {"--discriminator.frequency-range": ("inf", "1")}
    out = tmp_path / "run"
    code, _, err = run_command("train", preset, flag, *several.get(flag, ("inf",)), "--out", out)
    assert code == 2, err
    assert " is inf; it must be finite" in err
    assert not out.exists()


def test_a_stored_config_with_such_numbers_is_refused():
    """Python's JSON module accepts Infinity, and any integer."""
    record = to_json(presets.get_preset("digits"))
    for number in (math.inf, 10**12):
        broken = record | {"data": record["data"] | {"batch_size": number}}
        with pytest.raises((RunError, UsageError)):
            from_json(broken, config.Config)


def test_large_valid_numbers_are_accepted():
    assert config.SGD(lr=3e38).lr == 3e38
    assert config.Stage(steps=10**12).steps == 10**12
    assert config_of("advnets train digits --seed 99999999999999999999").seed > 10**19


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: config.GANGame(objective="wgan"), r"objective is 'wgan'; .*mean wasserstein\?"),
        (lambda: config.GANGame(augmentations=("flop",)), "augmentations is 'flop'; it must be"),
        (lambda: config.MLPGenerator(output_bias="mean"), "output_bias is 'mean'; it must be"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(make, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it refuses them in tests
    with pytest.raises(UsageError, match=message):
        make()
