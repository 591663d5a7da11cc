"""Table 1: Parzen log-likelihoods on MNIST and, by folds, on faces, with published ones."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from advnets import presets
from advnets.data import spec
from advnets.data.dataset import Dataset, num_train_images
from advnets.data.prepared import PreparedData, open_data
from advnets.errors import DataError
from advnets.evaluation.spec import GENERATOR, REAL
from advnets.experiment.trained_model import TrainedModel, Weights
from advnets.metrics.parzen import GRIDS, ParzenScore
from advnets.paper.blocks import (
    Block,
    Check,
    SectionContent,
    SectionContext,
    Table,
    Text,
    escape_markup,
    unavailable_note,
)
from advnets.paper.studies.likelihoods import (
    LAST,
    PUBLISHED,
    Record,
    ScoreRow,
    format_mean,
    format_score,
    k_means_centers,
    mean_score,
    plot_score_curves,
    reference_table,
    score_rows,
    scores_table,
)
from advnets.paper.trainings import (
    WIDTH_DIVISOR,
    faces_run,
    load_or_evaluate,
    reference_runs,
    relativistic_runs,
)
from advnets.sampling.sampler import NUM_SAMPLES, parzen_score_on_splits, real_images

PUBLISHED_MNIST, MIN_MEAN = 225.0, 223.0
"""The published log-likelihood on MNIST, and the required mean over seeds."""
WEIGHTS: tuple[Weights, ...] = ("last", "ema")


def build(context: SectionContext) -> SectionContent:
    """Build the section: scores of every seed, their mean, published scores, and faces by folds."""
    # Open the faces before the trainings, which take hours: --faces may be invalid.
    faces = open_faces(context)
    all_runs = [reference_runs(context)]
    if context.full:  # the modern recipe too
        all_runs.append(relativistic_runs(context))
    by_preset = {runs[0].config.preset: runs for runs in all_runs}
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
    faces_column = faces_content(context, faces)
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
            *faces_column.blocks,
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
        missing_sources=faces_column.missing_sources,
    )


def _score_rows(trained: TrainedModel) -> list[ScoreRow]:
    """Return a run's scores, for each kind of weights and choice of epoch."""
    events = [event for event in trained.run.events() if event["kind"] == "evaluate"]
    fine: dict[str, Record] = {}
    for weights in WEIGHTS:
        records = [r for r in _records(trained, weights) if r.get("grid") == "fine"]
        fine[weights] = next(r for r in records if r["samples"] == GENERATOR)
    return score_rows(trained.run.path.name, events, fine)


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
    rows.append((f"{len(centers):,} {CENTERS}", *scores))
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


METRICS = ("frechet", "prdc", "two-sample-1nn")
FEATURES_TEXT = Text(
    "Features of a classifier (or pixels, where there is none) show what the Parzen score does "
    "not: the Fréchet distance between samples and test images; precision, the fraction of "
    "samples within the real manifold; recall, the fraction of real images within the manifold of "
    "samples (k = 5); coverage, the fraction of real images with a sample in their neighborhood; "
    "and the accuracy of a 1-nearest-neighbor two-sample test, ideally 0.5. Means over "
    "seeds, ± their standard error."
)
"""Description of the table's columns."""
_COLUMNS = (
    ("Fréchet", "frechet", "value", "{:.2f}"),
    ("precision", "prdc", "precision", "{:.3f}"),
    ("recall", "prdc", "recall", "{:.3f}"),
    ("coverage", "prdc", "coverage", "{:.3f}"),
    ("1-NN accuracy", "two-sample-1nn", "accuracy", "{:.3f}"),
)
"""Column name, metric, field of its record, and number format."""


def features_table(scores: Mapping[str, Sequence[Sequence[Record]]]) -> Table:
    """Return the table of feature scores: the mean over seeds for each name, then real images."""
    first_scores = next(iter(scores.values()))
    rows = [(name, *_cells(seeds, GENERATOR)) for name, seeds in scores.items()]
    rows.append((REAL, *_cells(first_scores[:1], REAL)))
    frechet = next(record for record in first_scores[0] if record["metric"] == "frechet")
    return Table(
        f"{frechet['n_fake']:,} samples against {frechet['n_real']:,} test images, through "
        f"`{frechet['extractor']}`",
        ("samples", *(name for name, *_ in _COLUMNS)),
        tuple(rows),
    )


