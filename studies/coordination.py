"""How soon each way to coordinate G and D, and each z, reaches a given quality on MNIST.

    python studies/coordination.py runs/coordination [--seeds 5] [--seconds 300] [--target 20]

The nets and Adam of preset `mlp`, on one thread; one thing differs in each row. Quality is the
Fréchet distance of 5,000 samples to 5,000 test digits in features of the package's classifier of
digits. It is looked at every ten processor seconds of training; what looking takes is not counted.
A run ends where it reaches the target, or with its seconds. Each leaves a line in results.jsonl,
a run that has one for these seconds and this target is not played again, and the table is printed.
In its means a run that did not arrive counts with all its seconds, and ≥ says so.
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
from advnets.extractors.registry import extractor
from advnets.metrics.frechet import frechet_distance
from advnets.paper.studies.likelihoods import format_mean
from advnets.sampling.rejection import DiscriminatorRejection, sample_with_rejection
from advnets.sampling.sampler import ComputeSettings, draw_samples, read_images
from advnets.training import devices
from advnets.training.ema import EMA
from advnets.training.step import TrainState, train_step

TICK, LOOK, COMPARED = 50, 10.0, 5000
"""Rounds between observations of D's lead, seconds between looks, images that are compared."""
HERE = config.Runtime("cpu", "float32", threads=1)


@dataclass(frozen=True)
class Variant:
    """What is trained, and which share of its samples is looked at."""

    stage: config.Stage
    keep: float = 1.0


@dataclass(frozen=True)
class Bounds:
    """Processor seconds of training at most, and the distance that ends it sooner."""

    seconds: float
    target: float


def variants() -> dict[str, Variant]:
    """Each differs from the first in one thing."""
    stage = replace(presets.get_preset("mlp").stage, game=config.GANGame())
    generator, rate = stage.generator, stage.discriminator_optimizer

    def game(**options: Any) -> Variant:
        return Variant(replace(stage, game=config.GANGame(**options)))

    def prior(kind: str) -> Variant:
        return Variant(replace(stage, generator=replace(generator, prior=kind)))

    return {
        "alternating, k = 1, z normal": Variant(stage),
        "k = 2": game(k=2),
        "k = 4 while D leads by less than .5": game(k=4, adaptive_k_threshold=0.5),
        "two time scales: D at four times the rate": Variant(
            replace(stage, discriminator_optimizer=replace(rate, lr=4 * rate.lr))
        ),
        "simultaneous, one pass of D": game(updates="simultaneous"),
        "weight average, half-life 50,000": Variant(replace(stage, ema_half_life=50_000)),
        "z uniform": prior("uniform"),
        "z truncated": prior("truncated-normal"),
        "z mixture": prior("mixture"),
        "z mixture, its probabilities learned too": prior("learned-mixture"),
        "the half that D judges most real": Variant(stage, keep=0.5),
    }


class Looker:
    """Fréchet distances to the test images, whose features are taken once."""

    def __init__(self, data: PreparedData, seen: Extractor) -> None:
        test = data.dataset.test
        assert test is not None
        self.data, self.seen = data, seen
        self.real = seen.features(read_images(test, slice(COMPARED)))

    def distance(self, table: TrainState, generator: torch.nn.Module, variant: Variant) -> float:
        """Of samples as the variant shows them."""
        scaling, drawing = self.data.normalizer, ComputeSettings(torch.device("cpu"))
        if variant.keep == 1:
            drawn = draw_samples(generator, scaling, COMPARED, 0, drawing)
        else:
            d = table.players["discriminator"].eval()
            rejection = DiscriminatorRejection(variant.keep, variant.stage.game, d)
            drawn = sample_with_rejection(generator, scaling, COMPARED, 0, drawing, rejection)
            d.train()
        return frechet_distance(self.real, self.seen.features(drawn))


def played(
    variant: Variant, seed: int, data: config.Data, looker: Looker, bounds: Bounds
) -> dict[str, Any]:
    """Train one until it is good enough or its time is over; say what was seen on the way."""
    run = config.Config("coordination", data, (variant.stage,), runtime=HERE, seed=seed)
    table = setup.make_train_state(run, looker.data, 0, devices.setup_process(HERE))
    shown, average = table.players["generator"], None
    if half_life := variant.stage.ema_half_life:
        average = EMA(shown, half_life, data.batch_size)
        shown = average.module
    spent, curve = 0.0, list[tuple[float, int, float]]()
    while spent < bounds.seconds:
        began = time.process_time()
        while (now := time.process_time() - began) < min(LOOK, bounds.seconds - spent):
            tick(table, average)
        spent += now
        curve.append((spent, table.progress.step, looker.distance(table, shown, variant)))
        if curve[-1][2] <= bounds.target:
            break
    return {
        "reached": curve[-1][2] <= bounds.target,
        "taken": spent,
        "rounds": table.progress.step,
        "updates": dict(table.progress.updates),
        "distance": curve[-1][2],
        "least": min(distance for _, _, distance in curve),
        "curve": curve,
    }


def tick(table: TrainState, average: EMA | None) -> None:
    """Some rounds, and what was observed in them in the mean."""
    sums: dict[str, Tensor] = {}
    for _ in range(TICK):
        seen = train_step(table).metrics
        sums = {name: sums.get(name, 0) + value for name, value in seen.items()}
        if average is not None:
            average.update(table.players["generator"], table.progress.step)
    table.last_metrics = {name: float(value) / TICK for name, value in sums.items()}


def rows(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The table, in Markdown: means over seeds and their standard errors."""
    yield (
        "| | reached | processor seconds | rounds | steps of D to one of G | distance at the end |"
    )
    yield "|---|---|---|---|---|---|"
    for name in dict.fromkeys(record["variant"] for record in found):
        of_it = [record for record in found if record["variant"] == name]
        reached = sum(record["reached"] for record in of_it)
        least = "" if reached == len(of_it) else "≥ "
        moved = [record["updates"] for record in of_it]
        columns = {
            "{:.0f}": [record["taken"] for record in of_it],
            "{:,.0f}": [record["rounds"] for record in of_it],
            "{:.2f}": [some["discriminator"] / some["generator"] for some in moved],
            "{:.1f}": [record["distance"] for record in of_it],
        }
        taken, *cells = (format_mean([*map(float, some)], form) for form, some in columns.items())
        cells = f"{reached} of {len(of_it)}", least + taken, *cells
        yield f"| {name} | {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Play what is missing, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--target", type=float, default=20.0)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--variants", nargs="*", choices=list(variants()))
    asked = parser.parse_args(arguments)
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / "results.jsonl"
    bounds = Bounds(asked.seconds, asked.target)
    data = replace(presets.get_preset("mlp").data, source=asked.data)
    opened = open_data(data)
    seen = extractor(DEFAULT_EXTRACTORS.get(opened.info.name, "pixels"))
    stamps = {"data": opened.info.name, "extractor": seen.name, **vars(bounds)}
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    found = [record for record in map(json.loads, lines) if stamps.items() <= record.items()]
    known = {(record["variant"], record["seed"]) for record in found}
    looker = Looker(opened, seen)
    for seed in range(asked.seeds):
        for name in asked.variants or variants():
            if (name, seed) in known:
                continue
            ended = played(variants()[name], seed, data, looker, bounds)
            record = {"variant": name, "seed": seed, **stamps, **ended}
            found.append(record)
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
    print("\n".join(rows(found)))


if __name__ == "__main__":
    main()
