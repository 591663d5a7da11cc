"""Remove each component of the modern recipe in turn, on a grid and on Stacked MNIST.

    python studies/ablation.py runs/ablation results/records grid [--seeds 1]
    python studies/ablation.py runs/ablation results/records stacked

`grid` is the preset modern-grid, with penalties that decay to 1e-5, as when this study was run;
`stacked` is modern-stacked with base width 16 and 6,000 steps, which is too short for good scores
but long enough for differences between components. Each ablation is one or two options of
`advnets train`. Runs and records are those of `advnets sweep`: a finished record is not computed
again. The table of all ablations is printed.
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

FULL_RECIPE = "full recipe"
PENALTY_ABLATIONS = {
    "without R1": "--game.r1 0 --game.r1-final None",
    "without R2": "--game.r2 0 --game.r2-final None",
    "without either penalty": "--game.r1 0 --game.r2 0 --game.r1-final None --game.r2-final None",
    "constant penalties": "--game.r1-final None --game.r2-final None",
}
SHARED_ABLATIONS = {
    FULL_RECIPE: "",
    "not relativistic": "--game.no-relativistic",
    **PENALTY_ABLATIONS,
    "constant learning rate of G": "--generator-optimizer.lr-final None",
    "constant Adam beta2": (
        "--generator-optimizer.beta2-final None --discriminator-optimizer.beta2-final None"
    ),
    "without EMA": "--ema-half-life 0 --ema-rampup 0",
    "alternating updates": "--game.updates alternating",
}


@dataclass(frozen=True)
class Experiment:
    """A training command, its metric, and the ablations to compare."""

    command: str
    """Arguments of `advnets train`: the preset and options that reduce its size."""
    metric: str
    ablations: Mapping[str, str]
    """Name of each ablation, and the options that remove the component."""
    columns: Mapping[str, Callable[[Mapping[str, Any]], str]]
    """Table columns: header, and a function of the record of G's samples."""


EXPERIMENTS = {
    "grid": Experiment(
        "modern-grid --threads 1 --game.r1-final 1e-5 --game.r2-final 1e-5",
        "mixture",
        {
            **SHARED_ABLATIONS,
            "normal z instead of a mixture": "--generator.prior normal",
            "fixed mixture probabilities": "--generator.prior mixture",
            "without Fourier features": "--discriminator.fourier-features 0",
        },
        {
            "modes": lambda r: f"{r['modes_found']}",
            "within 3 σ": lambda r: f"{r['high_quality']:.1%}",
            "proportions": lambda r: format_range(r["proportions"]),
            "relative std": lambda r: format_range(r["relative_std"]),
        },
    ),
    "stacked": Experiment(
        "modern-stacked --threads 1 --steps 6000 --generator.base-channels 16 "
        "--discriminator.base-channels 16",
        "modes",
        {
            **SHARED_ABLATIONS,
            "constant learning rate of D": "--discriminator-optimizer.lr-final None",
            "published learning rates": (
                "--generator-optimizer.lr 2e-4 --generator-optimizer.lr-final 5e-5 "
                "--discriminator-optimizer.lr 2e-4 --discriminator-optimizer.lr-final 5e-5"
            ),
            "with batch norm": "--generator.batch-norm --discriminator.batch-norm",
        },
        {
            "modes": lambda r: f"{r['modes_found']:,}",
            "KL to uniform": lambda r: f"{r['kl_uniform']:.2f}",
            "KL to real": lambda r: number(r["kl_reference"], ".2f", "infinite"),
        },
    ),
}


def run_name(experiment: str, ablation: str) -> str:
    """Return the name of an ablation's runs and records."""
    words = "".join(letter if letter.isalnum() else " " for letter in ablation.lower()).split()
    return "-".join(("ablation", experiment, *words))


def run_ablations(out: Path, records: Path, experiment: str, num_seeds: int) -> None:
    """Train, evaluate and record the missing runs."""
    spec = EXPERIMENTS[experiment]
    preset, *shared = spec.command.split()
    for name, options in spec.ablations.items():
        sweep = ["sweep", preset, "--out", str(out), "--records", str(records)]
        sweep += ["--seeds", str(num_seeds), "--metrics", spec.metric]
        sweep += ["--name", run_name(experiment, name)]
        if status := advnets([*sweep, "--", *shared, *options.split()]):
            raise SystemExit(status)


def table_rows(records: Path, experiment: str, num_seeds: int) -> Iterator[str]:
    """Yield the rows of a Markdown table: one per ablation, with the values of all seeds."""
    spec = EXPERIMENTS[experiment]
    yield f"| | seeds | {' | '.join(spec.columns)} | CPU s |"
    yield f"|---|---|{'---|' * (len(spec.columns) + 1)}"
    for name in spec.ablations:
        results = [
            json.loads((records / f"{run_name(experiment, name)}-{seed}.json").read_text("utf-8"))
            for seed in range(num_seeds)
        ]
        scores = [
            [score for score in record["scores"] if score["samples"] == "generator"][-1]
            for record in results
        ]
        cells = [", ".join(map(column, scores)) for column in spec.columns.values()]
        seconds = ", ".join(f"{record['cpu_seconds']:,.0f}" for record in results)
        seeds_of = ", ".join(map(str, range(num_seeds)))
        yield f"| {name} | {seeds_of} | {' | '.join(cells)} | {seconds} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the missing trainings and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args(arguments)
    run_ablations(options.out, options.records, options.experiment, options.seeds)
    print("\n".join(table_rows(options.records, options.experiment, options.seeds)))


if __name__ == "__main__":
    main()
