"""The input of every metric: a run's players, samples and data, and records of their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from advnets import config
from advnets._version import __version__
from advnets.data.class_proportions import ClassProportions
from advnets.data.dataset import Split
from advnets.data.prepared import PreparedData
from advnets.data.spec import is_dataset_name
from advnets.distributed import map_rows
from advnets.errors import DataError
from advnets.evaluation.spec import GENERATOR, NEVER_TRAINED, REAL, REFERENCES
from advnets.extractors.base import BATCH_SIZE, Extractor, UsesLibraries
from advnets.run_records import versions
from advnets.sampling.rejection import DiscriminatorRejection, sample_with_rejection
from advnets.sampling.sampler import (
    MAX_TEST_IMAGES,
    NUM_SAMPLES,
    ComputeSettings,
    draw_samples,
    read_images,
    real_images,
)

Record = dict[str, Any]
Images = Float[Tensor, "n channels height width"]

MAX_TRAIN_IMAGES = 60_000
"""The largest number of training images that samples are compared with: all of MNIST."""


@dataclass(frozen=True)
class EvaluationContext:
    """The inputs of a metric: players, data, extractor and seed, with cached samples."""

    players: Mapping[str, nn.Module]
    data: PreparedData
    seed: int
    step: int
    weights: str
    compute_settings: ComputeSettings
    extractor: Extractor
    """The feature extractor."""
    initial_players: Callable[[], Mapping[str, nn.Module]] = dict
    """Returns the players with their initial weights."""
    game: config.GameConfig = field(default_factory=config.GANGame)
    """The game that they were trained by."""
    data_config: config.Data = field(default_factory=config.Data)
    """The source and the preprocessing of the images."""
    class_proportions: ClassProportions | None = None
    """The class frequencies of samples; None where the generator is unconditional."""
    rejection: DiscriminatorRejection | None = None
    """Discriminator rejection sampling; None: every sample is kept."""
    num_samples: int = NUM_SAMPLES
    """The number of samples, for metrics without a number of their own."""
    label_budgets: tuple[int, ...] = ()
    """Numbers of labels that the linear probe is trained on, 0 for all; empty: its defaults."""
    max_test_images: int | None = None
    """The largest number of test images to compare features with, the first ones; None: 10,000."""
    include_real: bool = True
    """Whether real training images are scored too, as a baseline."""

    @property
    def generator(self) -> nn.Module:
        """The generator."""
        return self.players["generator"]

    def samples(self, n: int, labels: Int[Tensor, " n"] | None = None) -> Images:
        """Draw n samples in [0, 1], of the given classes, by default in `class_proportions`."""
        g, normalizer, seed = self.generator, self.data.normalizer, self.seed
        classes = self.class_proportions if labels is None else labels
        if self.rejection is None:
            return draw_samples(g, normalizer, n, seed, self.compute_settings, classes)
        return sample_with_rejection(
            g, normalizer, n, seed, self.compute_settings, self.rejection, classes
        )

    @cached_property
    def sample_sets(self) -> Mapping[str, Images]:
        """Images in [0, 1] to score, by the `samples` of their record: generated and real ones."""
        return self.sample_sets_of_size(self.num_samples)

    def sample_sets_of_size(self, n: int) -> Mapping[str, Images]:
        """Return n samples and, unless `include_real` is off, up to n real training images."""
        sets = {GENERATOR: self.samples(n)}
        if self.include_real:
            sets[REAL] = real_images(self.data.dataset.train, n, self.seed)
        return sets

    @cached_property
    def features(self) -> Mapping[str, Float[Tensor, "n features"]]:
        """Features of each of the sample sets."""
        return {name: self._extract(images) for name, images in self.sample_sets.items()}

    @cached_property
    def test_features(self) -> Float[Tensor, "n features"]:
        """Features of the test images.

        Raises:
            DataError: there are no test images, or all of them have the same features.
        """
        images = read_images(
            require_test_split(self.data), slice(self.max_test_images or MAX_TEST_IMAGES)
        )
        features = self._extract(images)
        if len(features) > 1 and (features == features[0]).all():
            raise DataError(
                f"extractor {self.extractor.name!r} gives all {len(features):,} test images the "
                "same features; choose another extractor"
            )
        return features

    def _extract(self, images: Images) -> Float[Tensor, "n features"]:
        """Return the features of images; several processes extract those of their own batches."""
        return map_rows(self.extractor.features, images, BATCH_SIZE)

    def check_extractor(self) -> None:
        """Apply the extractor to a single image.

        Raises:
            DataError: it is for images of another shape, or returns no features.
        """
        self.extractor.features(real_images(self.data.dataset.train, 1, self.seed))

    def labeled_test(self) -> tuple[Images, Int[Tensor, " n"]]:
        """Return all test images in [0, 1] and their labels.

        Raises:
            DataError: there are no labeled test images.
        """
        test = require_test_split(self.data)
        if test.labels is None:
            raise DataError(
                f"{self.data.info.name} has no labeled test images; give a labeled dataset"
            )
        return read_images(test, slice(None)), torch.from_numpy(test.labels)

    @cached_property
    def provenance(self) -> Record:
        """The fields on data, preprocessing and library versions that every record has."""
        named = is_dataset_name(self.data_config.source)
        return {
            "data": self.data.info.name,
            "data_digest": self.data.dataset.digest_all_splits(),
            "images": {
                "shape": list(self.data.info.shape),
                "crop": None if named else self.data_config.crop,
                "background": None if named else self.data_config.background,
            },
            "versions": {"advnets": __version__, **versions()},
        }

    def record(
        self,
        metric: str,
        samples: str,
        *,
        n_real: int,
        n_fake: int,
        libraries: Mapping[str, str] | None = None,
        **result: object,
    ) -> Record:
        """Return a record: a result with its provenance.

        `samples` says what was scored; n_real and n_fake are the numbers of real and generated
        images; `libraries` are versions of libraries beyond torch and numpy that it depends on.
        """
        untrained = samples in REFERENCES or samples.endswith(NEVER_TRAINED)
        generated = samples == GENERATOR
        return {
            "metric": metric,
            "samples": samples,
            "weights": None if untrained else self.weights,
            "keep_fraction": (
                self.rejection.effective_fraction if self.rejection and generated else None
            ),
            "class_proportions": (
                self.class_proportions.kind if self.class_proportions and generated else None
            ),
            "split": "test" if self.include_real else "given",
            "seed": self.seed,
            "step": self.step,
            **self.provenance,
            "versions": {**self.provenance["versions"], **(libraries or {})},
            "extractor": None,
            "extractor_sha256": None,
            "n_real": n_real,
            "n_fake": n_fake,
            **result,
        }

    def feature_record(
        self,
        metric: str,
        samples: str,
        *,
        n_real: int,
        n_fake: int,
        extractor: Extractor | None = None,
        libraries: Mapping[str, str] | None = None,
        **result: object,
    ) -> Record:
        """Return a record of a metric of features, from `extractor` or else the context's."""
        used = extractor or self.extractor
        versions_of = dict(used.libraries) if isinstance(used, UsesLibraries) else {}
        versions_of |= libraries or {}
        extractor_fields = {"extractor": used.name, "extractor_sha256": used.digest or None}
        return self.record(
            metric,
            samples,
            n_real=n_real,
            n_fake=n_fake,
            libraries=versions_of,
            **extractor_fields,
            **result,
        )


def require_test_split(data: PreparedData) -> Split:
    """Return the test images.

    Raises:
        DataError: there are none.
    """
    test = data.dataset.test
    if test is None:
        raise DataError(
            f"{data.info.name} has no test images; "
            "give a folder of at least 50 images or a named dataset"
        )
    return test


def compare_features(
    context: EvaluationContext,
    metric: str,
    score: Callable[[Tensor, Tensor], Record],
    *,
    equal_counts: bool = True,
) -> list[Record]:
    """Score the features of each sample set against those of the test images.

    With `equal_counts` at most as many samples are used as there are training images: many metrics
    improve with the number of samples alone, and the record of real images would be worse for that.
    """
    test, train = context.test_features, context.data.dataset.train
    limit = len(train) if equal_counts and isinstance(train, Split) else context.num_samples
    sets = {samples: features[:limit] for samples, features in context.features.items()}
    return [
        context.feature_record(
            metric, samples, **score(test, features), n_real=len(test), n_fake=len(features)
        )
        for samples, features in sets.items()
    ]
