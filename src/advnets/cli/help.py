"""Help pages and messages about invalid arguments, made from tyro's output.

tyro writes the full help of a command from its dataclass. This module shortens that of `train`,
prints one group of its options, adds examples, and turns tyro's error boxes into one sentence.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import takewhile
from typing import Any, get_type_hints

from advnets.cli.commands import COMMANDS
from advnets.config import Data, Intervals, Runtime, Stage
from advnets.errors import SYNONYMS, UnknownNameError, UsageError, suggestion
from advnets.files import shell_quote

MAIN_OPTIONS = (
    *("--data", "--out", "--steps", "--epochs", "--batch-size", "--lr", "--seed", "--size"),
    *("--device", "--resume", "--dry-run", "--eval-every"),
)
"""The options of `train` that its short help explains."""

GROUPS: dict[str, tuple[type | None, str]] = {
    "data": (Data, "dataset, image size, normalization and batch size"),
    "training": (Stage, "length, EMA of the generator, schedules"),
    "runtime": (Runtime, "device, precision, threads, compilation"),
    "intervals": (Intervals, "logging, samples, checkpoints and evaluation"),
    "generator": (None, "architecture of the generator"),
    "discriminator": (None, "architecture of the discriminator"),
    "game": (None, "objective, updates, penalties, augmentation"),
    "generator-optimizer": (None, "optimizer of G and its learning rate"),
    "discriminator-optimizer": (None, "optimizer of D and its learning rate"),
}
"""The groups of options of `train`: the config class of those without a prefix, a description."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "train": (
        "advnets train digits                          minutes on a CPU, offline",
        "advnets train modern --data photos --size 64  your own images",
        "advnets train --resume --out runs/digits      continue a stopped training",
    ),
    "sample": (
        "advnets sample runs/digits --out samples.png",
        "advnets sample runs/digits --out samples.npz --num-samples 10000 --seed 1",
        "advnets sample runs/dcgan-mnist-conditional --out sevens.png --class 7",
    ),
    "evaluate": (
        "advnets evaluate runs/digits",
        "advnets evaluate runs/mlp --metrics fid,kid,prdc --num-samples 10000",
        "advnets evaluate runs/dcgan-cifar --metrics fid --extractor inception",
    ),
    "compare": (
        "advnets compare runs/mlp runs/modern-mnist",
        "advnets compare runs/mlp-0 runs/mlp-1 runs/modern-mnist-0 runs/modern-mnist-1",
        "advnets compare 'results/records/modern-ring-?.json' --out table.tex",
        "advnets compare 'runs/digits-*' --curves curves.png",
    ),
    "visualize": (
        "advnets visualize runs/mlp samples",
        "advnets visualize runs/mlp neighbors",
        "advnets visualize runs/mlp timelapse --help",
    ),
    "presets": ("advnets presets",),
    "data": (
        "advnets data list",
        "advnets data fetch mnist",
        "advnets data audit photos",
        "advnets data audit photos --near-duplicates --json",
        "advnets data pack photos packed --size 64",
    ),
    "sweep": (
        "advnets sweep digits --seeds 5",
        "advnets sweep digits --seeds 0-4 --grid lr=0.05,0.1 --jobs 2",
        "advnets sweep modern-mnist --seeds 5-9 --metrics frechet -- --steps 20000",
    ),
    "bench": (
        "advnets bench",
        "advnets bench mlp parzen --rounds 3",
    ),
    "paper": (
        "advnets paper",
        "advnets paper --sections list",
        "advnets paper --full --sections table1,figure2",
    ),
}
"""Examples of each command, as its help prints them."""


