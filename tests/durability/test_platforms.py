"""Training where a system lacks what POSIX has, or its clock is coarse, simulated in a process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from advnets.run_directory import RunDirectory

# Libraries choose by the system when they are imported, which cannot be taken back; ours, later.
WITHOUT_POSIX = """
import filelock, joblib, numpy, os, pathlib, PIL.Image, safetensors.torch, signal, sys, time, torch
import concurrent.futures.process, matplotlib.pyplot, multiprocessing
import sklearn.datasets, tempfile, tqdm, tyro
for name in ("resource", "fcntl", "termios", "pwd", "grp", "pty", "tty"):
    sys.modules[name] = None
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGQUIT", "SIGPIPE", "SIGSTOP"):
    delattr(signal, name)
for name in ("wait4", "fork", "getuid", "geteuid", "sched_getaffinity", "killpg"):
    delattr(os, name)
sys.platform = "win32"
open_file = os.open
def windows_open(path, flags, *rest, **options):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", path)
    return open_file(path, flags, *rest, **options)
os.open = windows_open
from advnets.cli.main import main
sys.exit(main())
"""
COARSE = """
import sys, time
# A clock that ticks once a day.
time.monotonic = lambda: 86400.0
time.process_time = lambda: 0.0
time.perf_counter = lambda: 86400.0
from advnets.cli.main import main
sys.exit(main())
"""
QUICK = ("--threads", "1", "--precision", "float32", "--log-every", "5", "--checkpoint-every", "5")


def said_by(code, *arguments):
    """Exit status, and what is said, of a process in which this is so."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("code", [WITHOUT_POSIX, COARSE], ids=["no POSIX", "coarse clock"])
def test_a_run_is_trained_resumed_scored_and_sampled(tmp_path, code):
    run, out = tmp_path / "run", tmp_path / "x.png"
    for command in (
        ("train", "digits", "--steps", "10", *QUICK, "--out", run),
        ("train", "--resume", "--steps", "12", "--out", run),
        ("sample", run, "--num-samples", "4", "--out", out),
        ("evaluate", run, "--metrics", "frechet", "--num-samples", "50"),
    ):
        status, _, err = said_by(code, *command)
        assert status == 0, err
    assert RunDirectory(run).newest_checkpoint() == RunDirectory(run).checkpoint_file(12)
    assert (run / "report.html").exists()
    assert out.exists()


def test_a_dry_run_says_that_memory_is_not_known(tmp_path):
    told = ("train", "digits", "--steps", "10", *QUICK, "--out", tmp_path / "run", "--dry-run")
    status, out, err = said_by(WITHOUT_POSIX, *told)
    assert status == 0, err
    assert "memory: unknown on this system" in out


def test_images_are_packed_without_posix(tmp_path):
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(60):
        Image.new("RGB", (8, 8), (number * 4, 0, 0)).save(folder / f"{number}.png")
    status, _, err = said_by(
        WITHOUT_POSIX, "data", "pack", folder, tmp_path / "packed", "--size", "8"
    )
    assert status == 0, err
