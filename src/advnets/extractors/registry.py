"""Extractors by name or file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from advnets.errors import UnknownNameError
from advnets.extractors.base import Extractor
from advnets.extractors.builtin import CLASSIFIER_DIGESTS, Pixels, load_classifier
from advnets.extractors.dinov2 import load_dinov2
from advnets.extractors.efficientnet import load_imagenet
from advnets.extractors.file import READERS, load_extractor_file
from advnets.extractors.inception import load_inception


@dataclass(frozen=True)
class PublishedScore:
    """A score that papers report, and the images that it is computed of."""

    name: str
    num_samples: int = 50_000


@dataclass(frozen=True)
class ExtractorSpec:
    """An extractor that has a name."""

    load: Callable[[], Extractor]
    help: str
    """The network and the data that it was trained on, in a few words."""
    published: Mapping[str, PublishedScore] = field(default_factory=dict[str, PublishedScore])
    """By metric: the published score in these features; its real images are training images."""
    checked: bool = True
    """Whether its weights are known to be the published ones, by their SHA-256."""


EXTRACTORS: dict[str, ExtractorSpec] = {
    "pixels": ExtractorSpec(Pixels, "the pixels themselves; the default"),
    "digits": ExtractorSpec(
        partial(load_classifier, "digits"),
        "a classifier of MNIST, for 1 x 28 x 28; the default for MNIST",
    ),
    "cifar-jpeg": ExtractorSpec(
        partial(load_classifier, "cifar-jpeg"), "a classifier of CIFAR-10 as JPEG, for 3 x 32 x 32"
    ),
    "imagenet": ExtractorSpec(load_imagenet, "EfficientNet-Lite0, ImageNet"),
    "inception": ExtractorSpec(
        load_inception,
        "Inception v3 of 2015, ImageNet; your file of weights",
        {
            "frechet": PublishedScore("FID"),
            "mmd": PublishedScore("KID"),
            "inception-score": PublishedScore("IS"),
        },
    ),
    "dinov2": ExtractorSpec(
        load_dinov2,
        "DINOv2 ViT-L/14 without registers; your file of weights",
        {
            "frechet": PublishedScore("FD-DINOv2"),
            "mmd": PublishedScore("KD-DINOv2"),
            "prdc": PublishedScore("PRDC of Stein et al. 2023", 10_000),
        },
        checked=False,
    ),
}
"""The extractors by name."""


OWN_DISCRIMINATOR = "discriminator"
"""The name of the run's own D as extractor; its scores are not comparable between runs."""


def load_extractor(name: str, *, trust_code: bool = False) -> Extractor:
    """Load an extractor by its name in EXTRACTORS, or from a file.

    Opening a .pt2 file can run any code in it; `trust_code` allows this.

    Args:
        name: name of an extractor, such as "digits", or the path of a file.
        trust_code: whether a .pt2 file may be opened.

    Raises:
        UnknownNameError: there is no such extractor.
        DataError: its file is missing or invalid.
        MissingExtraError: a library that it needs is not installed.
        UsageError: it is a .pt2 file without `trust_code`.

    Example:
        >>> digits = advnets.extractors.load_extractor("digits")
        >>> digits.features(torch.rand(3, 1, 28, 28)).shape
        torch.Size([3, 128])
    """
    if name in EXTRACTORS:
        return EXTRACTORS[name].load()
    path = Path(name).expanduser()
    if path.suffix in READERS or path.is_file():
        return load_extractor_file(path, trust_code=trust_code)
    names = [*EXTRACTORS, OWN_DISCRIMINATOR]
    listed = f"expected {', '.join(names)}, a run, or the path of a file ({', '.join(READERS)})"
    raise UnknownNameError("extractor", name, names, listed=listed)


def extractors_table() -> str:
    """Return the table of extractors in Markdown, as README has it."""
    lines = [
        "| `--extractor` | features of | published scores in them |",
        "|---|---|---|",
    ]
    for name, spec in EXTRACTORS.items():
        published = ", ".join(score.name for score in spec.published.values()) or "none"
        lines.append(f"| `{name}` | {spec.help} | {published} |")
    return "\n".join(lines)


def classifier_advice(shape: tuple[int, int, int], *, built_in: bool = False) -> str:
    """Return a clause for a message that names the classifiers for images of a shape.

    With `built_in`, it names only the classifiers of this package.
    """
    names = [name for name in CLASSIFIER_DIGESTS if load_classifier(name).net.shape == shape]
    if shape[0] == 3 and not built_in:
        names += ["imagenet", "inception"]
    if names:
        return f"add --extractor {' or '.join(names)}"
    return (
        f"no classifier of this package is for images of {' x '.join(map(str, shape))}: give the "
        ".safetensors file of one as --extractor, or another metric"
    )
