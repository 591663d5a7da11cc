"""Parsing of the arguments by tyro, and of those that determine its defaults before it runs."""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import AvoidSubcommands, CascadeSubcommandArgs, FlagCreatePairsOff, subcommand

from advnets import presets
from advnets.cli import help as help_pages
from advnets.cli.commands import COMMANDS, Command, Train
from advnets.cli.visualize import Visualize
from advnets.config import Config
from advnets.data.spec import check_own_images
from advnets.errors import UsageError


def config_of(line: str) -> Config:
    """Return the config of a command line of `advnets train`, as it is stored in a record.

    Raises:
        UsageError: the line is another command, or names a Python file, which records may not run.
    """
    _, *arguments = shlex.split(line)
    if files := [argument for argument in arguments if presets.is_game_spec(argument)]:
        raise UsageError(
            f"the command of a record names the Python file {files[0]!r}, whose code is not run; "
            "compare run directories instead"
        )
    return train_config(arguments)


def train_config(arguments: list[str]) -> Config:
    """Return the config that the arguments of `advnets train` specify."""
    start, preset = starting_point(arguments)
    command = parse_command(arguments, start, preset)
    if not isinstance(command, Train):
        line = shlex.join(["advnets", *arguments])
        raise UsageError(f"{line!r} trains nothing; give a command line of advnets train")
    return command.config(start)


def parse_command(arguments: list[str], start: Config, preset: str) -> Command:
    """Parse a command; for train, reject options that contradict each other or have no effect.

    A given length replaces the preset's, whether in epochs or in steps.

    Raises:
        UsageError: --epochs and --steps, or --lr and the learning rate of a player, were both
            given; or an option of image files, such as --size, for a dataset of fixed size.
    """
    command = parse(arguments, Train.defaults(start, preset))
    if not isinstance(command, Train):
        return command
    for player in ("generator", "discriminator"):
        flag = f"--{player}-optimizer.lr"
        if command.lr is not None and option_value(flag, arguments) is not None:
            raise UsageError(f"--lr and {flag} were both given; give --lr alone, or one per player")
    for flag in ("--size", "--width", "--channels", "--crop", "--background", "--white-level"):
        if option_value(flag, arguments) is not None:
            check_own_images(command.data.source, flag)
    stage = command.stage
    epochs, steps = (
        number if option_value(flag, arguments) is not None else None
        for flag, number in (("--epochs", stage.epochs), ("--steps", stage.steps))
    )
    return replace(command, stage=stage.with_length(epochs, steps))


def parse(arguments: list[str], train: Train) -> Command:
    """Turn arguments into a command, with the defaults of `train`.

    Raises:
        UsageError: they are not valid; the message names the nearest option, command or value.
        SystemExit: help was printed.
    """
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return parse_with_tyro(arguments, train)
    except SystemExit as exit_:
        if not exit_.code:
            raise
        error = help_pages.usage_error(
            errors.getvalue(), arguments, lambda: full_help(arguments, train)
        )
        if error is None:
            sys.stderr.write(errors.getvalue())
            raise
        raise error from None


def full_help(arguments: Sequence[str], train: Train) -> str:
    """Return tyro's help of the command at the start of some arguments."""
    words = help_pages.leading_words(arguments)
    return help_pages.capture_stdout(lambda: parse_with_tyro([*words, "--help"], train))


def parse_with_tyro(arguments: list[str], train: Train) -> Command:
    """Turn arguments into a command; help and tyro's messages are printed before a SystemExit."""
    # The switches of train come in pairs, --x and --no-x: a preset's switches can be turned off,
    # and a resumed run's turned on again.
    others: Any = Annotated[CascadeSubcommandArgs[Visualize], subcommand("visualize")]
    for name, command in COMMANDS.items():
        if command not in (Train, Visualize):
            others |= Annotated[command, subcommand(name)]
    commands: Any = (
        Annotated[Train, subcommand("train", default=train)] | FlagCreatePairsOff[others]
    )
    return tyro.cli(commands, prog="advnets", args=arguments, config=(AvoidSubcommands,))


def starting_point(arguments: list[str]) -> tuple[Config, str]:
    """Return the config whose values are the defaults of train's options, and the preset's name.

    It is the config of the PRESET argument, or with --resume that of the stored run.
    """
    named = preset_argument(arguments)
    if arguments[:1] != ["train"] or "--resume" not in arguments:
        start = presets.starting_config(named or presets.DEFAULT)
        return _with_custom_models(start, arguments), named or presets.DEFAULT
    from advnets.presets.resume import resumed_config  # heavy: imports torch

    out = option_value("--out", arguments)
    path = None if out is None else Path(out)
    stored = resumed_config(path, named, option_value("--data", arguments))
    return _with_custom_models(stored, arguments), named or stored.preset


def _with_custom_models(start: Config, arguments: list[str]) -> Config:
    """Return a config with the models that --generator and --discriminator name.

    They replace the preset's models before the arguments are parsed, since their options differ.
    """
    if arguments[:1] != ["train"]:
        return start
    specs = [option_value(flag, arguments) for flag in ("--generator", "--discriminator")]
    if specs == [None, None]:
        return start
    from advnets.models.custom import with_custom_models  # heavy: imports torch

    return with_custom_models(start, *specs)


def preset_argument(arguments: list[str]) -> str | None:
    """Return the PRESET of a command line of train; None if it has none."""
    first = arguments[1] if arguments[:1] == ["train"] and len(arguments) > 1 else ""
    return first if first and not first.startswith("-") else None


def option_value(flag: str, arguments: list[str]) -> str | None:
    """Return the value of an option before anything is parsed; None if it is absent."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == flag:
            return following
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None
