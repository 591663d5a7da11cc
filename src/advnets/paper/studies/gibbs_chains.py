"""A small restricted Boltzmann machine, scikit-learn's, sampled by Gibbs chains."""

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

CHAINS = 500
"""Side by side, as many as G draws at once."""
FILM = 14
"""Steps in a row of one chain that are kept."""


@dataclass(frozen=True)
class Station:
    """The chains after so many steps from noise."""

    steps: int
    seconds: float
    """Of one chain's steps, with all chains side by side."""
    images: Float[Tensor, "chains pixels"]
    correlation: float
    """Of the sample that so many steps more give, once the chains have forgotten the noise."""


@dataclass(frozen=True)
class Sampled:
    """What the chains of one machine gave."""

    stations: tuple[Station, ...]
    film: Float[Tensor, "steps pixels"]
    """One chain, step by step."""
    states: Float[Tensor, "chains pixels"]
    """The chains where they ended: each pixel drawn, 0 or 1."""


def machine(
    images: Float[Tensor, "n pixels"], hidden: int, passes: int, lr: float, seed: int = 0
) -> Any:
    """Train a restricted Boltzmann machine; pixels in [0, 1] are probabilities of being lit.

    scikit-learn's `BernoulliRBM`: persistent contrastive divergence (Tieleman 2008).

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    network: Any = require("sklearn.neural_network", "paper")
    rbm = network.BernoulliRBM(
        hidden, learning_rate=lr, batch_size=10, n_iter=passes, random_state=seed
    )
    return rbm.fit(images.numpy())


def sampled(rbm: Any, lengths: Sequence[int], seed: int = 0) -> Sampled:
    """Run chains from noise, look at them after each of these lengths; then as long again."""
    rng = np.random.default_rng(seed)
    state = rng.random((CHAINS, rbm.components_.shape[1])) < 0.5
    rbm.gibbs(state)  # the first call is slower than those to come
    seconds: list[float] = []
    images: list[Tensor] = []
    correlations: list[float] = []
    began, looking = time.perf_counter(), 0.0
    for step in range(1, max(lengths) + 1):
        state = rbm.gibbs(state)
        if step in lengths:
            seconds.append((time.perf_counter() - began - looking) / CHAINS)
            paused = time.perf_counter()
            images.append(_shown(rbm, state, rng))
            looking += time.perf_counter() - paused
    origin, film = images[-1], [images[-1][0]]
    for step in range(1, max(lengths) + 1):
        state = rbm.gibbs(state)
        if step < FILM:
            film.append(_shown(rbm, state, rng)[0])
        if step in lengths:
            correlations.append(correlation(origin, _shown(rbm, state, rng)))
    told = zip(sorted(lengths), seconds, images, correlations, strict=True)
    return Sampled(
        tuple(Station(*station) for station in told),
        torch.stack(film),
        torch.from_numpy(state).float(),
    )


def _shown(rbm: Any, state: np.ndarray, rng: np.random.Generator) -> Float[Tensor, "chains pixels"]:
    """p(v = 1 | h) for an h of each state: without the noise of single pixels."""
    hidden = rng.random((len(state), len(rbm.components_))) < rbm.transform(state)
    inputs = hidden @ rbm.components_ + rbm.intercept_visible_
    return torch.sigmoid(torch.from_numpy(inputs).float())
