"""Training on systems that lack POSIX features or have a coarse clock, simulated in a process."""

import subprocess
import sys

import pytest

from advnets.run_directory import RunDirectory

# Libraries detect the system at import, so they are imported first.
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
import shutil
shutil._use_fd_functions = False  # which do not exist there
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


def run_with(code, *arguments):
    """Return exit status and output of a process in which this code has run first."""
    completed = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    return completed.returncode, completed.stdout, completed.stderr


@pytest.mark.parametrize("code", [WITHOUT_POSIX, COARSE], ids=["no POSIX", "coarse clock"])
def test_a_run_is_trained_resumed_scored_and_sampled(tmp_path, code):
    run, out = tmp_path / "run", tmp_path / "x.png"
    for command in (
        ("train", "digits", "--steps", "10", *QUICK, "--out", run),
        ("train", "--resume", "--steps", "12", "--out", run),
        ("sample", run, "--num-samples", "4", "--out", out),
        ("evaluate", run, "--metrics", "frechet", "--num-samples", "50"),
    ):
        status, _, err = run_with(code, *command)
        assert status == 0, err
    assert RunDirectory(run).newest_checkpoint() == RunDirectory(run).checkpoint_file(12)
    assert (run / "report.html").exists()
    assert out.exists()


def test_a_dry_run_reports_unknown_memory(tmp_path):
    command = ("train", "digits", "--steps", "10", *QUICK, "--out", tmp_path / "run", "--dry-run")
    status, out, err = run_with(WITHOUT_POSIX, *command)
    assert status == 0, err
    assert "memory: unknown on this system" in out


def test_images_are_packed_without_posix(tmp_path):
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(60):
        Image.new("RGB", (8, 8), (number * 4, 0, 0)).save(folder / f"{number}.png")
    status, _, err = run_with(
        WITHOUT_POSIX, "data", "pack", folder, tmp_path / "packed", "--size", "8"
    )
    assert status == 0, err