def overview(version: str) -> str:
    """Return the help of `advnets` itself: every command with the first sentence of its help."""
    width = max(map(len, COMMANDS))
    lines = [
        "usage: advnets COMMAND [options]",
        "",
        f"Generative adversarial networks (GANs) in PyTorch, version {version}.",
        "",
        "commands:",
        *(
            _hanging_indent(f"  {name:{width}}  ", _first_sentence(command.__doc__ or ""))
            for name, command in COMMANDS.items()
        ),
        "",
        "options:",
        f"  {'--help':{width}}  Print this page, or with a command the help of that command.",
        f"  {'--version':{width}}  Print the version.",
        f"  {'--debug':{width}}  Print a traceback if the command fails.",
        "",
        *_examples(["train"]),
    ]
    return "\n".join(lines)


def short_help(full: str, preset: str) -> str:
    """Return the help of `train` on one page, from the full one."""
    boxes = _parse_boxes(full)
    entries = {entry.flag: entry for box in boxes.values() for entry in _parse_entries(box)}
    lines = [
        *_usage(["train"], boxes),
        "",
        _hanging_indent("", _first_sentence(COMMANDS["train"].__doc__ or "")),
        "",
        *_examples(["train"]),
        "",
        f"main options (defaults of the preset {preset}):",
        *(entries[flag].brief() for flag in MAIN_OPTIONS),
        "",
        "more options (--help GROUP prints a group, --help-all all groups):",
        *(f"  {name:<24} {about}" for name, (_, about) in GROUPS.items()),
    ]
    return "\n".join(lines)


def group_help(full: str, group: str) -> str:
    """Return the part of the full help of `train` that describes one group of options.

    Raises:
        UnknownNameError: there is no group of this name.
    """
    if group not in GROUPS:
        raise UnknownNameError("group of options", group, GROUPS)
    owner, about = GROUPS[group]
    boxes = _parse_boxes(full)
    if owner is not None:
        flags = _flags(owner)
        entries = [entry for entry in _parse_entries(boxes["options"]) if entry.flag in flags]
    else:
        entries = [
            entry
            for title, box in boxes.items()
            if title.removesuffix(" options").partition(".")[0] == group
            for entry in _parse_entries(box)
        ]
    texts = [entry.full() for entry in entries]
    return "\n".join([f"{group}: {about}", "", *(texts or ["  (none for this preset)"])])


def full_help(full: str, words: Sequence[str]) -> str:
    """Return the whole help of a command without tyro's boxes, and its examples.

    `words` are those of the command line, such as data and audit.
    """
    _, _, description = full.partition("╭")[0].strip().partition("\n\n")
    boxes = _parse_boxes(full.replace("show this help message and exit", "Print this help."))
    lines = [*_usage(words, boxes), ""]
    for paragraph in filter(None, description.split("\n\n")):
        lines += [_hanging_indent("", " ".join(paragraph.split())), ""]
    for title, box in boxes.items():
        lines += [f"{title}:", *(entry.full() for entry in _parse_entries(box)), ""]
    return "\n".join([*lines, *_examples(words)])


