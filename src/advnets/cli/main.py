"""The command line: parses the arguments, runs the command, prints an error in one sentence."""

from __future__ import annotations

import contextlib
import io
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import AvoidSubcommands, CascadeSubcommandArgs, FlagCreatePairsOff, subcommand

from advnets import presets
from advnets._version import __version__
from advnets.cli import help as help_pages
from advnets.cli.commands import COMMANDS, Command, Train
from advnets.cli.compare import Compare
from advnets.cli.sweep import DIVERGED, Sweep
from advnets.cli.visualize import Visualize
from advnets.config import Config
from advnets.data.spec import check_own_images
from advnets.errors import (
    ON_COMMAND_LINE,
    AdvnetsError,
    DivergedError,
    RunWarning,
    UnknownNameError,
    UsageError,
    printable,
)
from advnets.files import shell_quote
from advnets.output import lost_output_error, protect_standard_streams

FAILURE, USAGE, UNEXPECTED = 1, 2, 70
"""Exit statuses; 0 is success, `DIVERGED` is 3, and 128 + n a stop by signal n."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the process, and return the exit status."""
    if arguments is None:
        protect_standard_streams()
        return _status_after_output(guarded(sys.argv[1:]))
    return guarded(arguments)


def _status_after_output(status: int) -> int:
    """Return the exit status, a failure if what was printed did not reach stdout."""
    if (lost := lost_output_error()) is None:
        return status
    print(
        f"advnets: output could not be written ({lost.strerror}); what the command writes to "
        "files is complete: free some space or redirect the output elsewhere",
        file=sys.stderr,
    )
    return status or FAILURE


