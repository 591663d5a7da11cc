"""Table 2: what each approach to deep generative modeling finds hard, and what can be measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

from jaxtyping import Float
from torch import Tensor

from advnets.data.dataset import Split
from advnets.data.prepared import PreparedData, open_data
from advnets.experiment.trained_model import TrainedModel
from advnets.metrics.distance import nearest
from advnets.paper.blocks import Block, Check, SectionContent, SectionContext, Table, Text, literal
from advnets.paper.studies.gibbs_chains import CHAINS, FILM, Sampled, Station, machine, sampled
from advnets.paper.studies.gradient_path import Exchange, begun_apart, exchange, plays
from advnets.paper.studies.sample_statistics import correlation, gallery, sharpness
from advnets.paper.trainings import scored_run
from advnets.sampling.sampler import read_pixel_rows

LENGTHS = (1, 10, 100, 1000)
"""Steps of the Gibbs chains."""
DRAWN = 2000
"""Samples of G that are looked at."""
TIMINGS = 5
"""Times that G is timed; the median counts."""

PAPER = Table(
    "Table 2 of the paper in our words: what is hard about each thing that one does with a deep "
    "generative model, be it a directed graphical model, an undirected one, a generative "
    "autoencoder, or adversarial nets.",
    ("", "directed", "undirected", "autoencoder", "adversarial"),
    (
        (
            "Training",
            "needs inference at every step",
            "needs inference at every step, and a Markov chain for the gradient of the partition "
            "function",
            "a forced compromise: to mix well, or to rebuild well what it generates",
            "$D$ must be kept in step with $G$, else Helvetica",
        ),
        (
            "Inference",
            "approximate, and learned",
            "variational",
            "by Markov chain",
            "approximate, and learned",
        ),
        (
            "Sampling",
            "nothing is hard",
            "needs a Markov chain",
            "needs a Markov chain",
            "nothing is hard",
        ),
        (
            "Evaluating $p(x)$",
            "intractable; AIS approximates it",
            "intractable; AIS approximates it",
            "nowhere explicit; a Parzen window approximates it",
            "nowhere explicit; a Parzen window approximates it",
        ),
        (
            "Model design",
            "the model must suit the way it is inferred; some ways allow nearly the models that "
            "adversarial nets allow",
            "must be made with care to have several properties at once",
            "any differentiable function, in theory",
            "any differentiable function, in theory",
        ),
    ),
)


@dataclass(frozen=True)
class Drawn:
    """G's samples and what one of them took."""

    images: Float[Tensor, "n channels height width"]
    seconds: float


def show(context: SectionContext) -> SectionContent:
    """The table, its sampling row in figures, and how real images reach G."""
    trained = scored_run(context)
    spec = replace(trained.config.data, directory=context.data_dir)
    data = open_data(spec)
    real = read_pixel_rows(cast(Split, data.dataset.train), slice(None))
    context.tell("a restricted Boltzmann machine, and its Gibbs chains")
    size = (500, 20, 0.01) if context.full else (128, 50, 0.05)
    rbm = machine(real, *size, context.seed)
    chains, drawn = sampled(rbm, LENGTHS, context.seed), _drawn(trained)
    context.tell("G's update with another batch of real images")
    digits = open_data(replace(spec, source="digits"))
    exchanged = [exchange(play, stage, digits) for play, stage in plays().items()]
    images = real.unflatten(1, data.info.shape)
    measured, looked = _measured(literal(data.info.name), images, drawn, chains, full=context.full)
    update, learned = _through_d(exchanged, digits)
    return SectionContent(
        blocks=(
            PAPER,
            Text(
                "Helvetica is the paper's name for a $G$ that sends too many values of $z$ to the "
                "same $x$. What the table says of sampling is measured below: "
                f"$G$ draws by one forward pass; a restricted Boltzmann machine of "
                f"{len(rbm.components_)} hidden units, trained on the same images, draws by a "
                "Markov chain, which begins at noise and samples all pixels and all hidden "
                "units in turn."
            ),
            context.image(
                "samples.png",
                gallery(_rows(images, drawn, chains)),
                "Rows of digits: real, of G, of Gibbs chains after 1 to 1,000 steps, of one chain",
                "Real images; samples of $G$; chains begun at noise, each image from a chain "
                f"of its own; last, {FILM} steps one after the other of a single chain. "
                "A chain's image is $p(v = 1 | h)$: without the noise of single pixels.",
            ),
            measured,
            Text(
                "Sharpness is the mean absolute difference of neighboring pixels; blur lowers it, "
                "noise raises it, so it is good where it is that of real images. The "
                "correlation is of a sample and the one before, the sum over pixels of their "
                "covariances by that of their variances: a chain's next state resembles its "
                "last, and a sample that does not resemble it costs many steps. The time is of "
                f"{CHAINS} samples drawn at once on this machine, divided by {CHAINS}. The row of "
                "the variational autoencoder (VAE) is filled when it is built."
            ),
            *update,
        ),
        checks=(*looked, *learned),
    )


