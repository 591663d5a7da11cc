import math
import random

import pytest

from advnets.training.selection import Selection, best_step, events_of_state


def evaluation(step, score, **fields):
    return {"kind": "evaluate", "step": step, "metric": "frechet", "weights": "last", **fields} | {
        "value": score
    }


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_the_best_step_and_the_early_stop_are_those_of_a_search_of_all_scores(better):
    """Also with ties, of which the first is best, and with scores that are NaN."""
    draw = random.Random(0)
    for _ in range(200):
        scores = [draw.choice([1.0, 2.0, 3.0, 4.0, math.nan]) for _ in range(12)]
        selection = Selection("frechet", "value", better, patience=4)
        finite = {i: s for i, s in enumerate(scores, 1) if math.isfinite(s)}
        choose = min if better == "lower" else max
        for n, score in enumerate(scores, 1):
            selection.update(evaluation(n, score))
            seen = {i: s for i, s in finite.items() if i <= n}
            first = next((i for i, s in seen.items() if s == choose(seen.values())), 0)
            assert selection.best_step == first
            assert selection.patience_exhausted == (n - first >= 4)


def test_evaluations_of_other_metrics_weights_and_stages_are_not_compared():
    events = [
        evaluation(10, 0.0),  # of the stage before
        evaluation(20, 2.0),
        evaluation(20, 1.0, weights="ema"),
        evaluation(30, 1.0) | {"metric": "mmd"},
        {"kind": "log", "step": 30, "value": -1.0},
    ]
    selection = Selection("frechet", "value", "lower")
    selection.reset(events, "last", after=10)
    assert (selection.best, selection.best_step, selection.since_best) == (2.0, 20, 0)


def test_evaluations_that_were_rolled_back_do_not_count():
    events = [
        evaluation(10, 3.0, best="value"),
        evaluation(20, 1.0, best="value"),
        {"kind": "rollback", "step": 15, "diverged_step": 25},
        evaluation(20, 2.0, best="value"),
        evaluation(30, 2.5),
    ]
    assert [event["step"] for event in events_of_state(events)] == [10, 15, 20, 30]
    selection = Selection("frechet", "value", "lower")
    selection.reset(events, "last", after=0)
    assert (selection.best, selection.best_step, selection.since_best) == (2.0, 20, 1)
    assert best_step(events, {10, 20, 30}) == 20
    assert best_step(events, {10, 30}) == 10  # the process was killed before it saved step 20
    assert best_step(events, {30}) is None
