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
from advnets.data.dataset import Part
from advnets.data.names import is_named
from advnets.errors import DataError, FewPicturesWarning
from advnets.experiment.class_shares import ClassShares
from advnets.experiment.rejection import DiscriminatorRejection, kept_samples
from advnets.experiment.sampler import (
    SAMPLES,
    TEST,
    Drawing,
    draw_samples,
    parzen,
    pictures,
    real_pictures,
)
from advnets.experiment.setup import PreparedData, versions
from advnets.extractors.base import ByLibraries, Extractor
from advnets.metrics.frechet import frechet_distance, frechet_standard_error
from advnets.metrics.mmd import kernel_distance
from advnets.metrics.parzen import GRIDS
from advnets.metrics.swd import sliced_wasserstein
from advnets.views.score_text import BESIDE, GENERATOR, NEVER_TRAINED, REAL

Record = dict[str, Any]
ArraySplit = Float[Tensor, "n channels height width"]

TRAINING = 60_000
"""Training pictures that copies are looked for among, at most: all of MNIST."""


@dataclass(frozen=True)
class Subject:
    """A generator that is scored on data, beside as many real training pictures."""

    players: Mapping[str, nn.Module]
    data: PreparedData
    seed: int
    step: int
    weights: str
    drawing: Drawing
    extractor: Extractor
    """What the metrics of features look at."""
    begun: Callable[[], Mapping[str, nn.Module]] = dict
    """Gives the players that training began with."""
    game: config.GameConfig = field(default_factory=config.Game)
    """What they have played."""
    shown: config.Data = field(default_factory=config.Data)
    """Which pictures, and how they were shown to the nets."""
    class_shares: ClassShares | None = None
    """The classes that samples of a conditional generator are of; None for another generator."""
    rejection: DiscriminatorRejection | None = None
    """Which samples are left out, where some are."""
    num: int = SAMPLES
    """How many samples metrics look at that have no number of their own."""
    budgets: tuple[int, ...] = ()
    """Labels that the probe is given, 0 being all; none said: its usual ones."""
    beside: bool = True
    """Whether real pictures are scored beside the samples."""

    @property
    def generator(self) -> nn.Module:
        """G."""
        return self.players["generator"]

    def samples(self, n: int, labels: Int[Tensor, " n"] | None = None) -> ArraySplit:
        """Draw n samples, of these classes or, where none are given, in the class shares."""
        g, scaling, seed = self.generator, self.data.scaling, self.seed
        asked = self.class_shares if labels is None else labels
        if self.rejection is None:
            return draw_samples(g, scaling, n, seed, self.drawing, asked)
        return kept_samples(g, scaling, n, seed, self.drawing, self.rejection, asked)

    @cached_property
    def rows(self) -> Mapping[str, ArraySplit]:
        """What is scored, by the name of its row; each is in [0, 1]."""
        return self.rows_of(self.num)

    def rows_of(self, n: int) -> Mapping[str, ArraySplit]:
        """The same of so many samples.

        The real-data row takes training pictures, drawn without repetition, for samples.
        """
        rows = {GENERATOR: self.samples(n)}
        if self.beside:
            rows[REAL] = real_pictures(self.data.splits.train, n, self.seed)
        return rows

    @cached_property
    def features(self) -> Mapping[str, Float[Tensor, "n features"]]:
        """Features of the rows."""
        return {name: self.extractor.features(row) for name, row in self.rows.items()}

    @cached_property
    def test_features(self) -> Float[Tensor, "n features"]:
        """Features of the test pictures.

        Raises:
            DataError: there are no test pictures, or the extractor tells none from another.
        """
        found = self.extractor.features(pictures(test_part(self.data), slice(TEST)))
        if len(found) > 1 and (found == found[0]).all():
            raise DataError(
                f"extractor {self.extractor.name!r} gives all {len(found):,} test pictures the "
                "same features, through which nothing can be seen; choose another one"
            )
        return found

    def labelled_test(self) -> tuple[ArraySplit, Int[Tensor, " n"]]:
        """All test pictures and their labels.

        Raises:
            DataError: there are none, or without labels.
        """
        test = test_part(self.data)
        if test.labels is None:
            raise DataError(
                f"{self.data.facts.name} has no labelled test pictures; give a labelled set"
            )
        return pictures(test, slice(None)), torch.from_numpy(test.labels)

    @cached_property
    def stamps(self) -> Record:
        """What every score of this data hangs on: the pictures, how they were cut, by what."""
        named = is_named(self.shown.source)
        return {
            "data": self.data.facts.name,
            "data_digest": self.data.splits.digest_of_all(),
            "pictures": {
                "shape": list(self.data.facts.shape),
                "crop": None if named else self.shown.crop,
                "background": None if named else self.shown.background,
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
        """What was found of so many real and generated pictures, with its stamps.

        `libraries` are those that it hangs on beside torch and numpy, with their versions.
        """
        untrained = row in BESIDE or row.endswith(NEVER_TRAINED)
        return {
            "metric": metric,
            "samples": row,
            "weights": None if untrained else self.weights,
            "keep": self.rejection.share if self.rejection and row == GENERATOR else None,
            "class_shares": (
                self.class_shares.kind if self.class_shares and row == GENERATOR else None
            ),
            "split": "test",
            "seed": self.seed,
            "step": self.step,
            **self.stamps,
            "versions": {**self.stamps["versions"], **(libraries or {})},
            "extractor": None,
            "extractor_sha256": None,
            "n_real": n_real,
            "n_fake": n_fake,
            **found,
        }

    def of_features(
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
        by = dict(seen.libraries) if isinstance(seen, ByLibraries) else {}
        stamp = {"extractor": seen.name, "extractor_sha256": seen.digest or None}
        by |= libraries or {}
        return self.record(
            metric, row, n_real=n_real, n_fake=n_fake, libraries=by, **stamp, **found
        )


def test_part(data: PreparedData) -> Part:
    """The test pictures.

    Raises:
        DataError: there are none.
    """
    test = data.splits.test
    if test is None:
        raise DataError(
            f"{data.facts.name} has no test pictures, which samples are compared with; "
            "give a folder of at least 50 pictures or a named set"
        )
    return test


def parzen_records(subject: Subject) -> list[Record]:
    """Parzen log-likelihoods on both grids."""
    scores = [
        (name, parzen(row, subject.data, grid))
        for grid in GRIDS
        for name, row in subject.rows.items()
    ]
    return [
        subject.record("parzen", name, n_real=s.n_test, n_fake=s.n_samples, **asdict(s))
        for name, s in scores
    ]


def compared(
    subject: Subject,
    metric: str,
    score: Callable[[Tensor, Tensor], Record],
    *,
    alike: bool = True,
) -> list[Record]:
    """A record for each row: what its features score against those of the test pictures.

    Where numbers are to be `alike`, of as many samples as there are training pictures, if those are
    fewer: more would score better than the row beside them by their number alone.
    """
    test, train = subject.test_features, subject.data.splits.train
    most = len(train) if alike and isinstance(train, Part) else subject.num
    rows = {row: features[:most] for row, features in subject.features.items()}
    return [
        subject.of_features(
            metric, row, **score(test, features), n_real=len(test), n_fake=len(features)
        )
        for row, features in rows.items()
    ]


def frechet_records(subject: Subject) -> list[Record]:
    """Fréchet distances to the test pictures."""

    def score(test: Tensor, features: Tensor) -> Record:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", FewPicturesWarning)
            value = frechet_distance(test, features)
        return {
            "value": value,
            "standard_error": frechet_standard_error(test, features),
            "few_pictures": any(issubclass(one.category, FewPicturesWarning) for one in said),
        }

    return compared(subject, "frechet", score)


def kernel_records(subject: Subject) -> list[Record]:
    """Kernel distances to the test pictures."""
    return compared(
        subject,
        "kernel",
        lambda test, features: asdict(kernel_distance(test, features, seed=subject.seed)),
    )


def sliced_records(subject: Subject) -> list[Record]:
    """Sliced Wasserstein distances to the test pictures."""
    return compared(
        subject,
        "sliced",
        lambda test, features: asdict(sliced_wasserstein(test, features, seed=subject.seed)),
    )


def identity(record: Mapping[str, Any]) -> tuple[object, ...]:
    """Return what two records share where the later one replaces the earlier one."""
    keys = ("metric", "samples", "weights", "grid", "extractor", "extractor_sha256", "split")
    keys += ("seed", "step", "labels", "n_known", "hidden", "keep", "class_shares")
    # Beside samples of one number real pictures of another say nothing.
    beside = record["n_fake"] if record["samples"] in BESIDE else None
    return (*(record.get(key) for key in keys), beside)
