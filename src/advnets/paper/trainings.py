"""The training runs that several sections of the paper share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from advnets import config, presets
from advnets.data import spec
from advnets.data.dataset import Dataset
from advnets.data.registry import open_dataset
from advnets.errors import DataError
from advnets.experiment.trained_model import TrainedModel, Weights, load
from advnets.paper.blocks import SectionContext
from advnets.paper.studies.likelihoods import Record

QUICK_EPOCHS = 200
"""Epochs of the GAN on digits at quick scale."""
WIDTH_DIVISOR = 8
"""Factor by which hidden layers are narrower at quick scale."""
QUICK_STEPS = 300
"""Training steps of the large experiments at quick scale."""
VAE_HIDDEN_SIZES, VAE_EPOCHS = (256, 256), 600
"""Hidden sizes of the encoder at quick scale, as in the generator, and its training epochs."""


def reference_run(context: SectionContext, seed: int | None = None) -> TrainedModel:
    """Return the evaluated run: the MNIST experiment at full scale, digits at quick."""
    seed = context.seed if seed is None else seed
    if context.full:
        return context.train_or_load(f"mnist-{seed}", paper_mnist_config(context, seed))
    return context.train_or_load(f"digits-{seed}", digits_config(seed))


def reference_runs(context: SectionContext) -> list[TrainedModel]:
    """Return the reference run of every seed."""
    return [reference_run(context, seed) for seed in context.all_seeds]


def relativistic_runs(context: SectionContext) -> list[TrainedModel]:
    """Return runs of the same networks with a modern recipe, one for each seed."""
    return [
        context.train_or_load(
            f"tuned-{seed}", _mnist_config(context, "mnist-relativistic", seed, every=2000)
        )
        for seed in context.all_seeds
    ]


def vae_runs(context: SectionContext) -> list[TrainedModel]:
    """Return VAEs with the generator's network as decoder, one for each seed."""
    return [
        context.train_or_load(f"vae-{seed}", _mnist_config(context, "vae-mnist", seed, every=0))
        if context.full
        else context.train_or_load(f"vae-digits-{seed}", digits_vae_config(seed))
        for seed in context.all_seeds
    ]


def digits_vae_config(seed: int) -> config.Config:
    """Return a short VAE training on digits with the decoder of preset `digits`."""
    digits, vae = digits_config(seed), presets.get_preset("vae-mnist").stage
    generator = replace(digits.stage.generator, prior="normal")
    game = config.VAEGame(config.MLPEncoder(hidden_sizes=VAE_HIDDEN_SIZES))
    stage = replace(vae, generator=generator, game=game, epochs=VAE_EPOCHS)
    half_life = digits.stage.ema_half_life
    digits = replace(digits, preset="vae-mnist", intervals=replace(digits.intervals, eval_every=0))
    return digits.with_stage(replace(stage, ema_half_life=half_life))


def load_or_evaluate(
    trained: TrainedModel, weights: Weights, metrics: Sequence[str]
) -> list[Record]:
    """Return evaluation records of the final weights, computing only the missing metrics."""
    stored = [
        record
        for record in trained.run.scores()
        if record["step"] == trained.step
        and record["weights"] in (weights, None)
        and record.get("keep_fraction") is None
    ]
    stored_metrics = {record["metric"] for record in stored if record["weights"] == weights}
    if missing := tuple(metric for metric in metrics if metric not in stored_metrics):
        weighted = load(trained.run.path, weights=weights)
        return [*stored, *weighted.evaluate(missing, seed=trained.config.seed)]
    return list(stored)


def paper_mnist_config(context: SectionContext, seed: int) -> config.Config:
    """Return preset `paper-mnist` with scores during training."""
    return _mnist_config(context, "paper-mnist", seed, every=5000)


def _mnist_config(context: SectionContext, preset: str, seed: int, every: int) -> config.Config:
    run = presets.get_preset(preset)
    run = replace(run, seed=seed, data=context.data(run.data, context.sources.mnist))
    return replace(run, intervals=replace(run.intervals, eval_every=every))


