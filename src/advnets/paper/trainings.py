"""The trainings that the paper's figures and tables share, by name."""

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
SMALLER = 8
"""By how much nets are narrower at quick scale."""
QUICK_STEPS = 300
VAE_UNITS, VAE_EPOCHS = (256, 256), 600
"""Of the encoder at quick scale, as many as G has, and how long it is trained."""


def scored_run(context: SectionContext, seed: int | None = None) -> TrainedModel:
    """The run whose samples are shown and scored: the MNIST experiment, or small digits."""
    seed = context.seed if seed is None else seed
    if context.full:
        return context.trained(f"mnist-{seed}", mnist(context, seed))
    return context.trained(f"digits-{seed}", digits(seed))


def scored_runs(context: SectionContext) -> list[TrainedModel]:
    """The same for every seed."""
    return [scored_run(context, seed) for seed in context.all_seeds]


def tuned_runs(context: SectionContext) -> list[TrainedModel]:
    """The same nets trained our way, a run for each seed."""
    return [
        context.trained(f"tuned-{seed}", _mnist(context, "mnist-relativistic", seed, every=2000))
        for seed in context.all_seeds
    ]


def vae_runs(context: SectionContext) -> list[TrainedModel]:
    """The same net as a VAE's decoder, a run for each seed."""
    return [
        context.trained(f"vae-{seed}", _mnist(context, "vae-mnist", seed, every=0))
        if context.full
        else context.trained(f"vae-digits-{seed}", vae_of_digits(seed))
        for seed in context.all_seeds
    ]


def vae_of_digits(seed: int) -> config.Config:
    """The offline preset's net as a decoder, for half a minute."""
    small, vae = digits(seed), presets.get_preset("vae-mnist").stage
    generator = replace(small.stage.generator, prior="normal")
    game = config.VAEGame(config.MLPEncoder(hidden_sizes=VAE_UNITS))
    stage = replace(vae, generator=generator, game=game, epochs=VAE_EPOCHS)
    half_life = small.stage.ema_half_life
    small = replace(small, preset="vae-mnist", intervals=replace(small.intervals, eval_every=0))
    return small.with_stage(replace(stage, ema_half_life=half_life))


def records(trained: TrainedModel, weights: Weights, metrics: Sequence[str]) -> list[Record]:
    """The records of `advnets evaluate`, taken anew only where they are not there."""
    of_these = [
        record
        for record in trained.run.scores()
        if record["step"] == trained.step
        and record["weights"] in (weights, None)
        and record.get("keep") is None
    ]
    known = {record["metric"] for record in of_these if record["weights"] == weights}
    if lacking := tuple(metric for metric in metrics if metric not in known):
        chosen = load(trained.run.path, weights=weights)
        return [*of_these, *chosen.evaluate(lacking, seed=trained.config.seed)]
    return list(of_these)


def mnist(context: SectionContext, seed: int) -> config.Config:
    """`paper-mnist` with scores on the way."""
    return _mnist(context, "paper-mnist", seed, every=5000)


def _mnist(context: SectionContext, preset: str, seed: int, every: int) -> config.Config:
    run = presets.get_preset(preset)
    run = replace(run, seed=seed, data=context.data(run.data, context.sources.mnist))
    return replace(run, intervals=replace(run.intervals, eval_every=every))


def digits(seed: int) -> config.Config:
    """The offline preset, cut to half a minute."""
    run = replace(presets.get_preset("digits"), seed=seed)
    run = replace(run, intervals=replace(run.intervals, eval_every=500))
    return run.with_stage(replace(run.stage, epochs=QUICK_EPOCHS))


def large_runs(context: SectionContext) -> dict[str, config.Config]:
    """The experiments on faces and on CIFAR-10: the paper's nets, or nets an eighth as wide."""
    faces, cifar = faces_run(context), context.sources.cifar
    return {
        faces.name: faces.config,
        _named(context, "cifar"): _on(context, "paper-cifar", cifar, CIFAR_STEPS),
        _named(context, "cifar-conv"): _on(context, "paper-cifar-conv", cifar, CIFAR_CONV_STEPS),
    }


@dataclass(frozen=True)
class FacesRun:
    """The experiment on faces: the run, its name, and the faces, opened, or why they cannot be."""

    name: str
    config: config.Config
    faces: Dataset | DataError


def faces_run(context: SectionContext, fold: int | None = None) -> FacesRun:
    """The experiment on a fold of the faces; None is the fold that `--faces` says, or the first.

    It is scored on the way where there are folds to score it by.
    """
    source = context.sources.faces if fold is None else spec.with_fold(context.sources.faces, fold)
    run = _on(context, "paper-tfd", source, FACES_STEPS)
    try:
        faces = open_dataset(run.data)
    except DataError as error:
        return FacesRun(_named(context, "faces"), run, error)
    if faces.fold is None or faces.fold not in faces.folds:
        return FacesRun(_named(context, "faces"), run, faces)
    # One fold is one run, in whatever way it was asked for.
    run = replace(run, data=replace(run.data, source=spec.with_fold(source, faces.fold)))
    every = FACES_SCORED if context.full else QUICK_STEPS // 4
    run = replace(run, intervals=replace(run.intervals, eval_every=every))
    return FacesRun(_named(context, f"faces-{faces.fold}"), run, faces)


def _named(context: SectionContext, name: str) -> str:
    name = name if context.full else f"{name}-quick"
    return f"{name}-{context.seed}" if context.seed else name


FACES_STEPS, CIFAR_STEPS, CIFAR_CONV_STEPS = (400, 180), (10_000,), (4600,)
"""Steps of each stage, for which each of the CIFAR-10 nets trains two hours or more."""
FACES_SCORED = 60
"""Steps between scores of the faces' generator on the way."""


def _on(context: SectionContext, preset: str, source: str, steps: tuple[int, ...]) -> config.Config:
    run = replace(presets.get_preset(preset), seed=context.seed)
    stages = tuple(
        replace(stage, steps=n if context.full else QUICK_STEPS // len(steps))
        for stage, n in zip(run.stages, steps, strict=True)
    )
    run = replace(run, data=context.data(run.data, source), stages=stages)
    if context.full:
        return run
    stages = tuple(narrower(stage, SMALLER) for stage in stages)
    return replace(run, stages=stages, runtime=replace(run.runtime, threads=1))


def narrower(stage: config.Stage, by: int) -> config.Stage:
    """A stage whose nets have so many times fewer hidden units."""
    generator, discriminator = stage.generator, stage.discriminator
    changes: dict[str, object] = {}
    if isinstance(generator, config.MLPGenerator | config.DeconvGenerator):
        changes["generator"] = replace(
            generator, hidden_sizes=tuple(units // by for units in generator.hidden_sizes)
        )
    if isinstance(discriminator, config.MaxoutDiscriminator):
        units = tuple(units // by for units in discriminator.hidden_sizes)
        changes["discriminator"] = replace(discriminator, hidden_sizes=units)
    if isinstance(discriminator, config.MaxoutConvDiscriminator):
        channels = tuple(maps // by for maps in discriminator.channels)
        changes["discriminator"] = replace(discriminator, channels=channels)
    return replace(stage, **changes)
