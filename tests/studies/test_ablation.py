"""Tests of the ablations: their options are valid and different, and the table is complete."""

import json
from dataclasses import replace

import pytest

from advnets import presets
from advnets.cli.arguments import config_of


@pytest.mark.parametrize("experiment", ["grid", "stacked"])
def test_every_ablation_changes_the_recipe_differently(script, experiment):
    spec = script.EXPERIMENTS[experiment]
    stages = {}
    for ablation, options in spec.ablations.items():
        stages[ablation] = config_of(f"advnets train {spec.command} {options}").stage
    assert len({repr(stage) for stage in stages.values()}) == len(stages)
    game = presets.get_preset(spec.command.split()[0]).stage.game
    if experiment == "grid":
        game = replace(game, r1_final=1e-5, r2_final=1e-5)
    assert stages[script.FULL_RECIPE].game == game


def test_grid_ablations_are_run_and_printed(script, tmp_path, capsys, monkeypatch):
    few = {script.FULL_RECIPE: "", "without R1": script.PENALTY_ABLATIONS["without R1"]}
    small = replace(
        script.EXPERIMENTS["grid"],
        command="modern-grid --threads 1 --steps 2 --generator.components 3",
        ablations=few,
    )
    monkeypatch.setitem(script.EXPERIMENTS, "grid", small)
    script.main([str(tmp_path / "runs"), str(tmp_path / "records"), "grid", "--seeds", "2"])
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert table[0] == "| | seeds | modes | within 3 σ | proportions | relative std | CPU s |"
    assert [line.split(" | ")[:2] for line in table[2:]] == [
        ["| full recipe", "0, 1"],
        ["| without R1", "0, 1"],
    ]
    record = json.loads((tmp_path / "records" / "ablation-grid-without-r1-0.json").read_text())
    assert "--game.r1 0" in record["command"]
