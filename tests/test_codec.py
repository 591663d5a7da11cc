from __future__ import annotations

import json
from dataclasses import replace

import pytest

from advnets import presets
from advnets.codec import differences, from_json, to_json
from advnets.config import SGD, Config
from advnets.errors import RunError


@pytest.mark.parametrize("name", presets.PRESETS)
def test_every_preset_survives_the_way_through_json(name):
    run = presets.named(name)
    assert from_json(json.loads(json.dumps(to_json(run))), Config) == run


def broken(change):
    record = json.loads(json.dumps(to_json(presets.named("digits"))))
    change(record)
    return record


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r["stages"][0].update(bogus=1), "extra fields found (bogus)"),
        (lambda r: r["data"].update(batch_size="many"), "batch_size"),
        (lambda r: r["data"].update(scaling="loud"), "scaling"),
        (lambda r: r.pop("data"), "required field missing"),
        (lambda r: r["stages"][0]["generator"].update(kind="Nobody"), "stages[0].generator"),
    ],
)
def test_what_does_not_fit_is_refused(change, said):
    with pytest.raises(RunError) as caught:
        from_json(broken(change), Config)
    assert said in str(caught.value)
    assert str(caught.value).startswith("config.json does not fit this advnets (")


def test_differences_are_named_by_path():
    run = presets.named("digits")
    other = replace(run.with_stage(replace(run.stage, generator_optimizer=SGD())), seed=4)
    lines = differences(run, other)
    assert "seed: 0, 4" in lines
    assert "stages.0.generator_optimizer.kind: 'Adam', 'SGD'" in lines
    assert differences(run, run) == []
