"""The trainings that the paper's figures and tables share, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from advnets import config, presets
from advnets.data import names
from advnets.data.dataset import Splits
from advnets.data.registry import open_source
from advnets.errors import DataError
from advnets.experiment.trained_model import Trained, Weights, load
from advnets.paper.blocks import Setting
from advnets.paper.likelihoods import Record

QUICK_EPOCHS = 200
SMALLER = 8
"""By how much nets are narrower at quick scale."""
QUICK_STEPS = 300
VAE_UNITS, VAE_EPOCHS = (256, 256), 600
"""Of the encoder at quick scale, as many as G has, and how long it is trained."""


def scored_run(setting: Setting, seed: int | None = None) -> Trained:
    """The run whose samples are shown and scored: the MNIST experiment, or small digits."""
    seed = setting.seed if seed is None else seed
    if setting.full:
        return setting.trained(f"mnist-{seed}", mnist(setting, seed))
    return setting.trained(f"digits-{seed}", digits(seed))


def scored_runs(setting: Setting) -> list[Trained]:
    """The same for every seed."""
    return [scored_run(setting, seed) for seed in setting.all_seeds]


def tuned_runs(setting: Setting) -> list[Trained]:
    """The same nets trained our way, a run for each seed."""
    return [
        setting.trained(f"tuned-{seed}", _mnist(setting, "tuned-mnist", seed, every=2000))
        for seed in setting.all_seeds
    ]


def vae_runs(setting: Setting) -> list[Trained]:
    """The same net as a VAE's decoder, a run for each seed."""
    return [
        setting.trained(f"vae-{seed}", _mnist(setting, "vae-mnist", seed, every=0))
        if setting.full
        else setting.trained(f"vae-digits-{seed}", vae_of_digits(seed))
        for seed in setting.all_seeds
    ]


def vae_of_digits(seed: int) -> config.Config:
    """The offline preset's net as a decoder, for half a minute."""
    small, vae = digits(seed), presets.named("vae-mnist").stage
    generator = replace(small.stage.generator, prior="normal")
    game = config.ElboGame(config.MLPEncoder(hidden=VAE_UNITS))
    stage = replace(vae, generator=generator, game=game, epochs=VAE_EPOCHS)
    half_life = small.stage.average_half_life
    small = replace(small, preset="vae-mnist", ticks=replace(small.ticks, evaluate=0))
    return small.with_stage(replace(stage, average_half_life=half_life))


def records(trained: Trained, weights: Weights, metrics: Sequence[str]) -> list[Record]:
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


def mnist(setting: Setting, seed: int) -> config.Config:
    """`paper-mnist` with scores on the way."""
    return _mnist(setting, "paper-mnist", seed, every=5000)


def _mnist(setting: Setting, preset: str, seed: int, every: int) -> config.Config:
    run = presets.named(preset)
    run = replace(run, seed=seed, data=setting.data(run.data, setting.sources.mnist))
    return replace(run, ticks=replace(run.ticks, evaluate=every))


def digits(seed: int) -> config.Config:
    """The offline preset, cut to half a minute."""
    run = replace(presets.named("digits"), seed=seed)
    run = replace(run, ticks=replace(run.ticks, evaluate=500))
    return run.with_stage(replace(run.stage, epochs=QUICK_EPOCHS))


def large_runs(setting: Setting) -> dict[str, config.Config]:
    """The experiments on faces and on CIFAR-10: the paper's nets, or nets an eighth as wide."""
    faces, cifar = faces_run(setting), setting.sources.cifar
    return {
        faces.name: faces.config,
        _named(setting, "cifar"): _on(setting, "paper-cifar", cifar, CIFAR_STEPS),
        _named(setting, "cifar-conv"): _on(setting, "paper-cifar-conv", cifar, CIFAR_CONV_STEPS),
    }


@dataclass(frozen=True)
class FacesRun:
    """The experiment on faces: the run, its name, and the faces, opened, or why they cannot be."""

    name: str
    config: config.Config
    faces: Splits | DataError


def faces_run(setting: Setting, fold: int | None = None) -> FacesRun:
    """The experiment on a fold of the faces; None is the fold that `--faces` says, or the first.

    It is scored on the way where there are folds to score it by.
    """
    source = setting.sources.faces if fold is None else names.by_fold(setting.sources.faces, fold)
    run = _on(setting, "paper-tfd", source, FACES_STEPS)
    try:
        faces = open_source(run.data)
    except DataError as error:
        return FacesRun(_named(setting, "faces"), run, error)
    if faces.fold is None or faces.fold not in faces.folds:
        return FacesRun(_named(setting, "faces"), run, faces)
    # One fold is one run, in whatever way it was asked for.
    run = replace(run, data=replace(run.data, source=names.by_fold(source, faces.fold)))
    every = FACES_SCORED if setting.full else QUICK_STEPS // 4
    run = replace(run, ticks=replace(run.ticks, evaluate=every))
    return FacesRun(_named(setting, f"faces-{faces.fold}"), run, faces)


def _named(setting: Setting, name: str) -> str:
    name = name if setting.full else f"{name}-quick"
    return f"{name}-{setting.seed}" if setting.seed else name


FACES_STEPS, CIFAR_STEPS, CIFAR_CONV_STEPS = (400, 180), (10_000,), (4600,)
"""Steps of each stage, for which each of the CIFAR-10 nets trains two hours or more."""
FACES_SCORED = 60
"""Steps between scores of the faces' generator on the way."""


def _on(setting: Setting, preset: str, source: str, steps: tuple[int, ...]) -> config.Config:
    run = replace(presets.named(preset), seed=setting.seed)
    stages = tuple(
        replace(stage, steps=n if setting.full else QUICK_STEPS // len(steps))
        for stage, n in zip(run.stages, steps, strict=True)
    )
    run = replace(run, data=setting.data(run.data, source), stages=stages)
    if setting.full:
        return run
    stages = tuple(narrower(stage, SMALLER) for stage in stages)
    return replace(run, stages=stages, runtime=replace(run.runtime, threads=1))


def narrower(stage: config.Stage, by: int) -> config.Stage:
    """A stage whose nets have so many times fewer hidden units."""
    generator, discriminator = stage.generator, stage.discriminator
    changes: dict[str, object] = {}
    if isinstance(generator, config.MLPGenerator | config.DeconvGenerator):
        changes["generator"] = replace(
            generator, hidden=tuple(units // by for units in generator.hidden)
        )
    if isinstance(discriminator, config.MaxoutDiscriminator):
        units = tuple(units // by for units in discriminator.units)
        changes["discriminator"] = replace(discriminator, units=units)
    if isinstance(discriminator, config.MaxoutConvDiscriminator):
        channels = tuple(maps // by for maps in discriminator.channels)
        changes["discriminator"] = replace(discriminator, channels=channels)
    return replace(stage, **changes)
