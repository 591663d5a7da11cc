"""The registry of metrics, and the checks of the arguments of `evaluate`."""

from __future__ import annotations

import re

from advnets.custom_code import CustomCode, is_code_spec
from advnets.errors import UnknownNameError, UsageError
from advnets.evaluation.classification import CLASS_ACCURACY, CLASSIFICATION_ERROR
from advnets.evaluation.distances import FRECHET, MMD, PARZEN, SWD
from advnets.evaluation.encoders import ELBO, RECONSTRUCTION
from advnets.evaluation.inpainting import INPAINTING
from advnets.evaluation.linear_probe import ONE_NN_CLASSIFIER, PROBE
from advnets.evaluation.modes import INCEPTION_SCORE, KL_JSD, MIXTURE, MODES
from advnets.evaluation.neighbors import MEMORIZATION, PRDC_SPEC, TWO_SAMPLE_1NN
from advnets.evaluation.spec import MetricNames, MetricSpec, Record
from advnets.evaluation.usefulness import USEFULNESS
from advnets.extractors import load_extractor
from advnets.extractors.base import Extractor
from advnets.extractors.registry import EXTRACTORS

METRICS: dict[str, MetricSpec] = {}
"""Every metric by its name, in the order of tables and columns."""


def register_metric(spec: MetricSpec) -> None:
    """Make a metric known to the command line, `evaluate`, `compare`, reports and curves.

    A metric that was registered before under the same name is replaced, as when the cell of a
    notebook runs again.

    Raises:
        UsageError: its name, or one of its aliases, is that of another metric.
    """
    for name in (spec.name, *spec.aliases):
        other = find_metric(name)
        if other is not None and (other.name != spec.name or other.name in _BUILT_IN):
            raise UsageError(
                f"the metric {spec.name} cannot be named {name}, which is a name of the metric "
                f"{other.name}; choose another"
            )
    METRICS[spec.name] = spec


_BUILT_IN: set[str] = set()
"""The names of the metrics of this package."""


def find_metric(name: str) -> MetricSpec | None:
    """Return the metric of a name or alias, in any case."""
    lower = name.lower().replace("_", "-")
    return next((s for s in METRICS.values() if lower in (s.name, *s.aliases)), None)


for _spec in (
    PARZEN,
    FRECHET,
    MMD,
    SWD,
    PRDC_SPEC,
    TWO_SAMPLE_1NN,
    MEMORIZATION,
    INCEPTION_SCORE,
    MODES,
    MIXTURE,
    KL_JSD,
    PROBE,
    ONE_NN_CLASSIFIER,
    CLASS_ACCURACY,
    USEFULNESS,
    CLASSIFICATION_ERROR,
    RECONSTRUCTION,
    INPAINTING,
    ELBO,
):
    register_metric(_spec)
_BUILT_IN.update(METRICS)

DEFAULT_EXTRACTORS = {"mnist": "digits"}
"""The default extractor of datasets for which there is a classifier; pixels for all others."""

MIN_SAMPLES = 10
"""The smallest number of samples with which every metric can be computed."""


def resolve_metrics(names: MetricNames) -> tuple[str, ...]:
    """Return the metrics, each once, that names or aliases in any case stand for.

    A custom metric is registered, and the code of its file runs: this is only for metrics that the
    user has given.

    Raises:
        UnknownNameError: there is no such metric; the message names the nearest ones.
        UsageError: a file fails or has no metric of that name, or its name is taken.
    """
    given = [names] if isinstance(names, str | MetricSpec) else [*names]
    resolved: dict[str, None] = {}
    for name in (part for one in given for part in _parts(one)):
        if isinstance(name, MetricSpec):
            register_metric(name)
            resolved[name.name] = None
            continue
        spec = find_metric(name)
        if spec is None:
            aliases = (alias for metric in METRICS.values() for alias in metric.aliases)
            raise UnknownNameError("metric", name.lower(), METRICS, aliases)
        resolved[spec.name] = None
    return tuple(resolved)


