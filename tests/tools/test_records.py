"""The records that docs/results is made of."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from advnets.evaluation.registry import METRICS, record_intervals
from advnets.evaluation.score_files import check_record, has_provenance
from advnets.evaluation.spec import REFERENCES

RECORDS = sorted((Path(__file__).parents[2] / "results" / "records").glob("*.json"))


@pytest.fixture(scope="module")
def scores():
    """All scores, by the file they are in."""
    return {path.stem: json.loads(path.read_text("utf-8"))["scores"] for path in RECORDS}


def test_every_score_has_its_provenance(scores):
    for name, some in scores.items():
        assert some, name
        for score in some:
            assert has_provenance(score), name
            check_record(Path(name), score, command="")
            assert score["interval"] == {
                key: pytest.approx(ends, rel=1e-9) for key, ends in record_intervals(score).items()
            }, name


def test_scores_of_real_images_with_equal_settings_are_equal(scores):
    """Scores of real images, of all runs: where one is unlike, a metric was changed, and records
    of both kinds would be compared. Densities may differ in the fifth digit: in the oldest records
    what lies at the edge of a ball is told by float32 (LOG.md)."""
    alike = defaultdict(list)
    for some in scores.values():
        for score in some:
            if score["samples"] in REFERENCES:
                spec = METRICS[score["metric"]]
                hangs_on = [score["samples"], score["seed"], spec.settings(score)]
                key = json.dumps([score["metric"], spec.case(score), *hangs_on], sort_keys=True)
                alike[key].append([score[value] for value in spec.values])
    assert max(map(len, alike.values())) > 10
    for key, values in alike.items():
        for value in values:
            assert value == [pytest.approx(first, rel=1e-4) for first in values[0]], key
