"""Table 1: Parzen log-likelihoods, beside the published ones and beside what puts them in place."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from advnets.data.prepared import PreparedData, open_data
from advnets.experiment.trained_model import TrainedModel, Weights
from advnets.metrics.parzen import GRIDS
from advnets.paper.blocks import Check, SectionContent, SectionContext, Table, Text, literal
from advnets.paper.studies import cross_validation
from advnets.paper.studies.feature_scores import METRICS, WORDS, likeness
from advnets.paper.studies.likelihoods import (
    LAST,
    PUBLISHED,
    Line,
    Record,
    beside,
    curves,
    k_means,
    lines,
    ours,
    told,
)
from advnets.paper.trainings import records, scored_runs, tuned_runs
from advnets.report.score_text import GENERATOR, REAL
from advnets.sampling.sampler import NUM_SAMPLES, parzen_scores

GOAL, LEAST = 225.0, 223.0
"""The published log-likelihood on MNIST, and what a mean over seeds has to reach."""
WEIGHTS: tuple[Weights, ...] = ("last", "ema")


def show(context: SectionContext) -> SectionContent:
    """Every seed's scores, their mean, the published rows, and faces by folds; what judges them."""
    faces = cross_validation.look(
        context
    )  # first, as it can say that --faces is wrong before hours have gone
    by_preset = {runs[0].config.preset: runs for runs in _trained(context)}
    first, *_ = by_preset.values()
    data = open_data(first[0].config.data)
    name = literal(data.info.name)
    scored = {
        preset: [line for trained in runs for line in _lines(trained)]
        for preset, runs in by_preset.items()
    }
    features = {
        f"{preset}, {weights} weights": [_scored(trained, weights) for trained in runs]
        for preset, runs in by_preset.items()
        for weights in WEIGHTS
    }
    beside_it = _beside(first[0], data, full=context.full)
    half = cross_validation.half(context, faces)
    return SectionContent(
        blocks=(
            Text(
                "A Gaussian window is laid on each of 10,000 samples; its width σ is the one of a "
                "grid under which 1,000 validation images are likeliest; the score is the mean "
                "log-likelihood of the test images, in nats. ± is the standard error over test "
                "images, as in the paper; in the row of means, over seeds."
            ),
            *(
                ours(f"Ours, on {name}, preset `{preset}`", "training", some)
                for preset, some in scored.items()
            ),
            beside(name, beside_it),
            WORDS,
            likeness(features),
            curves(
                context,
                {preset: [run.run.events() for run in runs] for preset, runs in by_preset.items()},
                _real(first[0])["paper"]["mean"],
            ),
            Table("The paper's table 1", ("model", "MNIST", "TFD"), PUBLISHED),
            *half.blocks,
            Text(
                "The score is of samples under a kernel, not of images. Centers of k-means, each "
                "the mean of several digits, score higher than real digits do: they are smoother "
                "than data, and a window likes that (Theis, van den Oord and Bethge 2016, “A note "
                "on the evaluation of generative models”). So what lies above the row of real "
                "images says “smoother than data”, not “better than data”."
            ),
        ),
        checks=(_reached(scored[next(iter(by_preset))]),) if context.full else (),
        lacking=half.lacking,
    )


def _trained(context: SectionContext) -> Iterator[list[TrainedModel]]:
    """The published experiment and, at full scale, the same nets trained our way."""
    yield scored_runs(context)
    if context.full:
        yield tuned_runs(context)


def _lines(trained: TrainedModel) -> list[Line]:
    """A seed's scores: of each weights, at each choice of epoch."""
    events = [event for event in trained.run.events() if event["kind"] == "evaluate"]
    fine = {weights: _fine(trained, weights) for weights in WEIGHTS}
    return lines(trained.run.path.name, events, fine)


def _fine(trained: TrainedModel, weights: Weights) -> Record:
    """The last epoch's score on the fine grid."""
    known = [r for r in _scored(trained, weights) if r.get("grid") == "fine"]
    return next(record for record in known if record["samples"] == GENERATOR)


def _scored(trained: TrainedModel, weights: Weights) -> list[Record]:
    return records(trained, weights, ("parzen", *METRICS))


def _real(trained: TrainedModel) -> dict[str, Record]:
    """Scores of real training images in the place of samples, by the grid of σ."""
    known = [r for r in _scored(trained, "last") if r["metric"] == "parzen"]
    return {record["grid"]: record for record in known if record["samples"] == REAL}


def _beside(trained: TrainedModel, data: PreparedData, *, full: bool) -> list[tuple[str, ...]]:
    """Real training images and centers of k-means, in the place of samples."""
    real = _real(trained)
    count = f"{real['paper']['n_samples']:,} {REAL}"
    rows: list[tuple[str, ...]] = [(count, told(real["paper"]), told(real["fine"]))]
    centers = k_means(data.dataset.train, NUM_SAMPLES if full else 300)
    valid, test = data.dataset.valid, data.dataset.test
    assert valid is not None
    assert test is not None
    scores = (told(vars(parzen_scores(centers, valid, test, grid))) for grid in GRIDS)
    rows.append((f"{len(centers):,} centers of k-means", *scores))
    return rows


def _reached(scored: Sequence[Line]) -> Check:
    means = {
        weights: statistics.fmean(
            line.paper["mean"] for line in scored if (line.weights, line.choice) == (weights, LAST)
        )
        for weights in WEIGHTS
    }
    return Check(
        f"MNIST, weight average, last epoch, mean over seeds: the published {GOAL:.0f}",
        f"at least {LEAST:.0f}",
        f"{means['average']:.1f} (the last weights alone: {means['last']:.1f})",
        means["ema"] >= LEAST,
    )