def _cells(seeds: Sequence[Sequence[Record]], row: str) -> list[str]:
    cells: list[str] = []
    for _, metric, key, form in _COLUMNS:
        values = [
            next(r[key] for r in records if r["metric"] == metric and r["samples"] == row)
            for records in seeds
        ]
        cells.append(format_mean(values, form))
    return cells


QUICK_FOLDS = 2
"""Number of folds at quick scale; each may need its own training."""
TFD_NAMES = "tfd", "TFD_48x48.mat", "TFD_96x96.mat"
"""Names of the Toronto Face Database: the dataset, and its files."""
CENTERS = "centers of k-means"
"""Name of k-means centers that are scored as samples, like `REAL`."""


@dataclass(frozen=True)
class FoldScores:
    """The scores of a fold: of the generator, and of reference samples."""

    fold: int
    trained: TrainedModel
    rows: Sequence[ScoreRow]
    references: dict[str, list[ParzenScore]]
    """Scores on the paper's grid and on the fine one, by kind of reference sample."""


def open_faces(context: SectionContext) -> Dataset | SectionContent:
    """Return the faces, or the content that explains why they cannot be scored by folds.

    Raises:
        UnknownNameError: `--faces` is neither a dataset nor an existing path.
        UsageError: the options in `--faces` are invalid.
    """
    faces = faces_run(context).dataset
    if isinstance(faces, DataError):
        subject = (
            "The other column of the table, faces by folds (in the paper those of the Toronto "
            "Face Database, TFD),"
        )
        return SectionContent(
            (unavailable_note(subject, str(faces), "faces"),), missing_sources=("faces",)
        )
    if faces.folds:
        return faces
    no_folds = (
        "The other column of the table is of faces by folds, splits of one file into images for "
        "training, validation and testing, as in files of the Toronto Face Database. "
        f"{escape_markup(faces.name)} has no folds, so this column is omitted."
    )
    return SectionContent((Text(no_folds),))


def faces_content(context: SectionContext, faces: Dataset | SectionContent) -> SectionContent:
    """Return the scores of every fold, their mean, reference scores and, on TFD, published ones."""
    if isinstance(faces, SectionContent):
        return faces
    folds = folds_of(faces, full=context.full)
    scored = sorted(_score_folds(context, folds), key=lambda scores: scores.fold)
    reason = tfd_mismatch(context.sources.faces, faces)
    published = [(f"{model}, published", tfd, "") for model, _, tfd in PUBLISHED if not reason]
    blocks: list[Block] = [
        Text(_protocol_text(faces, scored)),
        Text(_training_text(context, faces, scored)),
        scores_table(
            f"Scores on {escape_markup(faces.name)} by folds, preset "
            f"`{scored[0].trained.config.preset}`",
            "fold",
            [row for scores in scored for row in scores.rows],
        ),
        reference_table(escape_markup(faces.name), [*_fold_reference_rows(scored), *published]),
    ]
    if reason:
        blocks.append(Text(f"Published scores are omitted: {reason}."))
    return SectionContent(tuple(blocks))


def folds_of(faces: Dataset, *, full: bool) -> list[int]:
    """Return the folds to score; the opened one, whose samples Figure 2 shows, comes first."""
    ordered = sorted(faces.folds, key=lambda fold: (fold != faces.fold, fold))
    return ordered if full else ordered[:QUICK_FOLDS]


def tfd_mismatch(source: str, faces: Dataset) -> str:
    """Return why scores are not comparable with those on TFD, or "" if they are."""
    name, _ = spec.split_source(source)
    if Path(name).name not in TFD_NAMES:
        return (
            f"{escape_markup(faces.name)} is not the Toronto Face Database, whose file is "
            f"`{TFD_NAMES[1]}`, and scores on other images are not comparable"
        )
    _, height, width = faces.shape
    if (height, width) != (48, 48):
        return f"published scores are of 48x48 images, and these are {height}x{width}"
    return ""


def training_scores(trained: TrainedModel, fold: int) -> list[Record]:
    """Return a fold's scores during training of the last stage.

    Earlier stages train separate generators, which are not evaluated.
    """
    before = trained.config.steps_before(len(trained.config.stages) - 1)
    return [
        event | score
        for event in trained.run.events()
        if event["kind"] == "evaluate" and event["step"] > before
        for score in event["folds"]
        if score["fold"] == fold
    ]


