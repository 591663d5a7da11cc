"""The entry point: parse the arguments, run the command, and print errors in one sentence."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from advnets import launcher, presets
from advnets._version import __version__
from advnets.cli import help as help_pages
from advnets.cli.arguments import (
    config_of,
    full_help,
    parse,
    parse_command,
    parse_with_tyro,
    preset_argument,
    starting_point,
    train_config,
)
from advnets.cli.commands import COMMANDS, Evaluate, Train
from advnets.cli.compare import Compare
from advnets.cli.sweep import DIVERGED, Sweep
from advnets.config import Config
from advnets.custom_code import custom_code_error
from advnets.errors import (
    ON_COMMAND_LINE,
    AdvnetsError,
    DivergedError,
    LostProcessError,
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
        return _status_after_output(run_guarded(sys.argv[1:]))
    return run_guarded(arguments)


def _status_after_output(status: int) -> int:
    """Return the exit status: a failure if output to stdout was lost."""
    if (lost := lost_output_error()) is None:
        return status
    print(
        f"advnets: output could not be written ({lost.strerror}); what the command writes to "
        "files is complete: free some space or redirect the output elsewhere",
        file=sys.stderr,
    )
    return status or FAILURE


def run_guarded(arguments: Sequence[str]) -> int:
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
        if not _prints(error):
            return FAILURE
        print(f"advnets: {_with_flags(error, arguments)}", file=sys.stderr)
        statuses = {UsageError: USAGE, DivergedError: DIVERGED}
        return next((n for kind, n in statuses.items() if isinstance(error, kind)), FAILURE)
    except Exception as error:
        if debug:
            raise
        if custom := custom_code_error(error):
            print(f"advnets: {custom}; correct it", file=sys.stderr)
            return FAILURE
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


def _prints(error: AdvnetsError) -> bool:
    """Return whether this process prints an error: that of rank 0 does, of a lost one all do."""
    try:
        return launcher.rank() == 0 or isinstance(error, LostProcessError)
    except UsageError:  # the error is that of the rank
        return True


def _with_flags(error: AdvnetsError, arguments: Sequence[str]) -> str:
    """Return the message of an error, with flags in place of config fields."""

    def full() -> str:
        try:
            train = Train.defaults(*starting_point([*arguments]))
        except AdvnetsError:
            return ""
        return full_help(arguments, train)

    return help_pages.with_flags(str(error), arguments, full)


def _print_warning(message: Warning | str, category: type[Warning], *location: Any) -> None:
    """Print a RunWarning in one line, and any other warning as Python does; once for all ranks."""
    if launcher.rank():
        return
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
    if launcher.world_size() > 1:
        # Of a lost connection torch logs a stack trace, and advnets prints a sentence.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        return _run_in_group(arguments)
    return _run_command(arguments)


def _run_in_group(arguments: list[str]) -> int:
    """Run a command in one of the processes that a launcher such as torchrun has started."""
    from advnets.distributed import is_main, process_group, shared_work

    if arguments[0] not in ("train", "evaluate") or "--dry-run" in arguments:
        command = f"{arguments[0]} --dry-run" if "--dry-run" in arguments else arguments[0]
        raise UsageError(
            f"`advnets {command}` runs in one process, and the launcher has started "
            f"{launcher.world_size()}; start it without torchrun"
        )
    with process_group():
        if arguments[0] == "evaluate":
            with shared_work():
                return _run_command(arguments)
        if is_main():
            return _run_command(arguments)
        from advnets.experiment.train import train_worker

        result = train_worker()
        return 128 + result.signal if result.signal is not None else 0


def _run_command(arguments: list[str]) -> int:
    """Parse the arguments and run a command in this process; return the exit status."""
    # The preset gives the defaults of train's options; the options of a sweep end at --.
    rest = arguments.index("--") if arguments[0] == "sweep" and "--" in arguments else None
    start, preset = starting_point(arguments)
    command = parse_command(arguments[:rest], start, preset)
    if isinstance(command, Sweep):
        trained = () if rest is None else tuple(arguments[rest + 1 :])
        return replace(command, train=trained).run(run_guarded, _sweep_config, _check_evaluation)
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
    return command.run(start, argument=preset_argument(arguments))


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
    # A preset before --help gives the defaults; a word after --help is a group.
    help_flags = ("-h", "--help", "--help-all")
    at = next(i for i, argument in enumerate(arguments) if argument in help_flags)
    group = arguments[at + 1] if at + 1 < len(arguments) else ""
    train = arguments[0] == "train"
    start, preset = starting_point(arguments[:at] if train else [])
    words = ["train"] if train else [word for word in arguments if word not in help_flags]
    full = help_pages.capture_stdout(
        lambda: parse_with_tyro([*words, "--help"], Train.defaults(start, preset))
    )
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


def _sweep_config(arguments: list[str]) -> Config:
    """Return the config of a run of a sweep; an error names the flags of its arguments."""
    try:
        return train_config(arguments)
    except AdvnetsError as error:
        raise UsageError(_with_flags(error, arguments)) from None


def _check_evaluation(arguments: list[str], config: Config) -> None:
    """Refuse arguments of `advnets evaluate` that do not fit the runs of a config."""
    command = parse(arguments, Train())
    assert isinstance(command, Evaluate)
    try:
        command.check(config)
    except AdvnetsError as error:
        error.args = (_with_flags(error, arguments),)
        raise
