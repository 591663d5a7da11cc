"""Latent arithmetic: sums and differences of mean latents, and the projection of images to z."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tyro.conf import Positional, arg

from advnets.config import ImagePreprocessing
from advnets.data.dataset import Split, num_train_images
from advnets.data.image_folder.decode import Frame, decode
from advnets.data.image_folder.files import MAX_FILE_BYTES
from advnets.data.spec import path_exists
from advnets.errors import DataError, UsageError
from advnets.evaluation.registry import DEFAULT_EXTRACTORS
from advnets.experiment.trained_model import TrainedModel
from advnets.extractors.builtin import CLASSIFIER_DIGESTS, load_classifier
from advnets.files import read_regular_file
from advnets.metrics.distance import nearest
from advnets.plots.image_grid import grid
from advnets.rng import RNG
from advnets.sampling.sampler import read_images as read_split
from advnets.visualize.figure import Figure, View, ViewData, hstack, vstack

_SIGNS = {"+": 1.0, "-": -1.0}
_CLASS_PREFIX = "class:"

EXEMPLARS_PER_CLASS = 3
"""The number of samples that represent a class (Radford et al. 2015, figure 7)."""
CLASS_CANDIDATES = 1000
"""The number of samples that are searched for samples of a class."""
_LABELED_IMAGES, _NEIGHBORS = 10_000, 5

STARTS, STEPS, LEARNING_RATE = 16, 300, 0.05
"""The number of random starts, the number of steps and the learning rate of a projection."""


@dataclass(frozen=True)
class Arithmetic(View):
    """Add and subtract mean latents of exemplars, and draw the result among its neighbors.

    An image is projected to z, and a class stands for the first three samples of it. Use three
    exemplars in each term: results of single ones are unstable.
    Source: Radford et al. 2015, section 6.3.2.

    Raises:
        UsageError: the sum cannot be parsed, or a sample, class or image in it does not exist.
    """

    examples: ClassVar[tuple[str, ...]] = ("'3,17,20 - 5,8,9 + class:7'",)

    expression: Annotated[Positional[str], arg(metavar="SUM")]
    """Sum of terms, as '3,17,20 - 5,8,9 + class:7'.
    A term lists numbers of samples, paths of images, and classes as class:NAME."""
    radius: float = 0.25
    """Maximum absolute offset of the neighbors from the result, in each component of z."""
    seed: int = 0
    """Seed of the numbered samples, and of the offsets."""

    def compute(self, model: TrainedModel) -> ViewData:
        """Compute each term's exemplars and mean, and nine images: the result and its neighbors."""
        terms = parse_sum(self.expression)
        latents = [_exemplar_latents(model, term, self.seed) for term in terms]
        means = [z.mean(0) for z in latents]
        result = torch.zeros_like(means[0])
        for term, mean in zip(terms, means, strict=True):
            result += _SIGNS[term.sign] * mean
        # Add uniform noise to the result, except at the center of the 3 x 3 grid.
        rng = RNG(self.seed, purpose="arithmetic", device=model.device)
        noise = rng.uniform("neighbours", 9, len(result), low=-self.radius, high=self.radius)
        neighbors = result + noise
        neighbors[4] = result
        tensors = {
            f"term {number}": model.decode(torch.cat((z, mean[None])))
            for number, (z, mean) in enumerate(zip(latents, means, strict=True))
        }
        record = {
            "terms": [
                {"sign": term.sign, "exemplars": list(term.exemplars), "mean": mean.tolist()}
                for term, mean in zip(terms, means, strict=True)
            ],
            "result": result.tolist(),
        }
        return ViewData(tensors | {"result": model.decode(neighbors)}, record)

    def draw(self, data: ViewData) -> Figure:
        """Draw a row for each term, its mean last; to the right the result, at the center of nine.

        The images of the eight neighbors are around it.
        """
        *terms, result = data.tensors.values()
        rows = [grid(images, columns=len(images)) for images in terms]
        return Figure(hstack(vstack(*rows), grid(result, columns=3)))


@dataclass(frozen=True)
class Term:
    """A term of a sum: its exemplars, and the sign of their mean."""

    sign: str
    exemplars: tuple[str, ...]


def parse_sum(text: str) -> tuple[Term, ...]:
    """Parse a sum such as `3,17,20 - 5,8,9 + class:7`.

    Raises:
        UsageError: the text is not a sum.
    """
    words = shlex.split(text)
    words = words if words[:1] and words[0] in _SIGNS else ["+", *words]
    signs, groups = words[::2], words[1::2]
    terms = tuple(
        Term(sign, tuple(group.split(","))) for sign, group in zip(signs, groups, strict=False)
    )
    complete = bool(terms) and len(signs) == len(groups) and {*signs} <= {*_SIGNS}
    if not complete or not all(all(term.exemplars) for term in terms):
        raise UsageError(
            f"the sum {text!r} cannot be parsed; give one such as '3,17,20 - 5,8,9 + class:7', of "
            "sample numbers, classes and paths of images, with a space on each side of a sign"
        )
    return terms


