"""Sums of z: what is common to some samples, added to others or taken from them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from advnets.data.dataset import Split, num_train_images
from advnets.data.spec import path_exists
from advnets.errors import UsageError
from advnets.evaluation.registry import EXTRACTORS
from advnets.experiment.trained_model import TrainedModel
from advnets.extractors.builtin import CLASSIFIER_DIGESTS, load_classifier
from advnets.metrics.distance import nearest
from advnets.plots.image_grid import grid
from advnets.rng import RNG
from advnets.sampling.sampler import read_images as some_images
from advnets.visualize.figure import Figure, above, beside, of_run
from advnets.visualize.projection import project, read_images

SIGNS = {"+": 1.0, "-": -1.0}
REACH = 0.25
"""How far neighbors of the result lie from it, in each number of z, at most."""
_CLASS = "class:"


@dataclass(frozen=True)
class Term:
    """Some exemplars, and whether their mean is added or taken away."""

    sign: str
    exemplars: tuple[str, ...]


def terms(text: str) -> tuple[Term, ...]:
    """Read sums such as `3,17,20 - 5,8,9 + class:7`.

    Raises:
        UsageError: it cannot be read so.
    """
    words = shlex.split(text)
    words = words if words[:1] and words[0] in SIGNS else ["+", *words]
    signs, groups = words[::2], words[1::2]
    found = tuple(
        Term(sign, tuple(group.split(","))) for sign, group in zip(signs, groups, strict=False)
    )
    wrong = len(signs) != len(groups) or not {*signs} <= {*SIGNS} or not found
    if wrong or not all(all(term.exemplars) for term in found):
        raise UsageError(
            f"the sum {text!r} cannot be read; give one such as '3,17,20 - 5,8,9 + class:7', of "
            "numbers of samples, classes and paths of images, with spaces about each sign"
        )
    return found


def arithmetic(
    trained: TrainedModel,
    *,
    expression: str,
    seed: int = 0,
    radius: float = REACH,
) -> Figure:
    """A row for each term, its exemplars and G of their mean z; then G of the sum of the means.

    The sum is the middle one of nine; around it are its neighbors, to whose z uniform noise within
    ± `reach` is added. Exemplars are samples of the seed by number (as `advnets sample` gives
    them), `class:NAME` (the first three samples of a class), or images, projected back to z.
    Source: Radford et al. 2015, section 6.3.2: single samples are unstable, means of three are not.

    Raises:
        UsageError: the sum cannot be read, or names a sample, class or image that is not there.
    """
    asked = terms(expression)
    latents = [_latents(trained, term, seed) for term in asked]
    means = [z.mean(0) for z in latents]
    total = torch.zeros_like(means[0])
    for term, mean in zip(asked, means, strict=True):
        total += SIGNS[term.sign] * mean
    rng = RNG(seed, purpose="arithmetic", device=trained.device)
    around = total + rng.uniform("neighbours", 9, len(total), low=-radius, high=radius)
    around[4] = total
    shown = [
        grid(trained.decode(torch.cat((z, mean[None]))), columns=len(z) + 1)
        for z, mean in zip(latents, means, strict=True)
    ]
    return Figure(
        beside(above(*shown), grid(trained.decode(around), columns=3)),
        of_run(
            trained,
            view="arithmetic",
            sum=expression,
            seed=seed,
            reach=radius,
            terms=[
                {"sign": term.sign, "exemplars": list(term.exemplars), "mean": mean.tolist()}
                for term, mean in zip(asked, means, strict=True)
            ],
            result=total.tolist(),
        ),
    )


def _latents(trained: TrainedModel, term: Term, seed: int) -> Float[Tensor, "exemplars latent"]:
    """The z of a term's exemplars."""
    found: list[Tensor] = []
    for exemplar in term.exemplars:
        if exemplar.isdecimal():
            found.append(trained.latents(int(exemplar) + 1, seed=seed)[-1:])
        elif exemplar.startswith(_CLASS):
            name = exemplar.removeprefix(_CLASS)
            found.append(latents_of_class(trained, name, seed=seed))
        elif path_exists(exemplar):
            images = read_images(trained, [Path(exemplar)])
            found.append(project(trained, images, seed=seed).latents)
        else:
            raise UsageError(
                f"exemplar {exemplar!r} is neither the number of a sample, nor class:NAME, nor "
                "the path of an image; give one of these"
            )
    return torch.cat(found)


EXEMPLARS = 3
"""Samples that stand for a class (Radford et al. 2015, figure 7)."""
LOOKED_AT = 1000
"""Samples among which those of a class are sought."""
_KNOWN, _VOTES = 10_000, 5


def latents_of_class(
    trained: TrainedModel, name: str, *, seed: int = 0
) -> Float[Tensor, "exemplars latent"]:
    """The z of the first three samples of a class: told to make it, or seen to be of it.

    Raises:
        UsageError: the data has no labels, or too few samples are of the class.
        UnknownNameError: it has no such class.
    """
    number = trained.info.class_index(name)
    if trained.conditional:
        return trained.latents(EXEMPLARS, seed=seed, label_index=number)
    seen = classes_of(trained, trained.sample(LOOKED_AT, seed=seed))
    which = (seen == number).nonzero().flatten()[:EXEMPLARS]
    if len(which) < EXEMPLARS:
        raise UsageError(
            f"of the first {LOOKED_AT:,} samples of seed {seed} {len(which)} are of class {name}, "
            f"and {EXEMPLARS} are needed; give samples by their numbers"
        )
    return trained.latents(LOOKED_AT, seed=seed)[which]


def classes_of(
    trained: TrainedModel, images: Float[Tensor, "n channels height width"]
) -> Int[Tensor, " n"]:
    """The class of each image: by the package's classifier of this set, else by its neighbors.

    The neighbors are the five nearest of at most 10,000 labeled training images, by pixels.
    """
    known = EXTRACTORS.get(trained.info.name)
    if known in CLASSIFIER_DIGESTS:
        return load_classifier(known).logits(images).argmax(1)
    train = cast(Split, trained.open_data().dataset.train)
    count = min(_KNOWN, num_train_images(train) or 0)
    labels = torch.from_numpy(train.labels)[:count]
    _, which = nearest(
        images.flatten(1), some_images(train, slice(count)).flatten(1), min(_VOTES, count)
    )
    return labels[which].mode(1).values
