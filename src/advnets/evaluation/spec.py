"""The specification of a metric, and the vocabulary of score records.

A metric is one `MetricSpec`: the function that computes its records, the numbers to compare with
their direction and confidence interval, its one-line result, what it needs and its help. One line
in `advnets.evaluation.registry` makes it known to the command line, `evaluate`, `compare`, reports,
training curves and the documentation.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from traceback import extract_tb
from typing import TYPE_CHECKING, Any, Literal, cast

from advnets.custom_code import InvalidResultError, describe_exception, describe_value
from advnets.errors import AdvnetsError, CustomCodeError, UsageError
from advnets.metrics.uncertainty import CONFIDENCE, NUM_GROUPS, student_quantile
from advnets.plots.training_curves import MetricCurve
from advnets.training.memory import is_out_of_memory

if TYPE_CHECKING:
    from advnets.data.prepared import PreparedData
    from advnets.evaluation.context import EvaluationContext

Record = Mapping[str, Any]
"""A score with its provenance, as scores.json stores it."""
Better = Literal["lower", "higher"] | None
"""The direction of improvement; None: the best value is that of real images."""

GENERATOR, REAL = "generator", "real training images"
"""Values of `samples` in a record: generated images, or real training images in their place."""
DISCRIMINATOR, ENCODER = "D", "E"
MEAN, NEAREST, PIXELS = "mean training image", "nearest training image", "pixels"
"""Values of `samples` for other players, and for baselines without a network."""
NEVER_TRAINED = ", never trained"
"""The suffix of a player's name in `samples` where it has its initial weights."""
REFERENCES = (REAL, MEAN, NEAREST, PIXELS)
"""Values of `samples` that depend on no run: baselines to compare a run with."""
FEW_IMAGES = "far too large: fewer images than features"
"""The caveat of a Fréchet distance whose covariance is singular."""
VERSIONS = "versions."
"""The prefix of library versions among the settings of a record."""

_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)

IntervalRule = Callable[[Record, str], list[float] | None]
"""A function that returns the [low, high] confidence interval of a record's field, or None."""


def normal_interval(error: str = "standard_error") -> IntervalRule:
    """Return the interval of a value with a standard error in the field `error`: ± 1.96 s.e."""

    def rule(record: Record, name: str) -> list[float] | None:
        if record.get(name) is None or record.get(error) is None:
            return None
        return _symmetric(record[name], _Z * record[error])

    return rule


def proportion_interval(count: str) -> IntervalRule:
    """Return the interval of a proportion; the field `count` has its number of images.

    Source: Wilson 1927, “Probable inference, the law of succession, and statistical inference”.
    """

    def rule(record: Record, name: str) -> list[float]:
        p, n = record[name], record[count]
        center = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half_width = math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2)) * _Z / (1 + _Z**2 / n)
        low, high = _symmetric(center, half_width)
        return [low if p > 0 else 0.0, high if p < 1 else 1.0]  # without the rounding error

    return rule


def subsampled_interval(maximum: float) -> IntervalRule:
    """Return the interval of a value in [0, maximum] with a standard error in NAME_error.

    The standard error is of `NUM_GROUPS` disjoint groups of images, so that the interval is that of
    Student's t.
    """

    def rule(record: Record, name: str) -> list[float] | None:
        if (error := record.get(f"{name}_error")) is None:
            return None
        quantile = student_quantile(CONFIDENCE, NUM_GROUPS - 1)
        low, high = _symmetric(record[name], quantile * error)
        return [max(low, 0.0), min(high, maximum)]

    return rule


def repeated_interval(count: str, *, ddof: int) -> IntervalRule:
    """Return the interval of a mean of n repetitions, n in the field `count`, with their `std`.

    `ddof` is 0 where `std` divides by n and 1 where it divides by n - 1. The interval is that of
    Student's t.
    """

    def rule(record: Record, name: str) -> list[float] | None:
        n, std = record[count], record["std"]
        if std is None or n <= 1:
            return None
        error = std * math.sqrt((n - ddof) / (n - 1) / n)
        return _symmetric(record[name], student_quantile(CONFIDENCE, n - 1) * error)

    return rule


def _symmetric(value: float, half_width: float) -> list[float]:
    return [value - half_width, value + half_width]


