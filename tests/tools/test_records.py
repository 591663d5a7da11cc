"""The records from which docs/results is made."""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from advnets.evaluation.comparison import check_record, has_provenance
from advnets.evaluation.registry import METRICS, record_intervals
from advnets.evaluation.spec import REFERENCES

RECORDS = sorted((Path(__file__).parents[2] / "results" / "records").glob("*.json"))


@pytest.fixture(scope="module")
def scores():
    """Return all scores, by file."""
    return {path.stem: json.loads(path.read_text("utf-8"))["scores"] for path in RECORDS}


def test_every_score_has_its_provenance(scores):
    for name, records in scores.items():
        assert records, name
        for score in records:
            assert has_provenance(score), name
            check_record(Path(name), score, command="")
            assert score["interval"] == {
                key: pytest.approx(ends, rel=1e-9) for key, ends in record_intervals(score).items()
            }, name


def test_scores_of_real_images_with_equal_settings_are_equal(scores):
    """Otherwise a metric has changed, and incomparable records would be compared.

    Densities may differ in the fifth digit, since the oldest records compare distances in float32
    (LOG.md).
    """
    alike = defaultdict(list)
    for records in scores.values():
        for score in records:
            if score["samples"] in REFERENCES:
                spec = METRICS[score["metric"]]
                hangs_on = [score["samples"], score["seed"], spec.settings(score)]
                key = json.dumps([score["metric"], spec.case(score), *hangs_on], sort_keys=True)
                alike[key].append([score[value] for value in spec.values])
    assert max(map(len, alike.values())) > 10
    for key, values in alike.items():
        for value in values:
            assert value == [pytest.approx(first, rel=1e-4) for first in values[0]], key
