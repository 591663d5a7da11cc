"""The variational autoencoder beside G: the same net, trained by a bound and not by a judge."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.data.dataset import Split
from advnets.data.prepared import PreparedData, open_data
from advnets.experiment.trained_model import TrainedModel
from advnets.metrics.distance import nearest
from advnets.paper.blocks import (
    Block,
    Check,
    Formula,
    SectionContent,
    SectionContext,
    Table,
    Text,
    literal,
)
from advnets.paper.studies.likelihoods import Record, processor_seconds, with_error
from advnets.paper.studies.sample_statistics import gallery, gradient_energy, tiles
from advnets.paper.trainings import records, scored_runs, tuned_runs, vae_runs
from advnets.protocols import Encoder
from advnets.report.score_text import GENERATOR, REAL
from advnets.sampling.sampler import read_images
from advnets.visualize.interpolation import lerp

VAE = "VAE"
DRAWN, TESTS = 2000, 1000
"""Samples whose energy is measured, and test images that are reconstructed, at most."""
LINES, STEPS = 6, 10
"""Ways between test images, and images on each."""

ArraySplit = Float[Tensor, "n channels height width"]


@dataclass(frozen=True)
class Measured:
    """One training: its scores, how sharp its samples are, and what it took."""

    parzen: float
    energy: float
    """Of samples, as a share of that of test images."""
    elbo: float | None
    told: float | None
    """KL(q(z | x) ‖ p_z) in nats: what z is told of an image, in the mean."""
    seconds: float

    @classmethod
    def of(cls, trained: TrainedModel, energy: float) -> Measured:
        """A run's, where test images have this gradient energy."""
        bounded = "encoder" in trained.players
        metrics = ("parzen", "elbo") if bounded else ("parzen",)
        found = [r for r in records(trained, trained.weights, metrics) if r["samples"] == GENERATOR]
        bound = next((r for r in found if r["metric"] == "elbo"), dict[str, float]())
        return cls(
            parzen=next(r["mean"] for r in found if r.get("grid") == "paper"),
            energy=gradient_energy(trained.sample(DRAWN)) / energy,
            elbo=bound.get("elbo"),
            told=bound.get("divergence"),
            seconds=processor_seconds(trained.run.events()),
        )


@dataclass(frozen=True)
class Reconstructed:
    """Test images, what comes back of them, and what needs no net; mean squared errors."""

    shown: ArraySplit
    rows: Mapping[str, ArraySplit]
    errors: Mapping[str, float]

    @classmethod
    def of(cls, vaes: Sequence[TrainedModel], data: PreparedData) -> Reconstructed:
        """The first VAE's images; errors are means over all of them."""
        train, test = (cast(Split, part) for part in (data.dataset.train, data.dataset.test))
        shown, known = read_images(test, slice(TESTS)), read_images(train, slice(None))
        back = [trained.decode(means(trained, shown)) for trained in vaes]
        _, which = nearest(shown.flatten(1), known.flatten(1))
        others = {"nearest": known[which[:, 0]], "mean": known.mean(0).expand_as(shown)}
        errors = {name: squared_error(row, shown) for name, row in others.items()}
        errors[VAE] = statistics.fmean(squared_error(row, shown) for row in back)
        return cls(shown, {"test": shown, VAE: back[0], **others}, errors)


def show(context: SectionContext) -> SectionContent:
    """Samples, reconstructions and lines of a VAE whose decoder is G's net; both scored."""
    runs = _runs(context)
    vaes = runs[VAE]
    data = open_data(vaes[0].config.data)
    test = read_images(cast(Split, data.dataset.test), slice(DRAWN))
    real = gradient_energy(test)
    context.tell("scores of the VAE and of G")
    measured = {name: [Measured.of(one, real) for one in some] for name, some in runs.items()}
    back = Reconstructed.of(vaes, data)
    of_real = _parzen_of_real(vaes[0])
    return SectionContent(
        blocks=(
            Text(
                "The decoder of this variational autoencoder is the net that is $G$ elsewhere on "
                "this page; its prior is normal. No $D$ judges it: an encoder $q(z \\mid x)$ is "
                "trained with it, and both raise a lower bound of the log-likelihood, in which "
                "each pixel is on with probability $G(z)$ "
                f"(preset `vae-mnist`; here {vaes[0].step:,} steps on {literal(data.info.name)})."
            ),
            Formula(
                r"\log p(x) \ge \mathbb{E}_{z \sim q(z \mid x)} \log p(x \mid z) - "
                r"\mathrm{KL}(q(z \mid x) \Vert p_z)"
            ),
            context.image(
                "samples.png",
                gallery({"real, test": test, **{n: r[0].sample(20) for n, r in runs.items()}}),
                "Rows of images: real ones, samples of the VAE, samples of G",
                "Real test images, then samples, not chosen. Those of the VAE are the "
                "probabilities $G(z)$ themselves: pixels drawn from them would be noise on top.",
            ),
            *_inferred(context, vaes[0], back),
            _told(measured[VAE], data.info.train or 0, back.errors),
            _table(literal(data.info.name), measured, of_real),
            Text(
                "The ELBO is a bound for the VAE alone, and it is not comparable with a Parzen "
                "score: it is the log-probability of pixels that are on or off, the other is the "
                "log-density of gray pixels under kernels laid on samples, of any generator. "
                "An ELBO of $G$ does not exist, as $p(x \\mid z)$ does not."
            ),
        ),
        checks=(
            *_blur(measured),
            *_nearer(back, full=context.full),
            _smoother(measured[VAE], of_real),
        ),
    )