def digits_config(seed: int) -> config.Config:
    """Return preset `digits`, shortened to about half a minute."""
    run = replace(presets.get_preset("digits"), seed=seed)
    run = replace(run, intervals=replace(run.intervals, eval_every=500))
    return run.with_stage(replace(run.stage, epochs=QUICK_EPOCHS))


def large_configs(context: SectionContext) -> dict[str, config.Config]:
    """Return the faces and CIFAR-10 experiments; at quick scale with narrow networks."""
    faces, cifar = faces_run(context), context.sources.cifar
    return {
        faces.name: faces.config,
        _run_name(context, "cifar"): _large_config(context, "paper-cifar", cifar, CIFAR_STEPS),
        _run_name(context, "cifar-conv"): _large_config(
            context, "paper-cifar-conv", cifar, CIFAR_CONV_STEPS
        ),
    }


@dataclass(frozen=True)
class FacesRun:
    """The faces experiment: its name, config, and dataset or the error of opening it."""

    name: str
    config: config.Config
    dataset: Dataset | DataError


def faces_run(context: SectionContext, fold: int | None = None) -> FacesRun:
    """Return the faces experiment on one fold; None is the fold in `--faces`, or the first.

    It is scored during training if the dataset has folds.
    """
    source = context.sources.faces if fold is None else spec.with_fold(context.sources.faces, fold)
    run = _large_config(context, "paper-tfd", source, FACES_STEPS)
    try:
        faces = open_dataset(run.data)
    except DataError as error:
        return FacesRun(_run_name(context, "faces"), run, error)
    if faces.fold is None or faces.fold not in faces.folds:
        return FacesRun(_run_name(context, "faces"), run, faces)
    # Name the fold explicitly, so that one fold is one run however it was requested.
    run = replace(run, data=replace(run.data, source=spec.with_fold(source, faces.fold)))
    every = FACES_EVAL_EVERY if context.full else QUICK_STEPS // 4
    run = replace(run, intervals=replace(run.intervals, eval_every=every))
    return FacesRun(_run_name(context, f"faces-{faces.fold}"), run, faces)


def _run_name(context: SectionContext, name: str) -> str:
    name = name if context.full else f"{name}-quick"
    return f"{name}-{context.seed}" if context.seed else name


FACES_STEPS, CIFAR_STEPS, CIFAR_CONV_STEPS = (400, 180), (10_000,), (4600,)
"""Training steps of each stage; each CIFAR-10 network trains for two hours or more."""
FACES_EVAL_EVERY = 60
"""Training steps between scores of the faces generator."""


def _large_config(
    context: SectionContext, preset: str, source: str, steps: tuple[int, ...]
) -> config.Config:
    run = replace(presets.get_preset(preset), seed=context.seed)
    stages = tuple(
        replace(stage, steps=n if context.full else QUICK_STEPS // len(steps))
        for stage, n in zip(run.stages, steps, strict=True)
    )
    run = replace(run, data=context.data(run.data, source), stages=stages)
    if context.full:
        return run
    stages = tuple(shrink_stage(stage, WIDTH_DIVISOR) for stage in stages)
    return replace(run, stages=stages, runtime=replace(run.runtime, threads=1))


def shrink_stage(stage: config.Stage, divisor: int) -> config.Stage:
    """Return a stage whose networks have hidden layers narrower by a factor."""
    generator, discriminator = stage.generator, stage.discriminator
    changes: dict[str, object] = {}
    if isinstance(generator, config.MLPGenerator | config.DeconvGenerator):
        changes["generator"] = replace(
            generator, hidden_sizes=tuple(units // divisor for units in generator.hidden_sizes)
        )
    if isinstance(discriminator, config.MaxoutDiscriminator):
        units = tuple(units // divisor for units in discriminator.hidden_sizes)
        changes["discriminator"] = replace(discriminator, hidden_sizes=units)
    if isinstance(discriminator, config.MaxoutConvDiscriminator):
        channels = tuple(maps // divisor for maps in discriminator.channels)
        changes["discriminator"] = replace(discriminator, channels=channels)
    return replace(stage, **changes)
