"""Options by name: the same names, values and checks as the flags of `advnets train`."""

import re
import shlex
from dataclasses import replace

import numpy as np
import pytest

from advnets import config, presets
from advnets.cli.arguments import parse_command, starting_point
from advnets.config.overrides import apply_overrides, option_names
from advnets.errors import UnknownNameError, UsageError

COMMAND_ONLY = {
    *("out", "resume", "branch", "step", "dry_run", "verbose", "trust_code", "track", "help"),
    *("help_all", "generator", "discriminator"),
}
"""Flags that are not options of a config: `train` has keywords of its own for them."""


@pytest.mark.parametrize("preset", ["digits", "paper-tfd", "modern", "inference-mnist", "points"])
def test_the_options_are_the_flags(preset, run_command):
    _, page, _ = run_command("train", preset, "--help-all")
    flags = re.findall(r"^ *(?:│ )?--([a-z][\w.-]*)", page, re.MULTILINE)
    names = {re.sub(r"(^|\.)no_", r"\1", flag.replace("-", "_")) for flag in flags} - COMMAND_ONLY
    assert len(names) > 40
    assert names == set(option_names(presets.get_preset(preset)))


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_the_values_of_a_preset_change_nothing(preset):
    given = presets.get_preset(preset)
    values = {}
    for name in option_names(given)[1:]:
        field = {"data": "source", "data_dir": "directory"}.get(name, name)
        holders = (given, given.data, given.stage, given.runtime, given.intervals)
        *path, last = field.split(".")
        for holder in holders:
            for part in path:
                holder = getattr(holder, part, None)
            if hasattr(holder, last):
                values[name] = getattr(holder, last)
                break
    assert len(values) == len(option_names(given)) - 1
    del values["steps" if values["steps"] is None else "epochs"]
    assert apply_overrides(given, values) == given


def test_overrides_are_what_the_command_line_makes_of_the_flags():
    flags = (
        "--data photos --data-dir named --batch-size 60 --size 32 --seed 5 --steps 7 --lr 0.5 "
        "--hflip --game.pac 2 --game.objective hinge --game.augmentations flip color "
        "--generator.latent-dim 64 --discriminator.no-batch-norm --ema-half-life 0 --ema-rampup 0 "
        "--device cpu --threads 2 --eval-every 10 --log-every 3"
    )
    line = ["train", "dcgan", *shlex.split(flags)]
    start, preset = starting_point(line)
    overrides = {
        "data": "photos",
        "data_dir": "named",
        "batch_size": np.int64(60),
        "size": 32,
        "seed": 5,
        "steps": 7,
        "lr": 0.5,
        "hflip": True,
        "game.pac": 2,
        "game.objective": "hinge",
        "game.augmentations": ["flip", "color"],
        "generator.latent_dim": 64,
        "discriminator.batch_norm": False,
        "ema_half_life": 0,
        "ema_rampup": 0,
        "device": "cpu",
        "threads": 2,
        "eval_every": 10,
        "log_every": 3,
    }
    command = parse_command(line, start, preset)
    assert apply_overrides(presets.get_preset("dcgan"), overrides) == command.config(start)


def test_of_two_stages_the_last_one_is_changed():
    first, last = presets.get_preset("paper-tfd").stages
    changed = apply_overrides(presets.get_preset("paper-tfd"), {"lr": 0.25, "epochs": 3}).stages
    assert changed[0] == first
    assert changed[1] == replace(last, epochs=3, steps=None).with_learning_rate(0.25)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"game.r3": 1}, "no option is called 'game.r3'; did you mean game.r"),
        ({"--game.r1": 1}, r"no option is called '--game.r1'; did you mean game\.r1\?"),
        ({"batch-size": 1}, r"no option is called 'batch-size'; did you mean batch_size\?"),
        ({"latent_dim": 1}, r"'latent_dim'; did you mean generator\.latent_dim\?"),
        ({"pac": 1}, r"did you mean game\.pac\?"),
        ({"xyzzy": 1}, "`advnets train --help-all` lists"),
        ({"batch_size": "64"}, "batch_size is '64'; it must be an integer or 'auto'"),
        ({"batch_size": True}, "batch_size is True; it must be an integer or 'auto'"),
        ({"game.r1": float("nan")}, "game.r1 is nan; it must be a number"),
        ({"game.r1": -1}, "game.r1 is -1.0; it must be at least 0"),
        ({"generator.hidden_sizes": 3}, "it must be a tuple of any number of values, each an int"),
        ({"generator.hidden_sizes": (0,)}, r"generator\.hidden_sizes is 0; it must be at least 1"),
        ({"generator.output_bias": "x"}, "it must be a number or 'marginals'"),
        ({"game.objective": "hing"}, "must be one of non-saturating.*; did you mean hinge"),
        ({"epochs": 1, "steps": 1}, "epochs is 1 and steps is 1; give one of them"),
        ({"lr": 0}, "lr is 0, which trains neither player; give a positive lr, or 0 for one"),
        ({"lr": 1, "generator_optimizer.lr": 1}, "lr and generator_optimizer.lr were both given"),
        ({"game.k": 2, "game.updates": "simultaneous"}, "game.k is 2, but simultaneous updates"),
        ({"schedule_steps": 3}, "no option is called 'schedule_steps'"),
    ],
)
def test_wrong_overrides(overrides, message):
    with pytest.raises(UsageError, match=message):
        apply_overrides(presets.get_preset("digits"), overrides)


def test_values_of_one_section_are_checked_together():
    """Each alone would be refused: k = 2 with simultaneous updates, which the preset has."""
    given = presets.get_preset("digits")
    simultaneous = given.with_stage(
        replace(given.stage, game=config.GANGame(updates="simultaneous"))
    )
    changed = apply_overrides(simultaneous, {"game.k": 2, "game.updates": "alternating"})
    assert changed.stage.game == config.GANGame(k=2)
    with pytest.raises(UnknownNameError):
        apply_overrides(simultaneous, {"game.gp": 1, "xyz": 2})
