"""Samples that D judges most real, out of more that are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import singledispatch
from itertools import tee
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advnets import config
from advnets.data.class_proportions import ClassProportions, Labels, check_labels
from advnets.data.normalization import Normalizer
from advnets.errors import UsageError
from advnets.games.inference import pairs
from advnets.protocols import ConditionalDiscriminator, Discriminator
from advnets.rng import RNG
from advnets.sampling.sampler import (
    BLOCK,
    ComputeSettings,
    concatenate_blocks,
    generate_batches,
    latent_blocks,
)

Logits = Float[Tensor, " batch"]
ArraySplit = Float[Tensor, "batch channels height width"]
Latents = Float[Tensor, "batch latent"]


@dataclass(frozen=True)
class DiscriminatorRejection:
    """Of each 500 samples drawn, the share `keep` with the largest a(x) stays.

    What stays is no draw from p_g any more but from its part that D finds most like data: worse
    samples go, and with them variety. Source: Goodfellow et al. 2014, section 7, extension 5;
    Azadi et al. 2019, "Discriminator rejection sampling", accept by chance instead.

    Raises:
        UsageError: the share is not from 1/500 to 1, or D judges several images at once.
    """

    keep_fraction: float
    game: config.BaseGame
    discriminator: nn.Module
    classes: int = 0
    """How many a conditional generator makes."""

    def __post_init__(self) -> None:
        if not 1 / BLOCK <= self.keep_fraction <= 1:
            raise UsageError(f"keep is {self.keep_fraction}; it must be from {1 / BLOCK} to 1")
        if isinstance(self.game, config.GANGame) and self.game.pac > 1:
            raise UsageError(
                f"keep is {self.keep_fraction}, and D judges packs of {self.game.pac} images, none "
                "alone; leave --keep-fraction out"
            )

    @property
    def num_kept(self) -> int:
        """Samples that stay of a block."""
        return round(BLOCK * self.keep_fraction)

    @property
    def effective_fraction(self) -> float:
        """What that is of a block."""
        return self.num_kept / BLOCK


def sample_with_rejection(
    generator: nn.Module,
    normalizer: Normalizer,
    n: int,
    seed: int,
    settings: ComputeSettings,
    rejection: DiscriminatorRejection,
    labels: Labels | None = None,
) -> Float[Tensor, "n channels height width"]:
    """Draw n samples as pixels in [0, 1], on the host, in eval mode, the worst left out.

    They stay in the order of their drawing. The choice is made within each block, and within each
    class of a block, so that the first samples of a seed do not depend on n, and classes stay as
    frequent as they were asked for.

    Raises:
        UsageError: a conditional generator is given neither labels nor shares, or not n labels.
    """
    return concatenate_blocks(
        sample_blocks_with_rejection(generator, normalizer, n, seed, settings, rejection, labels), n
    )


@torch.no_grad()
def sample_blocks_with_rejection(
    generator: nn.Module,
    normalizer: Normalizer,
    n: int,
    seed: int,
    settings: ComputeSettings,
    rejection: DiscriminatorRejection,
    labels: Labels | None = None,
) -> Iterator[Float[Tensor, "kept channels height width"]]:
    """Yield the same samples block by block; the last block is cut at n."""
    if isinstance(labels, Tensor):
        check_labels(labels, n, rejection.classes)
    kept = rejection.num_kept
    blocks = -(-n // kept)
    asked = _asked(rejection, blocks, seed, labels)
    wanted = torch.zeros(blocks, kept, dtype=torch.int64) if asked is None else asked
    offered = num_candidates(wanted)
    told = None if asked is None else offered.flatten()
    judged, shown = tee(latent_blocks(generator, blocks * BLOCK, seed, settings.device, told))
    drawn = generate_batches(generator, shown, settings)
    for number, (z, x) in enumerate(zip(judged, drawn, strict=True)):
        with torch.autocast(
            settings.device.type, settings.precision, enabled=settings.precision != torch.float32
        ):
            logits = rejection_logits(
                rejection.game, rejection.discriminator, x, z, rejection.classes
            )
        chosen = select_best(logits.float().cpu(), offered[number], wanted[number])
        yield normalizer.to_pixels(x).float().cpu()[chosen][: n - number * kept]


def num_candidates(asked: Int[Tensor, "blocks kept"]) -> Int[Tensor, "blocks block"]:
    """The classes of the candidates of each block: as many times as are asked for, for each class.

    Within one candidate, so that of every class the same share stays.
    """
    share = torch.arange(BLOCK) * asked.shape[1] // BLOCK
    return asked.sort(dim=1, stable=True).values[:, share]


def select_best(
    logits: Float[Tensor, " num_candidates"],
    classes: Int[Tensor, " num_candidates"],
    asked: Int[Tensor, " kept"],
) -> Int[Tensor, " kept"]:
    """For each class as many of its candidates as are asked for, those of the largest logits.

    They are in the order of the candidates, each where its class is asked for; of equals the
    earlier one is taken.
    """
    chosen = torch.empty_like(asked)
    for number in asked.unique():
        candidates, places = (some.eq(number).nonzero().flatten() for some in (classes, asked))
        order = logits[candidates].argsort(descending=True, stable=True)
        chosen[places] = candidates[order[: len(places)].sort().values]
    return chosen


@singledispatch
def rejection_logits(
    game: config.BaseGame,  # noqa: ARG001
    net: nn.Module,
    x: ArraySplit,
    z: Latents,  # noqa: ARG001
    classes: int,  # noqa: ARG001
) -> Logits:
    """a(x) of samples x = G(z), as the game shows D its images."""
    return cast(Discriminator, net)(x)


@rejection_logits.register
def _(
    game: config.ConditionalGame,  # noqa: ARG001
    net: nn.Module,
    x: ArraySplit,
    z: Latents,
    classes: int,
) -> Logits:
    return cast(ConditionalDiscriminator, net)(x, None, z[:, -classes:].argmax(1))


@rejection_logits.register
def _(
    game: config.ALIGame,  # noqa: ARG001
    net: nn.Module,
    x: ArraySplit,
    z: Latents,
    classes: int,  # noqa: ARG001
) -> Logits:
    return cast(Discriminator, net)(pairs(x, z))


@rejection_logits.register
def _(
    game: config.InpaintingGame,  # noqa: ARG001
    net: nn.Module,
    x: ArraySplit,
    z: Latents,  # noqa: ARG001
    classes: int,  # noqa: ARG001
) -> Logits:
    return cast(Discriminator, net)(torch.cat((x, torch.zeros_like(x[:, :1])), 1))  # nothing known


def _asked(
    rejection: DiscriminatorRejection, blocks: int, seed: int, labels: Labels | None
) -> Int[Tensor, "blocks kept"] | None:
    """The class of each of whole blocks of samples: as given, over and over, or drawn."""
    if labels is None:
        return None
    n = blocks * rejection.num_kept
    if isinstance(labels, ClassProportions):
        found = labels.draw(RNG(seed, purpose="samples").uniform("class asked for", n))
    else:
        found = labels.cpu().long()[torch.arange(n) % len(labels)]
    return found.view(blocks, rejection.num_kept)
