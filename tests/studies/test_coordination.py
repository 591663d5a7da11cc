"""Tests of the coordination study, on small networks and digits."""

import json
from dataclasses import replace

from advnets import config
from advnets.config import GANGame


def test_every_variant_differs_from_the_first_in_one_thing(script):
    first, *others = script.variants().values()
    assert first.stage.game == GANGame()
    assert first.stage.generator.prior == "normal"
    for variant in others:
        differing = [
            name
            for name in vars(first.stage)
            if vars(first.stage)[name] != vars(variant.stage)[name]
        ]
        assert len(differing) + (variant.keep_fraction != first.keep_fraction) == 1, variant


def test_a_finished_run_is_not_repeated(script, tmp_path, monkeypatch, capsys):
    plain = script.variants()["alternating, k = 1, z normal"]
    small = replace(
        plain.stage,
        generator=config.MLPGenerator(4, "normal", (8,), ("relu",), "tanh", output_bias=0.0),
        discriminator=config.MLPDiscriminator(hidden_sizes=(8,)),
    )
    selected = {
        "plain": replace(plain, stage=small),
        "chosen": replace(plain, stage=small, keep_fraction=0.5),
        "averaged": replace(plain, stage=replace(small, ema_half_life=1000)),
    }
    monkeypatch.setattr(script, "variants", lambda: selected)
    monkeypatch.setattr(script, "NUM_SAMPLES", 300)
    monkeypatch.setattr(script, "LOG_EVERY", 2)
    run = [str(tmp_path), "--data", "digits", "--seconds", "0.05", "--seeds", "2", "--target"]
    script.main([*run, "0"])
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert {(r["variant"], r["seed"]) for r in records} == {
        (n, s) for n in selected for s in (0, 1)
    }
    for record in records:
        assert not record["reached"]
        assert record["taken"] >= 0.05
        assert record["updates"]["generator"] == record["rounds"] > 0
        assert record["curve"][-1] == [record["taken"], record["rounds"], record["distance"]]
    printed = capsys.readouterr().out.splitlines()
    assert printed[2].startswith("| plain | 0 of 2 | ≥ 0 ± 0 | ")
    script.main([*run, "0"])
    assert (tmp_path / "results.jsonl").read_text().splitlines() == lines
    assert capsys.readouterr().out.splitlines() == printed
    script.main([*run, "1e9", "--variants", "plain"])  # another target is another table
    more = (tmp_path / "results.jsonl").read_text().splitlines()
    assert more[:6] == lines
    assert len(more) == 8
    assert capsys.readouterr().out.splitlines()[2].startswith("| plain | 2 of 2 | 0 ± 0 | ")


def test_a_table_has_means_and_standard_errors(script):
    def record(seed, num_updates, reached):
        updates = {"discriminator": 3 * num_updates, "generator": 2 * num_updates}
        history = {"taken": num_updates, "rounds": 2 * num_updates, "distance": 10.0 + seed}
        return {"variant": "a", "seed": seed, "reached": reached, "updates": updates, **history}

    *_, row = script.table_rows([record(0, 100, True), record(1, 300, False)])
    assert row == "| a | 1 of 2 | ≥ 200 ± 100 | 400 ± 200 | 1.50 ± 0.00 | 10.5 ± 0.5 |"
