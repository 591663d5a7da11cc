"""The benchmarks, and counted operations beside PyTorch's own counter on training steps."""

import json
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from advnets import config, presets
from advnets.bench import baselines, runner
from advnets.bench.cases import CASES, forward_flops, step_flops
from advnets.bench.contenders import CONTENDERS, BenchData
from advnets.bench.runner import Summary, Worker
from advnets.cli.main import main
from advnets.data.prepared import open_data
from advnets.errors import AdvnetsError
from advnets.experiment import setup
from advnets.experiment.players import build_players
from advnets.training.step import train_step


@pytest.mark.parametrize("preset", baselines.BASELINES)
def test_baseline_networks_equal_those_of_the_presets(preset):
    """In the shapes of all parameters, up to the order of maxout pieces."""
    stage, spec = presets.get_preset(preset).stage, baselines.BASELINES[preset]()
    shape = baselines.SHAPES[preset]
    actual = build_players(presets.get_preset(preset), 0, shape, torch.full(shape, 0.5))
    for name, reference in (("generator", spec.generator), ("discriminator", spec.discriminator)):
        computed = sorted(tuple(p.shape) for p in actual[name].parameters())
        assert computed == sorted(tuple(p.shape) for p in reference.parameters()), name
    assert presets.get_preset(preset).data.batch_size == spec.batch_size
    assert isinstance(stage.generator_optimizer, config.OptimizerConfig)


@pytest.mark.parametrize("preset", baselines.BASELINES)
def test_the_tutorial_loop_trains(preset):
    """A step changes both networks, with finite losses."""
    spec = baselines.BASELINES[preset]()
    shape = baselines.SHAPES[preset]
    before = [p.clone() for p in (*spec.generator.parameters(), *spec.discriminator.parameters())]
    losses = baselines.make_step(spec)(torch.rand(8, *shape))
    after = [*spec.generator.parameters(), *spec.discriminator.parameters()]
    assert all(torch.isfinite(loss) for loss in losses)
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_image_files_are_written_once_and_can_be_read(tmp_path):
    folder = runner.make_images(tmp_path / "images")
    files = sorted(folder.iterdir())
    assert len(files) == 2000
    stamp = files[0].stat().st_mtime_ns
    runner.make_images(folder)
    assert files[0].stat().st_mtime_ns == stamp
    image = baselines.ImageFileDataset(folder, 64, symmetric=True)[0]
    assert image.shape == (3, 64, 64)
    assert -1 <= image.min() < 0 < image.max() <= 1


def test_a_summary_has_median_minimum_and_maximum():
    assert Summary.from_values([3.0, 1.0, 2.0]) == Summary(2.0, 1.0, 3.0)


def test_goals_are_checked_against_the_measurements():
    """Medians of 10 a second, and 4 and 5 of the baselines; peaks of matrix products."""
    case = CASES["paper-mnist"]
    rates = {
        "advnets": [10.0, 12.0, 9.0],
        "resident": [4.0, 4.0, 4.0],
        "tutorial": [5.0, 5.0, 5.0],
        "peak float32": [1.0, 1.0, 1.0],
        "peak bfloat16": [1.0, 1.0, 1.0],
    }
    result = runner._result(case, rates, {"advnets": 7})
    assert result.rates["advnets"] == Summary(10.0, 9.0, 12.0)
    assert result.ratios["resident"] == Summary(2.5, 2.25, 3.0)
    assert result.ratios["tutorial"].median == 2.0
    assert result.flops == pytest.approx(10.0 * case.flops())
    assert result.peaks["bfloat16"] == 2 * 4096**3
    assert result.goals == {"2.5 x resident": True, "35 % of the bfloat16 peak": False}
    del rates["peak bfloat16"]  # as where the processor has no instructions for it
    assert runner._result(case, rates, {"advnets": 7}).goals == {"2.5 x resident": True}


def test_no_peak_is_measured_in_an_emulated_precision(monkeypatch):
    for in_repository in (True, False):
        monkeypatch.setattr(
            runner, "has_bfloat16", lambda _, in_repository=in_repository: in_repository
        )
        assert runner._is_fast("float32")
        assert runner._is_fast("bfloat16") is in_repository


def test_the_error_of_a_failed_worker_is_reported(tmp_path, monkeypatch):
    monkeypatch.delenv("ADVNETS_DATA", raising=False)
    setting = BenchData(tmp_path, data_dir=str(tmp_path))
    with Worker("mlp", "advnets", setting) as worker, pytest.raises(AdvnetsError) as caught:
        worker.work(0.1)
    assert "advnets data fetch mnist" in str(caught.value)