def _score_folds(context: SectionContext, folds: Sequence[int]) -> Iterator[FoldScores]:
    """Yield the scores of each fold; folds with the same training images share a run."""
    remaining = list(folds)
    while remaining:
        run = faces_run(context, remaining[0])
        if isinstance(run.dataset, DataError):
            raise run.dataset
        trained, dataset = context.train_or_load(run.name, run.config), run.dataset
        seed = trained.config.seed
        samples = trained.sample(NUM_SAMPLES, seed=seed)
        references = {REAL: real_images(dataset.train, NUM_SAMPLES, seed)}
        # Of no more images than centers, each would be a center.
        if context.full and (num_train_images(dataset.train) or 0) > NUM_SAMPLES:
            references[CENTERS] = k_means_centers(dataset.train, NUM_SAMPLES)
        covered = dataset.evaluation_folds
        for fold in filter(covered.__contains__, remaining):
            valid_test = covered[fold].valid, covered[fold].test
            fine = {trained.weights: vars(parzen_score_on_splits(samples, *valid_test, "fine"))}
            yield FoldScores(
                fold,
                trained,
                score_rows(f"{fold}, by `{run.name}`", training_scores(trained, fold), fine),
                {
                    kind: [parzen_score_on_splits(centers, *valid_test, grid) for grid in GRIDS]
                    for kind, centers in references.items()
                },
            )
        remaining = [fold for fold in remaining if fold not in covered]


def _fold_reference_rows(scored: Sequence[FoldScores]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each kind of reference samples: mean over folds, on both grids."""
    for kind in scored[0].references:
        scores = [fold.references[kind] for fold in scored]
        count = format_range(by_grid[0].n_samples for by_grid in scores)
        means = (
            mean_score([vars(score) for score in grid_scores])
            for grid_scores in zip(*scores, strict=True)
        )
        yield f"{count} {kind}, mean of {len(scored)}", *means


def _protocol_text(faces: Dataset, scored: Sequence[FoldScores]) -> str:
    real = [fold.references[REAL][0] for fold in scored]
    return (
        f"The other column of the table is of faces, here {escape_markup(faces.name)}, by folds, "
        "splits of one file. In each fold σ is selected on the first 1,000 validation images or "
        f"all if there are fewer, here {format_range(score.n_valid for score in real)}, and the "
        f"test images are scored, here {format_range(score.n_test for score in real)}. In the row "
        "of a fold, ± is the standard error over its test images; in rows of means it is the "
        "standard error over folds, as in the paper: the standard deviation of the folds' scores "
        "divided by √n. (The variance divides by n - 1 here; the paper does not specify it.)"
    )


def _training_text(context: SectionContext, faces: Dataset, scored: Sequence[FoldScores]) -> str:
    run, images = scored[0].trained.config, [fold.trained.info.train or 0 for fold in scored]
    n_runs = len({fold.trained.run.path for fold in scored})
    taken = [stage.steps or 0 for stage in run.stages]
    steps = " and ".join(f"{n:,}" for n in taken)
    epochs = " and ".join(f"{n * run.batch_size / images[0]:,.1f}" for n in taken)
    published = " and ".join(str(stage.epochs) for stage in presets.get_preset(run.preset).stages)
    text = (
        "Folds with the same training images, such as TFD's unlabeled ones, share a network; here "
        f"{len(scored)} folds are scored with {n_runs} network{'s' * (n_runs > 1)}, trained on "
        f"{format_range(images)} images. Training has two stages, here of {steps} steps, {epochs} "
        f"epochs (in the authors' files {published}); only the second stage's generator is scored, "
        "and its epochs are counted from the start of that stage."
    )
    if context.full:
        return text
    return (
        f"{text} At this scale networks are 1/{WIDTH_DIVISOR} as wide and {len(scored)} of the "
        f"file's {len(faces.folds)} folds are scored, to show the procedure only."
    )


def format_range(numbers: Iterable[int]) -> str:
    """Format one number, or the range of several."""
    ordered = sorted(set(numbers))
    return f"{ordered[0]:,}" if len(ordered) == 1 else f"{ordered[0]:,} to {ordered[-1]:,}"