@dataclass(frozen=True)
class Value:
    """A number of a record that runs are compared by."""

    better: Better = None
    interval: IntervalRule | None = None
    """Its 95 % confidence interval over draws of samples and images; None: it has none."""

    def __post_init__(self) -> None:
        """Raise a UsageError if the direction is unknown."""
        if self.better not in ("lower", "higher", None):
            raise UsageError(f"better is {self.better!r}; expected 'lower', 'higher' or None")


def compared_counts(record: Record) -> str:
    """Return the extractor and the numbers of generated and real images, as a phrase."""
    n = record.get("n")
    real, fake = (record["n_real"], record["n_fake"]) if n is None else (n, n)
    extractor = "" if record["extractor"] is None else f"{record['extractor']}, "
    return f"{extractor}{fake:,} on {real:,}"


@dataclass(frozen=True)
class MetricSpec:
    """A metric: how it is computed, compared and described."""

    name: str
    """Its name on the command line and in records, in lower case with hyphens."""
    title: str
    """Its name in a sentence, such as "Fréchet distance"."""
    help: str
    """One line: what it measures."""
    records: Callable[[EvaluationContext], Sequence[Record]]
    """Computes its records of a run."""
    values: Mapping[str, Value]
    """The numbers to compare, by field."""
    describe: Callable[[Record], str]
    """Returns a record's result in one line."""
    describe_inputs: Callable[[Record], str] = compared_counts
    """Returns the extractor and the numbers of images in a few words."""
    details: tuple[str, ...] = ()
    """Other computed fields, which vary with the values and do not prevent a comparison."""
    cases: Mapping[str, str] = field(default_factory=dict[str, str])
    """Fields that distinguish the records of one evaluation, with the format of a column's name."""
    samples: Literal["requested", "fixed", "none"] = "requested"
    """Whether it uses the requested number of samples, a fixed number, or no samples."""
    uses_extractor: bool = False
    """Whether it compares features of --extractor."""
    uses_own_features: bool = False
    """Whether its features are the run's own and so part of what is scored, not a setting."""
    needs: str = ""
    """Requirements on the run or the data beyond test images; "": none."""
    aliases: tuple[str, ...] = ()
    """Other names that the command line accepts."""
    published: bool = False
    """Whether papers report it, so that its records say which published scores they compare with.
    """
    curve: MetricCurve | None = None
    """The training curve of the metric (--eval-metric); None: it is not computed in training."""
    check_data: Callable[[PreparedData], object] = bool
    """Raises a DataError if the data lacks something that the metric needs."""
    check_run: Callable[[EvaluationContext], object] = bool
    """Raises an error if the players, the labels or the extractor do not fit the metric."""

    def __post_init__(self) -> None:
        """Raise a UsageError if the values to compare are not a mapping of `Value`."""
        values = cast(object, self.values)
        items = cast(Mapping[str, object], values) if isinstance(values, Mapping) else {"": values}
        for name, value in items.items():
            if not isinstance(value, Value):
                raise UsageError(
                    f"the metric {self.name} has values {name!r}: {describe_value(value)}; "
                    "expected a mapping of Value by field"
                )

    def check(self, context: EvaluationContext) -> None:
        """Check that it can be computed, before anything is.

        Raises:
            DataError: the data lacks what it needs.
            UsageError: the players or the extractor do.
        """
        self.check_data(context.data)
        self.check_run(context)

    def compute(self, context: EvaluationContext) -> list[dict[str, Any]]:
        """Return its records of a run, with their intervals.

        Raises:
            CustomCodeError: the metric is a custom one, and its code raised an exception or
                returned anything but records with its values, or texts that describe them.
        """
        custom = not str(getattr(self.records, "__module__", "")).startswith("advnets.")
        code = getattr(self.records, "__code__", None)
        file = getattr(code, "co_filename", "Python")
        try:
            records = self.records(context)
            if custom:
                self._check_records(records)
            found = [{**record, "interval": self.intervals(record)} for record in records]
            if custom:
                self._check_texts(found)
            return found
        except InvalidResultError as error:
            raise CustomCodeError(f"the metric {self.name} of {file} {error}") from error
        except (Exception, SystemExit) as error:
            if not custom or isinstance(error, AdvnetsError) or is_out_of_memory(error):
                raise
            lines = [f.lineno for f in extract_tb(error.__traceback__) if f.filename == file]
            line = f", line {lines[-1]}" if lines else ""
            raise CustomCodeError(
                f"the metric {self.name} of {file}{line}, failed ({describe_exception(error)})"
            ) from error

    def _check_records(self, records: object) -> None:
        """Check the records that the code of a custom metric returns.

        Raises:
            InvalidResultError: they are not records of this metric with numbers as its values.
        """
        if not isinstance(records, list | tuple) or not records:
            got = "no record" if records in ([], ()) else describe_value(records)
            raise InvalidResultError(f"returned {got}, expected a list of records")
        for record in cast(Sequence[object], records):
            made = f"expected context.record(…) with {' and '.join(self.values)}"
            if not isinstance(record, Mapping):
                raise InvalidResultError(f"returned {describe_value(record)} as a record, {made}")
            fields = cast(Record, record)
            required = ("metric", "samples", "n_real", "n_fake", "extractor", *self.values)
            if missing := [key for key in required if key not in fields]:
                raise InvalidResultError(f"returned a record without {missing[0]!r}, {made}")
            if fields["metric"] != self.name:
                raise InvalidResultError(
                    f"returned a record of the metric {fields['metric']!r}, expected {self.name!r}"
                )
            for key in self.values:
                value = fields[key]
                if isinstance(value, bool) or not isinstance(value, int | float | None):
                    raise InvalidResultError(
                        f"returned {describe_value(value)} as {key}, expected a number or None"
                    )
            for key, value in fields.items():
                try:
                    json.dumps(value)
                except (TypeError, ValueError):
                    raise InvalidResultError(
                        f"returned {describe_value(value)} as {key}, expected a number, a string "
                        "or a list or dict of them"
                    ) from None

    def _check_texts(self, records: Sequence[Record]) -> None:
        """Check the texts that describe the records of a custom metric.

        Raises:
            InvalidResultError: one is not a string.
        """
        for name, describe in (
            ("describe", self.describe),
            ("describe_inputs", self.describe_inputs),
        ):
            for text in (cast(object, describe(record)) for record in records):
                if not isinstance(text, str):
                    raise InvalidResultError(
                        f"returned {describe_value(text)} from {name}, expected a string"
                    )

    def settings(self, record: Record) -> dict[str, Any]:
        """Return all that the values of a record depend on; unknown fields are included."""
        excluded = {*self.values, *self.details, *self.cases, *_NOT_SETTINGS, *_COUNTED_TWICE}
        if self.uses_own_features:
            excluded |= {"extractor", "extractor_sha256"}
        settings = {key: value for key, value in record.items() if key not in excluded}
        versions = record.get("versions", {}).items()
        settings |= {f"{VERSIONS}{library}": version for library, version in versions}
        if settings.get("class_proportions") == "data":  # as samples of an unconditional G are
            del settings["class_proportions"]
        return {key: value for key, value in settings.items() if value is not None}

    def case(self, record: Record) -> dict[str, Any]:
        """Return the fields that tell a record from others of the same evaluation."""
        return {key: record[key] for key in self.cases}

    def intervals(self, record: Record) -> dict[str, list[float]]:
        """Return the 95 % confidence interval [low, high] of each value that has one, by field.

        It covers the draw of samples and images, not the training: `advnets compare` has intervals
        over training seeds. It is centered on the expected value at this number of images, so the
        bias of distances and divergences at few images is not in it.
        """
        found = {
            name: value.interval(record, name)
            for name, value in self.values.items()
            if value.interval is not None
        }
        return {name: interval for name, interval in found.items() if interval is not None}


MetricNames = str | MetricSpec | Sequence[str | MetricSpec]
"""Metrics as a command or a call names them: names, custom metrics, or FILE.py:NAME of them."""

_NOT_SETTINGS = (
    *("metric", "samples", "weights", "keep_fraction", "seed", "step", "versions", "interval"),
    "comparability",
)
_COUNTED_TWICE = ("n", "n_samples", "n_test")  # each equals n_real or n_fake


def percent(value: float, digits: int = 1) -> str:
    """Return a proportion as a percentage."""
    return f"{100 * value:.{digits}f} %"


def number(value: float | None, form: str, missing: str) -> str:
    """Return a number in a format, or `missing` for None."""
    return missing if value is None else format(value, form)


def plus_minus(record: Record, form: str) -> str:
    """Return " ± s.e." of a record, or "" where it has no standard error."""
    error = record.get("standard_error")
    return "" if error is None else f" ± {error:{form}}"


def format_range(values: Sequence[float | None]) -> str:
    """Return the smallest and the largest of some values, None left out; a dash if none is left."""
    known = [value for value in values if value is not None]
    return f"{min(known):.2f} to {max(known):.2f}" if known else "–"
