"""Discriminator rejection sampling: keep the samples with the largest logits of D."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import tee
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advnets import config
from advnets.data.class_proportions import ClassProportions, Labels, check_labels
from advnets.data.normalization import Normalizer
from advnets.errors import UsageError
from advnets.games.encoders import pairs
from advnets.protocols import ConditionalDiscriminator, Discriminator, Images, Latents, Logits
from advnets.rng import RNG
from advnets.sampling.sampler import (
    BLOCK,
    ComputeSettings,
    concatenate_blocks,
    generate_batches,
    latent_blocks,
)


@dataclass(frozen=True)
class DiscriminatorRejection:
    """Settings of rejection: of each 500 samples keep the fraction with the largest logits a(x).

    The samples kept are not distributed as p_g: they are those that D rates most real, with better
    quality and less variety. Source: Goodfellow et al. 2014, section 7, extension 5. Azadi et al.
    2019, "Discriminator rejection sampling", accept at random instead.

    Raises:
        UsageError: the fraction is not in [1/500, 1], or D takes several images at once.
    """

    keep_fraction: float
    game: config.BaseGame
    discriminator: nn.Module
    classes: int = 0
    """The number of classes of a conditional generator; 0: unconditional."""

    def __post_init__(self) -> None:
        if not 1 / BLOCK <= self.keep_fraction <= 1:
            raise UsageError(f"keep_fraction is {self.keep_fraction}; expected {1 / BLOCK} to 1")
        if isinstance(self.game, config.GANGame) and self.game.pac > 1:
            raise UsageError(
                f"keep_fraction is {self.keep_fraction}, and D takes packs of {self.game.pac} "
                "images, not single ones; leave keep_fraction out"
            )

    @property
    def num_kept(self) -> int:
        """The number of samples kept of a block."""
        return round(BLOCK * self.keep_fraction)

    @property
    def effective_fraction(self) -> float:
        """The fraction of a block that is kept, after rounding."""
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
    """Draw n samples as pixels in [0, 1] on the CPU, by discriminator rejection sampling.

    They are in the order in which they were drawn. Selection is within each block, and within each
    class of a block: the first samples of a seed do not depend on n, and class frequencies are
    those requested.

    Args:
        generator: the generator, on the device of `settings`.
        normalizer: the scaling of its images to pixels.
        n: number of images, at least 1.
        seed: random seed of z.
        settings: device and precision.
        rejection: the fraction to keep, and the discriminator.
        labels: class indices, (n,), or class proportions, for a conditional generator.

    Raises:
        UsageError: a conditional generator is given neither labels nor proportions, or labels of
            another number than n.
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
    """Yield the n samples kept, a block at a time; the last block may be smaller."""
    if isinstance(labels, Tensor):
        check_labels(labels, n, rejection.classes)
    kept = rejection.num_kept
    blocks = -(-n // kept)
    requested = _requested_classes(rejection, blocks, seed, labels)
    kept_classes = torch.zeros(blocks, kept, dtype=torch.int64) if requested is None else requested
    offered_classes = candidate_classes(kept_classes)
    candidate_labels = None if requested is None else offered_classes.flatten()
    latents, latents_copy = tee(
        latent_blocks(generator, blocks * BLOCK, seed, settings.device, candidate_labels)
    )
    images = generate_batches(generator, latents_copy, settings)
    for block, (z, x) in enumerate(zip(latents, images, strict=True)):
        with torch.autocast(
            settings.device.type, settings.precision, enabled=settings.precision != torch.float32
        ):
            logits = rejection_logits(
                rejection.game, rejection.discriminator, x, z, rejection.classes
            )
        chosen = select_best(logits.float().cpu(), offered_classes[block], kept_classes[block])
        yield normalizer.to_pixels(x).float().cpu()[chosen][: n - block * kept]


def candidate_classes(requested: Int[Tensor, "blocks kept"]) -> Int[Tensor, "blocks block"]:
    """Return the classes of the candidates of each block, in proportion to the requested classes.

    The same fraction of every class is kept, up to one candidate per class.
    """
    position = torch.arange(BLOCK) * requested.shape[1] // BLOCK
    return requested.sort(dim=1, stable=True).values[:, position]


def select_best(
    logits: Float[Tensor, " candidates"],
    classes: Int[Tensor, " candidates"],
    requested: Int[Tensor, " kept"],
) -> Int[Tensor, " kept"]:
    """Return the indices of the candidates with the largest logits, per class.

    They are in the order of the candidates, each at the place of its class in `requested`; of
    equal logits the earlier candidate is kept.
    """
    chosen = torch.empty_like(requested)
    for label in requested.unique():
        candidates, positions = (c.eq(label).nonzero().flatten() for c in (classes, requested))
        order = logits[candidates].argsort(descending=True, stable=True)
        chosen[positions] = candidates[order[: len(positions)].sort().values]
    return chosen


def rejection_logits(
    game: config.BaseGame, net: nn.Module, x: Images, z: Latents, classes: int
) -> Logits:
    """Return D's logits a(x) of samples x = G(z), with the inputs that D has in the game."""
    if isinstance(game, config.ConditionalGame):
        # A conditional latent ends in its one-hot class.
        return cast(ConditionalDiscriminator, net)(x, None, z[:, -classes:].argmax(1))
    if isinstance(game, config.ALIGame):
        x = pairs(x, z)
    elif isinstance(game, config.InpaintingGame):
        # Append a mask in which no pixel is known.
        x = torch.cat((x, torch.zeros_like(x[:, :1])), 1)
    return cast(Discriminator, net)(x)


def _requested_classes(
    rejection: DiscriminatorRejection, blocks: int, seed: int, labels: Labels | None
) -> Int[Tensor, "blocks kept"] | None:
    """Return the class of each kept sample of all blocks: given labels repeated, or drawn."""
    if labels is None:
        return None
    n = blocks * rejection.num_kept
    if isinstance(labels, ClassProportions):
        classes = labels.draw(RNG(seed, purpose="samples").uniform("class asked for", n))
    else:
        classes = labels.cpu().long()[torch.arange(n) % len(labels)]
    return classes.view(blocks, rejection.num_kept)
