"""A small restricted Boltzmann machine (scikit-learn's), sampled by Gibbs chains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from advnets.errors import require
from advnets.paper.studies.sample_statistics import correlation

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
            paused = time.perf_counter()
            images.append(_visible_probabilities(rbm, state, rng))
            excluded += time.perf_counter() - paused
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
