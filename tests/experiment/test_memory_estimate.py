"""Memory is estimated from shapes, and running out of it is an error of one sentence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import advnets
from advnets import config, presets
from advnets.data.prepared import DatasetInfo
from advnets.errors import OutOfMemoryError, UsageError
from advnets.experiment import stored_run
from advnets.experiment.memory_estimate import check_memory, estimate_memory
from advnets.run_directory import RunDirectory

CPU = torch.device("cpu")
FACTS = DatasetInfo(
    *("x", (1, 8, 8), 1000, 100, 100, 0, "", 255, {}),
    classes=("a", "b"),
)


def test_the_memory_of_a_training_is_estimated_from_its_shapes():
    """G 4-3-64 with Adam and an EMA, D 64-2x2-1 with SGD, batches of 10."""
    stage = config.Stage(
        generator=config.MLPGenerator(latent_dim=4, hidden_sizes=(3,), activations=("relu",)),
        discriminator=config.MaxoutDiscriminator(hidden_sizes=(2,), pieces=2),
        generator_optimizer=config.Adam(),
        ema_half_life=100,
        steps=1,
    )
    run = replace(presets.get_preset("digits"), stages=(stage,), data=config.Data(batch_size=10))
    g, d = 4 * 3 + 3 + 3 * 64 + 64, 64 * 4 + 4 + 2 + 1
    needed = estimate_memory(run, 0, FACTS)
    assert needed.state == 4 * (5 * g + 3 * d)
    least = 2 * 64 + 3 + 64 + 4 + 1  # images, samples, and the outputs of linear layers
    assert 4 * 10 * least <= needed.batch <= 2 * 4 * 10 * least


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_every_preset_is_estimated_and_fits(preset):
    """Nothing is allocated: the largest has some 200 million numbers of state."""
    run = presets.get_preset(preset)
    points = run.data.normalize in ("none", "standard")
    facts = replace(FACTS, shape=(1, 1, 2) if points else (1, 32, 32))
    for number in range(len(run.stages)):
        needed = estimate_memory(run, number, facts)
        assert 0 < needed.state < 4 << 30
        assert 0 < needed.batch < 4 << 30


@pytest.mark.parametrize(
    "nets",
    [
        config.Stage(generator=config.MLPGenerator(hidden_sizes=(10**6, 10**6))),
        config.Stage(
            generator=config.DCGANGenerator(base_channels=10**6, kernel_size=1000),
            discriminator=config.DCGANDiscriminator(base_channels=10**6, kernel_size=1000),
        ),
        config.Stage(discriminator=config.MaxoutDiscriminator(hidden_sizes=(10**6,), pieces=10**6)),
    ],
    ids=["units", "kernels beyond any count", "pieces"],
)
def test_networks_larger_than_memory_are_refused_before_they_are_built(nets):
    run = presets.get_preset("digits").with_stage(nets)
    with pytest.raises(OutOfMemoryError, match=r"smaller (networks|layers)"):
        check_memory(run, FACTS, CPU)


def test_a_refused_training_leaves_no_files(run_command, tmp_path):
    out = tmp_path / "run"
    huge = ("--generator.hidden-sizes", "1000000", "1000000")
    for more in ((), ("--dry-run",)):
        code, _, err = run_command("train", "digits", *huge, "--out", out, *more)
        assert code == 1
        assert err.startswith("advnets: the training needs at least 18,")
        networks = "--generator.latent-dim, --generator.hidden-sizes or"
        assert f"; give smaller networks ({networks} --discriminator.hidden-sizes)\n" in err
        assert not out.exists()


def test_a_stored_config_with_such_networks_is_refused_too(run_command, tmp_path):
    run = tmp_path / "run"
    assert run_command("train", "digits", "--steps", "2", "--threads", "1", "--out", run)[0] == 0
    file = RunDirectory(run).config_file
    record = json.loads(file.read_text())
    record["config"]["stages"][0]["generator"]["hidden_sizes"] = [10**6, 10**6]
    record["config"]["stages"][0]["generator"]["activations"] = ["relu", "relu"]
    file.write_text(json.dumps(record))
    for checkpoint in RunDirectory(run).checkpoint_files():  # they belong to other networks
        checkpoint.unlink()
    code, _, err = run_command("train", "--resume", "--out", run)
    assert code == 1
    assert err.startswith("advnets: the networks need 3,7")


SHORT_OF_MEMORY = """
import sys
import advnets.training.memory as memory
memory.available_bytes = lambda device: 512 << 20
from advnets.cli.main import main
sys.exit(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is of Linux")
@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["train", "dry run"])
def test_running_out_of_memory_during_training_is_one_sentence(tmp_path, more):
    """In a process that the system gives 512 MiB."""
    out = tmp_path / "run"
    command = ("digits", "--steps", "3", "--threads", "1", "--batch-size", "45000")
    completed = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, "train", *command, "--out", out, *more],
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 1, completed.stderr
    last = completed.stderr.splitlines()[-1]
    assert last.startswith("advnets: memory ran out (")
    assert "give a smaller --batch-size (such as 22500), or smaller networks" in last
    assert not out.exists()


