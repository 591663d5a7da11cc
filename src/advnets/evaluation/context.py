"""What `evaluate` computes: records that carry all that a score hangs on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
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
from advnets.errors import DataError, FewImagesWarning
from advnets.extractors.base import Extractor, UsesLibraries
from advnets.metrics.frechet import frechet_distance, frechet_standard_error
from advnets.metrics.mmd import polynomial_mmd
from advnets.metrics.parzen import GRIDS
from advnets.metrics.sliced_wasserstein import sliced_wasserstein
from advnets.report.score_text import BESIDE, GENERATOR, NEVER_TRAINED, REAL
from advnets.run_records import versions
from advnets.sampling.rejection import DiscriminatorRejection, sample_with_rejection
from advnets.sampling.sampler import (
    MAX_TEST_IMAGES,
    NUM_SAMPLES,
    ComputeSettings,
    draw_samples,
    read_images,
    real_images,
    score_parzen,
)

Record = dict[str, Any]
ArraySplit = Float[Tensor, "n channels height width"]

MAX_TRAIN_IMAGES = 60_000
"""Training images that copies are looked for among, at most: all of MNIST."""


@dataclass(frozen=True)
class EvaluationContext:
    """A generator that is scored on data, beside as many real training images."""

    players: Mapping[str, nn.Module]
    data: PreparedData
    seed: int
    step: int
    weights: str
    compute_settings: ComputeSettings
    extractor: Extractor
    """What the metrics of features look at."""
    initial_players: Callable[[], Mapping[str, nn.Module]] = dict
    """Gives the players that training began with."""
    game: config.GameConfig = field(default_factory=config.GANGame)
    """What they have played."""
    data_config: config.Data = field(default_factory=config.Data)
    """Which images, and how they were shown to the nets."""
    class_proportions: ClassProportions | None = None
    """The classes that samples of a conditional generator are of; None for another generator."""
    rejection: DiscriminatorRejection | None = None
    """Which samples are left out, where some are."""
    num_samples: int = NUM_SAMPLES
    """How many samples metrics look at that have no number of their own."""
    label_budgets: tuple[int, ...] = ()
    """Labels that the probe is given, 0 being all; none said: its usual ones."""
    include_real: bool = True
    """Whether real images are scored beside the samples."""

    @property
    def generator(self) -> nn.Module:
        """G."""
        return self.players["generator"]

    def samples(self, n: int, labels: Int[Tensor, " n"] | None = None) -> ArraySplit:
        """Draw n samples, of these classes or, where none are given, in the class proportions."""
        g, scaling, seed = self.generator, self.data.normalizer, self.seed
        asked = self.class_proportions if labels is None else labels
        if self.rejection is None:
            return draw_samples(g, scaling, n, seed, self.compute_settings, asked)
        return sample_with_rejection(
            g, scaling, n, seed, self.compute_settings, self.rejection, asked
        )

    @cached_property
    def sample_sets(self) -> Mapping[str, ArraySplit]:
        """What is scored, by the name of its row; each is in [0, 1]."""
        return self.sample_sets_of_size(self.num_samples)

    def sample_sets_of_size(self, n: int) -> Mapping[str, ArraySplit]:
        """The same of so many samples.

        The real-data row takes training images, drawn without repetition, for samples.
        """
        rows = {GENERATOR: self.samples(n)}
        if self.include_real:
            rows[REAL] = real_images(self.data.dataset.train, n, self.seed)
        return rows

    @cached_property
    def features(self) -> Mapping[str, Float[Tensor, "n features"]]:
        """Features of the rows."""
        return {name: self.extractor.features(row) for name, row in self.sample_sets.items()}

    @cached_property
    def test_features(self) -> Float[Tensor, "n features"]:
        """Features of the test images.

        Raises:
            DataError: there are no test images, or the extractor tells none from another.
        """
        found = self.extractor.features(
            read_images(require_test_split(self.data), slice(MAX_TEST_IMAGES))
        )
        if len(found) > 1 and (found == found[0]).all():
            raise DataError(
                f"extractor {self.extractor.name!r} gives all {len(found):,} test images the "
                "same features, through which nothing can be seen; choose another one"
            )
        return found

    def labeled_test(self) -> tuple[ArraySplit, Int[Tensor, " n"]]:
        """All test images and their labels.

        Raises:
            DataError: there are none, or without labels.
        """
        test = require_test_split(self.data)
        if test.labels is None:
            raise DataError(f"{self.data.info.name} has no labeled test images; give a labeled set")
        return read_images(test, slice(None)), torch.from_numpy(test.labels)

    @cached_property
    def provenance(self) -> Record:
        """What every score of this data hangs on: the images, how they were cut, by what."""
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
        row: str,
        *,
        n_real: int,
        n_fake: int,
        libraries: Mapping[str, str] | None = None,
        **found: object,
    ) -> Record:
        """What was found of so many real and generated images, with its stamps.

        `libraries` are those that it hangs on beside torch and numpy, with their versions.
        """
        untrained = row in BESIDE or row.endswith(NEVER_TRAINED)
        return {
            "metric": metric,
            "samples": row,
            "weights": None if untrained else self.weights,
            "keep": self.rejection.effective_fraction
            if self.rejection and row == GENERATOR
            else None,
            "class_proportions": (
                self.class_proportions.kind if self.class_proportions and row == GENERATOR else None
            ),
            "split": "test",
            "seed": self.seed,
            "step": self.step,
            **self.provenance,
            "versions": {**self.provenance["versions"], **(libraries or {})},
            "extractor": None,
            "extractor_sha256": None,
            "n_real": n_real,
            "n_fake": n_fake,
            **found,
        }

    def feature_record(
        self,
        metric: str,
        row: str,
        *,
        n_real: int,
        n_fake: int,
        through: Extractor | None = None,
        libraries: Mapping[str, str] | None = None,
        **found: object,
    ) -> Record:
        """The same, with the stamp of what was looked through: the extractor, unless another."""
        seen = through or self.extractor
        by = dict(seen.libraries) if isinstance(seen, UsesLibraries) else {}
        stamp = {"extractor": seen.name, "extractor_sha256": seen.digest or None}
        by |= libraries or {}
        return self.record(
            metric, row, n_real=n_real, n_fake=n_fake, libraries=by, **stamp, **found
        )


def require_test_split(data: PreparedData) -> Split:
    """The test images.

    Raises:
        DataError: there are none.
    """
    test = data.dataset.test
    if test is None:
        raise DataError(
            f"{data.info.name} has no test images, which samples are compared with; "
            "give a folder of at least 50 images or a named set"
        )
    return test


def parzen_records(context: EvaluationContext) -> list[Record]:
    """Parzen log-likelihoods on both grids."""
    scores = [
        (name, score_parzen(row, context.data, grid))
        for grid in GRIDS
        for name, row in context.sample_sets.items()
    ]
    return [
        context.record("parzen", name, n_real=s.n_test, n_fake=s.n_samples, **asdict(s))
        for name, s in scores
    ]


def compare_features(
    context: EvaluationContext,
    metric: str,
    score: Callable[[Tensor, Tensor], Record],
    *,
    alike: bool = True,
) -> list[Record]:
    """A record for each row: what its features score against those of the test images.

    Where numbers are to be `alike`, of as many samples as there are training images, if those are
    fewer: more would score better than the row beside them by their number alone.
    """
    test, train = context.test_features, context.data.dataset.train
    most = len(train) if alike and isinstance(train, Split) else context.num_samples
    rows = {row: features[:most] for row, features in context.features.items()}
    return [
        context.feature_record(
            metric, row, **score(test, features), n_real=len(test), n_fake=len(features)
        )
        for row, features in rows.items()
    ]


def frechet_records(context: EvaluationContext) -> list[Record]:
    """Fréchet distances to the test images."""

    def score(test: Tensor, features: Tensor) -> Record:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", FewImagesWarning)
            value = frechet_distance(test, features)
        return {
            "value": value,
            "standard_error": frechet_standard_error(test, features),
            "few_images": any(issubclass(one.category, FewImagesWarning) for one in said),
        }

    return compare_features(context, "frechet", score)


def kernel_records(context: EvaluationContext) -> list[Record]:
    """Kernel distances to the test images."""
    return compare_features(
        context,
        "kernel",
        lambda test, features: asdict(polynomial_mmd(test, features, seed=context.seed)),
    )


def sliced_records(context: EvaluationContext) -> list[Record]:
    """Sliced Wasserstein distances to the test images."""
    return compare_features(
        context,
        "sliced",
        lambda test, features: asdict(sliced_wasserstein(test, features, seed=context.seed)),
    )


def identity(record: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what two records share where the later one replaces the earlier one."""
    keys = ("metric", "samples", "weights", "grid", "extractor", "extractor_sha256", "split")
    keys += ("seed", "step", "labels", "n_known", "hidden", "keep", "class_proportions")
    # Beside samples of one number real images of another say nothing.
    beside = record["n_fake"] if record["samples"] in BESIDE else None
    return (*(record.get(key) for key in keys), beside)
