"""The faces' half of Table 1: a generator scored on the folds of the file that they come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from advnets import presets
from advnets.data import spec
from advnets.data.dataset import Dataset, num_train_images
from advnets.errors import DataError
from advnets.experiment.trained_model import TrainedModel
from advnets.metrics.parzen import GRIDS, ParzenScore
from advnets.paper.blocks import Block, SectionContent, SectionContext, Text, literal, not_shown
from advnets.paper.studies.likelihoods import (
    PUBLISHED,
    Line,
    Record,
    beside,
    k_means,
    lines,
    mean_of,
    ours,
)
from advnets.paper.trainings import SMALLER, faces_run
from advnets.report.score_text import REAL
from advnets.sampling.sampler import NUM_SAMPLES, parzen_scores, real_images

QUICK_FOLDS = 2
"""Folds that are scored at quick scale: each may need a training of its own."""
TFD = "tfd", "TFD_48x48.mat", "TFD_96x96.mat"
"""What the Toronto Face Database is called: the named set, and its files."""
CENTERS = "centers of k-means"
"""What is scored in the place of samples, as `REAL` is."""


@dataclass(frozen=True)
class Scored:
    """A fold, with the scores of the generator and of what stands in the place of its samples."""

    fold: int
    trained: TrainedModel
    lines: Sequence[Line]
    others: dict[str, list[ParzenScore]]
    """On the paper's grid and on the fine one."""


def look(context: SectionContext) -> Dataset | SectionContent:
    """The faces, or, where they cannot be scored by folds, what is shown instead.

    Raises:
        UnknownNameError: `--faces` is neither a named set nor the path of anything.
        UsageError: its options cannot be.
    """
    faces = faces_run(context).faces
    if isinstance(faces, DataError):
        what = (
            "The other half of the table, faces by folds (in the paper those of the Toronto Face "
            "Database, TFD),"
        )
        return SectionContent((not_shown(what, str(faces), "faces"),), lacking=("faces",))
    if faces.folds:
        return faces
    no_folds = (
        "The other half of the table is of faces by folds, ways to split one file into images "
        "for training, validation and testing, as a file in the layout of the Toronto Face "
        f"Database has them. {literal(faces.name)} has none, so that half is left out."
    )
    return SectionContent((Text(no_folds),))


def half(context: SectionContext, faces: Dataset | SectionContent) -> SectionContent:
    """The scores of every fold, their mean, and real images; on TFD the published scores too."""
    if isinstance(faces, SectionContent):
        return faces
    chosen = folds_of(faces, full=context.full)
    scored = sorted(_scored(context, chosen), key=lambda some: some.fold)
    unlike = unlike_tfd(context.sources.faces, faces)
    blocks: list[Block] = [
        Text(_protocol(faces, scored)),
        Text(_training(context, faces, scored)),
        ours(
            f"Ours, on {literal(faces.name)} by folds, preset `{scored[0].trained.config.preset}`",
            "fold",
            [line for some in scored for line in some.lines],
        ),
        beside(literal(faces.name), [*_others(scored), *([] if unlike else _published())]),
    ]
    if unlike:
        blocks.append(Text(f"Nothing published stands beside these scores: {unlike}."))
    return SectionContent(tuple(blocks))


def folds_of(faces: Dataset, *, full: bool) -> list[int]:
    """The folds that are scored; first the one that was opened, whose samples Figure 2 shows."""
    inorder = sorted(faces.folds, key=lambda fold: (fold != faces.fold, fold))
    return inorder if full else inorder[:QUICK_FOLDS]


def unlike_tfd(source: str, faces: Dataset) -> str:
    """Why scores on TFD are not to be read beside those on these faces; nothing where they are."""
    name, _ = spec.split_source(source)
    if Path(name).name not in TFD:
        return (
            f"{literal(faces.name)} is not the Toronto Face Database, whose file is called "
            f"`{TFD[1]}`, and "
            "scores on other images do not compare"
        )
    _, height, width = faces.shape
    if (height, width) != (48, 48):
        return f"those on TFD are of images of 48x48, and these are {height}x{width}"
    return ""