@pytest.mark.parametrize(
    "nets",
    [
        ("digits", "--generator.batch-norm"),
        ("semi-supervised-mnist", "--data", "digits", "--discriminator.norm", "batch"),
    ],
    ids=["generator", "labeled images"],
)
def test_a_batch_of_one_with_batch_normalization_is_a_sentence(run_command, tmp_path, nets):
    batch_of_1 = ("--batch-size", "1") if nets[0] == "digits" else ("--game.generated-batch", "1")
    command = (
        "train",
        *nets,
        "--steps",
        "3",
        "--threads",
        "1",
        *batch_of_1,
        "--out",
        tmp_path / "run",
    )
    for more in ((), ("--dry-run",)):
        code, _, err = run_command(*command, *more)
        assert code == 2, err
        assert err.splitlines()[-1] == (
            "advnets: batch normalization needs more than one value per channel and got a batch of "
            "1; set --batch-size to 2 or more, or turn batch normalization off"
        )
        assert not (tmp_path / "run").exists()


def test_running_out_of_memory_does_not_blame_the_config(run_command, tmp_path, monkeypatch):
    """The file is intact: the message does not say to restore it."""
    run = tmp_path / "run"
    assert run_command("train", "digits", "--steps", "2", "--threads", "1", "--out", run)[0] == 0

    def exhausted(*_):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(stored_run, "players_of_run", exhausted)
    code, _, err = run_command("sample", run, "--out", tmp_path / "grid.png")
    assert code == 1
    assert "memory ran out" in err
    assert "restore" not in err


def test_a_batch_that_exceeds_memory_is_refused_with_one_that_fits(monkeypatch, tmp_path):
    """In the units of the interface, before anything is allocated; images of files may shrink."""
    stage = config.Stage(discriminator=config.MaxoutDiscriminator(hidden_sizes=(2,), pieces=2))
    data = config.Data(source=str(tmp_path), size=64, batch_size=90_000)
    run = replace(presets.get_preset("digits"), stages=(replace(stage, steps=1),), data=data)
    needed = estimate_memory(run, 0, FACTS)
    available = needed.state + needed.batch // 2
    monkeypatch.setattr("advnets.experiment.memory_estimate.available_bytes", lambda _: available)
    with pytest.raises(OutOfMemoryError) as caught:
        check_memory(run, FACTS, CPU)
    match = re.search(
        r"a smaller --batch-size \(such as (\d+)\), a smaller --size \(such as 32\)",
        str(caught.value),
    )
    assert match is not None, caught.value
    smaller = replace(run, data=replace(data, batch_size=int(match[1])))
    assert estimate_memory(smaller, 0, FACTS).total <= available / 2
    check_memory(smaller, FACTS, CPU)


@pytest.mark.parametrize("more", [(), ("--dry-run",)], ids=["train", "dry run"])
def test_a_batch_of_a_million_is_refused_at_once(run_command, tmp_path, more):
    command = ("train", "digits", "--out", tmp_path / "run", *more)
    code, _, err = run_command(*command, "--batch-size", "1000000")
    assert (code, err) == (2, "advnets: --batch-size is 1000000; it must be at most 100,000\n")
    with pytest.raises(UsageError, match="batch_size is 1000000; it must be at most 100,000"):
        advnets.train("digits", batch_size=10**6, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is of Linux")
def test_a_limit_of_the_shell_on_memory_is_met_with_one_sentence(tmp_path):
    """`ulimit -v`, a few hundred MiB above what the libraries take."""
    code = (
        "import re, resource, sys\n"
        "import torch, advnets.experiment.train\n"
        "used = int(re.search(r'VmSize:\\s+(\\d+)', open('/proc/self/status').read())[1]) << 10\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (600 << 20),) * 2)\n"
        "from advnets.cli.main import main\n"
        "sys.exit(main())\n"
    )
    for more in ((), ("--dry-run",)):
        command = ("train", "digits", "--batch-size", "100000", "--threads", "1", *more)
        completed = subprocess.run(
            [sys.executable, "-c", code, *command, "--out", tmp_path / "run"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert completed.returncode == 1, completed.stderr
        last = completed.stderr.splitlines()[-1]
        assert "memory" in last and "; give a smaller --batch-size (such as " in last
        assert not (tmp_path / "run").exists()
