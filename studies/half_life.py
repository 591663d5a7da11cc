"""Choose the half-life of a weight average by validation images.

    python studies/half_life.py runs/half-life results/records/half-life paper-mnist --seeds 10 \
        --half-lives 150000 250000 500000 750000 1000000 1500000 2000000 2500000 3000000

A weight average does not influence training, so one training per seed carries an average of each
half-life (in images) beside the last weights. Every --every steps and at the end, each generator is
scored by the Parzen log-likelihood of validation images: σ is selected on the first tenth of them
(at most 1,000), the score is the mean over all others. Real training images in the place of samples
are scored in the same way. A score above theirs says smoother than data, so two half-lives are
printed: that of the highest mean over seeds after the last step, and the shortest whose mean
reaches the score of real training images. After the last step the Fréchet distance, precision,
recall and coverage of each average are taken on the validation images too, by the dataset's own
extractor. A record of each seed, RECORDS/PRESET-SEED.json, holds the command, versions, seconds and
every score. A training that was stopped continues.

Test images are read only with --test HALF_LIFE, which adds the Parzen log-likelihood of all test
images under samples of that average and of the last weights: give it once the half-life is chosen.

The averages are updated at every tenth step, with the decay of ten steps.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from advnets import config, presets
from advnets.cli.sweep import record_text
from advnets.config.serialize import to_json
from advnets.data.dataset import Split
from advnets.data.prepared import PreparedData, open_data
from advnets.evaluation.registry import default_extractor
from advnets.experiment import setup
from advnets.files import write_json
from advnets.metrics import frechet_distance, prdc
from advnets.metrics.parzen import PAPER_GRID, SELECTION_POINTS, parzen_log_likelihood, select_sigma
from advnets.run_directory import RunDirectory
from advnets.run_records import versions
from advnets.sampling.sampler import (
    NUM_SAMPLES,
    ComputeSettings,
    draw_samples,
    parzen_score_on_data,
    read_images,
    read_pixel_rows,
    real_images,
)
from advnets.training import devices
from advnets.training.callback import Callback, CallbackList
from advnets.training.checkpoint import read_checkpoint
from advnets.training.ema import EMA
from advnets.training.trainer import Hooks, Trainer

INTERVAL = 10
"""Steps between updates of the averages."""
LAST = 0
"""The half-life that stands for the last weights."""


class EMAs(EMA):
    """Several EMAs of one module, with half-lives in images."""

    def __init__(self, module: nn.Module, half_lives: Sequence[int], batch_size: int) -> None:
        images = INTERVAL * batch_size
        self.emas = {h: EMA(module, h, images) for h in half_lives}
        self.module = nn.ModuleDict({str(h): one.module for h, one in self.emas.items()})

    def update(self, module: nn.Module, steps: int) -> None:
        """Update every EMA, at every `INTERVAL`-th step."""
        if steps % INTERVAL == 0:
            for average in self.emas.values():
                average.update(module, steps // INTERVAL)


@dataclass(frozen=True)
class ValidationScore:
    """The Parzen log-likelihood of validation images, in nats."""

    data: PreparedData
    seed: int
    compute: ComputeSettings

    def _draw(self, generator: nn.Module) -> Tensor:
        normalizer = self.data.normalizer
        return draw_samples(generator, normalizer, NUM_SAMPLES, self.seed, self.compute)

    def score_generator(self, generator: nn.Module) -> dict[str, float]:
        """Score samples of a generator."""
        return self.score_images(self._draw(generator))

    def score_real(self) -> dict[str, float]:
        """Score real training images in the place of samples."""
        return self.score_images(real_images(self.data.dataset.train, NUM_SAMPLES, self.seed))

    def score_features(self, generator: nn.Module) -> dict[str, float | str]:
        """Compare features of samples with those of the validation images."""
        samples = self._draw(generator)
        feature_extractor = default_extractor(self.data.info.name)
        valid = feature_extractor.features(
            read_images(cast(Split, self.data.dataset.valid), slice(None))
        )
        features = feature_extractor.features(samples[: len(valid)])
        manifold, distance = prdc(valid, features), frechet_distance(valid, features)
        return {
            "extractor": feature_extractor.name,
            "n": len(features),
            "frechet": distance,
            "precision": manifold.precision,
            "recall": manifold.recall,
            "coverage": manifold.coverage,
        }

    def score_test(self, generator: nn.Module) -> dict[str, Any]:
        """Return the Parzen log-likelihood of test images, σ selected on validation images."""
        samples = self._draw(generator)
        return asdict(parzen_score_on_data(samples, self.data, "paper"))

    def score_images(self, images: Tensor) -> dict[str, float]:
        """Return the mean over the validation images that did not select σ, and σ.

        `images` have shape (n, channels, height, width) and values in [0, 1].
        """
        valid, rows = (
            read_pixel_rows(cast(Split, self.data.dataset.valid), slice(None)),
            images.flatten(1),
        )
        first = min(SELECTION_POINTS, len(valid) // 10)
        sigma, _ = select_sigma(valid[:first], rows, PAPER_GRID)
        scores = parzen_log_likelihood(valid[first:], rows, sigma)
        return {"mean": float(scores.mean()), "n": len(scores), "sigma": sigma}


class PrintCallback(Callback):
    """A callback that prints every log event and every score."""

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Print one event."""
        values = event.get("scores", {"seconds": event.get("seconds")})
        print(f"step {event['step']:,}: {event['kind']} {values}", flush=True)


