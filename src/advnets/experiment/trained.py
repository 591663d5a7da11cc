"""A trained generator, loaded from its run directory: sample from it, score it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from advnets.codec import from_json
from advnets.config import Config, Runtime
from advnets.errors import UnknownNameError, UsageError
from advnets.experiment import build
from advnets.experiment.measure import Drawing, draw_samples
from advnets.experiment.scores import EXTRACTORS, METRICS, Subject
from advnets.extractors import extractor as extractor_named
from advnets.runs import RunDirectory
from advnets.training import runtime
from advnets.training.checkpoint import load_module, read_checkpoint
from advnets.views.report import write_report

Weights = Literal["average", "last"]


class Trained:
    """A run's generator and discriminator at its newest checkpoint."""

    def __init__(self, path: Path, weights: Weights | None = None) -> None:
        self.run = RunDirectory.existing(path)
        record = self.run.read_config()
        self.config: Config = from_json(record["config"], Config)
        self.facts = from_json(record["data"], build.DataFacts)
        self.scaling = build.rebuilt_scaling(self.config.data, self.facts)
        checkpoint = read_checkpoint(self.run.newest_checkpoint())
        stage = checkpoint.facts["stage"]
        played: int = checkpoint.facts["position"]["step"]
        self.step = self.config.steps_before(stage) + played
        averaged = self.config.stages[stage].average_half_life > 0
        self.weights: Weights = weights or ("average" if averaged else "last")
        if self.weights == "average" and not averaged:
            raise UsageError(
                f"{path} keeps no weight average (average_half_life is 0); ask for the last weights"
            )
        shape = self.facts.shape
        nets = build.players(self.config, stage, shape, torch.zeros(shape), len(self.facts.classes))
        self.generator: nn.Module = nets["generator"]
        self.discriminator: nn.Module = nets["discriminator"]
        prefix = "average/generator" if self.weights == "average" else "players/generator"
        load_module(prefix, self.generator, checkpoint.tensors)
        load_module("players/discriminator", self.discriminator, checkpoint.tensors)
        for net in nets.values():
            net.eval().requires_grad_(requires_grad=False)
        self.device = torch.device("cpu")

    def to(self, device: str) -> Trained:
        """Move the nets to a device; return self."""
        self.device = torch.device(device)
        runtime.seated(self.generator, self.device)
        runtime.seated(self.discriminator, self.device)
        return self

    @property
    def drawing(self) -> Drawing:
        """Samples are drawn in the precision that the run was trained in."""
        return Drawing.of(self.config.runtime, self.device)

    def sample(self, n: int, *, seed: int = 0) -> Float[Tensor, "n channels height width"]:
        """Draw n pictures from p_g as pixels in [0, 1].

        The first pictures of a seed are the same whatever n is.

        Raises:
            UsageError: n is not positive.
        """
        if n < 1:
            raise UsageError(f"{n} samples were asked for; ask for at least 1")
        return draw_samples(self.generator, self.scaling, n, seed, self.drawing)

    def evaluate(
        self,
        metrics: tuple[str, ...] = ("parzen",),
        *,
        extractor: str | None = None,
        data_dir: str | None = None,
        seed: int = 0,
    ) -> list[dict[str, Any]]:
        """Score the generator on the run's own data; add the records to scores.json.

        `extractor` is what metrics of features look through; None: the classifier of digits for
        MNIST, else pixels.

        Raises:
            UnknownNameError: no metric or extractor is called so.
            DataError: the data is absent or has no validation and test pictures.
        """
        for name in metrics:
            if name not in METRICS:
                raise UnknownNameError("metric", name, METRICS)
        spec = self.config.data
        data = build.open_data(spec if data_dir is None else replace(spec, directory=data_dir))
        subject = Subject(
            generator=self.generator,
            data=data,
            seed=seed,
            step=self.step,
            weights=self.weights,
            drawing=self.drawing,
            extractor=extractor_named(extractor or EXTRACTORS.get(data.facts.name, "pixels")),
        )
        records = [record for name in metrics for record in METRICS[name](subject)]
        self.run.add_scores(records, _identity)
        return records

    def report(self) -> Path:
        """Write report.html again."""
        return write_report(self.run.path)


def load(run: str | Path, *, weights: Weights | None = None, device: str = "cpu") -> Trained:
    """Load a run's newest checkpoint for sampling and scoring.

    `weights` are the weight average where the run keeps one, else the last.

    Raises:
        RunError: the directory holds no run, or one of another version.
        CheckpointError: it has no checkpoint, or a truncated one.
    """
    return Trained(Path(run), weights).to(runtime.resolve(Runtime(device=device)).device)


def _identity(record: Mapping[str, Any]) -> tuple[object, ...]:
    keys = ("metric", "samples", "weights", "grid", "extractor", "split", "seed", "step")
    return tuple(record.get(key) for key in keys)
