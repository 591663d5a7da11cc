"""Table 2: challenges of deep generative modeling, and measurements of some of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from advnets import config, presets
from advnets.data.dataset import Split
from advnets.data.prepared import PreparedData, open_data
from advnets.errors import require
from advnets.experiment.players import build_players
from advnets.experiment.trained_model import TrainedModel
from advnets.metrics.distance import nearest
from advnets.paper.blocks import (
    Block,
    Check,
    SectionContent,
    SectionContext,
    Table,
    Text,
    escape_markup,
)
from advnets.paper.studies.sample_statistics import correlation, gallery, sharpness
from advnets.paper.toy import make_state
from advnets.paper.trainings import reference_run
from advnets.protocols import Images
from advnets.sampling.sampler import read_pixel_rows
from advnets.training.step import TrainState, apply_gradients, train_step

LENGTHS = (1, 10, 100, 1000)
"""Steps of the Gibbs chains at which samples are taken."""
NUM_SAMPLES = 2000
"""Number of evaluated samples of G."""
NUM_TIMINGS = 5
"""Number of timings of G, of which the median is reported."""

PAPER_TABLE = Table(
    "Table 2 of the paper, paraphrased: challenges in each operation on a deep generative model, "
    "for directed and undirected graphical models, generative autoencoders and adversarial "
    "networks.",
    ("", "directed", "undirected", "autoencoder", "adversarial"),
    (
        (
            "Training",
            "needs inference at every step",
            "needs inference at every step, and a Markov chain for the gradient of the partition "
            "function",
            "a trade-off between mixing and reconstruction quality",
            "$D$ must be kept in step with $G$, to avoid the Helvetica scenario",
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
            "no difficulties",
            "needs a Markov chain",
            "needs a Markov chain",
            "no difficulties",
        ),
        (
            "Evaluating $p(x)$",
            "intractable; approximated by AIS",
            "intractable; approximated by AIS",
            "not explicit; approximated by Parzen density estimation",
            "not explicit; approximated by Parzen density estimation",
        ),
        (
            "Model design",
            "the model must suit its inference method; some methods allow nearly as many models "
            "as adversarial networks",
            "needs careful design to have several properties at once",
            "any differentiable function, in theory",
            "any differentiable function, in theory",
        ),
    ),
)


@dataclass(frozen=True)
class GeneratorSamples:
    """Samples of G, and the seconds per sample."""

    images: Images
    seconds: float


def build(context: SectionContext) -> SectionContent:
    """Build the section: the paper's table, sampling, and how real images influence G."""
    trained = reference_run(context)
    spec = replace(trained.config.data, directory=context.data_dir)
    data = open_data(spec)
    real = read_pixel_rows(cast(Split, data.dataset.train), slice(None))
    context.log("training a restricted Boltzmann machine and running Gibbs chains")
    size = (500, 20, 0.01) if context.full else (128, 50, 0.05)
    rbm = train_rbm(real, *size, context.seed)
    chains, samples = run_chains(rbm, LENGTHS, context.seed), _draw_and_time(trained)
    context.log("updating G with another batch of real images")
    digits = open_data(replace(spec, source="digits"))
    swaps = [swap_batch(game, stage, digits) for game, stage in game_variants().items()]
    images = real.unflatten(1, data.info.shape)
    sampling_table, sampling_checks = _sampling(
        escape_markup(data.info.name), images, samples, chains, full=context.full
    )
    gradient_blocks, gradient_checks = _gradient_path(swaps, digits)
    return SectionContent(
        blocks=(
            PAPER_TABLE,
            Text(
                "The Helvetica scenario is the paper's name for a $G$ that maps too many values "
                "of $z$ to the same $x$. The statements about sampling are measured below: $G$ "
                "samples with one forward pass; a restricted Boltzmann machine (RBM) with "
                f"{len(rbm.components_)} hidden units, trained on the same images, samples with a "
                "Markov chain, which starts from noise and alternates between sampling all pixels "
                "and all hidden units."
            ),
            context.save_image(
                "samples.png",
                gallery(_rows(images, samples, chains)),
                "Rows of digits: real images, samples of G, Gibbs chains after 1 to 1,000 steps, "
                "one chain",
                "Real images; samples of $G$; Gibbs chains started from noise, each image from a "
                f"separate chain; last, {NUM_CONSECUTIVE} consecutive steps of one chain. The "
                "images of chains are $p(v = 1 | h)$, without the noise of single pixels.",
            ),
            sampling_table,
            Text(
                "Sharpness is the mean absolute difference of neighboring pixels. Blur lowers it "
                "and noise raises it, so it should be close to that of real images. The "
                "correlation is between consecutive samples: the sum over pixels of their "
                "covariances divided by that of their variances. Consecutive states of a chain "
                "resemble each other, and independent samples need many steps. The time is for "
                f"{NUM_CHAINS} samples drawn at once on this machine, divided by {NUM_CHAINS}. The "
                "VAE baseline is measured in section `vae`."
            ),
            *gradient_blocks,
        ),
        checks=(*sampling_checks, *gradient_checks),
    )


