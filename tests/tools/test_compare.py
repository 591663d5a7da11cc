"""Presets side by side, from their records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from advnets.metrics.uncertainty import student_interval

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "results" / "records"


def quality(name, seed):
    """Of 2,500 points, as the record has it."""
    told = json.loads((RECORDS / f"{name}-{seed}.json").read_text())
    (found,) = [
        one["high_quality"]
        for one in told["scores"]
        if (one["samples"], one["metric"], one["n"]) == ("generator", "points", 2500)
    ]
    return found


def test_seeds_are_a_row_with_their_interval_and_are_paired(script, capsys, tmp_path):
    for name, count in (("modern-ring", 10), ("points-ring", 3)):
        for seed in range(count):
            shutil.copy(RECORDS / f"{name}-{seed}.json", tmp_path)
    script.main([str(tmp_path), "modern-ring", "points-ring", "--metrics", "points"])
    said = capsys.readouterr().out
    of_ten = student_interval([quality("modern-ring", seed) for seed in range(10)])
    less = [quality("points-ring", seed) - quality("modern-ring", seed) for seed in range(3)]
    assert f"{of_ten.mean:.4f} ± {of_ten.half_width:.4f}" in said
    assert f"{student_interval(less).mean:.4f} ± {student_interval(less).half_width:.4f}" in said


def test_what_is_unlike_is_refused(script):
    with pytest.raises(SystemExit, match=r"compare.py: points.* differs in .*modes"):
        script.main([str(RECORDS), "points-ring", "points-grid", "--metrics", "points"])
    with pytest.raises(SystemExit, match=r"compare.py: no metric is called 'foo'; known: classes,"):
        script.main([str(RECORDS), "modern-ring", "--metrics", "foo"])
    with pytest.raises(SystemExit, match="modern-ring-0 was not scored by frechet"):
        script.main([str(RECORDS), "modern-ring", "--metrics", "frechet"])
    with pytest.raises(SystemExit, match=r"has no record of modern-rong; tools/seeds.py keeps"):
        script.main([str(RECORDS), "modern-rong"])