def test_a_process_counts_the_images_of_its_own_epoch(tmp_path):
    """A run keeps images for validation and tests, and the script of tutorials none."""
    out, data = tmp_path / "run", BenchData(tmp_path)
    out.mkdir()
    (out / "events.jsonl").write_text('{"kind": "start", "data": {"train": 1600}}\n')
    counts = {
        (case, name): runner.Process(CASES[case], name, data, tmp_path)._num_images(out)
        for case in ("mlp-epoch", "dcgan-epoch")
        for name in ("advnets", "tutorial")
    }
    assert list(counts.values()) == [1600, 50_000, 1600, 2_000]


@pytest.mark.slow
def test_the_script_of_tutorials_trains_on_a_folder(tmp_path):
    folder = runner.make_images(tmp_path / "images")
    for file in sorted(folder.iterdir())[65:]:
        file.unlink()
    baselines.main("dcgan-tutorial", str(folder))


def test_every_case_has_its_contenders():
    for case in CASES.values():
        if not case.command:
            assert {"advnets", *case.baselines} == set(CONTENDERS[case.name])
        assert all(goal.baseline in ("", *case.baselines) for goal in case.goals)


def test_an_unknown_case_is_refused(capsys):
    assert main(["bench", "parsen"]) == 2
    assert "parsen" in capsys.readouterr().err


def test_a_case_is_measured_and_printed(real_data, capsys):
    """Training steps of this package and of the tutorial loop, in worker processes, as JSON."""
    arguments = ["bench", "mlp", "--rounds", "1", "--seconds", "0.1", "--json"]
    assert main([*arguments, "--data-dir", str(real_data)]) == 0
    record = json.loads(capsys.readouterr().out)
    (case,) = record["cases"]
    assert case["case"] == "mlp"
    assert case["rates"].keys() == {"advnets", "tutorial", "resident"}
    actual, reference = (case["rates"][name]["median"] for name in ("advnets", "tutorial"))
    assert case["ratios"]["tutorial"]["median"] == pytest.approx(actual / reference)
    assert 0 < case["flops"] < case["peaks"]["float32"] * 2
    assert case["peak_bytes"]["advnets"] > 1 << 20
    assert record["machine"]["torch"] == torch.__version__


DENSE = (
    config.MLPGenerator(latent_dim=8, hidden_sizes=(24, 16)),
    config.MaxoutDiscriminator(hidden_sizes=(12, 10), pieces=3),
)
STRIDED = (
    config.DCGANGenerator(latent_dim=8, base_channels=4, kernel_size=4),
    config.DCGANDiscriminator(base_channels=4, kernel_size=4),
)
GAMES = [
    config.GANGame(),
    config.GANGame(k=3),
    config.GANGame(reuse_fakes=True),
    config.GANGame(updates="simultaneous"),
]


@pytest.mark.parametrize("pair", [DENSE, STRIDED], ids=["dense", "strided"])
@pytest.mark.parametrize("game", GAMES, ids=["fresh", "k=3", "shared", "simultaneous"])
def test_useful_operations_are_those_of_a_training_step(pair, game):
    """Exactly: the formula omits no product, and a training step has no others.

    Except one: simultaneous updates also propagate G's gradient, which is 0, through real images.
    """
    start = presets.get_preset("digits")
    stage = replace(start.stage, generator=pair[0], discriminator=pair[1], game=game)
    run = replace(start.with_stage(stage), data=replace(start.data, batch_size=10))
    data = open_data(run.data)
    run = setup.resolve_config(run, data.info, config.Runtime("cpu", "float32", 1))
    table = setup.make_train_state(run, data, 0, torch.device("cpu"))
    g, d = table.players["generator"], table.players["discriminator"]
    useful = step_flops(
        game,
        forward_flops(g, torch.zeros(1, 8)),
        forward_flops(d, torch.zeros(1, *data.info.shape)),
    )
    with FlopCounterMode(display=False) as counter:
        train_step(table)
    d_total = forward_flops(d, torch.zeros(1, *data.info.shape)).total
    wasted = d_total if game.updates == "simultaneous" else 0
    assert counter.get_total_flops() == 10 * (useful + wasted)


def test_counting_uses_eval_mode_and_restores_the_mode():
    """Batch norm in training mode refuses a batch of one."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 2))
    counted = forward_flops(net, torch.zeros(1, 3))
    assert (counted.first_layer, counted.total) == (30, 50)
    assert counted.weight_backward == 70
    assert net.training