def _draw_and_time(trained: TrainedModel) -> GeneratorSamples:
    """Draw samples from G, and time as many at once as there are chains."""
    trained.sample(NUM_CHAINS)  # warm up: the first call is slower
    seconds: list[float] = []
    for seed in range(NUM_TIMINGS):
        start = time.perf_counter()
        trained.sample(NUM_CHAINS, seed=seed)
        seconds.append(time.perf_counter() - start)
    return GeneratorSamples(
        trained.sample(NUM_SAMPLES), sorted(seconds)[NUM_TIMINGS // 2] / NUM_CHAINS
    )


def _rows(images: Tensor, samples: GeneratorSamples, chains: ChainSamples) -> dict[str, Tensor]:
    shape = images.shape[1:]
    return {
        "real": images,
        "G": samples.images,
        **{
            f"Gibbs, {_format_steps(snapshot.steps)}": snapshot.images.unflatten(1, shape)
            for snapshot in chains.snapshots
        },
        "one chain": chains.consecutive.unflatten(1, shape),
    }


def _format_steps(count: int) -> str:
    return f"{count:,} step{'s' * (count > 1)}"


def _format_microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:,.0f} µs"


def _sampling(
    name: str, images: Tensor, samples: GeneratorSamples, chains: ChainSamples, *, full: bool
) -> tuple[Table, tuple[Check, ...]]:
    """Return the table and the checks of the samples of G and of the Gibbs chains."""
    flat, last = samples.images.flatten(1), chains.snapshots[-1]
    adjacent_correlation = correlation(flat[:-1], flat[1:])
    real_sharpness, generator_sharpness = sharpness(images), sharpness(samples.images)
    *chain_sharpness, state_sharpness = (
        sharpness(rows.unflatten(1, images.shape[1:]))
        for rows in (*(snapshot.images for snapshot in chains.snapshots), chains.states)
    )

    def row(label: str, seconds: str, sharp: float, alike: str) -> tuple[str, ...]:
        return label, seconds, f"{sharp:.3f}", f"{sharp / real_sharpness:.0%}", alike

    table = Table(
        f"Sampling, measured on {name}.",
        ("", "time per sample", "sharpness", "relative to real", "correlation"),
        (
            row("real images", "", real_sharpness, ""),
            row(
                "$G$, one forward pass",
                _format_microseconds(samples.seconds),
                generator_sharpness,
                f"{adjacent_correlation:.3f}",
            ),
            *(
                row(
                    f"RBM, every {_format_steps(snapshot.steps)}",
                    _format_microseconds(snapshot.seconds),
                    sharp,
                    f"{snapshot.correlation:.3f}",
                )
                for snapshot, sharp in zip(chains.snapshots, chain_sharpness, strict=True)
            ),
            row("RBM, binary states", "", state_sharpness, ""),
        ),
    )
    ratio = last.seconds / samples.seconds
    return table, (
        Check(
            f"a sample of $G$ takes less time than one of a chain of {last.steps:,} steps",
            "at most 1/10",
            f"1/{ratio:,.0f}",
            ratio >= 10,
        ),
        Check(
            "consecutive samples of $G$ are independent: correlation",
            "0 ± 0.05",
            f"{adjacent_correlation:.4f}",
            abs(adjacent_correlation) <= 0.05,
        ),
        Check(
            "consecutive steps of a chain are correlated",
            "at least 0.2",
            f"{chains.snapshots[0].correlation:.3f}",
            chains.snapshots[0].correlation >= 0.2,
        ),
        Check(
            "samples of $G$ are as sharp as real images: relative sharpness",
            "100% ± 15%",
            f"{generator_sharpness / real_sharpness:.1%}",
            abs(generator_sharpness / real_sharpness - 1) <= 0.15,
        ),
        *(
            _full_chain_checks(last, chain_sharpness[-1] / real_sharpness)
            if full
            else _quick_chain_checks(chains.snapshots, images.flatten(1))
        ),
    )


