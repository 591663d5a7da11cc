"""Table 1: Parzen log-likelihoods, compared with published ones and with reference scores."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from advnets.data.prepared import PreparedData, open_data
from advnets.evaluation.spec import GENERATOR, REAL
from advnets.experiment.trained_model import TrainedModel, Weights
from advnets.metrics.parzen import GRIDS
from advnets.paper.blocks import Check, SectionContent, SectionContext, Table, Text, escape_markup
from advnets.paper.studies import cross_validation
from advnets.paper.studies.feature_scores import FEATURES_TEXT, METRICS, features_table
from advnets.paper.studies.likelihoods import (
    LAST,
    PUBLISHED,
    Record,
    ScoreRow,
    format_score,
    k_means_centers,
    plot_score_curves,
    reference_table,
    score_rows,
    scores_table,
)
from advnets.paper.trainings import load_or_evaluate, reference_runs, relativistic_runs
from advnets.sampling.sampler import NUM_SAMPLES, parzen_score_on_splits

PUBLISHED_MNIST, MIN_MEAN = 225.0, 223.0
"""The published log-likelihood on MNIST, and the required mean over seeds."""
WEIGHTS: tuple[Weights, ...] = ("last", "ema")


def build(context: SectionContext) -> SectionContent:
    """Build the section: scores of every seed, their mean, published scores, and faces by folds."""
    faces = cross_validation.open_faces(
        context
    )  # first, as it can say that --faces is wrong before hours have gone
    by_preset = {runs[0].config.preset: runs for runs in _all_runs(context)}
    first, *_ = by_preset.values()
    data = open_data(first[0].config.data)
    name = escape_markup(data.info.name)
    rows = {
        preset: [line for trained in runs for line in _score_rows(trained)]
        for preset, runs in by_preset.items()
    }
    features = {
        f"{preset}, {weights} weights": [_records(trained, weights) for trained in runs]
        for preset, runs in by_preset.items()
        for weights in WEIGHTS
    }
    references = _reference_rows(first[0], data, full=context.full)
    faces_content = cross_validation.faces_content(context, faces)
    return SectionContent(
        blocks=(
            Text(
                "A Gaussian kernel is placed on each of 10,000 samples. Its width σ is selected "
                "from a grid by the likelihood of 1,000 validation images, and the score is the "
                "mean log-likelihood of the test images, in nats. ± is the standard error over "
                "test images, as in the paper; in the rows of means, over seeds."
            ),
            *(
                scores_table(f"Scores on {name}, preset `{preset}`", "training", preset_rows)
                for preset, preset_rows in rows.items()
            ),
            reference_table(name, references),
            FEATURES_TEXT,
            features_table(features),
            plot_score_curves(
                context,
                {preset: [run.run.events() for run in runs] for preset, runs in by_preset.items()},
                _real_scores(first[0])["paper"]["mean"],
            ),
            Table("Table 1 of the paper", ("model", "MNIST", "TFD"), PUBLISHED),
            *faces_content.blocks,
            Text(
                "The score measures samples under a kernel, not image quality. Centers of "
                "k-means, each the mean of several digits, score higher than real digits: they "
                "are smoother than the data, which a kernel density favors (Theis, van den Oord "
                "and Bethge 2016, “A note on the evaluation of generative models”). A score above "
                "that of real images therefore means “smoother than the data”, not “better than "
                "the data”."
            ),
        ),
        checks=(_published_check(rows[next(iter(by_preset))]),) if context.full else (),
        missing_sources=faces_content.missing_sources,
    )


def _all_runs(context: SectionContext) -> Iterator[list[TrainedModel]]:
    """Yield the runs of the published experiment and, at full scale, of the modern recipe."""
    yield reference_runs(context)
    if context.full:
        yield relativistic_runs(context)


def _score_rows(trained: TrainedModel) -> list[ScoreRow]:
    """Return a run's scores, for each kind of weights and choice of epoch."""
    events = [event for event in trained.run.events() if event["kind"] == "evaluate"]
    fine = {weights: _fine_grid_score(trained, weights) for weights in WEIGHTS}
    return score_rows(trained.run.path.name, events, fine)


def _fine_grid_score(trained: TrainedModel, weights: Weights) -> Record:
    """Return the last epoch's score on the fine grid."""
    records = [r for r in _records(trained, weights) if r.get("grid") == "fine"]
    return next(record for record in records if record["samples"] == GENERATOR)


def _records(trained: TrainedModel, weights: Weights) -> list[Record]:
    return load_or_evaluate(trained, weights, ("parzen", *METRICS))


def _real_scores(trained: TrainedModel) -> dict[str, Record]:
    """Return the scores of real training images used as samples, by grid of σ."""
    records = [r for r in _records(trained, "last") if r["metric"] == "parzen"]
    return {record["grid"]: record for record in records if record["samples"] == REAL}


def _reference_rows(
    trained: TrainedModel, data: PreparedData, *, full: bool
) -> list[tuple[str, ...]]:
    """Return scores of real training images and of k-means centers used as samples."""
    real = _real_scores(trained)
    label = f"{real['paper']['n_samples']:,} {REAL}"
    rows: list[tuple[str, ...]] = [(label, format_score(real["paper"]), format_score(real["fine"]))]
    centers = k_means_centers(data.dataset.train, NUM_SAMPLES if full else 300)
    valid, test = data.dataset.valid, data.dataset.test
    assert valid is not None
    assert test is not None
    scores = (
        format_score(vars(parzen_score_on_splits(centers, valid, test, grid))) for grid in GRIDS
    )
    rows.append((f"{len(centers):,} centers of k-means", *scores))
    return rows


def _published_check(rows: Sequence[ScoreRow]) -> Check:
    means = {
        weights: statistics.fmean(
            line.paper["mean"] for line in rows if (line.weights, line.choice) == (weights, LAST)
        )
        for weights in WEIGHTS
    }
    return Check(
        f"MNIST, EMA weights, last epoch: mean over seeds (published: {PUBLISHED_MNIST:.0f})",
        f"at least {MIN_MEAN:.0f} nats",
        f"{means['ema']:.1f} (last weights: {means['last']:.1f})",
        means["ema"] >= MIN_MEAN,
    )
