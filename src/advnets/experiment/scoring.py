"""The metrics of a trained model on its data, added to scores.json."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advnets.data.class_proportions import ProportionKind
from advnets.distributed import is_main
from advnets.errors import CustomCodeError, WriteError, by_interface, warn_user
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
from advnets.evaluation.spec import MetricNames
from advnets.extractors.registry import OWN_DISCRIMINATOR
from advnets.run_directory import RunDirectory
from advnets.sampling.sampler import NUM_SAMPLES
from advnets.training.ema import initial_share
from advnets.training.memory import explain_errors

if TYPE_CHECKING:
    from advnets.experiment.trained_model import TrainedModel
    from advnets.extractors.base import Extractor

MAX_INITIAL_SHARE = 0.1
"""The largest fraction of initial weights in the EMA with which its scores need no warning."""


def score_model(
    model: TrainedModel,
    metrics: MetricNames,
    *,
    extractor: str | None,
    trust_code: bool,
    real: object,
    seed: int,
    keep_fraction: float,
    num_samples: int | None,
    probe_labels: tuple[int, ...],
    class_proportions: ProportionKind,
) -> list[dict[str, Any]]:
    """Compute metrics, add the records to scores.json, and return them.

    Arguments and errors are those of `TrainedModel.evaluate`.
    """
    # Check the arguments before the data is opened.
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
        prepared = model.open_data()
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
        try:
            with explain_errors("score fewer samples (num_samples)"):
                records = [
                    {**record, "comparability": comparability(record) or None}
                    for record in spec.compute(context)
                ]
        except CustomCodeError as error:
            raise CustomCodeError(f"{error}; correct it: the training is saved") from error
        _save_scores(model, records)
        results += records

    # Warn if these are scores of an EMA with much of the initial weights.
    if any(spec.samples != "none" for spec in specs) and (
        warning := _initial_weights_warning(model)
    ):
        warn_user(warning)
    return results


def _initial_weights_warning(model: TrainedModel) -> str | None:
    """Return the warning that the EMA of G has much of its initial weights; None if it has not."""
    stages, number = model.config.stages, len(model.config.stages) - 1
    stage, steps = stages[number], model.step - model.config.steps_before(number)
    if model.weights != "ema" or "generator" not in stage.ema_players:
        return None
    batch_size = model.config.batch_size
    share = initial_share(steps, stage.ema_half_life, batch_size, stage.ema_rampup)
    if share <= MAX_INITIAL_SHARE:
        return None
    return (
        f"the EMA of G still has {100 * share:.0f} % of its initial weights at step "
        f"{model.step:,} (half-life {stage.ema_half_life:,} images): train longer, or "
        + by_interface("add --weights last", 'load the model with weights="last"')
    )


def _save_scores(model: TrainedModel, records: list[dict[str, Any]]) -> None:
    """Add records to scores.json; warn if it cannot be written."""
    try:
        if is_main():
            model.run.add_scores(records, record_identity)
    except WriteError as error:
        warn_user(f"the scores of {records[0]['metric']} are not saved: {error}")


def _find_extractor(
    model: TrainedModel, spec: str | None, dataset_name: str, *, trust_code: bool
) -> Extractor:
    """Return the extractor that `spec` names: this run's D, that of another run, a name or a file.

    If `spec` is None, return the default extractor of the dataset.
    """
    from advnets.experiment.trained_model import load  # that module imports this one

    if spec == OWN_DISCRIMINATOR:
        return model.discriminator_extractor()
    if spec is not None and RunDirectory(Path(spec)).exists:
        return replace(load(spec).discriminator_extractor(), name=f"D of {Path(spec).name}")
    return default_extractor(dataset_name, spec, trust_code=trust_code)