def on_the_way(trained: TrainedModel, fold: int) -> list[Record]:
    """A fold's scores on the way, of the last stage: the generators before it are other nets."""
    before = trained.config.steps_before(len(trained.config.stages) - 1)
    return [
        event | score
        for event in trained.run.events()
        if event["kind"] == "evaluate" and event["step"] > before
        for score in event["folds"]
        if score["fold"] == fold
    ]


def _scored(context: SectionContext, folds: Sequence[int]) -> Iterator[Scored]:
    """Each fold's scores; folds that train on the same images share a training."""
    left = list(folds)
    while left:
        run = faces_run(context, left[0])
        if isinstance(run.faces, DataError):
            raise run.faces
        trained, opened = context.trained(run.name, run.config), run.faces
        seed = trained.config.seed
        samples = trained.sample(NUM_SAMPLES, seed=seed)
        others = {REAL: real_images(opened.train, NUM_SAMPLES, seed)}
        # Of no more images than centers, each would be a center.
        if context.full and (num_train_images(opened.train) or 0) > NUM_SAMPLES:
            others[CENTERS] = k_means(opened.train, NUM_SAMPLES)
        served = opened.evaluation_folds
        for fold in filter(served.__contains__, left):
            held = served[fold].valid, served[fold].test
            fine = {trained.weights: vars(parzen_scores(samples, *held, "fine"))}
            yield Scored(
                fold,
                trained,
                lines(f"{fold}, by `{run.name}`", on_the_way(trained, fold), fine),
                {
                    what: [parzen_scores(centers, *held, grid) for grid in GRIDS]
                    for what, centers in others.items()
                },
            )
        left = [fold for fold in left if fold not in served]


def _others(scored: Sequence[Scored]) -> Iterator[tuple[str, ...]]:
    """What stands in the place of samples: its mean over folds, on both grids."""
    for what in scored[0].others:
        scores = [some.others[what] for some in scored]
        count = counted(by_grid[0].n_samples for by_grid in scores)
        means = (mean_of([vars(score) for score in one]) for one in zip(*scores, strict=True))
        yield f"{count} {what}, mean of {len(scored)}", *means


def _published() -> list[tuple[str, ...]]:
    return [(f"{model}, published", on_tfd, "") for model, _, on_tfd in PUBLISHED]


def _protocol(faces: Dataset, scored: Sequence[Scored]) -> str:
    real = [some.others[REAL][0] for some in scored]
    return (
        f"The other half of the table is of faces, here {literal(faces.name)}, by folds, ways to "
        "split one file. In each fold σ is chosen on the first 1,000 validation images, or on as "
        f"many as there are, here {counted(one.n_valid for one in real)}, and the test images "
        f"are scored, here {counted(one.n_test for one in real)}. In the row of a fold, ± is over "
        "its test images; in rows of means it is the standard error over folds, as in the paper: "
        "the standard deviation of the folds' scores over √n. (Its squares are divided by n - 1 "
        "here; the paper does not say by what.)"
    )


def _training(context: SectionContext, faces: Dataset, scored: Sequence[Scored]) -> str:
    run, images = scored[0].trained.config, [some.trained.info.train or 0 for some in scored]
    nets = len({some.trained.run.path for some in scored})
    taken = [stage.steps or 0 for stage in run.stages]
    steps = " and ".join(f"{n:,}" for n in taken)
    epochs = " and ".join(f"{n * run.data.batch_size / images[0]:,.1f}" for n in taken)
    published = " and ".join(str(stage.epochs) for stage in presets.get_preset(run.preset).stages)
    said = (
        "Folds that train on the same images, as TFD's do on its unlabeled ones, share a net; "
        f"here {len(scored)} folds are scored with {nets} net{'s' * (nets > 1)}, trained on "
        f"{counted(images)} images. Training has two stages, here of {steps} steps, {epochs} "
        f"epochs (in the authors' files {published}); only the second stage's generator is "
        "scored, and its epochs are counted from where it begins."
    )
    if context.full:
        return said
    return (
        f"{said} At this scale nets are 1/{SMALLER} as wide and {len(scored)} of the file's "
        f"{len(faces.folds)} folds are scored: it shows how the table is made, and no more."
    )


def counted(numbers: Iterable[int]) -> str:
    """One number, or the range of several."""
    some = sorted(set(numbers))
    return f"{some[0]:,}" if len(some) == 1 else f"{some[0]:,} to {some[-1]:,}"
