"""The check of CUDA machines, run on the CPU at toy sizes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from advnets import presets

ROOT = Path(__file__).parents[2]
TOY = ("--device", "cpu", "--toy")


@pytest.fixture
def start(script, tmp_path):
    """Return a function that starts the script in a process of its own."""

    def started(*arguments):
        return subprocess.Popen(
            [sys.executable, script.__file__, *TOY, "--out", tmp_path / "gpu.json", *arguments],
            env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return started


def stored(tmp_path):
    return json.loads((tmp_path / "gpu.json").read_text("utf-8"))["cases"]


@pytest.mark.slow
def test_a_killed_check_goes_on_where_it_stopped(script, start, tmp_path):
    """The failed case comes last. The slow test runs the tests, and compiles."""
    kinds = ("presets", "penalties", "processes")
    killed = start("--only", *kinds)
    while not (tmp_path / "gpu.json").exists() or len(stored(tmp_path)) < 4:
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()

    before = stored(tmp_path)
    record = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    record["cases"]["presets paper-mnist eager"] = {"status": "failed", "reason": "as a test"}
    (tmp_path / "gpu.json").write_text(json.dumps(record))
    process = start("--only", *kinds)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed

    cases = stored(tmp_path)
    assert {case.name for case in script.all_cases() if case.kind in kinds} == {*cases}
    assert "failed" not in {result["status"] for result in cases.values()}, printed
    kept = [name for name, result in before.items() if result["status"] == "done"]
    assert [name for name in kept if cases[name] != before[name]] == ["presets paper-mnist eager"]
    lines = [line for line in printed.splitlines() if "images/s" in line]
    assert lines[-1].startswith("presets paper-mnist eager")
    for name in presets.PRESETS:
        assert cases[f"presets {name} eager"]["images_per_second"] > 0, name
    table = (tmp_path / "gpu.md").read_text("utf-8")
    assert "| `paper-tfd` | 8, " in table
    assert "- skipped: not yet measured: tests, compile paper-mnist, " in table


@pytest.mark.slow
def test_the_check_stops_in_time_and_names_what_is_missing(start, tmp_path):
    """The tests, all skipped on the CPU, and compiled steps, which take half a minute each."""
    begun = time.monotonic()
    process = start("--only", "tests", "compile", "--minutes", "3")
    printed, _ = process.communicate()
    assert time.monotonic() - begun < 210
    assert process.returncode == 0, printed
    cases = stored(tmp_path)
    assert re.match(r"\d+ skipped", cases["tests"]["summary"])
    assert cases["compile paper-mnist"]["images_per_second"] > 0
    (missing,) = (line for line in printed.splitlines() if line.startswith("missing (run the same"))
    assert missing.endswith(", compile modern-grid")


def test_results_of_another_machine_are_not_continued(script, tmp_path, capsys):
    (tmp_path / "gpu.json").write_text(json.dumps({"machine": {"name": "another"}, "cases": {}}))
    with pytest.raises(SystemExit):
        script.main([*TOY, "--out", str(tmp_path / "gpu.json")])
    assert "is of another machine or size; give another --out" in capsys.readouterr().err


def test_the_tables_show_speed_and_memory_and_the_reasons(script):
    versions = {"python": "3.12.1", "torch": "2.11.0"}
    machine = {"devices": 2, "name": "Card", "cores": 8, "toy": False, **versions}
    done = {"status": "done", "images_per_second": 11155.4, "batch_size": 100}
    preset = {**done, "precision": "bfloat16", "data": "mnist", "peak_bytes": 3 << 20}
    cases = {
        "tests": {"status": "failed", "reason": "1 failed, 30 passed"},
        "presets paper-mnist eager": preset,
        "presets paper-mnist cuda-graph": {**preset, "images_per_second": 29413.0},
        "compile paper-mnist": script.failed("it took more than 150 s"),
        "penalties modern-ring exact eager": preset,
        "processes dcgan 2": {**done, "data": "random"},
    }
    text = script.markdown({"machine": machine, "cases": cases})
    assert "2 x Card, 8 cores, Python 3.12.1, torch 2.11.0.\n" in text
    assert "Tests: failed: 1 failed, 30 passed.\n" in text
    row = "| `paper-mnist` | 100, bfloat16, mnist | 11,155 (3 MiB) | 29,413 (3 MiB) | - |"
    assert row in text
    assert "| `modern-ring`, eager | - | 11,155 (3 MiB) | - |" in text
    assert "| - | 11,155 | - | - |" in text
    assert "- failed: it took more than 150 s: compile paper-mnist\n" in text


def test_a_process_that_dies_is_a_failed_case_and_is_replaced(script, tmp_path):
    """A kill while it measures, and a case beyond its time; the next case is measured."""
    worker = script.StepsWorker(script.Options("cpu", True, tmp_path))
    case = script.Case("presets", "digits")
    with pytest.raises(TimeoutError):
        worker.measure(case, 0.01)
    assert worker.measure(case, 60.0)["status"] == "done"
    process, _ = worker._started
    process.kill()
    process.join()
    assert worker.measure(case, 60.0)["status"] == "failed"
    assert worker.measure(case, 60.0)["status"] == "done"
    worker.stop()
