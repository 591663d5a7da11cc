"""Tests of the feature scores next to Table 1, and of its check."""

from __future__ import annotations

import math

import pytest

from advnets.paper.sections import table1
from advnets.paper.studies.feature_scores import features_table
from advnets.paper.studies.likelihoods import BEST, LAST, ScoreRow


def records(value: float) -> list[dict]:
    common = {"extractor": "digits", "n_real": 10_000, "n_fake": 10_000}
    found = []
    for row, shift in (("generator", 0.0), ("real training images", 100.0)):
        here = {"samples": row, **common}
        x = value + shift
        found += [
            {"metric": "parzen", **here, "mean": -1.0},
            {"metric": "frechet", **here, "value": x},
            {"metric": "prdc", **here, "precision": x, "recall": 2 * x, "coverage": 3 * x},
            {"metric": "two-sample-1nn", **here, "accuracy": x / 2},
        ]
    return found


def test_feature_rows_are_means_over_seeds_then_real_images():
    table = features_table(
        {"last": [records(1.0), records(2.0), records(6.0)], "one": [records(4.0)]}
    )
    error = math.sqrt(7 / 3)  # of 1, 2, 6: s² = 7
    last, one, real = table.rows
    assert last[:3] == ("last", f"3.00 ± {error:.2f}", f"3.000 ± {error:.3f}")
    assert last[3:5] == (f"6.000 ± {2 * error:.3f}", f"9.000 ± {3 * error:.3f}")
    assert one == ("one", "4.00", "4.000", "8.000", "12.000", "2.000")
    assert real == ("real training images", "101.00", "101.000", "202.000", "303.000", "50.500")
    assert table.caption == "10,000 samples against 10,000 test images, through `digits`"


@pytest.mark.parametrize(("average", "holds"), [((222.0, 224.1), True), ((222.0, 223.9), False)])
def test_published_check_uses_last_epochs_of_ema_weights(average, holds):
    def line(weights, choice, mean):
        return ScoreRow("some", weights, choice, {"mean": mean}, None)

    scored = [line("ema", BEST, 300.0), line("last", LAST, 150.0)]
    scored += [line("ema", LAST, mean) for mean in average]
    check = table1._published_check(scored)
    assert check.passed == holds
    assert check.measured.endswith("(last weights: 150.0)")