def means(
    trained: TrainedModel, shown: Float[Tensor, "n channels height width"]
) -> Float[Tensor, "n latent"]:
    """The means of q(z | x), of images in [0, 1]."""
    encoder = cast(Encoder, trained.player("encoder"))
    return encoder(trained.normalizer.from_unit_range(shown).to(trained.device)).mean


def squared_error(
    some: Float[Tensor, "n channels height width"], others: Float[Tensor, "n channels height width"]
) -> float:
    """Mean squared difference of pixels."""
    return float((some - others).square().double().mean())


def _runs(context: SectionContext) -> dict[str, list[TrainedModel]]:
    """By the name of their row: the VAE, G and, at full scale, the G that is trained our way."""
    runs = {VAE: vae_runs(context), "G": scored_runs(context)}
    return {**runs, "G, our way": tuned_runs(context)} if context.full else runs


def _parzen_of_real(trained: TrainedModel) -> Record:
    """Of real training images in the place of samples, on the paper's grid."""
    found = records(trained, trained.weights, ("parzen",))
    return next(r for r in found if r["samples"] == REAL and r.get("grid") == "paper")


def _inferred(
    context: SectionContext, trained: TrainedModel, back: Reconstructed
) -> Iterator[Block]:
    yield context.image(
        "reconstructions.png",
        gallery(back.rows),
        "Rows of images: test images, what the VAE makes of their z, the nearest training "
        "images, the mean training image",
        "The first test images; $G$ of the mean of $q(z \\mid x)$; the nearest training image; "
        "the mean training image.",
    )
    ends = back.shown[: 2 * LINES].unflatten(0, (-1, 2))
    z = means(trained, ends.flatten(0, 1)).unflatten(0, (-1, 2))
    line = lerp(z[:, 0], z[:, 1], torch.linspace(0, 1, STEPS))
    between = trained.decode(line.flatten(0, 1)).unflatten(0, (-1, STEPS))
    rows = torch.cat((ends[:, :1], between, ends[:, 1:]), 1)
    yield context.image(
        "lines.png",
        tiles(rows.flatten(0, 1), STEPS + 2),
        "Rows of images, each turning smoothly from one test image into another",
        "First and last in each row a test image, between them $G$ along the straight line "
        "between the means of their $z$. $G$ of the game has no encoder: figure 3 begins at "
        "random $z$ instead.",
    )


def _told(vaes: Sequence[Measured], known: int, errors: Mapping[str, float]) -> Text:
    """What the encoder says of an image, beside what its nearest neighbor's number would."""
    nats = statistics.fmean(one.told or 0.0 for one in vaes)
    return Text(
        f"Of a test image $z$ is told {nats:.1f} nats in the mean (the divergence in the bound), "
        f"and $G$ has to make the image of them. To name the nearest of {known:,} training "
        rf"images takes up to $\log$ {known:,} = {math.log(known):.1f} nats: which of the two "
        f"comes nearer is measured: the squared error a pixel is {errors[VAE]:.4f} for a "
        f"reconstruction, {errors['nearest']:.4f} for the nearest training image and "
        f"{errors['mean']:.4f} for the mean training image."
    )


def _table(name: str, measured: Mapping[str, Sequence[Measured]], real: Record) -> Table:
    rows = [
        (
            model,
            with_error([one.parzen for one in seeds], "{:.1f}"),
            _bounds([one.elbo for one in seeds if one.elbo is not None]),
            with_error([one.energy for one in seeds], "{:.2f}"),
            with_error([one.seconds for one in seeds], "{:,.0f}"),
        )
        for model, seeds in measured.items()
    ]
    rows.append((REAL, f"{real['mean']:.1f}", "", "", ""))
    return Table(
        f"On {name}: Parzen log-likelihood of test images (nats, paper's grid), weight averages; "
        "ELBO (nats, of pixels on or off); gradient energy of samples, as a share of test "
        "images'; processor seconds of training.",
        ("samples", "Parzen", "ELBO, VAE alone", "energy", "training"),
        tuple(rows),
    )


def _bounds(elbos: Sequence[float]) -> str:
    return with_error(elbos, "{:.1f}") if elbos else "none"


def _blur(measured: Mapping[str, Sequence[Measured]]) -> Iterator[Check]:
    energy = {n: statistics.fmean(one.energy for one in some) for n, some in measured.items()}
    for name in [name for name in energy if name != VAE]:
        yield Check(
            f"samples of the VAE are blurrier than those of {name}: gradient energy beside real",
            f"less than {energy[name]:.2f}",
            f"{energy[VAE]:.2f}",
            energy[VAE] < energy[name],
        )


def _nearer(back: Reconstructed, *, full: bool) -> Iterator[Check]:
    """Compare reconstructions with what needs no net.

    At quick scale the nearest training image is nearer, so only the mean image is compared.
    """
    found = back.errors[VAE]
    for other in ("nearest", "mean") if full else ("mean",):
        yield Check(
            f"reconstructions are nearer to test images than the {other} training image is: "
            "squared error a pixel",
            f"less than {back.errors[other]:.4f}",
            f"{found:.4f}",
            found < back.errors[other],
        )


def _smoother(vaes: Sequence[Measured], real: Record) -> Check:
    found = statistics.fmean(one.parzen for one in vaes)
    return Check(
        "the Parzen score of the VAE is above that of real training images: smoothness counts",
        f"above {real['mean']:.1f} nats",
        f"{found:.1f}",
        found > real["mean"],
    )