def _usage(words: Sequence[str], boxes: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the usage line of a command: its arguments in their order, then its options."""
    arguments = [entry.head for entry in _parse_entries(boxes.get("positional arguments", ()))]
    if words[0] == "visualize":  # whose run comes before the view
        arguments = ["RUN", words[2], *arguments] if len(words) > 2 else ["RUN", "VIEW"]
    elif "subcommands" in boxes:
        arguments = ["COMMAND"]
    if len(_parse_entries(boxes["options"])) > 1:  # more than --help
        arguments.append("[options]")
    command = words[:1] if words[0] == "visualize" else words
    line = " ".join(["usage: advnets", *command, *arguments])
    return textwrap.wrap(line, _width(), subsequent_indent="    ", break_on_hyphens=False)


def _examples(words: Sequence[str]) -> list[str]:
    """Return the examples of a command, those of its subcommand or view where it is named."""
    if words[0] == "visualize" and len(words) > 2:
        from advnets.visualize import view_classes  # heavy: imports torch

        command = f"advnets visualize runs/mlp {words[2]}"
        examples = [
            f"{command} {options}".rstrip() for options in view_classes()[words[2]].examples
        ]
    else:
        command = " ".join(["advnets", *words])
        examples = [example for example in EXAMPLES[words[0]] if example.startswith(command)]
    return ["examples:", *(f"  {example}" for example in examples)]


class _HelpStream(io.StringIO):
    """A stream for which tyro draws boxes of the same characters everywhere."""

    encoding = "utf-8"


def capture_stdout(parse: Callable[[], object]) -> str:
    """Return the text that a parser prints to stdout before it exits."""
    out = _HelpStream()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        parse()
    return out.getvalue()


def usage_error(box: str, arguments: Sequence[str], full: Callable[[], str]) -> UsageError | None:
    """Return the one-sentence error that replaces an error box of tyro.

    It is None for an unknown kind of box. `full` returns the help of the command, from which the
    known options are read.
    """
    text = " ".join(" ".join(_strip_boxes(box)).split())
    command = " ".join(map(shell_quote, leading_words(arguments)))

    # An unknown option.
    all_options = f"`advnets {command} --help{'-all' if command == 'train' else ''}`"
    known = [*_FLAG.findall(full()), "--help", "--debug"]
    known += ["--help-all"] if command == "train" else []
    for argument in arguments:
        flag = argument.partition("=")[0].replace("_", "-")
        if argument.startswith("--") and flag not in known:
            if (command, flag) == ("train", "--preset"):
                return UsageError(
                    "advnets train has no option --preset; give the preset first, as in "
                    "advnets train dcgan"
                )
            if command == "sweep" and (flag in MAIN_OPTIONS or "." in flag):
                return UsageError(
                    f"{flag} is an option of `advnets train`; give those of all runs after --, as "
                    f"in advnets sweep digits -- {flag} VALUE"
                )
            return UsageError(
                f"advnets {command} has no option {argument.partition('=')[0]}"
                f"; {_flag_suggestion(flag, known) or f'{all_options} lists the options'}"
            )

    # An unknown subcommand.
    subcommands = r"Available subcommands: ([\w, -]*?\w)(?: [-─]{2}|$)"  # a rule of the box
    if match := re.search(rf"Unrecognized options: (\S+?),?\s.*{subcommands}", text):
        choices = [name.strip() for name in match[2].split(",")]
        kind = "view" if arguments[0] == "visualize" else f"subcommand of advnets {arguments[0]}"
        return UnknownNameError(kind, match[1], choices)
    if match := re.search(r"Expected one of \{(.*?)\}", text):
        kind = "view" if arguments[0] == "visualize" else "subcommand"
        names = ", ".join(name.strip() for name in match[1].split(","))
        return UsageError(f"advnets {arguments[0]} needs a {kind}; give one of {names}")

    # A missing or wrong value.
    if match := re.search(
        r"invalid choice '(.*?)' for argument '(.*?)'\. Expected one of \((.*?)\)", text
    ):
        choices = re.findall(r"'(.*?)'", match[3])
        message = f"{match[2]} is {match[1]!r}; it must be one of {', '.join(choices)}"
        hint = suggestion(match[1], choices)
        return UsageError(f"{message}; {hint}" if hint else message)
    if match := re.search(r"Missing value for argument '(.*?)'", text):
        return UsageError(f"{match[1]} has no value; give one after it")
    if match := re.search(r"Error parsing (\S+): .*?'(.*?)'.*Argument helptext: \1 (\S+)", text):
        kinds = {"INT": "an integer", "FLOAT": "a number"}
        forms = match[3].removeprefix("{None}|").split("|")
        expected = " or ".join(kinds.get(form, form.strip("{}")) for form in forms)
        return UsageError(f"{match[1]} is {match[2]!r}; it must be {expected}")
    if match := re.search(r"Missing from advnets [\w -]+: ((?:--\S+ )?\S+)", text):
        return UsageError(f"{match[1]} is missing; see `advnets {command} --help`")
    if match := re.search(r"Unrecognized options: (\S+?),?(?: |$)", text):
        if re.match(r"--?\w", match[1]):
            return UsageError(
                f"advnets {command} has no option {match[1]}; {all_options} lists them"
            )
        return UsageError(
            f"advnets {command} takes no further argument, got {match[1]!r}; put an argument with "
            f"blanks in quotes, or see `advnets {command} --help`"
        )
    return None


def _flag_suggestion(flag: str, known: Sequence[str]) -> str:
    """Return a question that names the nearest known options, of any group."""
    name = flag.removeprefix("--")
    same = {SYNONYMS.get(name, name), name}
    nearest = [option for option in known if option.removeprefix("--") in same]
    nearest = nearest or [option for option in known if _field_name(option) in same]
    nearest = nearest or [option for option in known if option.startswith(f"{flag}-")]
    if not nearest:
        names = {option.removeprefix("--"): option for option in known}
        nearest = [names[near] for near in difflib.get_close_matches(name, names, 1, cutoff=0.6)]
    return f"did you mean {' or '.join(dict.fromkeys(nearest))}?" if nearest else ""


def with_flags(message: str, arguments: Sequence[str], full: Callable[[], str]) -> str:
    """Return a message about config fields, such as batch_size, with flags in their place.

    `full` returns the help of the command, from which the flags that were not given are read. The
    options of a dataset, as in ring:modes=8, keep their names.
    """
    given = [a.partition("=")[0].replace("_", "-") for a in arguments if a.startswith("--")]
    fields = {match[0] for match in _CONFIG_FIELD.finditer(message)}
    fields -= {option[0] for option in re.finditer(r"(?<=[:,])\w+(?==)", " ".join(arguments))}
    names = {field: field.replace("_", "-") for field in fields}
    if not names:
        return message

    # Prefer flags that were given, then those of the same groups: hidden sizes have two flags.
    groups = {flag.rpartition(".")[0] for flag in given if _field_name(flag) in names.values()}
    known = _FLAG.findall(full())
    same_groups = [flag for flag in known if flag.rpartition(".")[0] in groups]

    def flags(match: re.Match[str]) -> str:
        for candidates in given, same_groups, known:
            if found := [flag for flag in candidates if _field_name(flag) == names.get(match[0])]:
                return " or ".join(dict.fromkeys(found))
        return match[0]

    return _CONFIG_FIELD.sub(flags, message)


_FLAG = re.compile(r"(?<![\w-])--[a-z](?:[\w.-]*\w)?")
_CONFIG_FIELD = re.compile(
    r"(?<![\w./'-])(?:[a-z]\w*_\w+(?![\w./'-])|(?:(?<=^)|(?<=and )|(?<=or ))[a-z]\w*"
    r"(?= (?:is|are|has|and|or|does|needs) )"
    r"|(?:(?<=set )|(?<=leave )|(?<=turn )|(?<=and )|(?<=or ))[a-z]\w*(?= (?:to|out|off|and)\b))"
)
"""A config field in a message: a name with an underscore, or a word that "is", or "set … to"."""


def _field_name(flag: str) -> str:
    return flag.removeprefix("--").rpartition(".")[2]


def leading_words(arguments: Sequence[str]) -> list[str]:
    """Return the words of a command line, up to the first option, that select its help page."""
    limit = {"data": 2, "visualize": 3}.get(arguments[0], 1)
    return list(takewhile(lambda word: not word.startswith("-"), arguments[:limit]))


def _flags(config_class: type[Any]) -> set[str]:
    """Return the options that stand for the fields of a config class without a prefix."""
    hints = get_type_hints(config_class, include_extras=True)
    names: set[str] = set()
    for field in fields(config_class):
        renamed = [n for m in getattr(hints[field.name], "__metadata__", ()) if (n := _name(m))]
        names.add("--" + (renamed or [field.name.replace("_", "-")])[0])
    return names


def _name(annotation: object) -> str | None:
    return getattr(annotation, "name", None)


def _strip_boxes(text: str) -> list[str]:
    return [re.sub(r"^[│╭╰]\s?|\s*[│╮╯]$", "", line) for line in text.splitlines()]


def _parse_boxes(text: str) -> dict[str, list[str]]:
    """Return the lines in each box of tyro's help by the box's title."""
    boxes: dict[str, list[str]] = {}
    title = ""
    for line in text.splitlines():
        if line.startswith("╭─ "):
            title = line.removeprefix("╭─ ").partition(" ─")[0]
            boxes[title] = []
        elif line.startswith("│ ───"):
            boxes[title] = []  # what came before describes the group
        elif line.startswith("│"):
            boxes[title].append(line.strip("│").removeprefix(" ").rstrip())
    return boxes


@dataclass
class _Entry:
    """An option, argument or subcommand with the paragraphs of its help."""

    head: str
    paragraphs: list[str]

    @property
    def flag(self) -> str:
        flags = re.findall(r"--[\w.-]+", self.head)
        return flags[0] if flags else self.head.split()[-1]

    @property
    def text(self) -> str:
        """The help without its default."""
        return "\n".join(p.strip() for p in self.paragraphs if p.strip()).partition(" (default:")[0]

    @property
    def default(self) -> str:
        """The default; empty where the help describes it, and for a switch that is off."""
        match = re.search(r"\(default: *(.*)\)$", self.paragraphs[-1])
        default = "none" if match and match[1] in ("", "None", "''") else match[1] if match else ""
        is_described = re.search(r"\b[Nn]one: ", self.text)
        is_argument, is_switch = not self.head.startswith("-"), " " not in self.head
        off = is_switch and default == "False"
        if off or (default == "none" and (is_described or is_argument)):
            return ""
        return default

    def full(self) -> str:
        """Return the whole help."""
        # Write a list of values as INT ..., not as [INT [INT ...]].
        head = re.sub(r"\[(\{[^}]*\}|\w+) \[(?:\w+ )?\.\.\.\]\]", r"\1 ...", self.head)
        if "{" in head:  # a long list of values is broken after commas alone
            breakable = head.replace(" ", "\0").replace(",", ", ")
            wrapped = _hanging_indent("  ", breakable).replace("\n  ", "\n      ")
            head = wrapped.strip().replace(", ", ",").replace("\0", " ")
        text = f"{self.text} (default: {self.default})" if self.default else self.text
        return "\n".join(
            [f"  {head}", *(_hanging_indent(" " * 8, line) for line in text.split("\n"))]
        )

    def brief(self) -> str:
        """Return the first sentence of the help, and the default."""
        sentence = _first_sentence(self.text)
        if self.default not in ("", "none"):
            sentence += f" Default: {self.default}."
        head = self.head.partition(", --no-")[0].replace("{None}|", "")
        return _hanging_indent(f"  {head:<19} ", sentence)


def _parse_entries(lines: Sequence[str]) -> list[_Entry]:
    """Return the entries of a box: each head starts a line, its help is indented or follows it."""
    entries: list[_Entry] = []
    for line in lines:
        text, head = line.strip(), entries[-1].head if entries else ""
        if head.count("{") > head.count("}"):
            entries[-1].head += text  # a long list of values
        elif head.count("[") > head.count("]"):
            entries[-1].head += f" {text}"
        elif match := re.fullmatch(r"(?:  • )?([^\s(].*?)(?:  +(.*))?", line):
            entries.append(_Entry(match[1], [match[2] or ""]))
        elif entries and text:
            entries[-1].paragraphs[-1] += f" {text}"
        elif entries:
            entries[-1].paragraphs.append("")
    return entries


def _first_sentence(text: str) -> str:
    text = " ".join(text.split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`(-])", text)[0]


def _hanging_indent(head: str, text: str) -> str:
    """Return a head followed by text that is wrapped with a hanging indent."""
    return textwrap.fill(
        text,
        _width(),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_on_hyphens=False,
    )


def _width() -> int:
    """Return the width of help: that of the terminal, at most 100 columns."""
    return max(40, min(100, shutil.get_terminal_size().columns) - 1)
