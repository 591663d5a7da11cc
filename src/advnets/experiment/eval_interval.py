"""The metric and the interval of evaluations during training if `--eval-every` is not given.

They follow from the config and the data, never from measured times: a resumed run, and every seed
of a sweep, is evaluated at the same steps on any machine, and selects the same best checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

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
from advnets.extractors import Extractor
from advnets.sampling.sampler import real_images

MIN_INTERVAL = 500
"""The smallest number of steps between evaluations: most of the time of small networks is overhead,
which floating-point operations do not measure."""
MAX_SHARE = 0.02
"""The largest ratio of the floating-point operations of evaluations to those of training steps;
with overhead, evaluations take less than 5 % of the time."""
_GPU_SPEED = 50
"""The assumed ratio of the speed of training on a GPU to that of evaluations, which run mostly on
the CPU."""
_MAX_REAL_IMAGES = 11_000
"""The largest number of validation and test images to which distances are computed."""


def resolve_intervals(run: config.Config, data: PreparedData) -> config.Intervals:
    """Return the intervals of a resolved config, with the metric and interval of its evaluations.

    Raises:
        UnknownNameError: eval_metric or keep_best is no metric or score of evaluations.
        DataError: the data lacks what the metric needs.
        UsageError: the best checkpoint or an early stop is requested, and nothing is evaluated.
    """
    # Choose the metric and the interval if none is given.
    intervals = run.intervals
    if intervals.eval_every is not None:
        resolved = replace(intervals, eval_metric=eval_metric(intervals).name)
    else:
        metric = _resolve_metric(run, data)
        every = _interval(run, data, metric)
        for name in ("keep_best", "patience"):
            if (value := getattr(intervals, name)) and not every:
                raise UsageError(
                    f"{name} is {value}, but a training of {run.stage.steps or 0:,} steps on "
                    f"{data.info.name} is not evaluated by default; set eval_every to "
                    f"{max((run.stage.steps or 0) // 10, 1)}"
                )
        resolved = replace(intervals, eval_every=every, eval_metric=metric or "parzen")

    # Check that the data and the options fit the metric.
    spec = eval_metric(resolved)
    selection(resolved)
    if resolved.eval_every:
        spec.check_data(data)
    return resolved


def _resolve_metric(run: config.Config, data: PreparedData) -> str:
    """Return the metric of evaluations if --eval-every is not given; "" if there is none.

    It is that of --eval-metric, else one that has the score of --keep-best, else the cheap one.
    """
    intervals = run.intervals
    if intervals.eval_metric:
        return eval_metric(intervals).name
    cheap = cheap_metric(run, data)
    if cheap and intervals.keep_best in METRICS[cheap].values:
        return cheap
    return metric_to_keep_by(intervals) or cheap


def cheap_metric(run: config.Config, data: PreparedData) -> str:
    """Return the metric that suits the data and is cheap to compute; "" if there is none.

    For points, it is the metric of their density. For images, it is the Fréchet distance in the
    features of the dataset's extractor, or the MMD (KID) unless there are more test images
    than features.
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
    """Return the number of steps between evaluations; 0: none.

    It is the smallest of 500, 1000, 2000, 5000, … at which evaluations are cheap.
    """
    steps = run.stage.steps or 0
    if not metric or steps < MIN_INTERVAL:
        return 0
    cost = _evaluation_cost(run, data, metric) / _step_cost(run, data) / MAX_SHARE
    every = next(n for n in _round_numbers() if n >= max(cost, MIN_INTERVAL))
    return every if every <= steps else 0


def _round_numbers() -> Iterator[int]:
    """Yield 1, 2, 5, 10, 20, 50, …"""
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


def _step_cost(run: config.Config, data: PreparedData) -> int:
    """Return a low estimate of the floating-point operations of a step.

    A forward pass is counted as one multiplication and addition for each weight and image, and a
    backward pass as two forward passes.
    """
    players = meta_players(run, len(run.stages) - 1, data.info)
    # G has two forward passes and a backward one; D has both for real and for generated images.
    multiplications = run.batch_size * sum(
        parameter_count(net) * (4 if name == "generator" else 6) for name, net in players.items()
    )
    cost = 2 * multiplications
    return cost if run.runtime.device == "cpu" else cost // _GPU_SPEED + 1


def _evaluation_cost(run: config.Config, data: PreparedData, metric: str) -> int:
    """Return a high estimate of the floating-point operations of an evaluation."""
    players = meta_players(run, len(run.stages) - 1, data.info)
    per_sample = 2 * parameter_count(players["generator"])
    if data.dataset.distribution is not None:
        return max(NUM_POINTS) * per_sample
    n, image = num_images(data), real_images(data.dataset.train, 1, run.seed)
    width, flops = _extractor_cost(default_extractor(data.info.name), image)
    # Count covariances, their roots and standard errors; or the kernel of all pairs of images.
    comparison = {"frechet": 100 * n * width**2, "mmd": 6 * n**2 * width}
    # For other metrics, count the distances to validation and test images.
    distances = 2 * n * _MAX_REAL_IMAGES * image.numel()
    return n * (per_sample + flops) + comparison.get(metric, distances)


def _extractor_cost(extractor: Extractor, image: Tensor) -> tuple[int, int]:
    """Return the number of features of an image, and the operations that compute them.

    PyTorch's counter would import its compiler, for a second of each start.
    """
    flops = 0

    def count(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal flops
        if isinstance(layer, nn.Linear | nn.Conv2d):
            flops += 2 * layer.weight.numel() * (output.numel() // output.shape[1])

    with register_module_forward_hook(count):
        width = extractor.features(image).shape[1]
    return width, flops
