"""The paper's presets on real files, a few steps each; skipped without the files."""

from dataclasses import replace

import numpy as np
import pytest

from advnets import config, presets
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.run_directory import RunDirectory


def quick(name, **data):
    """Return the preset with two steps a stage, otherwise unchanged."""
    run = presets.get_preset(name)
    stages = tuple(replace(stage, steps=2) for stage in run.stages)
    return replace(
        run,
        stages=stages,
        data=replace(run.data, **data),
        runtime=config.Runtime("cpu", "float32", 1),
        intervals=config.Intervals(log_every=1, sample_every=4, checkpoint_every=4),
    )


def test_paper_mnist_on_mnist(real_data, tmp_path, console):
    train(quick("paper-mnist", directory=str(real_data)), tmp_path / "run", [console])
    trained = load(tmp_path / "run")
    assert trained.info.train == 50_000
    assert trained.sample(3).shape == (3, 1, 28, 28)
    # The output bias: after two small steps the samples' mean is still near the mean digit.
    assert trained.sample(100).mean().item() == pytest.approx(0.13, abs=0.03)


def fewer(discriminator):
    return (
        {"hidden_sizes": (50, 50)}
        if hasattr(discriminator, "hidden_sizes")
        else {"channels": (8, 8, 8)}
    )


def small(run):
    """Return the same architectures with fewer units, as a test cannot train 80 million weights."""
    stages = tuple(
        replace(
            stage,
            generator=replace(
                stage.generator, hidden_sizes=tuple(200 for _ in stage.generator.hidden_sizes)
            ),
            discriminator=replace(stage.discriminator, **fewer(stage.discriminator)),
        )
        for stage in run.stages
    )
    return replace(run, stages=stages)


def test_paper_tfd_in_two_stages_on_its_layout(real_data, tmp_path, console):
    """On the Olivetti faces in TFD's layout: tests reader and stages, not a TFD result."""
    source = str(real_data / "faces" / "olivetti-tfd-layout-48.mat")
    run = small(quick("paper-tfd", source=source))
    result = train(run, tmp_path / "run", [console])
    assert result.step == 4
    assert load(tmp_path / "run").sample(2).shape == (2, 1, 48, 48)
    events = RunDirectory(tmp_path / "run").events()
    assert [e["step"] for e in events if e["kind"] == "log"] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["paper-cifar", "paper-cifar-conv"])
def test_paper_cifar_on_images_of_its_size(name, tmp_path, console):
    """On random images of CIFAR-10's size: contrast-normalized input, pixels as output."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(30):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    train(small(quick(name, source=str(folder), batch_size=8)), tmp_path / "run", [console])
    samples = load(tmp_path / "run").sample(4)
    assert samples.shape == (4, 3, 32, 32)
    assert 0 <= samples.min() < samples.max() <= 1