def _full_chain_checks(last: ChainSnapshot, relative_sharpness: float) -> Iterator[Check]:
    """Yield the check of a large RBM's chains, which blur or do not mix."""
    yield Check(
        f"after {last.steps:,} steps the chains' images are blurred, or the chains do not mix: "
        "relative sharpness, and correlation after as many more steps",
        "sharpness at most 90%, or correlation at least 0.2",
        f"{relative_sharpness:.1%}, {last.correlation:.3f}",
        relative_sharpness <= 0.9 or last.correlation >= 0.2,
    )


def _quick_chain_checks(
    chains: Sequence[ChainSnapshot], real: Float[Tensor, "n pixels"]
) -> Iterator[Check]:
    """Yield the checks of a small RBM's chains, which mix but need more than one step."""
    first, last = chains[0], chains[-1]
    last_distance, first_distance = (
        float(nearest(snapshot.images, real)[0].mean()) for snapshot in (last, first)
    )
    yield Check(
        f"{_format_steps(first.steps)} from noise is not enough: distance to the nearest training "
        f"images, relative to that after {_format_steps(last.steps)}",
        "at least 1.05",
        f"{first_distance / last_distance:.3f}",
        first_distance >= 1.05 * last_distance,
    )
    yield Check(
        f"{_format_steps(last.steps)} more are enough for these small chains: correlation",
        "0 ± 0.1",
        f"{last.correlation:.4f}",
        abs(last.correlation) <= 0.1,
    )


def _gradient_path(
    swaps: list[BatchSwap], digits: PreparedData
) -> tuple[tuple[Block, ...], tuple[Check, ...]]:
    """Return blocks and checks on how real images reach G: through D, and its initial bias."""
    marginals, constant = (initial_differences(digits, bias) for bias in ("marginals", 0.0))
    largest = max((float(difference.abs().max()) for difference in marginals.values()), default=0.0)
    blocks = (
        Text(
            "$G$ never sees a real image: its gradient comes through $D$ alone. The test: $D$ is "
            "frozen, and $G$ is updated twice from the same state with the same $z$, dropout "
            "masks and non-saturating loss, but with different batches of real images. The "
            "numbers that differ in any bit are counted (preset `digits`, at either scale)."
        ),
        Table(
            "Effect of another batch of real images while $D$ is frozen: parameters of $G$ that "
            "differ after its update, parameters that the update changes, and entries of $D$'s "
            "unused gradient that differ.",
            ("game", "$G$ differs", "$G$ changes", "gradient of $D$ differs"),
            tuple(
                (
                    swap.game,
                    f"{swap.generator_differs:,} of {swap.generator_size:,}",
                    f"{swap.generator_moved:,}",
                    f"{swap.discriminator_differs:,}",
                )
                for swap in swaps
            ),
        ),
        Text(
            "There is one exception. With `output_bias` set to `marginals`, as in the authors' "
            "files, the initial output bias of $G$ makes its output the mean training image, "
            "which is information about the data before training. Between halves of the training "
            f"images this bias differs by up to {largest:.2f}; nothing else of the initial $G$ "
            "differs. And there is a condition: $D$ has no batch norm. With batch norm in "
            "simultaneous updates, the statistics that normalize samples include real images, and "
            "even the frozen $D$ passes on information about them."
        ),
    )
    checks = (
        *(
            Check(
                f"with $D$ frozen, {swap.game}: another real batch does not change $G$'s update",
                "0 parameters differ, and some change",
                f"{swap.generator_differs:,} differ, {swap.generator_moved:,} move",
                swap.generator_differs == 0 and swap.generator_moved > 0,
            )
            for swap in swaps
        ),
        Check(
            "the other batch changes $D$'s own gradient, in every game",
            "some entries differ",
            ", ".join(f"{swap.discriminator_differs:,}" for swap in swaps),
            all(swap.discriminator_differs > 0 for swap in swaps),
        ),
        Check(
            "parameters of the initial $G$ that depend on the data with `output_bias` at "
            "`marginals`",
            "`output.bias` only",
            ", ".join(f"`{name}`" for name in marginals) or "none",
            list(marginals) == ["output.bias"],
        ),
        Check(
            "parameters of the initial $G$ that depend on the data with `output_bias` at 0",
            "none",
            ", ".join(f"`{name}`" for name in constant) or "none",
            not constant,
        ),
    )
    return blocks, checks


