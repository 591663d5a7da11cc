"""Why not fit p_model directly: a Gaussian and a kernel density beside G."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from advnets.config import Data
from advnets.data.registry import open_dataset
from advnets.data.spec import data_directory
from advnets.metrics.distance import nearest
from advnets.paper.blocks import (
    Block,
    Check,
    FigureBlock,
    Formula,
    SectionContent,
    SectionContext,
    Table,
    Text,
)
from advnets.paper.studies.density_models import (
    LOOKED_AT,
    WIDTHS,
    Fits,
    Shares,
    Subject,
    class_shares,
    fits,
)
from advnets.paper.studies.sample_statistics import gallery
from advnets.paper.trainings import scored_run
from advnets.plots.style import LIGHT, legend, new_figure, png, style_axes
from advnets.sampling.sampler import NUM_SAMPLES

FACES = "faces/olivetti-64.zip"
"""Under the data directory; images of people are shown in the output folder, never kept here."""
RARE = 0.1
"""Share of its frequency in the data below which a class counts as lost."""
FACES_DRAWN = 1000
"""Samples of faces, which have 4,096 pixels."""


def show(context: SectionContext) -> SectionContent:
    """Samples, likelihoods and class frequencies."""
    trained = scored_run(context)
    subject = Subject.of(
        open_dataset(trained.config.data, directory=context.data_dir), drawn=NUM_SAMPLES
    )
    of_g = trained.sample(NUM_SAMPLES).flatten(1)
    context.tell("a Gaussian and a kernel density")
    told = [fits(subject, of_g)]
    faces = data_directory(context.data_dir) / FACES
    if context.full and faces.exists():
        images = open_dataset(Data(source=str(faces), size=64, channels=1))
        told.append(fits(Subject.of(images, FACES_DRAWN)))
    context.tell("class frequencies")
    counted = of_g if context.full else of_g[:2000]
    shares = class_shares(subject.splits, counted)
    return SectionContent(
        blocks=(
            Text(
                "A model with a density can be fitted by maximum likelihood, with no game. Two "
                "that need no training: one Gaussian with a full covariance, and a kernel density, "
                "whose sample is a training image plus normal noise."
            ),
            Formula(
                r"p(x) = \mathcal{N}\left(x;\ \mu, \Sigma + \sigma^2 I\right), \quad "
                r"\mu = \frac{1}{n} \sum_i x_i, \quad "
                r"\Sigma = \frac{1}{n} \sum_i (x_i - \mu)(x_i - \mu)^\top"
            ),
            Formula(r"p(x) = \frac{1}{n} \sum_i \mathcal{N}\left(x;\ x_i, h^2 I\right)"),
            *(block for one in told for block in _blocks(context, one)),
            *_said(context, faces.exists()),
            *_frequencies(context, shares, len(counted)),
        ),
        checks=(
            *(check for one in told for check in _checks(one)),
            *_frequency_checks(shares, len(counted), full=context.full),
        ),
    )


def _blocks(context: SectionContext, told: Fits) -> Iterator[Block]:
    subject, models = told.subject, told.models
    gaussian, kernel, narrow = (models[which] for which in ("gaussian", "kernel", "narrow"))
    dims, (sharp, distance) = subject.train.shape[1], told.held_out
    sigma, h, narrowest = (told.widths[name] for name in ("gaussian", "kernel", "narrow"))
    yield Text(
        f"{subject.name}: {len(subject.train):,} training images of {dims:,} pixels. "
        f"{_of_rank(told, dims)} "
        rf"$\sigma$ = {sigma:.3f} and $h$ = {h:.3f} have the highest likelihood of validation "
        f"images among {len(WIDTHS)} widths from .001 to 1.{_on_edge(told)} The kernels of $h$ = "
        f"{narrowest:.3f} are so narrow that their noise is a tenth as long as the way "
        "from a real image to the nearest other."
    )
    rows = {
        "real, test": subject.test,
        **{model.label: model.samples for model in models.values()},
    }
    last = list(models.values())[-1]
    found = nearest(last.samples[:LOOKED_AT], subject.train)[1][:, 0]
    rows[f"nearest to {'G' if 'G' in models else 'these'}"] = subject.train[found]
    yield context.image(
        f"{subject.name}.png",
        gallery({name: subject.images(row) for name, row in rows.items()}),
        f"Rows of {subject.name}: real, and samples of each model",
        "Real test images and samples of each model, not chosen; last, the training image "
        "nearest to each of the row above.",
    )
    yield Table(
        f"Likelihood and looks on {subject.name}: exact log-likelihood of test images and Parzen "
        "score of samples, both in nats; sharpness; mean distance to the nearest training image. "
        "Samples are cut to [0, 1].",
        ("", "likelihood", "Parzen", "sharpness", "distance"),
        (
            ("real, test", "", "", f"{sharp:.3f}", f"{distance:.2f}"),
            *(
                (
                    model.label,
                    "no density"
                    if model.log_likelihood is None
                    else f"{model.log_likelihood:,.1f}",
                    f"{model.score.mean:,.1f} (σ = {model.score.sigma:.2f})",
                    f"{model.sharpness:.3f}",
                    f"{model.distance:.2f}",
                )
                for model in models.values()
            ),
        ),
    )
    yield Text(
        f"The Gaussian gives test images {gaussian.log_likelihood or 0:,.1f} nats and the "
        f"kernel density {kernel.log_likelihood or 0:,.1f}, yet the Gaussian's samples lie "
        f"{gaussian.distance / distance:.2f} times as far from the data as real images do. The "
        "narrow kernels draw what looks like training images, since it is, and their "
        "likelihood is the worst: every test image lies between them. Their Parzen score, "
        f"{narrow.score.mean:,.1f}, does not tell: it lays wider kernels on the samples. "
        f"Of the wider kernels' samples, {told.own:.1%} are still nearest to the very image they "
        "were made of. Nats depend on the unit and on pixels that are nearly always black: compare "
        "them within a column and a data set only."
    )


def _of_rank(told: Fits, dims: int) -> str:
    """What the covariance of maximum likelihood is like."""
    if told.rank == dims:
        return rf"$\Sigma$ has full rank {dims:,}."
    return (
        rf"$\Sigma$ is singular: its rank is {told.rank:,} of {dims:,}. Maximum likelihood "
        "then asks for a density that is infinite on a subspace and 0 off it, hence the "
        rf"$\sigma^2 I$; off it are {told.outside:,} of "
        f"{len(told.subject.test):,} test images."
    )


def _on_edge(told: Fits) -> str:
    """Whether the likelihood would grow on beyond the widths."""
    if told.widths["gaussian"] > min(WIDTHS):
        return ""
    return (
        r" That $\sigma$ is the least of them: a narrower one would have more still, along "
        "pixels that are black in nearly all images."
    )


def _said(context: SectionContext, faces: bool) -> Iterator[Block]:
    """Which images are not shown."""
    if not context.full:
        yield Text("In full scale the same is shown of MNIST and, where they lie, of faces.")
    elif not faces:
        yield Text(f"Faces are not shown: there is no `{FACES}` in the data directory.")


def _checks(told: Fits) -> Iterator[Check]:
    name, models = told.subject.name, told.models
    gaussian = models["gaussian"]
    high, low, worst = (
        models[which].log_likelihood or 0.0 for which in ("gaussian", "kernel", "narrow")
    )
    _, distance = told.held_out
    yield Check(
        f"{name}: the Gaussian gives test images more likelihood than the kernel density",
        f"above {low:,.1f} nats",
        f"{high:,.1f}",
        high > low,
    )
    yield Check(
        f"{name}: and its samples are farther from the data than real images are",
        "1.1 times as far, or more",
        f"{gaussian.distance / distance:.2f}",
        gaussian.distance >= 1.1 * distance,
    )
    yield Check(
        f"{name}: narrow kernels, which all but copy, give test images the least likelihood",
        f"100 nats below {low:,.1f}, or more",
        f"{worst:,.1f}",
        worst <= low - 100,
    )
    yield Check(
        f"{name}: a kernel density memorizes; samples nearest to the image they were made of",
        "99% or more",
        f"{told.own:.1%}",
        told.own >= 0.99,
    )


def _frequencies(context: SectionContext, shares: Shares, drawn: int) -> Iterator[Block]:
    classes = range(len(shares.p_data))
    yield Text(
        f"Class frequencies: the classes of {drawn:,} samples of $G$ are told by their 3 nearest "
        f"training images, which is right for {shares.accuracy:.1%} of test images. $G$ is not "
        "told the classes, and nothing in the game asks for each in its own share but $p_g = "
        "p_{data}$ itself."
    )
    yield Table(
        "Share of each class, in percent.",
        ("", *map(str, classes)),
        tuple(
            (name, *(f"{100 * share:.1f}" for share in row))
            for name, row in (("$p_{data}$", shares.p_data), ("$p_g$", shares.p_g))
        ),
    )
    yield _bars(context, shares)


def _bars(context: SectionContext, shares: Shares) -> FigureBlock:
    figure = new_figure(7.6, 2.8)
    axes = figure.subplots()
    style_axes(axes, "Class frequencies", "share (%)", x="class")
    at = np.arange(len(shares.p_data))
    for side, row, color, name in (
        (-0.2, shares.p_data, LIGHT.real, "training images"),
        (0.2, shares.p_g, LIGHT.fake, "samples of G"),
    ):
        axes.bar(at + side, 100 * row, 0.4, color=color, label=name)
    axes.set_xticks(at)
    legend(axes)
    caption = (
        f"$p_g$ against $p_{{data}}$ by class: total variation distance {shares.distance:.3f}; of "
        f"as many real images, 95% of draws would be below {shares.chance:.3f}."
    )
    alt = "Bars: the share of each class among training images and among samples of G"
    return context.image("classes.png", png(figure), alt, caption)


def _frequency_checks(shares: Shares, drawn: int, *, full: bool) -> Iterator[Check]:
    """Compare class frequencies; of the short training at quick scale less is claimed."""
    ratios = shares.p_g / shares.p_data
    classes, kept = len(ratios), int((ratios >= RARE).sum())
    least, farthest = (classes, 0.25) if full else (round(0.8 * classes), 0.4)
    yield Check(
        "the classes of test images are told right",
        "90% or more",
        f"{shares.accuracy:.1%}",
        shares.accuracy >= 0.9,
    )
    yield Check(
        f"classes that have a tenth of their share in the data or more, among {drawn:,} samples "
        "of $G$",
        f"{least} of {classes}" if full else f"{least} of {classes}, or more",
        f"{kept}; the rarest has {ratios.min():.2f} of its share",
        kept >= least,
    )
    yield Check(
        "total variation distance of class frequencies, $p_g$ from $p_{data}$",
        f"at most {farthest:g} (chance: {shares.chance:.3f}; half of the classes lost: 0.5)",
        f"{shares.distance:.3f}",
        shares.distance <= farthest,
    )
