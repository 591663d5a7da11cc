"""Suggested commands can be pasted into a shell."""

import html
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from advnets.cli import console
from advnets.experiment.train import TrainResult
from advnets.files import shell_quote
from advnets.run_directory import RunDirectory

NAMES = [
    "plain",
    "two words",
    "it's",
    'say "hi"',
    "$HOME and `id` and $(id)",
    "a;b&c|d>e<f",
    "*?[a]{b,c}!~#",
    "~",
    r"back\slash\n",
    "-dash",
    "--out",
    "한글 그림",
    "👨‍👩‍👧 🙂",
    "new\nline\tand\x1b[31m",
    "no\udcfftext",
]
HOSTILE = """-it's "my" $HOME `id` 한글 🙂;#"""
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def parse_word(shell: str, word: str) -> str:
    """Return the single argument that a shell parses a word into."""
    completed = subprocess.run(
        [shell, "-c", f"printf '%s\\0' {word}"], capture_output=True, check=True, timeout=20
    )
    first, *others = os.fsdecode(completed.stdout).removesuffix("\0").split("\0")
    assert not others
    return first


@needs_bash
@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_quoted_path_is_parsed_as_that_path(name):
    word = shell_quote(Path(name))
    assert word.isprintable()
    assert not word.startswith("-")
    for shell in ("bash", "zsh", *(["sh"] if name.isprintable() else [])):
        if shutil.which(shell):
            assert os.path.normpath(parse_word(shell, word)) == os.path.normpath(name)


@needs_bash
@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(blacklist_characters="\0"), min_size=1, max_size=20))
def test_any_quoted_text_is_one_word(text):
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return  # no file has such a name
    assert parse_word("bash", shell_quote(text)).removeprefix("./") == text.removeprefix("./")


@pytest.fixture(scope="module")
def paste(tmp_path_factory):
    """Run a line in bash in which `advnets` is this package."""
    place = tmp_path_factory.mktemp("bin")
    program = place / "advnets"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m advnets "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{place}{os.pathsep}{os.environ['PATH']}"}

    def run(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", line],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def commands(text: str) -> list[str]:
    return re.findall(r"^ +(advnets .+)$", text, re.MULTILINE)


@pytest.mark.skipif(sys.platform == "win32", reason="other names and another shell")
@needs_bash
def test_suggested_commands_can_be_pasted(run_command, paste, tmp_path, monkeypatch, quick):
    """For a run and images under hostile names, each line is pasted as printed."""
    monkeypatch.chdir(tmp_path)
    Path(f"./{HOSTILE}").mkdir()
    rng = np.random.default_rng(0)
    for number in range(60):
        pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(Path(HOSTILE) / f"{number}.png")
    run = f"-run {HOSTILE}"
    # The audit suggests a training command.
    code, out, err = run_command("data", "audit", f"./{HOSTILE}")
    assert code == 0, err
    (train,) = commands(out)
    completed = paste(f"{train} --out {shell_quote(run)} {shlex.join(quick)}", tmp_path)
    assert completed.returncode == 0, completed.stderr
    # The training and the report suggest the next command.
    page = html.unescape((Path(run) / "report.html").read_text("utf-8"))
    suggested = commands(completed.stdout) + re.findall(r"<code>(advnets [^<]*)</code>", page)
    suggested = [line.replace("--epochs N", "--epochs 90") for line in suggested if "run" in line]
    assert len(suggested) == 5
    # A comparison suggests to evaluate first; a run given as data, and a stopped run, to resume it.
    _, _, err = run_command("compare", f"./{run}", f"./{run}")
    suggested += [err.partition("type: ")[2].strip()]
    code, _, err = run_command("train", f"./{run}")
    suggested += [err.partition("use: ")[2].strip()]
    stopped = console.result_text(TrainResult(Path(run), False, 15, 3), 1.0)
    suggested += commands(stopped)
    assert {line.split()[1] for line in suggested} == {"evaluate", "sample", "train"}
    for line in dict.fromkeys(suggested):
        completed = paste(line, tmp_path)
        assert completed.returncode == 0, (line, completed.stderr)
    assert {path.name for path in tmp_path.iterdir()} == {HOSTILE, run, "samples.png"}
    assert RunDirectory(Path(run)).scores()
    # The command that the run stores can be pasted, too.
    recorded = shlex.split(RunDirectory(Path(run)).read_config()["command"])
    assert recorded[1:3] == ["train", f"./{HOSTILE}"]


def test_a_path_named_like_a_preset_is_quoted_as_a_path(run_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mlp").mkdir()
    Image.new("L", (8, 8)).save("mlp/a.png")
    assert "  advnets train ./mlp --size 8" in run_command("data", "audit", "mlp")[1]


def test_a_suggested_fetch_downloads_to_the_searched_folder(run_command, tmp_path, monkeypatch):
    """The folder is named in the command only if it is not the default."""
    monkeypatch.chdir(tmp_path)
    for name in ("mnist", "stacked-mnist", "emnist", "svhn", "cifar10"):
        fetched = name.removeprefix("stacked-")
        _, _, err = run_command("data", "audit", name, "--data-dir", "my sets")
        assert f"download it with: advnets data fetch {fetched} --data-dir 'my sets'" in err
        monkeypatch.setenv("ADVNETS_DATA", "my sets")
        _, _, err = run_command("data", "audit", name)
        assert re.search(rf"download it with: advnets data fetch {fetched}(;|\n)", err), err
        monkeypatch.delenv("ADVNETS_DATA")
