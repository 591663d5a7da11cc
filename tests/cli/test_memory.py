"""The memory of drawing samples, measured in child processes."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from advnets import config, presets
from advnets.cli.console import Console
from advnets.errors import OutOfMemoryError
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.plots.sample_files import save_images

pytestmark = pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system counts no peak memory")

N = 8000
"""The number of samples: 1.5 GB at 16 bytes a value, if all were held at once."""
MOST = 300 << 20
"""Bytes above the memory of the network."""
UNIT = 1 if sys.platform == "darwin" else 1024


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Train small fully connected networks on 64x64 color images."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(8):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    start = presets.get_preset("digits")
    stage = replace(
        start.stage,
        generator=config.MLPGenerator(latent_dim=8, hidden_sizes=(16,), activations=("relu",)),
        discriminator=config.MaxoutDiscriminator(hidden_sizes=(8,), pieces=2),
        steps=1,
        epochs=None,
    )
    data = config.Data(source=str(folder / "images"), size=64, batch_size=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADVNETS_CACHE", str(folder / "cache"))
        train(replace(start.with_stage(stage), data=data), folder / "run", [Console()])
    return folder / "run"


def peak(*arguments: object) -> int:
    """Return the peak memory of a process, in bytes."""
    process = subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_maxrss * UNIT


@pytest.fixture(scope="module")
def loaded(run):
    """Return the peak memory of a process that loads the model and draws nothing."""
    return peak("-c", f"import advnets; advnets.load({str(run)!r})")


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("grid.png", ()),
        ("array.npz", ()),
        ("folder", ()),
        ("array.npz", ("--keep-fraction", "0.5")),
    ],
)
def test_samples_are_never_all_in_memory(run, loaded, tmp_path, name, flags):
    out = tmp_path / name
    above = peak("-m", "advnets", "sample", run, "--num-samples", N, "--out", out, *flags) - loaded
    assert above < MOST, f"{above / 2**20:.0f} MiB"
    if name == "array.npz":
        images = np.load(out)["images"]
        assert images.shape == (N, 64, 64, 3)
        samples = load(run).sample(3, keep_fraction=float(flags[1]) if flags else 1.0)
        np.testing.assert_array_equal(images[:3], (samples * 255).round().permute(0, 2, 3, 1))
    elif name == "folder":
        assert len(list(out.iterdir())) == N
    else:
        with Image.open(out) as image:
            assert image.size == (90 * 66 + 2, 89 * 66 + 2)


def test_sample_files_have_the_bytes_of_python_samples(run, tmp_path):
    """In each file format."""
    samples = load(run).sample(501, seed=3)
    save_images([samples], 501, tmp_path / "python")
    for name in ("a.png", "a.npz", "typed"):
        peak(
            "-m",
            "advnets",
            "sample",
            run,
            "--num-samples",
            501,
            "--seed",
            3,
            "--out",
            tmp_path / name,
        )
    for file in sorted((tmp_path / "python").iterdir()):
        assert file.read_bytes() == (tmp_path / "typed" / file.name).read_bytes()
    expected = (samples * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npz")["images"], expected)
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image)
    last = pixels[2 + 21 * 66 : 66 + 21 * 66, 2 + 17 * 66 : 66 + 17 * 66]
    np.testing.assert_array_equal(last, expected[500])  # row 21, column 17 of 23


def test_more_samples_than_fit_into_memory_are_refused_in_python(tiny, tmp_path, console):
    train(tiny, tmp_path / "run", [console])
    with pytest.raises(OutOfMemoryError, match=r"GiB failed.; draw fewer images at once"):
        load(tmp_path / "run").sample(10**12)