NUM_CHAINS = 500
"""Number of parallel chains; G draws as many samples at once."""
NUM_CONSECUTIVE = 14
"""Number of consecutive steps of one chain that are kept."""


@dataclass(frozen=True)
class ChainSnapshot:
    """The chains after a number of steps from noise."""

    steps: int
    seconds: float
    """Seconds per chain, with all chains running in parallel."""
    images: Float[Tensor, "chains pixels"]
    correlation: float
    """Correlation between samples this many steps apart, after the initial noise is forgotten."""


@dataclass(frozen=True)
class ChainSamples:
    """Samples of the Gibbs chains of one machine."""

    snapshots: tuple[ChainSnapshot, ...]
    consecutive: Float[Tensor, "steps pixels"]
    """Consecutive steps of one chain."""
    states: Float[Tensor, "chains pixels"]
    """Final states of the chains: each pixel sampled, 0 or 1."""


def train_rbm(
    images: Float[Tensor, "n pixels"], hidden: int, passes: int, lr: float, seed: int = 0
) -> Any:
    """Train a restricted Boltzmann machine; pixels in [0, 1] are probabilities of being 1.

    The algorithm of scikit-learn's `BernoulliRBM` is persistent contrastive divergence (Tieleman
    2008).

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    network: Any = require("sklearn.neural_network", "paper")
    rbm = network.BernoulliRBM(
        hidden, learning_rate=lr, batch_size=10, n_iter=passes, random_state=seed
    )
    return rbm.fit(images.numpy())


def run_chains(rbm: Any, lengths: Sequence[int], seed: int = 0) -> ChainSamples:
    """Run chains from noise for the given lengths, then as long again to measure correlations."""
    rng = np.random.default_rng(seed)
    state = rng.random((NUM_CHAINS, rbm.components_.shape[1])) < 0.5
    rbm.gibbs(state)  # warm up: the first call is slower
    seconds: list[float] = []
    images: list[Tensor] = []
    correlations: list[float] = []
    start, excluded = time.perf_counter(), 0.0
    for step in range(1, max(lengths) + 1):
        state = rbm.gibbs(state)
        if step in lengths:
            seconds.append((time.perf_counter() - start - excluded) / NUM_CHAINS)
            sampling_start = time.perf_counter()
            images.append(_visible_probabilities(rbm, state, rng))
            excluded += time.perf_counter() - sampling_start
    reference, consecutive = images[-1], [images[-1][0]]
    for step in range(1, max(lengths) + 1):
        state = rbm.gibbs(state)
        if step < NUM_CONSECUTIVE:
            consecutive.append(_visible_probabilities(rbm, state, rng)[0])
        if step in lengths:
            correlations.append(correlation(reference, _visible_probabilities(rbm, state, rng)))
    rows = zip(sorted(lengths), seconds, images, correlations, strict=True)
    return ChainSamples(
        tuple(ChainSnapshot(*row) for row in rows),
        torch.stack(consecutive),
        torch.from_numpy(state).float(),
    )


def _visible_probabilities(
    rbm: Any, state: np.ndarray, rng: np.random.Generator
) -> Float[Tensor, "chains pixels"]:
    """Return p(v = 1 | h) for an h sampled from each state, without pixel noise."""
    hidden = rng.random((len(state), len(rbm.components_))) < rbm.transform(state)
    inputs = hidden @ rbm.components_ + rbm.intercept_visible_
    return torch.sigmoid(torch.from_numpy(inputs).float())


WARMUP_ITERATIONS = 20
"""Iterations before D is frozen, so that D has a nonzero gradient."""
BATCHES = 1000, 1001
"""Indices of the two batches for G's update, neither of which was used before."""


