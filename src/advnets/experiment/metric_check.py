"""The check of metrics against a config and its data, before anything is trained."""

from __future__ import annotations

import torch

from advnets import config
from advnets.data.prepared import open_training_data
from advnets.evaluation.context import EvaluationContext
from advnets.evaluation.registry import METRICS, default_extractor, resolve_metrics
from advnets.evaluation.spec import MetricNames
from advnets.experiment.setup import with_pretrained_generator
from advnets.experiment.stored_run import meta_players
from advnets.extractors.registry import EXTRACTORS
from advnets.sampling.sampler import ComputeSettings


def check_metrics(run: config.Config, metrics: MetricNames, extractor: str | None = None) -> None:
    """Check that metrics can be computed for a run of a config.

    An `extractor` that is a file or the D of a run is checked only when the run is evaluated.

    Raises:
        UnknownNameError: there is no such metric.
        DataError: the data lacks what a metric needs.
        UsageError: the players or the extractor lack what a metric needs.
    """
    # Build what the checks of metrics read; the networks allocate no memory.
    names, run = resolve_metrics(metrics), with_pretrained_generator(run)
    data = open_training_data(run.data)
    known = extractor is None or extractor in EXTRACTORS
    context = EvaluationContext(
        players=meta_players(run, len(run.stages) - 1, data.info),
        data=data,
        seed=run.seed,
        step=0,
        weights="",
        compute_settings=ComputeSettings(torch.device("cpu")),
        extractor=default_extractor(data.info.name, extractor if known else None),
        game=run.stage.game,
        data_config=run.data,
        class_proportions=data.info.class_proportions() if run.stage.game.conditional else None,
    )

    # Check each metric, and the shape of images of the extractor.
    specs = [METRICS[name] for name in names]
    for spec in specs:
        spec.check_data(data)
        if known or not spec.uses_extractor:
            spec.check_run(context)
    if known and any(spec.uses_extractor for spec in specs):
        context.check_extractor()
