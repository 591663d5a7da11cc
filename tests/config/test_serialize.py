import json
from dataclasses import replace

import pytest

from advnets import presets
from advnets.config import SGD, Config
from advnets.config.overrides import differences
from advnets.config.serialize import from_json, to_json
from advnets.errors import RunError


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_survives_a_round_trip_through_json(name):
    run = presets.get_preset(name)
    assert from_json(json.loads(json.dumps(to_json(run))), Config) == run


def broken(change):
    record = json.loads(json.dumps(to_json(presets.get_preset("digits"))))
    change(record)
    return record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["stages"][0].update(bogus=1), "extra fields found (bogus)"),
        (lambda r: r["data"].update(batch_size="many"), "batch_size"),
        (lambda r: r["data"].update(normalize="loud"), "$.data.normalize"),
        (lambda r: r.pop("data"), "required field missing"),
        (lambda r: r["stages"][0]["generator"].update(kind="Nobody"), "stages[0].generator"),
        (
            lambda r: r["data"].update(batch_size=16.5),
            "got 16.5, expected an integer or one of",
        ),
        (lambda r: r["data"].update(batch_size="16"), "got '16', expected an integer or one of"),
        (
            lambda r: r["data"].update(batch_size=True),
            "expected an integer or one of ('auto',) @ $.data.batch_size",
        ),
        (lambda r: r["data"].update(channels=True), "got True, expected one of (1, 3)"),
        (lambda r: r["data"].update(hflip=1), "expected bool, got 1"),
        (lambda r: r["data"].update(source=3), "expected str, got 3"),
        (lambda r: r["stages"][0].update(schedule_fraction="0.5"), "expected float, got '0.5'"),
        (
            lambda r: r["stages"][0].update(schedule_fraction=float("inf")),
            "expected float, got inf",
        ),
        (
            lambda r: r["stages"][0]["generator"].update(hidden_sizes="16"),
            "expected tuple, got '16'",
        ),
        (lambda r: r["stages"][0].update(game=[]), "stages[0].game"),
        (lambda r: r.update(stages=[]), "stages is empty; give at least one"),
    ],
)
def test_invalid_records_are_refused(change, message):
    with pytest.raises(RunError) as caught:
        from_json(broken(change), Config)
    assert message in str(caught.value)
    assert str(caught.value).startswith("config.json does not fit this version of advnets (")


def test_an_integer_is_accepted_as_a_float():
    record = broken(lambda r: r["stages"][0]["generator_optimizer"].update(lr=1))
    lr = from_json(record, Config).stage.generator_optimizer.lr
    assert (lr, type(lr)) == (1.0, float)


@pytest.mark.parametrize("record", [None, [], "config", 3, {"stages": 3}, {}])
def test_records_that_are_not_objects_are_refused(record):
    with pytest.raises(RunError, match="does not fit this version of advnets"):
        from_json(record, Config)


def test_differences_are_named_as_options_and_rates_of_both_players_are_one():
    run = presets.get_preset("digits")
    changed = replace(run.with_stage(replace(run.stage, generator_optimizer=SGD())), seed=4)
    changes = differences(run, changed)
    assert changes["seed"] == "0, 4"
    assert changes["generator_optimizer.kind"] == "'Adam', 'SGD'"
    assert differences(run, run.with_stage(run.stage.with_learning_rate(0.5))) == {
        "lr": "0.001, 0.5"
    }
    assert differences(run, run) == {}
