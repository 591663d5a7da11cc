"""Time to a target Fréchet distance on MNIST, for several update schemes and priors of z.

    python studies/coordination.py runs/coordination [--seeds 5] [--seconds 300] [--target 20]

The networks and Adam of preset `mlp`, on one thread; one thing differs in each row. The Fréchet
distance is between 5,000 samples and 5,000 test digits, in features of the package's classifier of
digits. It is evaluated every ten CPU seconds of training; evaluation is not counted. A run ends
when it reaches the target or the time limit. Each run appends a line to results.jsonl; a run that
has a line for this time limit and target is not repeated, and the table is printed. In its means a
run that did not reach the target counts with its time limit, which is marked by ≥.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advnets import config, presets
from advnets.data.prepared import PreparedData, open_data
from advnets.evaluation.registry import DEFAULT_EXTRACTORS
from advnets.experiment import setup
from advnets.extractors.base import Extractor
from advnets.extractors.registry import load_extractor
from advnets.metrics.frechet import frechet_distance
from advnets.paper.studies.likelihoods import format_mean
from advnets.sampling.rejection import DiscriminatorRejection, sample_with_rejection
from advnets.sampling.sampler import ComputeSettings, draw_samples, read_images
from advnets.training import devices
from advnets.training.ema import EMA
from advnets.training.step import TrainState, train_step

LOG_EVERY, EVAL_SECONDS, NUM_SAMPLES = 50, 10.0, 5000
"""Iterations between averages of the metrics, CPU seconds between evaluations, number of
compared images."""
RUNTIME = config.Runtime("cpu", "float32", threads=1)


@dataclass(frozen=True)
class Variant:
    """A stage, and the fraction of its samples that is kept."""

    stage: config.Stage
    keep_fraction: float = 1.0


@dataclass(frozen=True)
class Limits:
    """Maximum CPU seconds of training, and the target distance that ends it earlier."""

    seconds: float
    target: float


def variants() -> dict[str, Variant]:
    """Return the variants by name; each differs from the first in one thing."""
    stage = replace(presets.get_preset("mlp").stage, game=config.GANGame())
    generator, rate = stage.generator, stage.discriminator_optimizer

    def game(**options: Any) -> Variant:
        return Variant(replace(stage, game=config.GANGame(**options)))

    def prior(kind: str) -> Variant:
        return Variant(replace(stage, generator=replace(generator, prior=kind)))

    return {
        "alternating, k = 1, z normal": Variant(stage),
        "k = 2": game(k=2),
        "k = 4 while D leads by less than 0.5": game(k=4, adaptive_k_threshold=0.5),
        "two time scales: D at four times the rate": Variant(
            replace(stage, discriminator_optimizer=replace(rate, lr=4 * rate.lr))
        ),
        "simultaneous, one pass of D": game(updates="simultaneous"),
        "EMA, half-life 50,000": Variant(replace(stage, ema_half_life=50_000)),
        "z uniform": prior("uniform"),
        "z truncated": prior("truncated-normal"),
        "z mixture": prior("mixture"),
        "z mixture, with learned probabilities": prior("learned-mixture"),
        "the half that D rates highest": Variant(stage, keep_fraction=0.5),
    }


class FrechetEvaluator:
    """Fréchet distances to the test images, whose features are computed once."""

    def __init__(self, data: PreparedData, seen: Extractor) -> None:
        test = data.dataset.test
        assert test is not None
        self.data, self.seen = data, seen
        self.real = seen.features(read_images(test, slice(NUM_SAMPLES)))

    def distance(self, table: TrainState, generator: torch.nn.Module, variant: Variant) -> float:
        """Return the distance of samples drawn as the variant specifies."""
        scaling, drawing = self.data.normalizer, ComputeSettings(torch.device("cpu"))
        if variant.keep_fraction == 1:
            drawn = draw_samples(generator, scaling, NUM_SAMPLES, 0, drawing)
        else:
            d = table.players["discriminator"].eval()
            rejection = DiscriminatorRejection(variant.keep_fraction, variant.stage.game, d)
            drawn = sample_with_rejection(generator, scaling, NUM_SAMPLES, 0, drawing, rejection)
            d.train()
        return frechet_distance(self.real, self.seen.features(drawn))


def train_variant(
    variant: Variant, seed: int, data: config.Data, evaluator: FrechetEvaluator, limits: Limits
) -> dict[str, Any]:
    """Train until the target or the time limit is reached, and return the results."""
    run = config.Config("coordination", data, (variant.stage,), runtime=RUNTIME, seed=seed)
    state = setup.make_train_state(run, evaluator.data, 0, devices.setup_process(RUNTIME))
    generator, ema = state.players["generator"], None
    if half_life := variant.stage.ema_half_life:
        ema = EMA(generator, half_life, run.batch_size)
        generator = ema.module
    spent, curve = 0.0, list[tuple[float, int, float]]()
    while spent < limits.seconds:
        began = time.process_time()
        while (now := time.process_time() - began) < min(EVAL_SECONDS, limits.seconds - spent):
            train_interval(state, ema)
        spent += now
        curve.append((spent, state.progress.step, evaluator.distance(state, generator, variant)))
        if curve[-1][2] <= limits.target:
            break
    return {
        "reached": curve[-1][2] <= limits.target,
        "taken": spent,
        "rounds": state.progress.step,
        "updates": dict(state.progress.updates),
        "distance": curve[-1][2],
        "least": min(distance for _, _, distance in curve),
        "curve": curve,
    }


def train_interval(state: TrainState, ema: EMA | None) -> None:
    """Run some iterations and store the means of their metrics."""
    sums: dict[str, Tensor] = {}
    for _ in range(LOG_EVERY):
        metrics = train_step(state).metrics
        sums = {name: sums.get(name, 0) + value for name, value in metrics.items()}
        if ema is not None:
            ema.update(state.players["generator"], state.progress.step)
    state.last_metrics = {name: float(value) / LOG_EVERY for name, value in sums.items()}


def table_rows(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the rows of a Markdown table: means over seeds and their standard errors."""
    yield (
        "| | reached | CPU seconds | iterations | updates of D per update of G | final distance |"
    )
    yield "|---|---|---|---|---|---|"
    for name in dict.fromkeys(record["variant"] for record in records):
        runs = [record for record in records if record["variant"] == name]
        reached = sum(record["reached"] for record in runs)
        bound = "" if reached == len(runs) else "≥ "
        updates = [record["updates"] for record in runs]
        columns = {
            "{:.0f}": [record["taken"] for record in runs],
            "{:,.0f}": [record["rounds"] for record in runs],
            "{:.2f}": [some["discriminator"] / some["generator"] for some in updates],
            "{:.1f}": [record["distance"] for record in runs],
        }
        taken, *cells = (format_mean([*map(float, some)], form) for form, some in columns.items())
        cells = f"{reached} of {len(runs)}", bound + taken, *cells
        yield f"| {name} | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the missing trainings and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--target", type=float, default=20.0)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--variants", nargs="*", choices=list(variants()))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "results.jsonl"
    limits = Limits(options.seconds, options.target)
    data = replace(presets.get_preset("mlp").data, source=options.data)
    prepared = open_data(data)
    feature_extractor = load_extractor(DEFAULT_EXTRACTORS.get(prepared.info.name, "pixels"))
    settings = {"data": prepared.info.name, "extractor": feature_extractor.name, **vars(limits)}
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    records = [record for record in map(json.loads, lines) if settings.items() <= record.items()]
    finished = {(record["variant"], record["seed"]) for record in records}
    evaluator = FrechetEvaluator(prepared, feature_extractor)
    for seed in range(options.seeds):
        for name in options.variants or variants():
            if (name, seed) in finished:
                continue
            result = train_variant(variants()[name], seed, data, evaluator, limits)
            record = {"variant": name, "seed": seed, **settings, **result}
            records.append(record)
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
    print("\n".join(table_rows(records)))


if __name__ == "__main__":
    main()
