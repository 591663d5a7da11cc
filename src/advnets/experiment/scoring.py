"""The metrics of a trained model on its data, added to scores.json."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advnets.data.class_proportions import ProportionKind
from advnets.errors import RunWarning, WriteError
from advnets.evaluation.context import EvaluationContext
from advnets.evaluation.reference import reference_data
from advnets.evaluation.registry import (
    METRICS,
    check_evaluation,
    comparability,
    default_extractor,
    record_identity,
    resolve_metrics,
)
from advnets.extractors.registry import OWN_DISCRIMINATOR
from advnets.run_directory import RunDirectory
from advnets.sampling.sampler import NUM_SAMPLES
from advnets.training.memory import explain_errors

if TYPE_CHECKING:
    from advnets.experiment.trained_model import TrainedModel
    from advnets.extractors.base import Extractor


def score_model(
    model: TrainedModel,
    metrics: str | Sequence[str],
    *,
    extractor: str | None,
    trust_code: bool,
    data: object,
    data_dir: str | Path | None,
    real: object,
    seed: int,
    keep_fraction: float,
    num_samples: int | None,
    probe_labels: tuple[int, ...],
    class_proportions: ProportionKind,
) -> list[dict[str, Any]]:
    """Return the new records, as `TrainedModel.evaluate` says."""
    # Check the arguments before the work.
    names = resolve_metrics(metrics)
    check_evaluation(
        names,
        extractor=extractor,
        keep_fraction=keep_fraction,
        num_samples=num_samples,
        probe_labels=probe_labels,
        class_proportions=class_proportions,
    )
    if not model.conditional:
        model.check_without_classes(named=False, class_proportions=class_proportions)
    model.run.scores()  # refuses a broken scores.json

    # Open the data, and check that every metric applies.
    if real is None:
        prepared = model.open_data(data, data_dir)
    else:
        prepared = reference_data(real, names, model.config.data, model.info, model.normalizer)
    context = EvaluationContext(
        players=model.players,
        data=prepared,
        seed=seed,
        step=model.step,
        weights=model.weights,
        compute_settings=model.compute_settings,
        extractor=_find_extractor(model, extractor, prepared.info.name, trust_code=trust_code),
        initial_players=model.initial_players,
        game=model.config.stage.game,
        data_config=model.config.data,
        class_proportions=prepared.info.class_proportions(class_proportions)
        if model.conditional
        else None,
        rejection=model.rejection(keep_fraction),
        num_samples=NUM_SAMPLES if num_samples is None else num_samples,
        label_budgets=probe_labels,
        include_real=real is None,
    )
    specs = [METRICS[name] for name in names]
    for spec in specs:
        spec.check(context)
    if any(spec.uses_extractor for spec in specs):
        context.check_extractor()

    # Compute each metric; save it at once, so that an error in a later one loses nothing.
    results: list[dict[str, Any]] = []
    for spec in specs:
        with explain_errors("score fewer samples (num_samples)"):
            records = [
                {
                    **record,
                    "interval": spec.intervals(record),
                    "comparability": comparability(record) or None,
                }
                for record in spec.records(context)
            ]
        _save_scores(model, records)
        results += records
    return results


def _save_scores(model: TrainedModel, records: list[dict[str, Any]]) -> None:
    """Add records to scores.json; warn if it cannot be written."""
    try:
        model.run.add_scores(records, record_identity)
    except WriteError as error:
        warnings.warn(
            f"the scores of {records[0]['metric']} are not saved: {error}", RunWarning, stacklevel=5
        )


def _find_extractor(
    model: TrainedModel, spec: str | None, data: str, *, trust_code: bool
) -> Extractor:
    """Return this run's D, the D of another run, or an extractor by name or file.

    None is the default extractor of the dataset.
    """
    from advnets.experiment.trained_model import load  # imports this module

    if spec == OWN_DISCRIMINATOR:
        return model.discriminator_extractor()
    if spec is not None and RunDirectory(Path(spec)).exists:
        return replace(load(spec).discriminator_extractor(), name=f"D of {Path(spec).name}")
    return default_extractor(data, spec, trust_code=trust_code)
