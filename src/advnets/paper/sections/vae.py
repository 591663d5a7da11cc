"""The VAE baseline: the generator's network trained with a likelihood bound instead of a game."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch

from advnets.data.dataset import Split
from advnets.data.prepared import PreparedData, open_data
from advnets.evaluation.spec import GENERATOR, REAL
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
    escape_markup,
)
from advnets.paper.studies.likelihoods import Record, cpu_seconds, format_mean
from advnets.paper.studies.sample_statistics import gallery, gradient_energy, grid_png
from advnets.paper.trainings import load_or_evaluate, reference_runs, relativistic_runs, vae_runs
from advnets.protocols import Encoder, Images, Latents
from advnets.sampling.sampler import read_images
from advnets.visualize.interpolation import lerp

VAE = "VAE"
NUM_SAMPLES, NUM_TEST = 2000, 1000
"""Number of samples whose gradient energy is measured, and maximum number of reconstructed test
images."""
LINES, STEPS = 6, 10
"""Number of interpolations between test images, and of images in each."""


@dataclass(frozen=True)
class RunScores:
    """Scores of one training: likelihoods, sharpness and cost."""

    parzen: float
    energy: float
    """Gradient energy of samples, relative to that of test images."""
    elbo: float | None
    kl: float | None
    """Mean KL(q(z | x) ‖ p_z), in nats: the information that z carries about an image."""
    seconds: float

    @classmethod
    def from_run(cls, trained: TrainedModel, real_energy: float) -> RunScores:
        """Score a run, given the gradient energy of test images."""
        has_encoder = "encoder" in trained.players
        metrics = ("parzen", "elbo") if has_encoder else ("parzen",)
        records = [
            r
            for r in load_or_evaluate(trained, trained.weights, metrics)
            if r["samples"] == GENERATOR
        ]
        bound = next((r for r in records if r["metric"] == "elbo"), dict[str, float]())
        return cls(
            parzen=next(r["mean"] for r in records if r.get("grid") == "paper"),
            energy=gradient_energy(trained.sample(NUM_SAMPLES)) / real_energy,
            elbo=bound.get("elbo"),
            kl=bound.get("kl"),
            seconds=cpu_seconds(trained.run.events()),
        )


@dataclass(frozen=True)
class Reconstructions:
    """Test images, their reconstructions and two baselines, with mean squared errors."""

    originals: Images
    rows: Mapping[str, Images]
    errors: Mapping[str, float]

    @classmethod
    def from_runs(cls, vaes: Sequence[TrainedModel], data: PreparedData) -> Reconstructions:
        """Reconstruct test images; the images are the first VAE's, the errors means over all."""
        train, test = (cast(Split, split) for split in (data.dataset.train, data.dataset.test))
        originals, train_images = (
            read_images(test, slice(NUM_TEST)),
            read_images(train, slice(None)),
        )
        decoded = [trained.decode(encode_means(trained, originals)) for trained in vaes]
        _, index = nearest(originals.flatten(1), train_images.flatten(1))
        baselines = {
            "nearest": train_images[index[:, 0]],
            "mean": train_images.mean(0).expand_as(originals),
        }
        errors = {name: squared_error(row, originals) for name, row in baselines.items()}
        errors[VAE] = statistics.fmean(squared_error(row, originals) for row in decoded)
        return cls(originals, {"test": originals, VAE: decoded[0], **baselines}, errors)


def build(context: SectionContext) -> SectionContent:
    """Build the section: samples, reconstructions and interpolations of a VAE, and scores."""
    runs = _runs(context)
    vaes = runs[VAE]
    data = open_data(vaes[0].config.data)
    test = read_images(cast(Split, data.dataset.test), slice(NUM_SAMPLES))
    real_energy = gradient_energy(test)
    context.log("evaluating the VAE and G")
    scores = {
        name: [RunScores.from_run(run, real_energy) for run in seeds]
        for name, seeds in runs.items()
    }
    reconstructions = Reconstructions.from_runs(vaes, data)
    # Score real training images in the place of samples, on the paper's grid.
    records = load_or_evaluate(vaes[0], vaes[0].weights, ("parzen",))
    real_parzen = next(r for r in records if r["samples"] == REAL and r.get("grid") == "paper")
    vae_parzen = statistics.fmean(vae.parzen for vae in scores[VAE])
    return SectionContent(
        blocks=(
            Text(
                "The decoder of this variational autoencoder (VAE) is the generator's network of "
                "the other sections, with a normal prior. It is trained without a $D$: an encoder "
                r"$q(z \mid x)$ is trained with it, and both maximize a lower bound of the "
                "log-likelihood, in which each pixel is on with probability $G(z)$ (preset "
                f"`vae-mnist`; here {vaes[0].step:,} steps on {escape_markup(data.info.name)})."
            ),
            Formula(
                r"\log p(x) \ge \mathbb{E}_{z \sim q(z \mid x)} \log p(x \mid z) - "
                r"\mathrm{KL}(q(z \mid x) \Vert p_z)"
            ),
            context.save_image(
                "samples.png",
                gallery({"real, test": test, **{n: r[0].sample(20) for n, r in runs.items()}}),
                "Rows of images: real images, samples of the VAE, samples of G",
                "Real test images, then samples, not cherry-picked. Those of the VAE are the "
                "probabilities $G(z)$; binary pixels drawn from them would add noise.",
            ),
            *_reconstruction_images(context, vaes[0], reconstructions),
            _kl_text(scores[VAE], data.info.train or 0, reconstructions.errors),
            _table(escape_markup(data.info.name), scores, real_parzen),
            Text(
                "The ELBO is a bound for the VAE alone, and it is not comparable with a Parzen "
                "score: it is the log-probability of binary pixels, while the Parzen score is the "
                "log-density of gray pixels under kernels on the samples of any generator. $G$ "
                r"has no ELBO, since it has no $p(x \mid z)$."
            ),
        ),
        checks=(
            *_blur_checks(scores),
            *_reconstruction_checks(reconstructions, full=context.full),
            Check(
                "the Parzen score of the VAE is above that of real training images, because its "
                "samples are smoother",
                f"above {real_parzen['mean']:.1f} nats",
                f"{vae_parzen:.1f}",
                vae_parzen > real_parzen["mean"],
            ),
        ),
    )