def _exemplar_latents(
    model: TrainedModel, term: Term, seed: int
) -> Float[Tensor, "exemplars latent"]:
    latents: list[Tensor] = []
    for exemplar in term.exemplars:
        if exemplar.isdecimal():
            latents.append(model.latents(int(exemplar) + 1, seed=seed)[-1:])
        elif exemplar.startswith(_CLASS_PREFIX):
            name = exemplar.removeprefix(_CLASS_PREFIX)
            latents.append(class_latents(model, name, seed=seed))
        elif path_exists(exemplar):
            images = read_images(model, [Path(exemplar)])
            latents.append(project(model, images, seed=seed).latents)
        else:
            raise UsageError(
                f"exemplar {exemplar!r} is not valid; expected the number of a sample, class:NAME "
                "or the path of an image: correct the sum"
            )
    return torch.cat(latents)


def class_latents(
    model: TrainedModel, name: str, *, seed: int = 0
) -> Float[Tensor, "exemplars latent"]:
    """Return the z of the first three samples of a class.

    A conditional model draws them; of another one's samples, the classes are estimated.

    Raises:
        UsageError: the data has no labels, or too few samples are of the class.
        UnknownNameError: the data has no such class.
    """
    label = model.info.class_index(name)
    if model.conditional:
        return model.latents(EXEMPLARS_PER_CLASS, seed=seed, label_index=label)
    labels = estimate_classes(model, model.sample(CLASS_CANDIDATES, seed=seed))
    indices = (labels == label).nonzero().flatten()[:EXEMPLARS_PER_CLASS]
    if len(indices) < EXEMPLARS_PER_CLASS:
        raise UsageError(
            f"{len(indices)} of the first {CLASS_CANDIDATES:,} samples of seed {seed} are of class "
            f"{name}; expected {EXEMPLARS_PER_CLASS}: give samples by number, or another --seed"
        )
    return model.latents(CLASS_CANDIDATES, seed=seed)[indices]


def estimate_classes(
    model: TrainedModel, images: Float[Tensor, "n channels height width"]
) -> Int[Tensor, " n"]:
    """Return the class of each image: by a classifier of the dataset, or by nearest neighbors.

    Without a classifier in this package, the class is that of the majority of the five nearest
    of the first 10,000 labeled training images, by pixels.
    """
    extractor = DEFAULT_EXTRACTORS.get(model.info.name)
    if extractor in CLASSIFIER_DIGESTS:
        return load_classifier(extractor).logits(images).argmax(1)
    train = cast(Split, model.open_data().dataset.train)
    count = min(_LABELED_IMAGES, num_train_images(train) or 0)
    labels = torch.from_numpy(train.labels)[:count]
    known = read_split(train, slice(count))
    _, indices = nearest(images.flatten(1), known.flatten(1), min(_NEIGHBORS, count))
    return labels[indices].mode(1).values


@dataclass(frozen=True)
class Projection:
    """Latents whose images are closest to given images."""

    latents: Float[Tensor, "n latent"]
    errors: Float[Tensor, " n"]
    """Root mean squared error of each image, in the model's range."""


def project(
    model: TrainedModel,
    images: Float[Tensor, "n channels height width"],
    *,
    seed: int = 0,
    starts: int = STARTS,
    steps: int = STEPS,
) -> Projection:
    """Minimize mean (G(z) - x)² over z for each image, by Adam from the best of random starts.

    Images are in [0, 1]. z is clamped to the range of the starts, so that it stays typical of the
    prior. A conditional G keeps the class of the start. Source: Zhu et al. 2016, "Generative visual
    manipulation on the natural image manifold", section 3.1; Lipton and Tripathi 2017 for the
    clamping.
    """
    target = model.normalizer.from_unit_range(images).to(model.device)
    n, generator, latent_dim = len(target), model.generator, -model.classes or None

    # Start each image at the random z with the smallest error.
    candidates = model.latents(n * starts, seed=seed).unflatten(0, (n, starts))
    with torch.no_grad():
        errors = [
            (generator(z) - x).square().flatten(1).mean(1)
            for z, x in zip(candidates, target, strict=True)
        ]
    best = torch.stack([error.argmin() for error in errors])
    initial = candidates[torch.arange(n), best]
    classes = initial[:, latent_dim:] if latent_dim else initial[:, :0]
    z = initial[:, :latent_dim].clone().requires_grad_()
    bound = candidates[..., :latent_dim].abs().max()

    # Minimize the error by projected gradient steps.
    optimizer = torch.optim.Adam([z], lr=LEARNING_RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (generator(torch.cat((z, classes), 1)) - target).square().flatten(1).mean(1).sum()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            z.clamp_(-bound, bound)

    with torch.no_grad():
        latents = torch.cat((z, classes), 1)
        final = (generator(latents) - target).square().flatten(1).mean(1).sqrt()
    return Projection(latents.detach(), final)


def read_images(
    model: TrainedModel, paths: Sequence[Path]
) -> Float[Tensor, "n channels height width"]:
    """Read image files, resized and cropped as the model's data is, in [0, 1].

    Raises:
        DataError: a file is not a readable image.
    """
    channels, height, width = model.info.shape
    spec = model.config.data
    framing = ImagePreprocessing(
        size=height,
        width=width,
        channels=3 if channels == 3 else 1,
        crop="pad" if spec.crop == "pad" else "center",
        background=spec.background,
    )
    images: list[Tensor] = []
    for path in paths:
        try:
            pixels = decode(read_regular_file(path, MAX_FILE_BYTES), Frame.from_config(framing))
        except (DataError, OSError) as error:
            raise DataError(f"{path} {error}; give an image file") from None
        images.append(torch.from_numpy(pixels.copy()).float() / 255)
    return torch.stack(images)