def _drawn(trained: TrainedModel) -> Drawn:
    """Draw from G; time as many at once as there are chains."""
    trained.sample(CHAINS)  # the first call is slower than those to come
    seconds: list[float] = []
    for seed in range(TIMINGS):
        began = time.perf_counter()
        trained.sample(CHAINS, seed=seed)
        seconds.append(time.perf_counter() - began)
    return Drawn(trained.sample(DRAWN), sorted(seconds)[TIMINGS // 2] / CHAINS)


def _rows(images: Tensor, drawn: Drawn, chains: Sampled) -> dict[str, Tensor]:
    shape = images.shape[1:]
    return {
        "real": images,
        "G": drawn.images,
        **{
            f"Gibbs, {_steps(station.steps)}": station.images.unflatten(1, shape)
            for station in chains.stations
        },
        "one chain": chains.film.unflatten(1, shape),
    }


def _steps(count: int) -> str:
    return f"{count:,} step{'s' * (count > 1)}"


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:,.0f} µs"


def _measured(
    name: str, images: Tensor, drawn: Drawn, chains: Sampled, *, full: bool
) -> tuple[Table, tuple[Check, ...]]:
    """What samples cost and how they look, of G and of the chains."""
    flat, last = drawn.images.flatten(1), chains.stations[-1]
    alike = correlation(flat[:-1], flat[1:])
    real, of_g = sharpness(images), sharpness(drawn.images)
    *of_chains, of_states = (
        sharpness(rows.unflatten(1, images.shape[1:]))
        for rows in (*(station.images for station in chains.stations), chains.states)
    )

    def row(label: str, seconds: str, sharp: float, alike: str) -> tuple[str, ...]:
        return label, seconds, f"{sharp:.3f}", f"{sharp / real:.0%}", alike

    state = Table(
        f"Sampling, measured on {name}.",
        ("", "time a sample", "sharpness", "of real", "correlation"),
        (
            row("real images", "", real, ""),
            row("$G$, one forward pass", _microseconds(drawn.seconds), of_g, f"{alike:.3f}"),
            *(
                row(
                    f"RBM, every {_steps(station.steps)}",
                    _microseconds(station.seconds),
                    sharp,
                    f"{station.correlation:.3f}",
                )
                for station, sharp in zip(chains.stations, of_chains, strict=True)
            ),
            row("RBM, its states, 0 or 1", "", of_states, ""),
            ("VAE", *("when it is built",) * 4),
        ),
    )
    times = last.seconds / drawn.seconds
    return state, (
        Check(
            f"a sample of $G$ costs less than one of a chain of {last.steps:,} steps",
            "a tenth or less",
            f"1/{times:,.0f}",
            times >= 10,
        ),
        Check(
            "samples of $G$ one after the other are independent",
            "correlation within .05 of 0",
            f"{alike:.4f}",
            abs(alike) <= 0.05,
        ),
        Check(
            "a chain's next step resembles its last",
            "correlation .2 or more",
            f"{chains.stations[0].correlation:.3f}",
            chains.stations[0].correlation >= 0.2,
        ),
        Check(
            "samples of $G$ are as sharp as real images",
            "sharpness within 15% of theirs",
            f"{of_g / real:.1%}",
            abs(of_g / real - 1) <= 0.15,
        ),
        *(_hard(last, of_chains[-1] / real) if full else _easy(chains.stations, images.flatten(1))),
    )


def _hard(last: Station, share: float) -> Iterator[Check]:
    """What the chains of a large machine fail at; `share` is their sharpness beside real."""
    yield Check(
        f"after {last.steps:,} steps the chains' images are blurred, or the chains do not "
        "mix: as many steps more leave them alike",
        "sharpness 90% of real or less, or correlation .2 or more",
        f"{share:.1%}, {last.correlation:.3f}",
        share <= 0.9 or last.correlation >= 0.2,
    )


def _easy(stations: Sequence[Station], real: Float[Tensor, "n pixels"]) -> Iterator[Check]:
    """What the chains of a small machine, which mix, still need more than one step for."""
    first, last = stations[0], stations[-1]
    near, far = (float(nearest(one.images, real)[0].mean()) for one in (last, first))
    yield Check(
        f"{_steps(first.steps)} from noise is too few: the chains' images are farther from the "
        f"nearest training images than after {_steps(last.steps)}",
        "1.05 times as far, or more",
        f"{far / near:.3f}",
        far >= 1.05 * near,
    )
    yield Check(
        f"{_steps(last.steps)} more are enough for these small chains: no resemblance is left",
        "correlation within .1 of 0",
        f"{last.correlation:.4f}",
        abs(last.correlation) <= 0.1,
    )


def _through_d(
    exchanged: list[Exchange], digits: PreparedData
) -> tuple[tuple[Block, ...], tuple[Check, ...]]:
    """How real images reach G: through D, and once through its initial output bias."""
    marginals, constant = (begun_apart(digits, bias) for bias in ("marginals", 0.0))
    largest = max((float(part.abs().max()) for part in marginals.values()), default=0.0)
    blocks = (
        Text(
            "$G$ is never shown an image: its gradient comes through $D$ alone. Held to that: "
            "$D$ is frozen, and $G$ is updated twice from the same state with the same $z$, "
            "dropout masks and non-saturating loss, but with another batch of real images. What "
            "differs is counted, to the bit (preset `digits`, in either scale)."
        ),
        Table(
            "What another batch of real images changes while $D$ is frozen: numbers of $G$ that "
            "differ after its update, beside those that the update moved at all, and numbers that "
            "differ in the gradient that $D$ does not follow.",
            ("play", "$G$ differs", "$G$ moved", "gradient of $D$ differs"),
            tuple(
                (
                    done.play,
                    f"{done.generator:,} of {done.of:,}",
                    f"{done.moved:,}",
                    f"{done.discriminator:,}",
                )
                for done in exchanged
            ),
        ),
        Text(
            "There is one exception. With `output_bias` at `marginals`, as in the authors' files, "
            "the output bias of $G$ begins where the output is the mean training image: $G$ is "
            "given that before the game. Between halves of the training images it differs by up "
            f"to {largest:.2f}; nothing else of the initial $G$ does. And a condition: $D$ has no "
            "batch norm. With it, in simultaneous play, real images are in the statistics that "
            "fakes are normalized by, and the frozen $D$ still hands something of them on."
        ),
    )
    checks = (
        *(
            Check(
                f"with $D$ frozen, {done.play}: another real batch leaves $G$'s update as it is",
                "0 numbers differ, and some move",
                f"{done.generator:,} differ, {done.moved:,} move",
                done.generator == 0 and done.moved > 0,
            )
            for done in exchanged
        ),
        Check(
            "that batch would have changed $D$'s own update, in every way of play",
            "some numbers differ",
            ", ".join(f"{done.discriminator:,}" for done in exchanged),
            all(done.discriminator > 0 for done in exchanged),
        ),
        Check(
            "what data reach the initial $G$ with `output_bias` at `marginals`",
            "`output.bias` alone",
            ", ".join(f"`{name}`" for name in marginals) or "nothing",
            list(marginals) == ["output.bias"],
        ),
        Check(
            "and with `output_bias` at 0",
            "nothing",
            ", ".join(f"`{name}`" for name in constant) or "nothing",
            not constant,
        ),
    )
    return blocks, checks
