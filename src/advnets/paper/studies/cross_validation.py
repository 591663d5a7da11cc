"""The TFD column of Table 1: a generator scored on the folds of its face dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from advnets import presets
from advnets.data import spec
from advnets.data.dataset import Dataset, num_train_images
from advnets.errors import DataError
from advnets.evaluation.spec import REAL
from advnets.experiment.trained_model import TrainedModel
from advnets.metrics.parzen import GRIDS, ParzenScore
from advnets.paper.blocks import (
    Block,
    SectionContent,
    SectionContext,
    Text,
    escape_markup,
    unavailable_note,
)
from advnets.paper.studies.likelihoods import (
    PUBLISHED,
    Record,
    ScoreRow,
    k_means_centers,
    mean_score,
    reference_table,
    score_rows,
    scores_table,
)
from advnets.paper.trainings import WIDTH_DIVISOR, faces_run
from advnets.sampling.sampler import NUM_SAMPLES, parzen_score_on_splits, real_images

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
    blocks: list[Block] = [
        Text(_protocol_text(faces, scored)),
        Text(_training_text(context, faces, scored)),
        scores_table(
            f"Scores on {escape_markup(faces.name)} by folds, preset "
            f"`{scored[0].trained.config.preset}`",
            "fold",
            [row for scores in scored for row in scores.rows],
        ),
        reference_table(
            escape_markup(faces.name),
            [*_reference_rows(scored), *([] if reason else _published_rows())],
        ),
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


def _reference_rows(scored: Sequence[FoldScores]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each kind of reference samples: mean over folds, on both grids."""
    for kind in scored[0].references:
        scores = [fold.references[kind] for fold in scored]
        count = format_range(by_grid[0].n_samples for by_grid in scores)
        means = (
            mean_score([vars(score) for score in grid_scores])
            for grid_scores in zip(*scores, strict=True)
        )
        yield f"{count} {kind}, mean of {len(scored)}", *means


def _published_rows() -> list[tuple[str, ...]]:
    return [(f"{model}, published", on_tfd, "") for model, _, on_tfd in PUBLISHED]


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
    epochs = " and ".join(f"{n * run.data.batch_size / images[0]:,.1f}" for n in taken)
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
