"""The command line: arguments in, one sentence out when something is wrong."""

from __future__ import annotations

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
from tyro.conf import (
    AvoidSubcommands,
    CascadeSubcommandArgs,
    FlagCreatePairsOff,
    subcommand,
)

from advnets import presets
from advnets._version import __version__
from advnets.cli.bench import Bench
from advnets.cli.commands import Command, Evaluate, Presets, Sample, Train
from advnets.cli.compare import Compare
from advnets.cli.data import DataCommand
from advnets.cli.paper import Paper
from advnets.cli.visualize import Visualize
from advnets.config import Config
from advnets.errors import AdvnetsError, DivergedError, RunWarning, UsageError, printable
from advnets.files import shell_quote
from advnets.output import lost_output_error, protect_standard_streams

FAILURE, USAGE, DIVERGED, UNEXPECTED = 1, 2, 3, 70
"""Exit statuses; 0 is success, and 128 + n a stop by signal n."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, and say in one sentence what went wrong; the exit status."""
    if arguments is None:  # a process of its own, whose streams are ours
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
    given = list(arguments)
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", RunWarning)
            warnings.showwarning = _say_warning
            return run(given)
    except KeyboardInterrupt as interrupt:
        print(f"advnets: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return 128 + getattr(interrupt, "signal", signal.SIGINT)
    except AdvnetsError as error:
        if debug:
            traceback.print_exc()
        print(f"advnets: {error}", file=sys.stderr)
        statuses = {UsageError: USAGE, DivergedError: DIVERGED}
        return next((n for kind, n in statuses.items() if isinstance(error, kind)), FAILURE)
    except Exception as error:
        if debug:
            raise
        from advnets.training.memory import explanation  # not what --help should wait for

        smaller = "ask for less at once: a smaller --num-samples, --size or --batch-size"
        if known := explanation(error, smaller):
            print(f"advnets: {known}", file=sys.stderr)
            return USAGE if isinstance(known, UsageError) else FAILURE
        print(
            f"advnets: unexpected {type(error).__name__}: {printable(str(error))}; "
            "this is a fault of advnets: run it again with --debug and report what that prints",
            file=sys.stderr,
        )
        return UNEXPECTED


def _say_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Print a warning of a run in one line, and any other as Python does."""
    if issubclass(category, RunWarning):
        print(f"advnets: {printable(str(message))}", file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, *place[:2]))


def run(given: list[str]) -> int:
    """Parse the arguments and do what they ask."""
    _require_working_directory()
    if given == ["--version"]:
        print(f"advnets {__version__}")
        return 0
    start, preset = starting_point(given)
    asked = parsed(given, start, preset)
    if not isinstance(asked, Train):
        return asked.execute()
    if asked.preset != preset:
        raise UsageError(
            f"PRESET {asked.preset!r} came after a flag; it must come first: "
            f"advnets train {shell_quote(asked.preset)} [--flags]"
        )
    if presets.is_data(preset) and asked.data.source != start.data.source:
        raise UsageError(
            f"data came twice, as {preset!r} and as --data {asked.data.source!r}; give one of them"
        )
    return asked.run(start, typed=typed_preset(given))


def _require_working_directory() -> None:
    """Refuse to start in a directory that was removed, where no library loads its files.

    Raises:
        UsageError: it was.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise UsageError(
            f"the directory that you are in cannot be used ({error.strerror}); change to another"
        ) from None


def config_of(line: str) -> Config:
    """What a command of `train`, as records keep it, would train.

    Raises:
        UsageError: it is another command, or names a file, whose code a record may not run.
    """
    _, *given = shlex.split(line)
    if files := [argument for argument in given if presets.is_game_spec(argument)]:
        raise UsageError(f"a record's command names {files[0]!r}, and records run no code")
    start, preset = starting_point(given)
    asked = parsed(given, start, preset)
    if not isinstance(asked, Train):
        raise UsageError(f"{line!r} trains nothing; give a command advnets train")
    return asked.config(start)


def parsed(given: list[str], start: Config, preset: str) -> Command:
    """A command, and of `train` what was typed of its length in place of what it starts with."""
    asked = parse(given, Train.defaults(start, preset))
    if not isinstance(asked, Train):
        return asked
    stage = asked.stage
    epochs, steps = (
        number if value_of(flag, given) is not None else None
        for flag, number in (("--epochs", stage.epochs), ("--steps", stage.steps))
    )
    return replace(asked, stage=stage.with_length(epochs, steps))


def parse(given: list[str], train: Train) -> Command:
    """Turn arguments into a command; exits with help or a parse error."""
    # What a preset turns on can be turned off, and to say what holds anyway is no mistake: the
    # command that began a run goes on with --resume. So the config's flags come in pairs.
    others: Any = (
        Annotated[Sample, subcommand("sample")]
        | Annotated[Evaluate, subcommand("evaluate")]
        | Annotated[Compare, subcommand("compare")]
        | Annotated[CascadeSubcommandArgs[Visualize], subcommand("visualize")]
        | Annotated[Presets, subcommand("presets")]
        | Annotated[DataCommand, subcommand("data")]
        | Annotated[Bench, subcommand("bench")]
        | Annotated[Paper, subcommand("paper")]
    )
    commands: Any = (
        Annotated[Train, subcommand("train", default=train)] | FlagCreatePairsOff[others]
    )
    return tyro.cli(
        commands,
        prog="advnets",
        description=(
            "Adversarial nets, as published in 2014 and as far as they have come since. "
            "Also: --version, and --debug for a traceback."
        ),
        args=given,
        config=(AvoidSubcommands,),
    )


def starting_point(given: list[str]) -> tuple[Config, str]:
    """What the defaults of `train` are: the named preset's, or the stored run's on resume."""
    named = typed_preset(given)
    if given[:1] != ["train"] or "--resume" not in given or {"-h", "--help"} & set(given):
        return presets.starting_config(named or presets.DEFAULT), named or presets.DEFAULT
    from advnets.presets.resume import resumed_config  # not what --help should wait for

    out = value_of("--out", given)
    stored = resumed_config(None if out is None else Path(out), named, value_of("--data", given))
    return stored, named or stored.preset


def typed_preset(given: list[str]) -> str | None:
    """The PRESET that a command of `train` names itself, if it names one."""
    first = given[1] if given[:1] == ["train"] and len(given) > 1 else ""
    return first if first and not first.startswith("-") else None


def value_of(flag: str, given: list[str]) -> str | None:
    """The value that a flag was given, before anything is parsed."""
    for this, following in zip(given, [*given[1:], ""], strict=True):
        if this == flag:
            return following
        if this.startswith(f"{flag}="):
            return this.partition("=")[2]
    return None
