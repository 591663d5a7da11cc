"""Options that are chosen by trials: the largest batch that fits, precision and threads."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import advnets
from advnets import config, presets
from advnets.data.prepared import DatasetInfo, open_data
from advnets.errors import OutOfMemoryError, UsageError
from advnets.experiment import autotune
from advnets.experiment.autotune import (
    LARGEST_AUTO_BATCH,
    TRIAL_SECONDS,
    candidate_runtimes,
    candidate_sizes,
    largest_size,
    resolve_runtime,
)
from advnets.run_directory import RunDirectory
from advnets.training import devices
from advnets.training.devices import core_share

SIZES = [2**power for power in range(1, 12)]
QUICK = ("--steps", "3", "--threads", "1", "--sample-every", "0")
WIDE = ("--discriminator.hidden-sizes", "8000", "--generator.hidden-sizes", "64", "64")
"""Networks that need about 2 MB of memory an image."""


@pytest.mark.parametrize("slow_from", [2, 8, 10**9], ids=["extrapolated", "both", "tried"])
@pytest.mark.parametrize("fixed", [0, 900])
def test_the_largest_batch_that_fits_is_found(slow_from, fixed):
    """Against a search of all sizes, for a memory that is linear in the batch size."""
    for per_image in (1, 3, 10, 100):
        for limit in (1000, 1001, 5000, 10**6):
            tried = []

            def trial(size, per_image=per_image, tried=tried):
                tried.append(size)
                slow = size >= slow_from
                return fixed + per_image * size, TRIAL_SECONDS if slow else 0.0

            size, needed = largest_size(SIZES, limit, trial)
            fitting = [n for n in SIZES if fixed + per_image * n <= limit]
            assert size == max(fitting, default=SIZES[0])
            assert needed == fixed + per_image * size
            # No batch is tried that is known not to fit, or whose steps would take long.
            assert all(fixed + per_image * n <= limit for n in tried[2:])
            assert tried[1:] == [n for n in tried[1:] if n <= max(slow_from, SIZES[1])]


def test_a_trial_that_runs_out_of_memory_is_the_limit():
    def trial(size):
        if size > 64:
            raise OutOfMemoryError("no")
        return 1, 0.0

    assert largest_size(SIZES, 100, trial) == (64, 1)
    with pytest.raises(OutOfMemoryError):
        largest_size([128], 100, trial)


@pytest.mark.parametrize(
    ("pac", "train", "expected"),
    [
        (1, 50_000, SIZES),
        (1, None, SIZES),
        (1, 1023, SIZES[:9]),
        (1, 1, [2]),
        (2, 50_000, SIZES[1:]),
        (3, 50, [6, 12, 24, 48]),
        (3, 50_000, [6, 12, 24, 48, 96, 192, 384, 768, 1536]),
    ],
)
def test_batch_sizes_are_powers_of_two_times_pac(pac, train, expected):
    info = DatasetInfo(*("x", (1, 8, 8), train, 100, 100, 0, "", 255, {}))
    run = presets.get_preset("digits")
    auto = replace(run, data=replace(run.data, batch_size="auto"))
    auto = auto.with_stage(replace(run.stage, game=config.GANGame(pac=pac)))
    assert candidate_sizes(auto, info) == expected
    assert expected[-1] <= LARGEST_AUTO_BATCH


def test_a_run_with_an_automatic_batch_is_the_run_with_that_number(tmp_path):
    """The bytes of the last checkpoint are the same, and so is what a resumed run ends in."""
    kept = {}
    for name, batch_size in (("auto", "auto"), ("number", 1024)):
        out = tmp_path / name
        options = {"out": out, "threads": 1, "progress": False, "overrides": {"game.pac": 2}}
        advnets.train("digits", steps=3, batch_size=batch_size, **options)
        model = advnets.train("digits", steps=5, batch_size=batch_size, resume=True, **options)
        assert model.config.batch_size == 1024
        kept[name] = RunDirectory(out).newest_checkpoint().read_bytes()
    assert kept["auto"] == kept["number"]


def test_an_automatic_batch_is_said_and_kept(run_command, tmp_path):
    """In the start lines and the start event; by a resumed run, a branch and a dry run."""
    run, other = tmp_path / "run", tmp_path / "other"
    line = "batch size 1,024: there are 1,197 training images\n"
    auto = ("digits", *QUICK, "--batch-size", "auto")
    code, out, _ = run_command("train", *auto, "--out", run, "--dry-run")
    assert (code, line in out) == (0, True)
    code, _, err = run_command("train", *auto, "--out", run)
    assert (code, err.count(line)) == (0, 1)
    assert RunDirectory(run).events()[0]["choices"] == [line.strip()]
    assert RunDirectory(run).read_config()["config"]["data"]["batch_size"] == 1024

    # The stored number stays, also where less memory is left now.
    for more in ((), ("--branch", other, "--lr", "0.01")):
        command = ("train", *auto, "--steps", "4", "--resume", "--out", run, *more)
        code, _, err = run_command(*command)
        assert (code, "batch size" in err) == (0, False), err
    assert RunDirectory(other).read_config()["config"]["data"]["batch_size"] == 1024


def test_the_help_says_that_learning_rates_are_not_adapted(run_command):
    _, out, _ = run_command("train", "digits", "--help-all")
    text = " ".join(out.split())
    assert "Learning rates are not adapted to it, and the largest batch is rarely the best" in text


def test_all_seeds_of_a_sweep_have_the_same_batch(run_command, tmp_path, monkeypatch):
    """Half of the memory for each of two jobs; a repeated sweep keeps the number."""
    given = []
    actual = autotune.resolve_batch_size

    def resolve(run, data, processes):
        if run.data.batch_size == "auto":
            given.append(processes)
        return actual(run, data, processes)

    monkeypatch.setattr("advnets.experiment.session.resolve_batch_size", resolve)
    monkeypatch.setattr("advnets.cli.sweep._train_in_processes", lambda runs, *_: {})
    places = ("--out", tmp_path / "runs", "--records", tmp_path / "records")
    sweep = ("sweep", "digits", *places, "--seeds", "2", "--metrics", "frechet")
    options = ("--", *QUICK, "--batch-size", "auto")
    run_command(*sweep, "--jobs", "2", *options)
    assert given == [2]
    code, _, err = run_command(*sweep, *options)
    assert (code, given, err.count("digits: batch size 1,024: ")) == (0, [2, 1], 1), err
    for seed in (0, 1):
        record = json.loads((tmp_path / "records" / f"digits-{seed}.json").read_text())
        assert "--batch-size 1024" in record["command"]
        assert "auto" not in record["command"]
    code, _, err = run_command(*sweep, *options)
    assert (code, given[2:], "batch size" in err) == (0, [], False)


LIMITED = r"""
import re, resource, sys
import torch, advnets.experiment.train
used = int(re.search(r"VmSize:\s+(\d+)", open("/proc/self/status").read())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (1100 << 20),) * 2)
from advnets.cli.main import main
sys.exit(main())
"""


def train_process(*arguments, code="from advnets.cli.main import main; exit(main())", within=()):
    """Train in a process of its own, which the command `within` starts."""
    return subprocess.run(
        [*within, sys.executable, "-c", code, "train", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def check_smaller_batch(tmp_path, **limit):
    """Check that a training with an automatic batch completes, and that 4 times it would not."""
    command = ("digits", *QUICK, *WIDE, "--batch-size")
    completed = train_process(*command, "auto", "--out", tmp_path / "run", **limit)
    assert completed.returncode == 0, completed.stderr
    stored = RunDirectory(tmp_path / "run").read_config()["config"]["data"]["batch_size"]
    assert 16 <= stored <= 512
    assert f"batch size {stored}: a step takes " in completed.stderr
    completed = train_process(*command, 4 * stored, "--out", tmp_path / "more", **limit)
    assert completed.returncode == 1
    assert "memory" in completed.stderr.splitlines()[-1]


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is of Linux")
def test_the_batch_fits_into_a_limit_of_the_shell(tmp_path):
    check_smaller_batch(tmp_path, code=LIMITED)


@pytest.mark.parametrize(
    "files",
    [
        "echo 943718400 > memory.max; echo 0 > memory.current",
        "mkdir memory; cd memory; echo 943718400 > memory.limit_in_bytes; "
        "echo 1000000000 > memory.usage_in_bytes; "
        "echo total_inactive_file 1000000000 > memory.stat",
    ],
)
def test_the_batch_fits_into_a_container(tmp_path, files):
    """cgroup v2 and v1: a mock file system with a limit of 900 MiB, of which nothing is used."""
    view = ["unshare", "--mount", "sh", "-ec"]
    mounted = "mount -t tmpfs none /sys/fs/cgroup; cd /sys/fs/cgroup"
    if shutil.which("unshare") is None or subprocess.run([*view, mounted]).returncode:
        pytest.skip("this user cannot mount a file system of its own")
    script = f'{mounted}; {files}; cd {Path.cwd()}; exec "$@"'
    check_smaller_batch(tmp_path, within=(*view, script, "sh"))


def test_a_system_that_does_not_report_free_memory_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(autotune, "available_bytes", lambda _: None)
    with pytest.raises(UsageError, match="does not report the free memory of cpu; set batch_size"):
        advnets.train("digits", steps=1, batch_size="auto", out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


USUAL = config.Runtime("cpu", "bfloat16", 4)


@pytest.mark.parametrize(
    ("given", "others"),
    [
        (("auto", 0), [("bfloat16", 2), ("bfloat16", 1), ("float32", 4)]),
        (("auto", 4), [("float32", 4)]),
        (("bfloat16", 0), [("bfloat16", 2), ("bfloat16", 1)]),
        (("bfloat16", 4), []),
    ],
)
def test_only_what_is_not_given_is_tried(given, others):
    runtimes = candidate_runtimes(config.Runtime("auto", *given), USUAL)
    assert [(r.precision, r.threads) for r in runtimes] == [("bfloat16", 4), *others]
    for other in (
        replace(USUAL, threads=1),
        replace(USUAL, precision="float32"),
        replace(USUAL, device="cuda"),
    ):
        assert candidate_runtimes(config.Runtime(), other) == [other]


@pytest.mark.parametrize(
    ("share", "speeds", "chosen"),
    [
        (1.0, None, ("bfloat16", 4)),  # idle cores: nothing is measured
        (0.5, (6, 7, 8.9, 8), ("bfloat16", 4)),
        (0.5, (6, 12, 15, 20), ("float32", 4)),
        (0.5, (6, 12, 25, 20), ("bfloat16", 1)),
        (0.5, (6, 25, 12, 20), ("bfloat16", 2)),
    ],
)
def test_the_fastest_runtime_is_taken_beside_other_processes(monkeypatch, share, speeds, chosen):
    """With the speeds of the usual runtime, of 2 threads, of 1 thread, and of float32."""
    run = replace(presets.get_preset("dcgan"), runtime=config.Runtime())
    order = [("bfloat16", 4), ("bfloat16", 2), ("bfloat16", 1), ("float32", 4)]

    def make_trial(*_):
        table = dict(zip(order, speeds, strict=True))
        return lambda runtime: table[runtime.precision, runtime.threads]

    monkeypatch.setattr(devices, "resolve", lambda _: USUAL)
    monkeypatch.setattr(devices, "core_share", lambda _: share)
    monkeypatch.setattr(autotune, "_make_speed_trial", make_trial)
    resolved, reason = resolve_runtime(run, open_data(config.Data()))
    assert (resolved.runtime.precision, resolved.runtime.threads) == chosen
    assert bool(reason) == (chosen != order[0])
    if chosen == ("float32", 4):
        assert reason == (
            "float32 with 4 threads: other processes use the cores, beside which it trains "
            "20.0 images/s, and bfloat16 with 4 threads 6.0"
        )


def test_the_speed_is_measured_on_other_networks(tmp_path, monkeypatch):
    """Training with the choice of a trial ends in the same bytes as with that choice given."""
    monkeypatch.setattr(devices, "has_bfloat16", lambda _: True)
    monkeypatch.setattr(devices, "core_share", lambda _: 0.4)
    monkeypatch.setattr(autotune, "SPEED_SECONDS", 0.01)
    monkeypatch.setattr(autotune, "SPEEDUP", 0.0)
    options = {"steps": 2, "data": "digits", "progress": False, "batch_size": 20}
    model = advnets.train("dcgan", out=tmp_path / "auto", **options)
    runtime = model.config.runtime
    (choice,) = RunDirectory(tmp_path / "auto").events()[0]["choices"]
    assert re.match(r"(bfloat16|float32) with \d threads?: other processes use the cores", choice)
    given = {"precision": runtime.precision, "threads": runtime.threads}
    advnets.train("dcgan", out=tmp_path / "given", **options, **given)
    checkpoints = [
        RunDirectory(tmp_path / name).newest_checkpoint().read_bytes() for name in ("auto", "given")
    ]
    assert checkpoints[0] == checkpoints[1]


@pytest.fixture
def busy():
    """Keep every core busy with a process of its own."""
    with ExitStack() as stack:
        for _ in range(devices.num_cores()):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


@pytest.mark.slow
@pytest.mark.skipif(
    devices.num_cores() == 1 or not devices.has_bfloat16(torch.device("cpu")),
    reason="one thread, or no bfloat16",
)
def test_beside_busy_processes_the_training_is_faster_than_usual(tmp_path, real_data, busy):
    """DCGAN, 64x64; the choice is stored, and a resumed run keeps it without a trial."""
    assert core_share(devices.num_cores()) < 0.8
    source = real_data / "faces" / "olivetti-64.zip"
    options = ("--batch-size", "16", "--steps", "2", "--out", tmp_path / "run")
    command = ("dcgan", "--data", source, *options)
    completed = train_process(*command)
    assert completed.returncode == 0, completed.stderr
    print(completed.stderr)
    speeds = re.search(
        r"(\w+) with (\d+) threads?: other processes use the cores, beside which it trains "
        r"([\d.,]+) images/s, and bfloat16 with \d+ threads ([\d.,]+)\n",
        completed.stderr,
    )
    assert speeds is not None
    fastest, usual = (float(text.replace(",", "")) for text in speeds.group(3, 4))
    assert fastest >= 1.4 * usual  # rounded
    stored = RunDirectory(tmp_path / "run").read_config()["config"]["runtime"]
    assert (stored["precision"], stored["threads"]) == (speeds[1], int(speeds[2]))
    completed = train_process("--resume", "--out", tmp_path / "run", "--steps", "3")
    assert completed.returncode == 0, completed.stderr
    assert "other processes" not in completed.stderr
    assert "changed" not in completed.stderr
