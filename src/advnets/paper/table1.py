"""Table 1: Parzen log-likelihoods, beside the published ones and beside what puts them in place."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from advnets.errors import require
from advnets.experiment import build
from advnets.experiment.measure import SAMPLES, TEST, VALIDATION, pixels
from advnets.experiment.trained import Trained, load
from advnets.metrics.parzen import parzen_score
from advnets.paper.part import Check, Setting, Shown, Table, Words
from advnets.paper.runs import scored_runs

GOAL, LEAST = 225.0, 223.0
"""The published log-likelihood on MNIST, and what a mean over seeds has to reach."""

PUBLISHED = (
    ("deep belief net (Bengio et al. 2013)", "138 ± 2", "1909 ± 66"),
    ("stacked contractive autoencoder (Bengio et al. 2013)", "121 ± 1.6", "2110 ± 50"),
    ("deep generative stochastic net (Bengio et al. 2014)", "214 ± 1.1", "1890 ± 29"),
    ("adversarial nets (Goodfellow et al. 2014)", "225 ± 2", "2057 ± 26"),
)
"""Table 1 of the paper: MNIST and TFD, in nats."""


def show(setting: Setting) -> Shown:
    """Every seed's scores, their mean, the published rows and the two that judge them."""
    runs = scored_runs(setting)
    data = build.open_data(runs[0].config.data)
    rows, last = _rows(runs)
    checks = (_reached(last),) if setting.full else ()
    return Shown(
        blocks=(
            Words(
                "A Gaussian window is laid on each of 10,000 samples; its width σ is the one of a "
                "grid under which 1,000 validation pictures are likeliest; the score is the mean "
                "log-likelihood of the test pictures, in nats. ± is the standard error over test "
                "pictures, as in the paper; in the row of means, over seeds."
            ),
            Table(
                f"Ours, on {data.facts.name}, preset `{runs[0].config.preset}`",
                ("training", "weights", "epoch", "paper's grid", "fine grid .10, .11 … .29"),
                tuple(rows),
            ),
            Table(
                f"What stands beside a score on {data.facts.name}",
                ("samples", "paper's grid", "fine grid"),
                tuple(_beside(runs[0], data, full=setting.full)),
            ),
            Table("The paper's table 1", ("model", "MNIST", "TFD"), PUBLISHED),
            Words(
                "The score is of samples under a kernel, not of pictures. Centres of k-means, each "
                "the mean of several digits, score higher than real digits do: they are smoother "
                "than data, and a window likes that (Theis, van den Oord and Bethge 2016, “A note "
                "on the evaluation of generative models”). So what lies above the row of real "
                "pictures says *smoother than data*, not *better than data*."
            ),
        ),
        checks=checks,
    )


def _rows(runs: Sequence[Trained]) -> tuple[list[tuple[str, ...]], list[float]]:
    """A row for each seed, weights and choice of epoch; and the last weights' last scores."""
    rows: list[tuple[str, ...]] = []
    by_kind: dict[tuple[str, str], list[float]] = {}
    for trained in runs:
        events = [event for event in trained.run.events() if event["kind"] == "evaluate"]
        for weights in ("last", "average"):
            some = [event for event in events if event["weights"] == weights]
            best = max(some, key=lambda event: event["valid_mean"])
            fine = _fine(trained, weights)
            for choice, event, beside in (
                ("best by validation", best, ""),
                ("last", some[-1], fine),
            ):
                by_kind.setdefault((weights, choice), []).append(event["mean"])
                epoch = f"{event['epoch']:.0f}, {choice}"
                rows.append((trained.run.path.name, weights, epoch, _score(event), beside))
    for (weights, choice), scores in by_kind.items():
        mean = f"{statistics.mean(scores):.1f}"
        if len(scores) > 1:
            mean += f" ± {statistics.stdev(scores) / math.sqrt(len(scores)):.1f}"
        rows.append((f"mean of {len(scores)}", weights, choice, mean, ""))
    return rows, by_kind["last", "last"]


def _fine(trained: Trained, weights: str) -> str:
    """The last epoch's score on the fine grid."""
    known = [r for r in _scored(trained, weights) if r["grid"] == "fine"]
    return _score(next(record for record in known if record["samples"] == "generator"))


def _scored(trained: Trained, weights: str) -> list[dict[str, Any]]:
    """The records of `advnets evaluate`, taken anew only where they are not there."""
    of_these = [
        record
        for record in trained.run.scores()
        if record["step"] == trained.step and record["weights"] in (weights, None)
    ]
    if any(record["weights"] == weights for record in of_these):
        return of_these
    chosen = load(trained.run.path, weights="average" if weights == "average" else "last")
    return chosen.evaluate(seed=trained.config.seed)


def _beside(trained: Trained, data: build.OpenedData, *, full: bool) -> list[tuple[str, ...]]:
    """Real training pictures and centres of k-means, in the place of samples."""
    real = [r for r in _scored(trained, "last") if r["samples"] != "generator"]
    by_grid = {record["grid"]: _score(record) for record in real}
    rows = [(f"{real[0]['n_samples']:,} real training pictures", by_grid["paper"], by_grid["fine"])]
    centres = k_means(data, SAMPLES if full else 300)
    valid, test = data.splits.valid, data.splits.test
    assert valid is not None
    assert test is not None
    points = pixels(valid, slice(VALIDATION)), pixels(test, slice(TEST))
    paper, fine = (_score(vars(parzen_score(centres, *points, g))) for g in ("paper", "fine"))
    rows.append((f"{len(centres):,} centres of k-means", paper, fine))
    return rows


def k_means(data: build.OpenedData, count: int) -> Tensor:
    """Centres of clusters of the training pictures, after ten rounds of Lloyd's algorithm."""
    cluster: Any = require("sklearn.cluster", "paper")
    train = torch.cat([torch.from_numpy(some) for some in build.blocks(data.splits.train)])
    rows = (train.flatten(1).float() / data.splits.train.white).numpy()
    fitted = cluster.KMeans(
        n_clusters=min(count, len(rows)), init="random", n_init=1, max_iter=10, random_state=0
    ).fit(rows)
    return torch.from_numpy(fitted.cluster_centers_)


def _score(record: Any) -> str:
    return f"{record['mean']:.1f} ± {record['standard_error']:.1f} (σ {record['sigma']:.3f})"


def _reached(scores: Sequence[float]) -> Check:
    mean = statistics.mean(scores)
    return Check(
        f"MNIST, last weights, last epoch, mean of {len(scores)} seeds: the published {GOAL:.0f}",
        f"at least {LEAST:.0f}",
        f"{mean:.1f}",
        mean >= LEAST,
    )
