"""Evaluations of several processes are those of one."""

import json

import pytest

METRICS = ("parzen", "frechet", "prdc", "mmd", "swd", "two-sample-1nn", "memorization")


def numbers(record: dict) -> dict[str, float]:
    return {name: value for name, value in record.items() if isinstance(value, int | float)}


@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_scores_of_several_processes_are_those_of_one(run_all, tmp_path, n):
    """All metrics that divide their work agree to 1e-9, and each record is stored once."""
    run = tmp_path / "run"
    train = ("train", "digits", "--steps", 40, "--threads", 1, "--precision", "float32")
    run_all(1, "-m", "advnets", *train, "--eval-every", 0, "--out", run)
    evaluate = ("-m", "advnets", "evaluate", run, "--metrics", *METRICS, "--json")
    more = ("--num-samples", 2200, "--extractor", "pixels")
    (one,) = run_all(1, *evaluate, *more)
    stored = json.loads((run / "scores.json").read_text())
    several = run_all(n, *evaluate, *more)
    assert several[1:] == [""] * (n - 1)
    read = json.JSONDecoder().raw_decode  # warnings follow
    for record, other in zip(read(one)[0], read(several[0])[0], strict=True):
        assert numbers(record) == pytest.approx(numbers(other), rel=1e-9, abs=1e-9), record
    assert len(json.loads((run / "scores.json").read_text())) == len(stored)


def test_evaluations_during_training_are_those_of_one_process(run_all, tmp_path):
    """The events of rank 0 hold the score of all samples, within float32 of the weights."""
    scores = []
    for n in (1, 2):
        run = tmp_path / str(n)
        train = ("train", "digits", "--steps", 10, "--threads", 1, "--precision", "float32")
        run_all(n, "-m", "advnets", *train, "--eval-every", 5, "--out", run)
        lines = (run / "events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        scores.append([event["mean"] for event in events if event["kind"] == "evaluate"])
    assert len(scores[0]) == 4 and scores[1] == pytest.approx(scores[0], rel=1e-4)
