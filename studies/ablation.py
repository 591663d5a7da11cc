"""Drop each part of the recipe in turn, on the grid and on Stacked MNIST: what breaks.

    python studies/ablation.py runs/ablation results/records grid [--seeds 1]
    python studies/ablation.py runs/ablation results/records stacked

`grid` is the preset modern-grid, but that its penalty falls to 1e-5, as it did when this was
played; `stacked` is modern-stacked made small, of width 16 and
6,000 steps, which is too short for numbers to be good and long enough for parts to differ. Each
part is one or two options of `advnets train`. Runs and records are those of `advnets sweep`:
what has a record is not trained again. The table of all is printed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advnets.cli.main import main as advnets
from advnets.evaluation.spec import format_range, number

RECIPE = "the recipe"
PENALTIES = {
    "without R1": "--game.r1 0 --game.r1-final None",
    "without R2": "--game.r2 0 --game.r2-final None",
    "without either penalty": "--game.r1 0 --game.r2 0 --game.r1-final None --game.r2-final None",
    "penalties that do not fall": "--game.r1-final None --game.r2-final None",
}
SHARED = {
    RECIPE: "",
    "each image judged by itself, not in pairs": "--game.no-relativistic",
    **PENALTIES,
    "G's rate does not fall": "--generator-optimizer.lr-final None",
    "Adam's memory does not grow": (
        "--generator-optimizer.beta2-final None --discriminator-optimizer.beta2-final None"
    ),
    "without the weight average": "--ema-half-life 0 --ema-rampup 0",
    "in turns, not at once": "--game.updates alternating",
}


@dataclass(frozen=True)
class Field:
    """Where parts are dropped."""

    train: str
    """The preset and what makes it small."""
    metric: str
    parts: Mapping[str, str]
    """What each is called, and the options that drop it."""
    columns: Mapping[str, Callable[[Mapping[str, Any]], str]]
    """Of the table, from the record of G's samples."""


FIELDS = {
    "grid": Field(
        "modern-grid --threads 1 --game.r1-final 1e-5 --game.r2-final 1e-5",
        "mixture",
        {
            **SHARED,
            "z normal, not a mixture": "--generator.prior normal",
            "components equally probable": "--generator.prior mixture",
            "without waves": "--discriminator.fourier-features 0",
        },
        {
            "modes": lambda r: f"{r['modes_found']}",
            "within 3 σ": lambda r: f"{r['high_quality']:.1%}",
            "proportions": lambda r: format_range(r["proportions"]),
            "relative std": lambda r: format_range(r["relative_std"]),
        },
    ),
    "stacked": Field(
        "modern-stacked --threads 1 --steps 6000 --generator.base-channels 16 --discriminator.base-channels 16",
        "modes",
        {
            **SHARED,
            "D's rate does not fall": "--discriminator-optimizer.lr-final None",
            "rates as published": (
                "--generator-optimizer.lr 2e-4 --generator-optimizer.lr-final 5e-5 "
                "--discriminator-optimizer.lr 2e-4 --discriminator-optimizer.lr-final 5e-5"
            ),
            "with batch norm": "--generator.batch-norm --discriminator.batch-norm",
        },
        {
            "modes": lambda r: f"{r['modes_found']:,}",
            "KL to even shares": lambda r: f"{r['kl_uniform']:.2f}",
            "to real ones": lambda r: number(r["kl_reference"], ".2f", "infinite"),
        },
    ),
}


def name_of(field: str, part: str) -> str:
    """Of a part's runs and records."""
    words = "".join(letter if letter.isalnum() else " " for letter in part.lower()).split()
    return "-".join(("ablation", field, *words))


def play(out: Path, records: Path, field: str, count: int) -> None:
    """Train, score and record what is missing."""
    told = FIELDS[field]
    for part, options in told.parts.items():
        sweep = ["sweep", "--out", str(out), "--records", str(records), "--seeds", str(count)]
        sweep += ["--name", name_of(field, part), "--metrics", told.metric]
        if status := advnets([*sweep, "--", *told.train.split(), *options.split()]):
            raise SystemExit(status)


def rows(records: Path, field: str, count: int) -> Iterator[str]:
    """The table, in Markdown: a line for each part, seed by seed what each column tells of it."""
    told = FIELDS[field]
    yield f"| | seeds | {' | '.join(told.columns)} | processor s |"
    yield f"|---|---|{'---|' * (len(told.columns) + 1)}"
    for part in told.parts:
        played = [
            json.loads((records / f"{name_of(field, part)}-{seed}.json").read_text("utf-8"))
            for seed in range(count)
        ]
        found = [
            [score for score in record["scores"] if score["samples"] == "generator"][-1]
            for record in played
        ]
        cells = [", ".join(map(column, found)) for column in told.columns.values()]
        seconds = ", ".join(f"{record['processor_seconds']:,.0f}" for record in played)
        seeds_of = ", ".join(map(str, range(count)))
        yield f"| {part} | {seeds_of} | {' | '.join(cells)} | {seconds} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Play what is missing, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("field", choices=FIELDS)
    parser.add_argument("--seeds", type=int, default=1)
    asked = parser.parse_args(arguments)
    play(asked.out, asked.records, asked.field, asked.seeds)
    print("\n".join(rows(asked.records, asked.field, asked.seeds)))


if __name__ == "__main__":
    main()
