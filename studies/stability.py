"""Mode collapse of a small DCGAN with the five rules of its paper, without each, and without all.

    python studies/stability.py runs/stability [--seeds 10]

On MNIST, base width 16, 1,500 iterations with batch size 64, and the paper's Adam. The criterion
was fixed before the first run: a run has collapsed if it met non-finite numbers three times, or if
its final precision or recall (k = 5, 2,000 samples and 2,000 test digits, features of the package's
classifier of digits) is below 0.25; two sets of real digits have about 0.95. Each run appends a
line to results.jsonl, a finished run is not repeated, and the table of all runs is printed. A
second table widens the initial weights of networks without batch norm: it shows where the logarithm
of a sigmoid gives NaN, where the losses of this package do, and how a training of 100 iterations
ends.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advnets import config, presets
from advnets.cli.console import Console
from advnets.data.prepared import open_data
from advnets.errors import DivergedError
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.extractors.builtin import load_classifier
from advnets.losses import minimax_generator_loss
from advnets.metrics.prdc import prdc
from advnets.models import dcgan
from advnets.rng import RNG
from advnets.sampling.sampler import read_images

NUM_STEPS, BATCH, WIDTH, NUM_SAMPLES, COLLAPSE_THRESHOLD = 1500, 64, 16, 2000, 0.25
INIT_STDS = (0.02, 0.2, 1.0, 5.0, 1e4)
WITHOUT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "1 strides": ({"resampling": "pooling"}, {"resampling": "pooling"}),
    "2 batch norm": ({"batch_norm": False}, {"batch_norm": False}),
    "3 no hidden fully connected layer": ({"dense": (256,)}, {"dense": (256,)}),
    "4 rectifiers and tanh in G": ({"activation": "tanh", "output": "linear"}, {}),
    "5 leaky rectifiers in D": ({}, {"activation": "relu"}),
}
"""Options that break each rule, in G and in D."""


def variants() -> dict[str, config.Stage]:
    """Return the compared stages by name."""
    preset = presets.get_preset("dcgan-mnist").stage
    stage = replace(
        preset,
        generator=config.DCGANGenerator(base_channels=WIDTH),
        discriminator=config.DCGANDiscriminator(base_channels=WIDTH),
        steps=NUM_STEPS,
        ema_half_life=0,
    )
    found = {"all five rules": stage}
    broken = stage
    for rule, (in_g, in_d) in WITHOUT.items():
        found[f"without rule {rule}"] = _change_networks(stage, in_g, in_d)
        broken = _change_networks(broken, in_g, in_d)
    return {**found, "without all": broken}


def _change_networks(
    stage: config.Stage, in_g: dict[str, Any], in_d: dict[str, Any]
) -> config.Stage:
    return replace(
        stage,
        generator=replace(stage.generator, **in_g),
        discriminator=replace(stage.discriminator, **in_d),
    )


def train_and_score(stage: config.Stage, seed: int, out: Path) -> dict[str, Any]:
    """Train one run and return whether it collapsed, with its scores."""
    run = replace(presets.get_preset("dcgan-mnist").with_stage(stage), seed=seed)
    run = replace(
        run,
        data=replace(run.data, batch_size=BATCH),
        intervals=config.Intervals(log_every=100, sample_every=NUM_STEPS, checkpoint_every=500),
        runtime=config.Runtime(device="cpu", precision="float32", threads=1),
    )
    try:
        train(run, out, [Console()], resume=(out / "config.json").exists())
    except DivergedError as error:
        return {"collapsed": True, "why": str(error)}
    trained, digits = load(out), load_classifier("digits")
    test = open_data(run.data).dataset.test
    assert test is not None
    scores = prdc(
        digits.features(read_images(test, slice(NUM_SAMPLES))),
        digits.features(trained.sample(NUM_SAMPLES, seed=seed)),
    )
    worst = min(scores.precision, scores.recall)
    return {"collapsed": worst < COLLAPSE_THRESHOLD, **asdict(scores)}


def init_std_rows(out: Path) -> Iterator[str]:
    """Yield a table row for each standard deviation of the initial weights, without batch norm."""
    yield (
        "| initial std | largest logit | NaN: log of a sigmoid | NaN: losses of logits | 100 "
        "iterations |"
    )
    yield "|---|---|---|---|---|"
    shape, preset = (1, 28, 28), presets.get_preset("dcgan-mnist")
    for init_std in INIT_STDS:
        changes: dict[str, Any] = {
            "base_channels": WIDTH,
            "batch_norm": False,
            "init_std": init_std,
        }
        in_g, in_d = config.DCGANGenerator(**changes), config.DCGANDiscriminator(**changes)
        torch.manual_seed(0)
        g, d = (
            dcgan.DCGANGenerator(shape, **vars(in_g)),
            dcgan.DCGANDiscriminator(shape, **vars(in_d)),
        )
        logits = d(g(g.latent(BATCH, RNG(0))))
        naive = torch.log(1 - torch.sigmoid(logits)).mean()
        naive_and_stable = [
            has_nan_gradient(g, loss) for loss in (naive, minimax_generator_loss(logits))
        ]
        stage = replace(preset.stage, generator=in_g, discriminator=in_d, steps=100)
        result = train_and_score(stage, 0, out / f"deviation-{init_std}")
        ending = result.get("why") or f"finite, recall {result['recall']:.2f}"
        cells = (
            f"{init_std}",
            f"{float(logits.abs().max()):.3g}",
            *map(str, naive_and_stable),
            ending,
        )
        yield f"| {' | '.join(cells)} |"


def has_nan_gradient(net: nn.Module, loss: torch.Tensor) -> bool:
    """Return whether a loss has a NaN in its gradient with respect to a network's parameters."""
    gradients = torch.autograd.grad(loss, [*net.parameters()], retain_graph=True)
    return any(bool(gradient.isnan().any()) for gradient in gradients)


def table_rows(records: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the rows of a Markdown table."""
    yield "| | collapsed | precision | recall | coverage |"
    yield "|---|---|---|---|---|"
    for name in variants():
        runs = [record for record in records if record["variant"] == name]
        completed = [record for record in runs if "recall" in record]
        means = [
            f"{sum(record[what] for record in completed) / len(completed):.2f}" if completed else ""
            for what in ("precision", "recall", "coverage")
        ]
        count = sum(record["collapsed"] for record in runs)
        yield f"| {name} | {count} of {len(runs)} | {' | '.join(means)} |"


def main() -> None:
    """Run the missing trainings and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "results.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    records = [json.loads(line) for line in lines]
    finished = {(record["variant"], record["seed"]) for record in records}
    for seed in range(options.seeds):
        for name, stage in variants().items():
            if (name, seed) in finished:
                continue
            out = options.out / f"{name.replace(' ', '-')}-{seed}"
            record = {"variant": name, "seed": seed, **train_and_score(stage, seed, out)}
            records.append(record)
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
    print("\n".join([*table_rows(records), "", *init_std_rows(options.out)]))


if __name__ == "__main__":
    main()
