"""Sums of z: what is common to some samples, added to others or taken from them."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.data.names import is_path
from advnets.errors import UsageError
from advnets.experiment.trained_model import Trained
from advnets.rng import RNG
from advnets.views.image_grid import grid
from advnets.visualize.classes import latents_of_class
from advnets.visualize.figure import Look, above, beside, of_run
from advnets.visualize.projection import project, read_pictures

SIGNS = {"+": 1.0, "-": -1.0}
REACH = 0.25
"""How far neighbours of the result lie from it, in each number of z, at most."""
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
            "numbers of samples, classes and paths of pictures, with spaces about each sign"
        )
    return found


def arithmetic(
    trained: Trained,
    *,
    expression: str,
    seed: int = 0,
    reach: float = REACH,
) -> Look:
    """A row for each term, its exemplars and G of their mean z; then G of the sum of the means.

    The sum is the middle one of nine; around it are its neighbours, to whose z uniform noise within
    ± `reach` is added. Exemplars are samples of the seed by number (as `advnets sample` gives
    them), `class:NAME` (the first three samples of a class), or pictures, projected back to z.
    Source: Radford et al. 2015, section 6.3.2: single samples are unstable, means of three are not.

    Raises:
        UsageError: the sum cannot be read, or names a sample, class or picture that is not there.
    """
    asked = terms(expression)
    latents = [_latents(trained, term, seed) for term in asked]
    means = [z.mean(0) for z in latents]
    total = torch.zeros_like(means[0])
    for term, mean in zip(asked, means, strict=True):
        total += SIGNS[term.sign] * mean
    noise = RNG(seed, purpose="arithmetic", device=trained.device)
    around = total + noise.uniform("neighbours", 9, len(total), low=-reach, high=reach)
    around[4] = total
    shown = [
        grid(trained.pictures(torch.cat((z, mean[None]))), columns=len(z) + 1)
        for z, mean in zip(latents, means, strict=True)
    ]
    return Look(
        beside(above(*shown), grid(trained.pictures(around), columns=3)),
        of_run(
            trained,
            view="arithmetic",
            sum=expression,
            seed=seed,
            reach=reach,
            terms=[
                {"sign": term.sign, "exemplars": list(term.exemplars), "mean": mean.tolist()}
                for term, mean in zip(asked, means, strict=True)
            ],
            result=total.tolist(),
        ),
    )


def _latents(trained: Trained, term: Term, seed: int) -> Float[Tensor, "exemplars latent"]:
    """The z of a term's exemplars."""
    found: list[Tensor] = []
    for exemplar in term.exemplars:
        if exemplar.isdecimal():
            found.append(trained.latents(int(exemplar) + 1, seed=seed)[-1:])
        elif exemplar.startswith(_CLASS):
            name = exemplar.removeprefix(_CLASS)
            found.append(latents_of_class(trained, name, seed=seed))
        elif is_path(exemplar):
            pictures = read_pictures(trained, [Path(exemplar)])
            found.append(project(trained, pictures, seed=seed).latents)
        else:
            raise UsageError(
                f"exemplar {exemplar!r} is neither the number of a sample, nor class:NAME, nor "
                "the path of a picture; give one of these"
            )
    return torch.cat(found)
