from __future__ import annotations

import json

import pytest
import torch

from advnets import config, presets
from advnets.bench import baselines, runner
from advnets.bench.cases import CASES
from advnets.bench.contenders import CONTENDERS, BenchData
from advnets.bench.processes import Worker
from advnets.bench.runner import Summary
from advnets.cli.main import main
from advnets.errors import AdvnetsError
from advnets.experiment.players import build_players


@pytest.mark.parametrize("preset", baselines.BASELINES)
def test_the_plain_nets_are_the_presets_nets(preset):
    """Layer for layer: shapes of all parameters, piece-major weights of maxout apart."""
    stage, spec = presets.get_preset(preset).stage, baselines.BASELINES[preset]()
    shape = baselines.SHAPES[preset]
    ours = build_players(presets.get_preset(preset), 0, shape, torch.full(shape, 0.5))
    for name, theirs in (("generator", spec.generator), ("discriminator", spec.discriminator)):
        mine = sorted(tuple(p.shape) for p in ours[name].parameters())
        assert mine == sorted(tuple(p.shape) for p in theirs.parameters()), name
    assert presets.get_preset(preset).data.batch_size == spec.batch_size
    assert isinstance(stage.generator_optimizer, config.OptimizerConfig)


@pytest.mark.parametrize("preset", baselines.BASELINES)
def test_the_tutorials_loop_trains(preset):
    """A step moves both nets, by finite losses."""
    spec = baselines.BASELINES[preset]()
    shape = baselines.SHAPES[preset]
    before = [p.clone() for p in (*spec.generator.parameters(), *spec.discriminator.parameters())]
    losses = baselines.make_step(spec)(torch.rand(8, *shape))
    after = [*spec.generator.parameters(), *spec.discriminator.parameters()]
    assert all(torch.isfinite(loss) for loss in losses)
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_images_are_drawn_once_and_read_as_they_are(tmp_path):
    folder = runner.make_images(tmp_path / "images")
    files = sorted(folder.iterdir())
    assert len(files) == 2000
    stamp = files[0].stat().st_mtime_ns
    runner.make_images(folder)
    assert files[0].stat().st_mtime_ns == stamp
    image = baselines.ImageFileDataset(folder, 64, symmetric=True)[0]
    assert image.shape == (3, 64, 64)
    assert -1 <= image.min() < 0 < image.max() <= 1


def test_a_spread_is_the_median_between_the_extremes():
    assert Summary.of([3.0, 1.0, 2.0]) == Summary(2.0, 1.0, 3.0)


def test_a_goal_is_judged_by_what_was_measured():
    """Medians: 10 against 4 and 5 a second; 3 operations each; peaks of products."""
    row = CASES["paper-mnist"]
    seen = {
        "ours": [10.0, 12.0, 9.0],
        "resident": [4.0, 4.0, 4.0],
        "tutorial": [5.0, 5.0, 5.0],
        "peak float32": [1.0, 1.0, 1.0],
        "peak bfloat16": [1.0, 1.0, 1.0],
    }
    result = runner._result(row, seen, {"ours": 7})
    assert result.rates["ours"] == Summary(10.0, 9.0, 12.0)
    assert result.ratios["resident"] == Summary(2.5, 2.25, 3.0)
    assert result.ratios["tutorial"].median == 2.0
    assert result.flops == pytest.approx(10.0 * row.flops())
    assert result.peaks["bfloat16"] == 2 * 4096**3
    assert result.goals == {"2.5 x resident": True, "35 % of the bfloat16 peak": False}
    del seen["peak bfloat16"]  # as where the processor has no instructions for it
    assert runner._result(row, seen, {"ours": 7}).goals == {"2.5 x resident": True}


def test_no_peak_is_measured_of_products_that_take_minutes(monkeypatch):
    for here in (True, False):
        monkeypatch.setattr(runner, "has_bfloat16", lambda _, here=here: here)
        assert runner._is_fast("float32")
        assert runner._is_fast("bfloat16") is here


def test_whoever_cannot_work_is_named_with_its_last_words(tmp_path, monkeypatch):
    monkeypatch.delenv("ADVNETS_DATA", raising=False)
    setting = BenchData(tmp_path, data_dir=str(tmp_path))
    with Worker("mlp", "ours", setting) as worker, pytest.raises(AdvnetsError) as caught:
        worker.work(0.1)
    assert "advnets data fetch mnist" in str(caught.value)


def test_every_row_has_who_takes_part_in_it():
    for row in CASES.values():
        if not row.command:
            assert {"ours", *row.baselines} == set(CONTENDERS[row.name])
        assert all(goal.baseline in ("", *row.baselines) for goal in row.goals)


def test_an_unknown_row_is_refused(capsys):
    assert main(["bench", "parsen"]) == 2
    assert "parsen" in capsys.readouterr().err


def test_a_row_is_measured_and_printed(real_data, capsys):
    """Steps of ours and of the tutorial's, in processes of their own, as JSON."""
    arguments = ["bench", "mlp", "--rounds", "1", "--seconds", "0.1", "--json"]
    assert main([*arguments, "--data-dir", str(real_data)]) == 0
    record = json.loads(capsys.readouterr().out)
    (case,) = record["cases"]
    assert case["case"] == "mlp"
    assert case["rates"].keys() == {"ours", "tutorial", "resident"}
    ours, theirs = (case["rates"][name]["median"] for name in ("ours", "tutorial"))
    assert case["ratios"]["tutorial"]["median"] == pytest.approx(ours / theirs)
    assert 0 < case["flops"] < case["peaks"]["float32"] * 2
    assert case["peak_bytes"]["ours"] > 1 << 20
    assert record["machine"]["torch"] == torch.__version__