@dataclass(frozen=True)
class BatchSwap:
    """The effect of replacing a batch of real images."""

    game: str
    generator_differs: int
    """Parameters of G that differ after its update."""
    generator_size: int
    """Number of parameters of G."""
    generator_moved: int
    """Parameters of G that the update changed."""
    discriminator_differs: int
    """Entries that differ in the unused gradient of the frozen D."""


def game_variants() -> dict[str, config.Stage]:
    """Return stages with different update schemes, all with the non-saturating loss."""
    stage = presets.get_preset("digits").stage
    games = {
        "alternating, fresh fakes": config.GANGame(),
        "alternating, shared fakes": config.GANGame(reuse_fakes=True),
        "simultaneous": config.GANGame(updates="simultaneous"),
    }
    return {name: replace(stage, game=game) for name, game in games.items()}


def swap_batch(game: str, stage: config.Stage, data: PreparedData) -> BatchSwap:
    """Update G twice from the same state, with D frozen and different batches of real images."""
    (before, after, gradient), (_, other_after, other_gradient) = (
        _update_generator(stage, data, at) for at in BATCHES
    )
    return BatchSwap(
        game,
        generator_differs=_count_differing(after, other_after),
        generator_size=sum(parameter.numel() for parameter in after),
        generator_moved=_count_differing(before, after),
        discriminator_differs=_count_differing(gradient, other_gradient),
    )


def initial_differences(data: PreparedData, bias: str | float) -> dict[str, Float[Tensor, "..."]]:
    """Return differences of G's initial parameters between halves of the training images.

    The parameters that differ are given by name; `bias` is the config's initial output bias.
    """
    run = presets.get_preset("digits")
    net = replace(run.stage.generator, output_bias=bias)
    run = run.with_stage(replace(run.stage, generator=net))
    train, shape = cast(Split, data.dataset.train), data.info.shape
    half = len(train) // 2
    first, second = (
        build_players(run, 0, shape, read_pixel_rows(train, half_slice).mean(0).view(shape))[
            "generator"
        ]
        for half_slice in (slice(half), slice(half, None))
    )
    pairs = zip(first.named_parameters(), second.parameters(), strict=True)
    return {name: (a - b).detach() for (name, a), b in pairs if not torch.equal(a, b)}


def _update_generator(
    stage: config.Stage, data: PreparedData, number: int
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return G before and after its update on a batch, and D's unused gradient."""
    state = make_state(stage, presets.get_preset("digits").data, data)
    for _ in range(WARMUP_ITERATIONS):
        train_step(state)
    before, gradient = _generator_parameters(state), list[Tensor]()
    carry, rng = None, state.rng.at_step(WARMUP_ITERATIONS)
    for phase in state.game.phases():
        batch = replace(state.loader.batch_at(number), carry=carry)
        output = state.compute_gradients(
            state.players, phase, batch, rng.fold_in(phase.name), state.precision
        )
        carry = output.carry
        gradient += output.gradients.get("discriminator", ())
        if "generator" in output.gradients:
            only_g = {"generator": output.gradients["generator"]}
            apply_gradients(state, replace(output, gradients=only_g))
    return before, _generator_parameters(state), gradient


def _generator_parameters(state: TrainState) -> list[Tensor]:
    return [p.detach().clone() for p in state.players["generator"].parameters()]


def _count_differing(first: Iterable[Tensor], second: Iterable[Tensor]) -> int:
    return sum(int((a != b).sum()) for a, b in zip(first, second, strict=True))
