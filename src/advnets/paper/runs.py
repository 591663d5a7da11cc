"""The trainings that the paper's figures and tables share, by name."""

from __future__ import annotations

from dataclasses import replace

from advnets import config, presets
from advnets.experiment.trained import Trained
from advnets.paper.part import Setting

QUICK_EPOCHS = 200
SMALLER = 8
"""By how much nets are narrower at quick scale."""
QUICK_STEPS = 300


def scored_run(setting: Setting, seed: int = 0) -> Trained:
    """The run whose samples are shown and scored: the MNIST experiment, or small digits."""
    if setting.full:
        return setting.trained(f"mnist-{seed}", mnist(setting, seed))
    return setting.trained(f"digits-{seed}", digits(seed))


def scored_runs(setting: Setting) -> list[Trained]:
    """The same for every seed."""
    return [scored_run(setting, seed) for seed in range(setting.seeds)]


def mnist(setting: Setting, seed: int) -> config.Config:
    """`paper-mnist` with scores on the way."""
    run = presets.named("paper-mnist")
    run = replace(run, seed=seed, data=setting.data(run.data, setting.sources.mnist))
    return replace(run, ticks=replace(run.ticks, evaluate=5000))


def digits(seed: int) -> config.Config:
    """The offline preset, cut to half a minute."""
    run = replace(presets.named("digits"), seed=seed)
    run = replace(run, ticks=replace(run.ticks, evaluate=500))
    return run.with_stage(replace(run.stage, epochs=QUICK_EPOCHS))


def large_runs(setting: Setting) -> dict[str, config.Config]:
    """The experiments on faces and on CIFAR-10: the paper's nets, or nets an eighth as wide."""
    sources = setting.sources
    runs = {
        "faces": ("paper-tfd", sources.faces, FACES_STEPS),
        "cifar": ("paper-cifar", sources.cifar, CIFAR_STEPS),
        "cifar-conv": ("paper-cifar-conv", sources.cifar, CIFAR_CONV_STEPS),
    }
    return {
        name if setting.full else f"{name}-quick": _on(setting, preset, source, steps)
        for name, (preset, source, steps) in runs.items()
    }


FACES_STEPS, CIFAR_STEPS, CIFAR_CONV_STEPS = (800, 800), (6000,), (6000,)
"""Steps of each stage, for which each of the CIFAR-10 nets trains two hours or more."""


def _on(setting: Setting, preset: str, source: str, steps: tuple[int, ...]) -> config.Config:
    run = presets.named(preset)
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
