"""How often a small DCGAN collapses with the five rules of its paper, without each, without any.

    python studies/stability.py runs/stability [--seeds 10]

On MNIST, width 16, 1,500 rounds of batch 64, the paper's Adam. Said before any was run: a run has
collapsed if it met numbers that are not finite three times, or if at its end precision or recall
(k = 5, 2,000 samples on 2,000 test digits, features of the package's classifier of digits) is below
.25; two sets of real digits have about .95. Each run leaves a line in results.jsonl, a run that has
one is not played again, and the table of all is printed. A second table widens the initial weights
of nets without batch norm: where log of a sigmoid gives NaN, where the losses of this package do,
and how a training of 100 rounds ends.
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

STEPS, BATCH, WIDTH, COMPARED, COLLAPSED = 1500, 64, 16, 2000, 0.25
DEVIATIONS = (0.02, 0.2, 1.0, 5.0, 1e4)
WITHOUT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "1 strides": ({"resampling": "pooling"}, {"resampling": "pooling"}),
    "2 batch norm": ({"batch_norm": False}, {"batch_norm": False}),
    "3 no hidden fully connected layer": ({"dense": (256,)}, {"dense": (256,)}),
    "4 rectifiers and tanh in G": ({"activation": "tanh", "output": "linear"}, {}),
    "5 leaky rectifiers in D": ({}, {"activation": "relu"}),
}
"""What breaks each rule, in G and in D."""


def variants() -> dict[str, config.Stage]:
    """The stages that are compared, by name."""
    preset = presets.get_preset("dcgan-mnist").stage
    stage = replace(
        preset,
        generator=config.DCGANGenerator(base_channels=WIDTH),
        discriminator=config.DCGANDiscriminator(base_channels=WIDTH),
        steps=STEPS,
        ema_half_life=0,
    )
    found = {"all five rules": stage}
    broken = stage
    for rule, (in_g, in_d) in WITHOUT.items():
        found[f"without rule {rule}"] = _changed(stage, in_g, in_d)
        broken = _changed(broken, in_g, in_d)
    return {**found, "without any": broken}


def _changed(stage: config.Stage, in_g: dict[str, Any], in_d: dict[str, Any]) -> config.Stage:
    return replace(
        stage,
        generator=replace(stage.generator, **in_g),
        discriminator=replace(stage.discriminator, **in_d),
    )


def played(stage: config.Stage, seed: int, out: Path) -> dict[str, Any]:
    """Train one and say how it ended."""
    run = replace(presets.get_preset("dcgan-mnist").with_stage(stage), seed=seed)
    run = replace(
        run,
        data=replace(run.data, batch_size=BATCH),
        intervals=config.Intervals(log_every=100, sample_every=STEPS, checkpoint_every=500),
        runtime=config.Runtime(device="cpu", precision="float32", threads=1),
    )
    try:
        train(run, out, Console(), resume=(out / "config.json").exists())
    except DivergedError as error:
        return {"collapsed": True, "why": str(error)}
    trained, digits = load(out), load_classifier("digits")
    test = open_data(run.data).dataset.test
    assert test is not None
    found = prdc(
        digits.features(read_images(test, slice(COMPARED))),
        digits.features(trained.sample(COMPARED, seed=seed)),
    )
    least = min(found.precision, found.recall)
    return {"collapsed": least < COLLAPSED, **asdict(found)}


def beginnings(out: Path) -> Iterator[str]:
    """The same nets begun ever wider, without batch norm: a row for each deviation."""
    yield "| deviation | largest logit | NaN: log of a sigmoid | NaN: of logits | 100 rounds |"
    yield "|---|---|---|---|---|"
    shape, preset = (1, 28, 28), presets.get_preset("dcgan-mnist")
    for deviation in DEVIATIONS:
        changes: dict[str, Any] = {
            "base_channels": WIDTH,
            "batch_norm": False,
            "init_std": deviation,
        }
        in_g, in_d = config.DCGANGenerator(**changes), config.DCGANDiscriminator(**changes)
        torch.manual_seed(0)
        g, d = dcgan.Generator(shape, **vars(in_g)), dcgan.Discriminator(shape, **vars(in_d))
        logits = d(g(g.latent(BATCH, RNG(0))))
        naive = torch.log(1 - torch.sigmoid(logits)).mean()
        broken = [has_nan(g, loss) for loss in (naive, minimax_generator_loss(logits))]
        stage = replace(preset.stage, generator=in_g, discriminator=in_d, steps=100)
        found = played(stage, 0, out / f"deviation-{deviation}")
        ending = found.get("why") or f"finite to the end, recall {found['recall']:.2f}"
        cells = f"{deviation}", f"{float(logits.abs().max()):.3g}", *map(str, broken), ending
        yield f"| {' | '.join(cells)} |"


def has_nan(net: nn.Module, loss: torch.Tensor) -> bool:
    """Whether a loss has a gradient in a net's parameters that is no number."""
    gradients = torch.autograd.grad(loss, [*net.parameters()], retain_graph=True)
    return any(bool(gradient.isnan().any()) for gradient in gradients)


def rows(found: list[dict[str, Any]]) -> Iterator[str]:
    """The table, in Markdown."""
    yield "| | collapsed | precision | recall | coverage |"
    yield "|---|---|---|---|---|"
    for name in variants():
        of_it = [record for record in found if record["variant"] == name]
        told = [record for record in of_it if "recall" in record]
        means = [
            f"{sum(record[what] for record in told) / len(told):.2f}" if told else ""
            for what in ("precision", "recall", "coverage")
        ]
        count = sum(record["collapsed"] for record in of_it)
        yield f"| {name} | {count} of {len(of_it)} | {' | '.join(means)} |"


def main() -> None:
    """Play what is missing, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / "results.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    found = [json.loads(line) for line in lines]
    known = {(record["variant"], record["seed"]) for record in found}
    for seed in range(asked.seeds):
        for name, stage in variants().items():
            if (name, seed) in known:
                continue
            out = asked.out / f"{name.replace(' ', '-')}-{seed}"
            record = {"variant": name, "seed": seed, **played(stage, seed, out)}
            found.append(record)
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")
    print("\n".join([*rows(found), "", *beginnings(asked.out)]))


if __name__ == "__main__":
    main()
