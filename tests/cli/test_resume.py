"""`advnets train` on a run that has begun."""

from __future__ import annotations

import json
import shutil

from advnets.runs import RunDirectory


def test_a_begun_run_is_not_overwritten(said, trained):
    before = (trained / "config.json").read_bytes()
    code, _, err = said("train", "digits", "--out", trained)
    assert code == 1
    assert err == (
        f"advnets: {trained} holds a run already; add --resume to go on, or give another --out\n"
    )
    assert (trained / "config.json").read_bytes() == before


def test_another_config_on_resume_is_refused_by_field(said, trained):
    code, _, err = said(
        "train", "--resume", "--out", trained, "--seed", "9", "--generator-optimizer.lr", "1"
    )
    assert code == 1
    assert "was begun with another config (stored, asked): " in err
    assert "stages.0.generator_optimizer.lr: 0.001, 1.0" in err
    assert "seed: 0, 9" in err


def test_another_preset_on_resume_is_refused(said, trained):
    code, _, err = said("train", "paper-mnist", "--resume", "--out", trained)
    assert code == 2
    assert (
        err == f"advnets: {trained} was begun with preset digits, not paper-mnist; leave it out\n"
    )


def test_fewer_steps_than_were_played_are_refused(said, trained):
    before = (trained / "config.json").read_bytes()
    code, _, err = said("train", "--resume", "--out", trained, "--steps", "20")
    assert code == 2
    assert err == (
        f"advnets: {trained} has played 30 steps already and 20 were asked for; ask for more\n"
    )
    assert (trained / "config.json").read_bytes() == before


def test_nothing_to_resume(said, tmp_path):
    code, _, err = said("train", "--resume", "--out", tmp_path)
    assert code == 1
    assert "holds no run (no config.json)" in err


def test_a_truncated_checkpoint_is_named_and_the_one_before_serves(said, tmp_path, quick):
    run = tmp_path / "run"
    assert said("train", "digits", "--out", run, *quick)[0] == 0
    whole = RunDirectory(run).newest_checkpoint()
    end = whole.read_bytes()
    whole.write_bytes(end[: len(end) // 2])
    code, _, err = said("train", "--resume", "--out", run)
    assert code == 0
    assert f"advnets: {whole} is truncated or no checkpoint" in err
    assert "; step-00000020.safetensors is used, the newest that can be" in err
    assert whole.read_bytes() == end
    aside = whole.with_name(f"{whole.name}.unusable")
    assert aside.read_bytes() == end[: len(end) // 2]


def test_changed_data_is_refused_on_resume(said, tmp_path, quick):
    run = tmp_path / "run"
    assert said("train", "digits", "--out", run, *quick)[0] == 0
    record = json.loads((run / "config.json").read_text())
    record["data"]["digest"] = "0" * 32
    (run / "config.json").write_text(json.dumps(record))
    code, _, err = said("train", "--resume", "--out", run)
    assert code == 1
    assert "has changed since the run began (digits: digest 000000000000 then, " in err


def test_more_steps_go_on_from_where_a_run_ended(said, tmp_path, quick):
    """And end with the bytes of a run that was as long from the start."""
    short, long = tmp_path / "short", tmp_path / "long"
    assert said("train", "digits", "--out", short, *quick)[0] == 0
    assert said("train", "--resume", "--out", short, "--steps", "50")[0] == 0
    assert said("train", "digits", "--out", long, *quick, "--steps", "50")[0] == 0
    ends = [RunDirectory(run).newest_checkpoint().read_bytes() for run in (short, long)]
    assert ends[0] == ends[1]


def test_more_epochs_are_counted_out_again(said, tmp_path, quick):
    """1,197 pictures in batches of 100: two epochs are 24 steps, three are 36."""
    run, flags = tmp_path / "run", quick[2:]
    assert said("train", "digits", "--out", run, *flags, "--epochs", "2")[0] == 0
    assert said("train", "--resume", "--out", run, "--epochs", "3")[0] == 0
    events = RunDirectory(run).events()
    assert [e["step"] for e in events if e["kind"] == "end"] == [24, 36]


def test_epochs_count_on_resume_though_they_are_what_the_preset_has(said, trained):
    """A run of so many steps is made as long as its preset is."""
    code, out, _ = said("train", "--resume", "--out", trained, "--epochs", "400", "--dry-run")
    assert code == 0
    assert f"stage 1: {round(400 * 1197 / 100):,} steps of " in out


def test_epochs_and_steps_at_once_are_refused_on_resume(said, trained):
    code, _, err = said("train", "--resume", "--out", trained, "--epochs", "4", "--steps", "40")
    assert code == 2
    assert err == ("advnets: epochs 4 and steps 40 came, each of which says how long; give one\n")


def test_a_run_on_data_of_ones_own_is_found_by_its_data(said, tmp_path, monkeypatch, quick):
    """Where no --out was said, by the command that began it; on other data it is none."""
    monkeypatch.chdir(tmp_path)
    for told in (("points", "--data", "moons"), ("moons",)):
        assert said("train", *told, *quick)[0] == 0
        code, _, err = said("train", *told, *quick, "--resume", "--steps", "40")
        assert code == 0, err
        code, _, err = said("train", "ring", "--out", "runs/moons", "--resume")
        assert code == 2
        assert err == "advnets: runs/moons was begun on moons, not ring; leave it out\n"
        shutil.rmtree("runs")


def test_the_command_that_began_a_run_goes_on_with_resume(said, tmp_path, quick):
    """Switches too, which are on already by then."""
    told = ["train", "digits", "--out", tmp_path / "run", *quick, "--generator.batch-norm"]
    assert said(*told)[0] == 0
    code, _, err = said(*told, "--resume", "--steps", "40")
    assert code == 0, err