def _parts(names: str | MetricSpec) -> list[str] | list[MetricSpec]:
    """Return the names in a string, or the custom metric that it names or is."""
    if isinstance(names, MetricSpec):
        return [names]
    return [_load_metric(names)] if is_code_spec(names) else split_names(names)


def _load_metric(spec: str) -> MetricSpec:
    """Run FILE.py and return the metric of that name.

    Raises:
        UsageError: the file does not exist or fails, or the value is no metric.
    """
    code = CustomCode.read(spec, "metric")
    value = code.run()
    if not isinstance(value, MetricSpec):
        raise UsageError(
            f"{code.source} is a {type(value).__name__}; give the name of a MetricSpec"
        )
    return value


def split_names(names: MetricNames) -> list[str]:
    """Return the names in some strings, which commas or blanks separate, without custom metrics."""
    given = [names] if isinstance(names, str | MetricSpec) else names
    strings = [one for one in given if isinstance(one, str) and not is_code_spec(one)]
    return [name for string in strings for name in re.split(r"[,\s]+", string) if name]


def comparability(record: Record) -> str:
    """Return a clause that says which published scores a record compares with.

    It is "" for metrics that papers do not report as computed here. A score compares with a
    published one by the same extractor of as many samples against training images.
    """
    metric = record["metric"]
    if metric not in METRICS or not METRICS[metric].published:
        return ""
    spec = EXTRACTORS.get(record["extractor"])
    published = spec.published.get(metric) if spec else None
    if spec is None or published is None:
        others = " or ".join(
            name for name, other in EXTRACTORS.items() if metric in other.published
        )
        return f"comparable only with scores by the same extractor; published ones are by {others}"

    # Say how the images differ from those of the published score.
    fake, real, images = record["n_fake"], record["n_real"], record["images"]
    resized = f" resized to {' x '.join(map(str, images['shape'][1:]))}" if images["crop"] else ""
    tested = real and (record["split"] == "test" or resized)
    if fake != published.num_samples or tested:
        expected, actual = f"{published.num_samples:,} samples", f"{fake:,}"
        if real:
            expected += " against training images"
            actual += f" against {real:,} {record['split']} images{resized}"
        return (
            "comparable only with scores of the same settings, as published ones are of "
            f"{expected} and this is of {actual}"
        )
    conditions = [
        *([] if spec.checked else ["the weights are the published ones"]),
        *(["the given images are the training images"] if real else []),
    ]
    condition = f" if {' and '.join(conditions)}" if conditions else ""
    return f"comparable with published {published.name}{condition}"


def alias_notes(names: MetricNames) -> list[str]:
    """Return a note for each of these names that is not the one in tables."""
    typed = {name: find_metric(name) for name in split_names(names)}
    return [
        f"note: {name} is the metric {spec.name}"
        for name, spec in typed.items()
        if spec and name.lower() in spec.aliases
    ]


def default_extractor(data: str, name: str | None = None, *, trust_code: bool = False) -> Extractor:
    """Return the named extractor, or the default one of a dataset for None.

    Raises:
        UnknownNameError: there is no extractor of that name.
        DataError: its file is absent, broken, or not an extractor.
        UsageError: its file can run code, which is not trusted.
        MissingExtraError: it needs a library that is not installed.
    """
    return load_extractor(name or DEFAULT_EXTRACTORS.get(data, "pixels"), trust_code=trust_code)