def guarded(arguments: Sequence[str]) -> int:
    """Run a command line and return the exit status; an error is one sentence on stderr."""
    debug = "--debug" in arguments
    token = ON_COMMAND_LINE.set(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", RunWarning)
            warnings.showwarning = _print_warning
            return run([argument for argument in arguments if argument != "--debug"])
    except KeyboardInterrupt as interrupt:
        print(f"advnets: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return 128 + getattr(interrupt, "signal", signal.SIGINT)
    except AdvnetsError as error:
        if debug:
            traceback.print_exc()
        print(f"advnets: {_with_flags(error, arguments)}", file=sys.stderr)
        statuses = {UsageError: USAGE, DivergedError: DIVERGED}
        return next((n for kind, n in statuses.items() if isinstance(error, kind)), FAILURE)
    except Exception as error:
        if debug:
            raise
        from advnets.training.memory import explained_error  # heavy: imports torch

        smaller = "give a smaller --num-samples, --size or --batch-size"
        if known := explained_error(error, smaller):
            print(f"advnets: {known}", file=sys.stderr)
            return USAGE if isinstance(known, UsageError) else FAILURE
        print(
            f"advnets: unexpected {type(error).__name__}: {printable(str(error))}; "
            "this is a bug of advnets: run it again with --debug and report what that prints",
            file=sys.stderr,
        )
        return UNEXPECTED
    finally:
        ON_COMMAND_LINE.reset(token)


def _with_flags(error: AdvnetsError, arguments: Sequence[str]) -> str:
    """Return the message of an error, in which a config field has the name of its flag."""

    def full() -> str:
        try:
            train = Train.defaults(*starting_point([*arguments]))
        except AdvnetsError:
            return ""
        return _full_help(arguments, train)

    return help_pages.with_flags(str(error), arguments, full)


def _print_warning(message: Warning | str, category: type[Warning], *location: Any) -> None:
    """Print a RunWarning in one line, and any other warning as Python does."""
    if issubclass(category, RunWarning):
        print(f"advnets: {printable(str(message))}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, *location[:2]))


def run(arguments: list[str]) -> int:
    """Parse the arguments and run the command; return the exit status."""
    _require_working_directory()
    if arguments == ["--version"]:
        print(f"advnets {__version__}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help", "--help-all"):
        print(help_pages.overview(__version__))
        return 0 if arguments else USAGE
    _check_command(arguments[0])
    if {"-h", "--help", "--help-all"} & {*arguments}:
        return _print_help(arguments)

    # The preset gives the defaults of train's options; the options of a sweep end at --.
    rest = arguments.index("--") if arguments[0] == "sweep" and "--" in arguments else None
    start, preset = starting_point(arguments)
    command = parse_command(arguments[:rest], start, preset)
    if isinstance(command, Sweep):
        trained = () if rest is None else tuple(arguments[rest + 1 :])
        return replace(command, train=trained).run(guarded, _checked_config)
    if isinstance(command, Compare):
        return command.run(config_of)
    if not isinstance(command, Train):
        return command.execute()

    if command.preset != preset:
        raise UsageError(
            f"PRESET {command.preset!r} came after an option; it must come first: "
            f"advnets train {shell_quote(command.preset)} [options]"
        )
    if presets.is_data(preset) and command.data.source != start.data.source:
        raise UsageError(
            f"two datasets were given, {preset!r} and --data {command.data.source!r}; give one "
            "of them"
        )
    return command.run(start, typed=typed_preset(arguments))


def _check_command(name: str) -> None:
    """Refuse an unknown command.

    Raises:
        UnknownNameError: there is no command or option of this name.
    """
    if name.startswith("--tyro-") or name in COMMANDS:
        return
    if name.startswith("-"):
        raise UnknownNameError("option", name, ("--help", "--version", "--debug"))
    raise UnknownNameError("command", name, COMMANDS)


def _print_help(arguments: list[str]) -> int:
    """Print the help of a command with its examples; of train a page, a group, or everything."""
    # The preset, if it is typed before --help, gives the defaults; a word after it is a group.
    help_flags = ("-h", "--help", "--help-all")
    at = next(i for i, argument in enumerate(arguments) if argument in help_flags)
    group = arguments[at + 1] if at + 1 < len(arguments) else ""
    train = arguments[0] == "train"
    start, preset = starting_point(arguments[:at] if train else [])
    words = ["train"] if train else [word for word in arguments if word not in help_flags]
    full = help_pages.capture(lambda: _parse([*words, "--help"], Train.defaults(start, preset)))
    if not train or "--help-all" in arguments:
        print(help_pages.full_help(full, words[:3]))
    elif group and not group.startswith("-"):
        print(help_pages.group_help(full, group))
    else:
        print(help_pages.short_help(full, preset))
    return 0


def _require_working_directory() -> None:
    """Refuse to start in a directory that was removed, where libraries cannot load their files.

    Raises:
        UsageError: the working directory cannot be used.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError(
            f"the working directory cannot be used ({error.strerror}); change to another one"
        ) from None


def config_of(line: str) -> Config:
    """Return the config that a command line of `advnets train`, as records keep it, trains.

    Raises:
        UsageError: the line is another command, or names a Python file, which records may not run.
    """
    _, *arguments = shlex.split(line)
    if files := [argument for argument in arguments if presets.is_game_spec(argument)]:
        raise UsageError(
            f"the command of a record names the Python file {files[0]!r}, which is not run; train "
            "it instead"
        )
    return _train_config(arguments)


def _train_config(arguments: list[str]) -> Config:
    """Return the config that the arguments of `advnets train` stand for."""
    start, preset = starting_point(arguments)
    command = parse_command(arguments, start, preset)
    if not isinstance(command, Train):
        line = shlex.join(["advnets", *arguments])
        raise UsageError(f"{line!r} trains nothing; give a command line of advnets train")
    return command.config(start)


def _checked_config(arguments: list[str]) -> Config:
    """Return the config of a run of a sweep; an error names the flags of its arguments."""
    try:
        return _train_config(arguments)
    except AdvnetsError as error:
        raise UsageError(_with_flags(error, arguments)) from None


def parse_command(arguments: list[str], start: Config, preset: str) -> Command:
    """Parse a command; of train, check options that exclude each other or have no effect.

    A length that is typed replaces the preset's, whether in epochs or in steps.

    Raises:
        UsageError: --epochs and --steps, or --lr and the learning rate of a player, were both
            given; or an option of image files, such as --size, for a dataset of fixed size.
    """
    command = parse(arguments, Train.defaults(start, preset))
    if not isinstance(command, Train):
        return command
    for player in ("generator", "discriminator"):
        flag = f"--{player}-optimizer.lr"
        if command.lr is not None and value_of(flag, arguments) is not None:
            raise UsageError(f"--lr and {flag} were both given; give --lr alone, or one per player")
    for flag in ("--size", "--width", "--channels", "--crop", "--background", "--white-level"):
        if value_of(flag, arguments) is not None:
            check_own_images(command.data.source, flag)
    stage = command.stage
    epochs, steps = (
        number if value_of(flag, arguments) is not None else None
        for flag, number in (("--epochs", stage.epochs), ("--steps", stage.steps))
    )
    return replace(command, stage=stage.with_length(epochs, steps))


def parse(arguments: list[str], train: Train) -> Command:
    """Turn arguments into a command, with the defaults of `train`.

    Raises:
        UsageError: they are none; the sentence names the nearest option, command or value.
        SystemExit: help was printed.
    """
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return _parse(arguments, train)
    except SystemExit as exit_:
        if not exit_.code:
            raise
        error = help_pages.usage_error(
            errors.getvalue(), arguments, lambda: _full_help(arguments, train)
        )
        if error is None:
            sys.stderr.write(errors.getvalue())
            raise
        raise error from None


def _full_help(arguments: Sequence[str], train: Train) -> str:
    """Return tyro's help of the command that some arguments begin with."""
    words = help_pages.leading_words(arguments)
    return help_pages.capture(lambda: _parse([*words, "--help"], train))


def _parse(arguments: list[str], train: Train) -> Command:
    # A preset's switches can be turned off, and on again when the command that began a run is
    # repeated with --resume; so the switches of train come in pairs, --x and --no-x.
    others: Any = Annotated[CascadeSubcommandArgs[Visualize], subcommand("visualize")]
    for name, command in COMMANDS.items():
        if command not in (Train, Visualize):
            others |= Annotated[command, subcommand(name)]
    commands: Any = (
        Annotated[Train, subcommand("train", default=train)] | FlagCreatePairsOff[others]
    )
    return tyro.cli(commands, prog="advnets", args=arguments, config=(AvoidSubcommands,))


def starting_point(arguments: list[str]) -> tuple[Config, str]:
    """Return the config that train starts from and its preset: the typed one, or the stored run's.

    The stored run's is used with --resume.
    """
    named = typed_preset(arguments)
    if arguments[:1] != ["train"] or "--resume" not in arguments:
        start = presets.starting_config(named or presets.DEFAULT)
        return _with_typed_models(start, arguments), named or presets.DEFAULT
    from advnets.presets.resume import resumed_config  # heavy: imports torch

    out = value_of("--out", arguments)
    path = None if out is None else Path(out)
    stored = resumed_config(path, named, value_of("--data", arguments))
    return _with_typed_models(stored, arguments), named or stored.preset


def _with_typed_models(start: Config, arguments: list[str]) -> Config:
    """Return a config with the models that --generator and --discriminator name.

    They replace the preset's before the arguments are parsed, as their options differ.
    """
    if arguments[:1] != ["train"]:
        return start
    typed = [value_of(flag, arguments) for flag in ("--generator", "--discriminator")]
    if typed == [None, None]:
        return start
    from advnets.models.custom import with_custom_models  # heavy: imports torch

    return with_custom_models(start, *typed)


def typed_preset(arguments: list[str]) -> str | None:
    """Return the PRESET of a command line of train; None if it has none."""
    first = arguments[1] if arguments[:1] == ["train"] and len(arguments) > 1 else ""
    return first if first and not first.startswith("-") else None


def value_of(flag: str, arguments: list[str]) -> str | None:
    """Return the value of an option before anything is parsed; None if it is absent."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == flag:
            return following
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
    return None
