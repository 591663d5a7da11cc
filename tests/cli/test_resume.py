"""`advnets train` on a run that has begun."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from advnets.run_directory import RunDirectory


def test_a_begun_run_is_not_overwritten(said, trained):
    before = (trained / "config.json").read_bytes()
    code, _, err = said("train", "digits", "--out", trained)
    assert code == 1
    assert err == (
        f"advnets: {trained} already holds a run; add --resume to continue it, or give another --out\n"
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
        err
        == f"advnets: {trained} was started with preset digits, not paper-mnist; leave paper-mnist out\n"
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
    assert "has changed since the run was started: digits has the digest " in err


def test_more_steps_go_on_from_where_a_run_ended(said, tmp_path, quick):
    """And end with the bytes of a run that was as long from the start."""
    short, long = tmp_path / "short", tmp_path / "long"
    assert said("train", "digits", "--out", short, *quick)[0] == 0
    assert said("train", "--resume", "--out", short, "--steps", "50")[0] == 0
    assert said("train", "digits", "--out", long, *quick, "--steps", "50")[0] == 0
    ends = [RunDirectory(run).newest_checkpoint().read_bytes() for run in (short, long)]
    assert ends[0] == ends[1]


def test_more_epochs_are_counted_out_again(said, tmp_path, quick):
    """1,197 images in batches of 100: two epochs are 24 steps, three are 36."""
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
        assert err == "advnets: runs/moons was started on moons, not ring; leave ring out\n"
        shutil.rmtree("runs")


def test_the_command_that_began_a_run_goes_on_with_resume(said, tmp_path, quick):
    """Switches too, which are on already by then."""
    told = ["train", "digits", "--out", tmp_path / "run", *quick, "--generator.batch-norm"]
    assert said(*told)[0] == 0
    code, _, err = said(*told, "--resume", "--steps", "40")
    assert code == 0, err


def as_on_a_gpu(run, **runtime):
    """The run's record, as a machine with a GPU writes it; what is trained stays as it is."""
    file = RunDirectory(run).config_file
    record = json.loads(file.read_text())
    record["config"]["runtime"] |= {"device": "cuda", "precision": "bfloat16"} | runtime
    file.write_text(json.dumps(record))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_run_from_a_gpu_goes_on_where_there_is_none_when_told(said, tmp_path, quick):
    """And the message that refuses it says so: the flag that it names is taken."""
    run = tmp_path / "run"
    assert said("train", "digits", "--out", run, *quick)[0] == 0
    as_on_a_gpu(run, cuda_graph=True)
    longer = ("train", "--resume", "--out", run, "--steps", "40")
    code, _, err = said(*longer)
    assert code == 2
    assert err == (
        f"advnets: {run} was trained on cuda, which this machine lacks; say --device cpu to go on "
        "here, from where it is no longer bit-exact\n"
    )
    code, _, err = said(*longer, "--device", "cpu")
    assert code == 0, err
    said_of_device = (
        "device is cpu, no longer cuda: from step 30 on, the run is not bit-exact any more"
    )
    assert said_of_device in err
    record = RunDirectory(run).read_config()
    assert record["config"]["runtime"] | {"threads": 1} == {
        "device": "cpu",
        "precision": "bfloat16",
        "threads": 1,
        "compile": False,
        "cuda_graph": False,
    }
    assert record["bit_exact_until_step"] == 30
    resumed = [event for event in RunDirectory(run).events() if event["kind"] == "resume"][-1]
    assert resumed["changed"]["device"] == ["cuda", "cpu"]
    assert "from step 30 on, it is not bit-exact" in (run / "report.html").read_text("utf-8")


def test_a_run_from_a_gpu_opens_on_a_cpu(said, tmp_path, quick):
    run, out = tmp_path / "run", tmp_path / "x.png"
    assert said("train", "digits", "--out", run, *quick)[0] == 0
    as_on_a_gpu(run, cuda_graph=True)
    for command in (
        ("sample", run, "--num-samples", "4", "--out", out),
        ("evaluate", run, "--metrics", "frechet", "--num-samples", "50"),
        ("visualize", run, "samples", "--num-samples", "4"),
    ):
        code, _, err = said(*command)
        assert code == 0, err


def test_other_threads_and_precision_are_taken_and_said(said, tmp_path, quick):
    """The first step that is not bit-exact stays the first; changing nothing marks nothing."""
    run = tmp_path / "run"
    assert said("train", "digits", "--out", run, *quick)[0] == 0
    steps = (
        ("--precision", "float32", "--threads", "1"),
        ("--threads", "2"),
        ("--precision", "bfloat16"),
    )
    marks = []
    for number, more in enumerate(steps, 4):
        code, _, err = said("train", "--resume", "--out", run, "--steps", f"{number}0", *more)
        assert code == 0, err
        marks.append(RunDirectory(run).read_config().get("bit_exact_until_step"))
        assert ("not bit-exact any more" in err) == (number > 4)
    assert marks == [None, 40, 40]


def test_a_run_with_nothing_left_to_play_stays_as_it_was(said, tmp_path, quick):
    run = tmp_path / "run"
    assert said("train", "digits", "--out", run, *quick)[0] == 0
    assert said("train", "--resume", "--out", run, "--threads", "2")[0] == 0
    record = RunDirectory(run).read_config()
    assert "bit_exact_until_step" not in record
    assert record["config"]["runtime"]["threads"] == 1