def train(
    run: RunDirectory,
    requested: config.Config,
    half_lives: Sequence[int],
    every: int,
    test: int | None = None,
) -> dict[str, Any] | None:
    """Train one seed to its end, from its newest checkpoint.


    Return the feature scores of each EMA, and scores on test images if a half-life is given for
    them; or None if the training was stopped.
    """
    data = open_data(requested.data)
    run_config = setup.resolve_config(requested, data.info, devices.resolve(requested.runtime))
    run_config = replace(
        run_config, intervals=replace(run_config.intervals, sample_every=0, eval_every=every)
    )
    options = {"config": to_json(run_config), "half_lives": list(half_lives)}
    if run.exists and {key: run.read_config().get(key) for key in options} != options:
        raise SystemExit(f"{run.path} holds a run with other options; give another folder")
    with run.lock(), devices.catch_stop_signals() as interruption:
        device = devices.setup_process(run_config.runtime)
        state = setup.make_train_state(run_config, data, 0, device)
        score = ValidationScore(
            data, run_config.seed, ComputeSettings.from_runtime(run_config.runtime, device)
        )
        run.write_config({**options, "versions": versions(), "real": score.score_real()})

        def evaluate(generator: nn.Module) -> Mapping[str, Any]:
            several = isinstance(generator, nn.ModuleDict)
            generators = dict(generator.items()) if several else {str(LAST): generator}
            return {
                "scores": {
                    half_life: score.score_generator(one) for half_life, one in generators.items()
                }
            }

        batch_size = run_config.batch_size
        emas = EMAs(state.players["generator"], half_lives, batch_size)
        trainer = Trainer(
            state=state,
            directory=run,
            intervals=run_config.intervals,
            steps=cast(int, run_config.stage.steps),
            hooks=Hooks(CallbackList([PrintCallback()]), lambda _, __: None, evaluate),
            stop_request=interruption,
            emas={"generator": emas},
            batch_size=batch_size,
        )
        if run.checkpoint_files():
            newest = run.newest_checkpoint()
            trainer.restore(read_checkpoint(newest))
            run.truncate_events(trainer.step)
        if not trainer.run():
            return None
        generators = dict(emas.module.named_children())
        features_file = run.path / "features.json"
        if not features_file.exists():
            features = [
                {"half_life": int(h), **score.score_features(one)} for h, one in generators.items()
            ]
            write_json(features_file, features)
        results: dict[str, Any] = {"features": json.loads(features_file.read_text("utf-8"))}
        if test is not None:
            tested_generators = {test: generators[str(test)], LAST: state.players["generator"]}
            results["test"] = [
                {"half_life": h, **score.score_test(g)} for h, g in tested_generators.items()
            ]
        return results


