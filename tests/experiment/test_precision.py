"""bfloat16 changes the rounding of a training, not what it learns."""

from dataclasses import replace

import pytest

from advnets import config, presets
from advnets.cli.console import Console
from advnets.experiment.train import train
from advnets.experiment.trained_model import load


@pytest.mark.slow
def test_both_precisions_learn_the_same(tmp_path):
    """The digits, 3,000 steps, two seeds: Parzen log-likelihoods far above the start's, and close.

    Within 2 nats: seeds alone differ by one. Real training digits have 17.7.
    """
    nats: dict[str, list[float]] = {}
    for precision in ("float32", "bfloat16"):
        for seed in (0, 1):
            start = presets.get_preset("digits")
            run = replace(
                start.with_stage(replace(start.stage, steps=3000)),
                seed=seed,
                runtime=config.Runtime("cpu", precision, 1),
            )
            out = tmp_path / f"{precision}{seed}"
            assert train(run, out, [Console()]).complete
            records = load(out).evaluate()
            score = next(r for r in records if r["samples"] == "generator" and r["grid"] == "paper")
            nats.setdefault(precision, []).append(score["mean"])
    print(f"\n{nats}")
    means = {precision: sum(values) / len(values) for precision, values in nats.items()}
    assert min(means.values()) > 8
    assert abs(means["float32"] - means["bfloat16"]) < 2
