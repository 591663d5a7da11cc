"""The evaluations of a training: their metric and interval where `--eval-every` is not given.

They follow from the config and the data, never from measured times: a resumed run, and every seed
of a sweep, is evaluated at the same steps on any machine, and selects the same best checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch.utils.flop_counter import FlopCounterMode

from advnets import config
from advnets.data.prepared import PreparedData
from advnets.errors import UsageError
from advnets.evaluation.modes import NUM_POINTS, default_metric
from advnets.evaluation.registry import METRICS, MIN_SAMPLES, default_extractor
from advnets.evaluation.training_eval import (
    eval_metric,
    metric_to_keep_by,
    num_images,
    selection,
)
from advnets.experiment.stored_run import meta_players, parameter_count
from advnets.sampling.sampler import real_images

MIN_INTERVAL = 500
"""The smallest number of steps between evaluations, as small networks take most of their time for
other work than arithmetic."""
MAX_SHARE = 0.02
"""The largest share of evaluations in the estimated operations: with their other work they take
less than 5 % of the time."""
_GPU_SPEED = 50
"""The speed of a GPU in units of a CPU's, on which most of an evaluation runs."""


def resolve_intervals(run: config.Config, data: PreparedData) -> config.Intervals:
    """Return the intervals of a resolved config with the metric and interval of evaluations.

    Raises:
        UnknownNameError: there is no such metric, or no such score of it.
        DataError: the data lacks what the metric needs.
        UsageError: the best checkpoint or an early stop is requested, and nothing is evaluated.
    """
    given = run.intervals
    if given.eval_every is not None:
        resolved = replace(given, eval_metric=eval_metric(given).name)
    else:
        metric = _default_metric(run, data)
        every = _interval(run, data, metric)
        for name in ("keep_best", "patience"):
            if (value := getattr(given, name)) and not every:
                raise UsageError(
                    f"{name} is {value}, but a training of {run.stage.steps or 0:,} steps on "
                    f"{data.info.name} is not evaluated by default; set eval_every to "
                    f"{max((run.stage.steps or 0) // 10, 1)}"
                )
        resolved = replace(given, eval_every=every, eval_metric=metric or "parzen")
    spec = eval_metric(resolved)
    selection(resolved)
    if resolved.eval_every:
        spec.check_data(data)
    return resolved


def _default_metric(run: config.Config, data: PreparedData) -> str:
    """Return the metric where --eval-every is not given; "" where there is none.

    It is that of --eval-metric, else one that has the score of --keep-best, else the natural one.
    """
    given = run.intervals
    if given.eval_metric:
        return eval_metric(given).name
    natural = natural_metric(run, data)
    if natural and given.keep_best in METRICS[natural].values:
        return natural
    return metric_to_keep_by(given) or natural


def natural_metric(run: config.Config, data: PreparedData) -> str:
    """Return the cheap metric that suits the data; "" where there is none.

    Points have the metric of their density. Images have the Fréchet distance of the dataset's
    extractor, or, where its features are too many for the number of test images, the MMD (KID).
    """
    if isinstance(run.stage.game, config.LatentRegressionGame):
        return ""  # its generator is not trained
    if data.dataset.distribution is not None:
        return default_metric(data)
    n = num_images(data)
    if n < MIN_SAMPLES:
        return ""
    image = real_images(data.dataset.train, 1, run.seed)
    features = default_extractor(data.info.name).features(image).shape[1]
    return "frechet" if features < n else "mmd"


def _interval(run: config.Config, data: PreparedData, metric: str) -> int:
    """Return the smallest of 500, 1000, 2000, 5000, … steps with a cheap evaluation; 0: none."""
    steps = run.stage.steps or 0
    if not metric or steps < MIN_INTERVAL:
        return 0
    cost = _evaluation_cost(run, data, metric) / _step_cost(run, data) / MAX_SHARE
    every = next(n for n in _round_numbers() if n >= max(cost, MIN_INTERVAL))
    return every if every <= steps else 0


def _round_numbers() -> Iterator[int]:
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


def _step_cost(run: config.Config, data: PreparedData) -> int:
    """Return a lower bound of the operations of a step, which counts each weight once an image."""
    players = meta_players(run, len(run.stages) - 1, data.info)
    weights = {name: parameter_count(net) for name, net in players.items()}
    # G draws images twice and goes back once; D does both for real and for generated images.
    passes = sum(count * (4 if name == "generator" else 6) for name, count in weights.items())
    cost = 2 * passes * run.data.batch_size
    return cost if run.runtime.device == "cpu" else cost // _GPU_SPEED + 1


def _evaluation_cost(run: config.Config, data: PreparedData, metric: str) -> int:
    """Return an upper bound of the operations of an evaluation."""
    players = meta_players(run, len(run.stages) - 1, data.info)
    per_sample = 2 * parameter_count(players["generator"])
    if data.dataset.distribution is not None:
        return max(NUM_POINTS) * per_sample
    n, image = num_images(data), real_images(data.dataset.train, 1, run.seed)
    with FlopCounterMode(display=False) as counter:
        width = default_extractor(data.info.name).features(image).shape[1]
    # Covariances, their roots and standard errors; or kernels of all pairs.
    comparison = {"frechet": 100 * n * width**2, "mmd": 6 * n**2 * width}
    # Of other metrics, distances to validation and test images.
    distances = 2 * n * 11_000 * image.numel()
    return n * (per_sample + counter.get_total_flops()) + comparison.get(metric, distances)