def record(
    run: RunDirectory, command: str, seed: int, results: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the command, times, versions and scores of one training."""
    events, stored = run.events(), run.read_config()
    logs = [event for event in events if event["kind"] == "log"]
    scores = [
        {"step": event["step"], "epoch": event["epoch"], "half_life": int(half_life), **score}
        for event in events
        if event["kind"] == "evaluate"
        for half_life, score in event["scores"].items()
    ]
    return {
        "command": command,
        "seed": seed,
        "seconds": round(sum(log["seconds"] for log in logs), 1),
        "cpu_seconds": round(sum(log["cpu_seconds"] for log in logs), 1),
        "versions": stored["versions"],
        "runtime": stored["config"]["runtime"],
        "real": stored["real"],
        "scores": scores,
        **results,
    }


def final_means(records: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Return the mean over seeds of the score after the last step, by half-life."""
    final: dict[int, list[float]] = {}
    for one in records:
        last = max(score["step"] for score in one["scores"])
        for score in one["scores"]:
            if score["step"] == last:
                final.setdefault(score["half_life"], []).append(score["mean"])
    return {half_life: statistics.fmean(means) for half_life, means in final.items()}


def choose_half_lives(means: Mapping[int, float], real: float) -> tuple[int, int | None]:
    """Return the half-life of the highest score, and the shortest that reaches real images."""
    averages = {half_life: mean for half_life, mean in means.items() if half_life != LAST}
    sufficient = [half_life for half_life, mean in averages.items() if mean >= real]
    return max(averages, key=lambda h: averages[h]), min(sufficient, default=None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every seed, write its record, and print the score of each half-life."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("preset")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--half-lives", type=int, nargs="+", required=True)
    parser.add_argument("--every", type=int, default=10_000, help="steps between scores")
    parser.add_argument("--steps", type=int, help="training steps; default: the preset's length")
    parser.add_argument("--data", help="data source; default: the preset's")
    parser.add_argument(
        "--test", type=int, metavar="HALF_LIFE", help="half-life to score on test images"
    )
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.test not in (None, *options.half_lives):
        parser.error(f"--test is {options.test}; give one of --half-lives")
    words = sys.argv[1:] if arguments is None else arguments
    records: list[dict[str, Any]] = []
    for seed in options.seeds:
        run_config = presets.get_preset(options.preset)
        run_config = replace(
            run_config, seed=seed, runtime=replace(run_config.runtime, threads=options.threads)
        )
        if options.data:
            run_config = replace(run_config, data=replace(run_config.data, source=options.data))
        if options.steps:
            run_config = run_config.with_stage(
                replace(run_config.stage, epochs=None, steps=options.steps)
            )
        run = RunDirectory(options.out / f"{options.preset}-{seed}")
        results = train(run, run_config, options.half_lives, options.every, options.test)
        if results is None:
            raise SystemExit("stopped; run the same command again to resume")
        command = shlex.join(["python", "studies/half_life.py", *words])
        records.append(record(run, command, seed, results))
        options.records.mkdir(parents=True, exist_ok=True)
        record_file = options.records / f"{options.preset}-{seed}.json"
        record_file.write_text(record_text(records[-1]), "utf-8")
    means, real = final_means(records), statistics.fmean(one["real"]["mean"] for one in records)
    highest, reaching = choose_half_lives(means, real)
    for half_life, mean in means.items():
        print(f"{half_life or 'last weights':>20}  {mean:.1f} nats")
    print(f"real training images  {real:.1f} nats")
    print(f"highest: {highest}; shortest that reaches real training images: {reaching}")


if __name__ == "__main__":
    main()
