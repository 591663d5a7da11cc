"""Curves of seeds, from their records."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from advnets.errors import UsageError

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "results" / "records"


def test_a_curve_is_the_ema_score_over_the_images_that_d_has_seen(script):
    look = {"metric": "modes", "kl_uniform": 0.2, "weights": "ema", "step": 10}
    record = {
        "command": "advnets train modern-stacked --batch-size 20 --threads 1 --seed 4",
        "curve": [],
        "training_eval": [
            look,
            look | {"weights": "last", "kl_uniform": 0.3},
            look | {"step": 20, "kl_uniform": 0.1},
        ],
    }
    curve = script.curve_of(record)
    assert (curve.shown, curve.values) == ([200, 400], [0.2, 0.1])
    assert curve.title == "modern-stacked: KL divergence of modes"


def test_without_a_score_the_curve_is_d_of_x(script):
    record = {
        "command": "advnets train modern-ring --threads 1 --seed 0",
        "curve": [{"step": 500, "d_real": 0.6}, {"step": 1000, "d_real": 0.5}],
        "training_eval": [],
    }
    curve = script.curve_of(record)
    assert (curve.shown, curve.values) == ([64_000, 128_000], [0.6, 0.5])


def test_records_are_drawn_by_seed(script, tmp_path):
    assert list(script.seeds_of(RECORDS, "modern-ring")) == list(range(10))
    script.main([str(RECORDS), str(tmp_path / "x.png"), "modern-ring", "modern-stacked-256"])
    with Image.open(io.BytesIO((tmp_path / "x.png").read_bytes())) as image:
        assert image.size == (1120, 800)
    with pytest.raises(UsageError, match=r"has no record of modern-rong; `advnets sweep` writes"):
        script.main([str(RECORDS), str(tmp_path / "x.png"), "modern-rong"])