def encode_means(trained: TrainedModel, images: Images) -> Latents:
    """Return the means of q(z | x) of images in [0, 1]."""
    encoder = cast(Encoder, trained.player("encoder"))
    return encoder(trained.normalizer.from_unit_range(images).to(trained.device)).mean


def squared_error(a: Images, b: Images) -> float:
    """Return the mean squared difference of pixels."""
    return float((a - b).square().double().mean())


def _runs(context: SectionContext) -> dict[str, list[TrainedModel]]:
    """Return runs by row name: the VAE, G and, at full scale, G with a modern recipe."""
    runs = {VAE: vae_runs(context), "G": reference_runs(context)}
    return {**runs, "G, modern recipe": relativistic_runs(context)} if context.full else runs


def _reconstruction_images(
    context: SectionContext, trained: TrainedModel, reconstructions: Reconstructions
) -> Iterator[Block]:
    yield context.save_image(
        "reconstructions.png",
        gallery(reconstructions.rows),
        "Rows of images: test images, their reconstructions by the VAE, the nearest training "
        "images, the mean training image",
        r"The first test images; $G$ of the mean of $q(z \mid x)$; the nearest training image; the "
        "mean training image.",
    )
    ends = reconstructions.originals[: 2 * LINES].unflatten(0, (-1, 2))
    z = encode_means(trained, ends.flatten(0, 1)).unflatten(0, (-1, 2))
    line = lerp(z[:, 0], z[:, 1], torch.linspace(0, 1, STEPS))
    between = trained.decode(line.flatten(0, 1)).unflatten(0, (-1, STEPS))
    rows = torch.cat((ends[:, :1], between, ends[:, 1:]), 1)
    yield context.save_image(
        "lines.png",
        grid_png(rows.flatten(0, 1), STEPS + 2),
        "Rows of images, each changing gradually from one test image into another",
        "First and last in each row: a test image; between them $G$ on the line between the means "
        "of their $z$. The generator of the game has no encoder: figure 3 interpolates between "
        "random $z$ instead.",
    )


def _kl_text(vaes: Sequence[RunScores], n_train: int, errors: Mapping[str, float]) -> Text:
    """Return a paragraph comparing the encoder's information with the nearest neighbor's index."""
    nats = statistics.fmean(vae.kl or 0.0 for vae in vaes)
    return Text(
        f"On average, $z$ carries {nats:.1f} nats of information about a test image (the "
        "divergence in the bound), from which $G$ reconstructs it. The index of the nearest of "
        rf"{n_train:,} training images carries up to $\log$ {n_train:,} = "
        f"{math.log(n_train):.1f} nats. The mean squared error per pixel is {errors[VAE]:.4f} for "
        f"a reconstruction, {errors['nearest']:.4f} for the nearest training image and "
        f"{errors['mean']:.4f} for the mean training image."
    )


def _table(name: str, scores: Mapping[str, Sequence[RunScores]], real: Record) -> Table:
    rows: list[tuple[str, ...]] = []
    for model, seeds in scores.items():
        elbos = [score.elbo for score in seeds if score.elbo is not None]
        rows.append(
            (
                model,
                format_mean([score.parzen for score in seeds], "{:.1f}"),
                format_mean(elbos, "{:.1f}") if elbos else "none",
                format_mean([score.energy for score in seeds], "{:.2f}"),
                format_mean([score.seconds for score in seeds], "{:,.0f}"),
            )
        )
    rows.append((REAL, f"{real['mean']:.1f}", "", "", ""))
    return Table(
        f"On {name}: Parzen log-likelihood of test images (nats, paper's grid) with EMA weights; "
        "ELBO (nats, binary pixels); gradient energy of samples relative to test images; CPU "
        "seconds of training.",
        ("samples", "Parzen", "ELBO (VAE only)", "relative energy", "CPU seconds"),
        tuple(rows),
    )


def _blur_checks(scores: Mapping[str, Sequence[RunScores]]) -> Iterator[Check]:
    energy = {n: statistics.fmean(score.energy for score in seeds) for n, seeds in scores.items()}
    for name in [name for name in energy if name != VAE]:
        yield Check(
            f"samples of the VAE are blurrier than those of {name}: relative gradient energy",
            f"less than {energy[name]:.2f}",
            f"{energy[VAE]:.2f}",
            energy[VAE] < energy[name],
        )


def _reconstruction_checks(reconstructions: Reconstructions, *, full: bool) -> Iterator[Check]:
    """Compare reconstructions with baselines that need no network.

    At quick scale the nearest training image is closer, so only the mean image is compared.
    """
    error = reconstructions.errors[VAE]
    for baseline in ("nearest", "mean") if full else ("mean",):
        yield Check(
            f"reconstructions are closer to test images than the {baseline} training image: mean "
            "squared error per pixel",
            f"less than {reconstructions.errors[baseline]:.4f}",
            f"{error:.4f}",
            error < reconstructions.errors[baseline],
        )