def check_evaluation(
    metrics: tuple[str, ...],
    *,
    extractor: str | None,
    keep_fraction: float,
    num_samples: int | None,
    probe_labels: tuple[int, ...],
    class_proportions: str,
) -> None:
    """Check that there is a metric, and that every option has an effect on the metrics.

    Raises:
        UsageError: one of these.
    """
    specs = [METRICS[name] for name in metrics]
    if not specs:
        raise UsageError("no metric was given; give at least one, such as frechet")

    # Options of samples have no effect on a metric without samples.
    without_samples = next((spec.name for spec in specs if spec.samples == "none"), None)
    if without_samples is not None:
        for option, value, default in (
            ("keep_fraction", keep_fraction, 1.0),
            ("class_proportions", class_proportions, "data"),
        ):
            if value != default:
                raise UsageError(
                    f"{option} is {value}, and the metric {without_samples} uses no samples; leave "
                    f"{option} out, or evaluate that metric separately"
                )

    # Other options need at least one metric that they have an effect on.
    named = ", ".join(metrics)
    if extractor is not None and not any(spec.uses_extractor for spec in specs):
        suitable = [spec.name for spec in METRICS.values() if spec.uses_extractor]
        raise UsageError(
            f"extractor is {extractor}, and no feature extractor is used by {named}; add one of "
            f"{', '.join(suitable)}, or leave extractor out"
        )
    if num_samples is not None and not any(spec.samples == "requested" for spec in specs):
        suitable = [spec.name for spec in METRICS.values() if spec.samples == "requested"]
        raise UsageError(
            f"num_samples is {num_samples}, and {named} cannot use another number of samples; "
            f"add one of {', '.join(suitable)}, or leave num_samples out"
        )
    if num_samples is not None and num_samples < MIN_SAMPLES:
        raise UsageError(f"num_samples is {num_samples}; expected {MIN_SAMPLES} or more")
    if probe_labels and "probe" not in metrics:
        raise UsageError(
            f"probe_labels is {' '.join(map(str, probe_labels))}, which only the metric probe "
            "uses; add it to the metrics, or leave probe_labels out"
        )


def record_intervals(record: Record) -> dict[str, list[float]]:
    """Return the 95 % confidence intervals of a record's values, by field."""
    return METRICS[record["metric"]].intervals(record)


def record_identity(record: Record) -> tuple[object, ...]:
    """Return the key of a record: a new one replaces stored records with the same key."""
    keys = ("metric", "samples", "weights", "extractor", "extractor_sha256", "split")
    keys += ("seed", "step", "keep_fraction", "class_proportions", "data_digest")
    spec = METRICS.get(record["metric"])
    case = tuple(record.get(key) for key in spec.cases) if spec else ()
    # Scores of different numbers of images are not comparable, and are both kept.
    counts = tuple(record.get(key) for key in ("n", "n_fake", "n_real"))
    return (*(record.get(key) for key in keys), case, counts)


def metrics_help() -> str:
    """Return the help of --metrics: a paragraph for each metric."""
    lines = [
        "Metrics to compute, separated by blanks or commas, in any case. Those with an asterisk "
        "are also values of `advnets train --eval-metric`. FILE.py:NAME is a custom metric, a "
        "MetricSpec in a Python file, whose code is run.",
    ]
    for spec in METRICS.values():
        names = spec.name + ("*" if spec.curve else "")
        if spec.aliases:
            names += f" ({', '.join(spec.aliases)})"
        needs = f"; needs {spec.needs}" if spec.needs else ""
        lines.append(f"{names}: {spec.help}{needs}.")
    return "\n\n".join(lines)


_DIRECTIONS = {"lower": "↓", "higher": "↑", None: ""}


def metrics_table() -> str:
    """Return the table of all metrics in Markdown, as README has it."""
    lines = ["| Metric | also accepted | measures | compared by | needs |", "|---|---|---|---|---|"]
    for spec in METRICS.values():
        aliases = ", ".join(f"`{alias}`" for alias in spec.aliases)
        values = ", ".join(f"{k} {_DIRECTIONS[v.better]}".rstrip() for k, v in spec.values.items())
        lines.append(f"| `{spec.name}` | {aliases} | {spec.help} | {values} | {spec.needs} |")
    return "\n".join(lines)
