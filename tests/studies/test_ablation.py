"""Each part of the recipe is dropped by options that train takes, and the table holds them all."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from advnets import presets
from advnets.cli.main import config_of


@pytest.mark.parametrize("field", ["grid", "stacked"])
def test_every_part_changes_the_recipe_and_each_in_its_own_way(script, field):
    told = script.EXPERIMENTS[field]
    stages = {}
    for part, options in told.ablations.items():
        stages[part] = config_of(f"advnets train {told.command} {options}").stage
    assert len({repr(stage) for stage in stages.values()}) == len(stages)
    game = presets.get_preset(told.command.split()[0]).stage.game
    if field == "grid":
        game = replace(game, r1_final=1e-5, r2_final=1e-5)
    assert stages[script.FULL_RECIPE].game == game


def test_the_grid_is_played_and_told(script, tmp_path, capsys, monkeypatch):
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
