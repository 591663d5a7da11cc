"""`advnets train` with the directory of an existing run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import advnets
from advnets import presets
from advnets.errors import ConfigDiffersError
from advnets.presets.resume import new_out, newest_out
from advnets.run_directory import RunDirectory


def test_an_existing_run_is_not_overwritten(run_command, trained):
    before = (trained / "config.json").read_bytes()
    code, _, err = run_command("train", "digits", "--out", trained)
    assert code == 1
    assert err == (
        f"advnets: {trained} already holds a run; add --resume to continue it, or give another "
        "--out\n"
    )
    assert (trained / "config.json").read_bytes() == before


def test_another_config_on_resume_is_refused_by_field(run_command, trained):
    code, _, err = run_command(
        "train", "--resume", "--out", trained, "--seed", "9", "--generator-optimizer.lr", "1"
    )
    assert code == 1
    assert "was started with another config (stored, requested): " in err
    assert "--generator-optimizer.lr: 0.001, 1.0" in err
    assert "--seed: 0, 9" in err
    _, _, err = run_command("train", "--resume", "--out", trained, "--lr", "0.01")
    assert "(stored, requested): --lr: 0.001, 0.01; resume" in err
    with pytest.raises(ConfigDiffersError, match=r"requested\): lr: 0.001, 0.01; resume"):
        advnets.train(out=trained, resume=True, lr=0.01, progress=False)


def test_another_preset_on_resume_is_refused(run_command, trained):
    code, _, err = run_command("train", "paper-mnist", "--resume", "--out", trained)
    assert code == 2
    assert err == (
        f"advnets: {trained} was started with preset digits, not paper-mnist; leave paper-mnist "
        "out\n"
    )


def test_fewer_steps_than_were_trained_are_refused(run_command, trained):
    before = (trained / "config.json").read_bytes()
    code, _, err = run_command("train", "--resume", "--out", trained, "--steps", "20")
    assert code == 2
    assert err == (
        f"advnets: {trained} is at step 30, but 20 steps were requested; give more --steps or "
        "--epochs\n"
    )
    assert (trained / "config.json").read_bytes() == before


def test_resuming_without_a_run_is_refused(run_command, tmp_path):
    code, _, err = run_command("train", "--resume", "--out", tmp_path)
    assert code == 1
    assert "holds no run (it has no config.json)" in err


def test_a_truncated_checkpoint_is_reported_and_the_previous_one_is_used(
    run_command, tmp_path, quick
):
    run = tmp_path / "run"
    assert run_command("train", "digits", "--out", run, *quick)[0] == 0
    checkpoint = RunDirectory(run).newest_checkpoint()
    end = checkpoint.read_bytes()
    checkpoint.write_bytes(end[: len(end) // 2])
    code, _, err = run_command("train", "--resume", "--out", run)
    assert code == 0
    assert f"advnets: {checkpoint} is truncated or not a checkpoint" in err
    assert "; using step-00000020.safetensors, the newest usable one" in err
    assert checkpoint.read_bytes() == end
    renamed = checkpoint.with_name(f"{checkpoint.name}.unusable")
    assert renamed.read_bytes() == end[: len(end) // 2]


def test_changed_data_is_refused_on_resume(run_command, tmp_path, quick):
    run = tmp_path / "run"
    assert run_command("train", "digits", "--out", run, *quick)[0] == 0
    record = json.loads((run / "config.json").read_text())
    record["data"]["digest"] = "0" * 32
    (run / "config.json").write_text(json.dumps(record))
    code, _, err = run_command("train", "--resume", "--out", run)
    assert code == 1
    assert "has changed since the run was started: digits has the digest " in err


def test_a_finished_run_is_extended_by_more_steps(run_command, tmp_path, quick):
    """The checkpoint has the bytes of a run of the full length."""
    short, long = tmp_path / "short", tmp_path / "long"
    assert run_command("train", "digits", "--out", short, *quick)[0] == 0
    assert run_command("train", "--resume", "--out", short, "--steps", "50")[0] == 0
    assert run_command("train", "digits", "--out", long, *quick, "--steps", "50")[0] == 0
    ends = [RunDirectory(run).newest_checkpoint().read_bytes() for run in (short, long)]
    assert ends[0] == ends[1]


def test_a_finished_run_is_extended_by_more_epochs(run_command, tmp_path, quick):
    """1,197 images in batches of 100: two epochs are 24 steps, three are 36."""
    run, flags = tmp_path / "run", quick[2:]
    assert run_command("train", "digits", "--out", run, *flags, "--epochs", "2")[0] == 0
    assert run_command("train", "--resume", "--out", run, "--epochs", "3")[0] == 0
    events = RunDirectory(run).events()
    assert [e["step"] for e in events if e["kind"] == "end"] == [24, 36]


def test_epochs_on_resume_count_even_if_they_equal_the_presets(run_command, trained):
    """A run with a length in steps is extended to the epochs of its preset."""
    code, out, _ = run_command(
        "train", "--resume", "--out", trained, "--epochs", "400", "--dry-run"
    )
    assert code == 0
    assert f": {round(400 * 1197 / 100):,} steps at " in out


def test_epochs_and_steps_at_once_are_refused_on_resume(run_command, trained):
    code, _, err = run_command(
        "train", "--resume", "--out", trained, "--epochs", "4", "--steps", "40"
    )
    assert code == 2
    assert err == "advnets: --epochs is 4 and --steps is 40; give one of them\n"


def test_the_default_run_directory_is_named_by_the_data(run_command, tmp_path, monkeypatch, quick):
    """Without --out, the command that started a run resumes it; other data are refused."""
    monkeypatch.chdir(tmp_path)
    for arguments in (("points", "--data", "moons"), ("moons",)):
        assert run_command("train", *arguments, *quick)[0] == 0
        code, _, err = run_command("train", *arguments, *quick, "--resume", "--steps", "40")
        assert code == 0, err
        code, _, err = run_command("train", "ring", "--out", "runs/moons", "--resume")
        assert code == 2
        assert err == "advnets: runs/moons was started on moons, not ring; leave ring out\n"
        shutil.rmtree("runs")


def test_a_second_run_of_a_name_gets_the_next_number(run_command, tmp_path, monkeypatch, quick):
    """It overwrites nothing, says its folder, and is the one that --resume continues."""
    monkeypatch.chdir(tmp_path)
    assert run_command("train", "digits", *quick)[0] == 0
    first = {path: path.read_bytes() for path in Path("runs").rglob("*") if path.is_file()}
    code, out, err = run_command("train", "digits", *quick, "--seed", "1")
    assert code == 0
    assert err.startswith("advnets: runs/digits is taken; the run is runs/digits-2\n")
    assert "  advnets sample runs/digits-2 " in out
    assert {path: path.read_bytes() for path in first} == first

    # From Python as well.
    assert advnets.train("digits", steps=1, progress=False).run.path == Path("runs/digits-3")
    code, _, err = run_command("train", "--resume", "--steps", "2")
    assert (code, "from step 1," in err) == (0, True)
    assert RunDirectory(Path("runs/digits-3")).newest_checkpoint().stem == "step-00000002"

    # A number is not used again while a later run exists, so that the highest is the newest.
    shutil.rmtree("runs/digits-2")
    assert new_out(presets.get_preset("digits")) == Path("runs/digits-4")
    assert newest_out(presets.get_preset("digits")) == Path("runs/digits-3")


def test_a_number_in_the_name_of_other_data_is_no_number_of_a_run(
    run_command, tmp_path, monkeypatch, quick
):
    """As run 2 of photos beside the first run of photos-2."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "photos-2"):
        Path(name).mkdir()
        for i in range(8):
            Image.new("RGB", (8, 8), (30 * i, 0, 0)).save(f"{name}/{i}.png")
    for data, out in (("photos-2", "photos-2"), ("photos", "photos"), ("photos", "photos-3")):
        assert run_command("train", data, "--size", "8", *quick, "--steps", "1")[0] == 0
        assert RunDirectory(Path("runs") / out).exists
    assert run_command("train", "photos-2", "--resume", "--steps", "2")[0] == 0
    assert RunDirectory(Path("runs/photos-2")).newest_checkpoint().stem == "step-00000002"


def test_a_resumed_run_says_how_many_steps_it_repeats(run_command, tmp_path, quick):
    """As after a kill: the newest checkpoint is older than the log; the result stays the same."""
    run = tmp_path / "run"
    command = ["train", "digits", "--out", run, *quick, "--checkpoint-every", "0"]
    assert run_command(*command)[0] == 0
    end = RunDirectory(run).newest_checkpoint().read_bytes()
    RunDirectory(run).newest_checkpoint().unlink()
    code, _, err = run_command(*command, "--resume")
    assert code == 0
    assert err.splitlines()[:2] == [
        f"resuming digits: 30 steps, from step 0, on cpu in float32 with 1 thread, in {run}",
        "the newest checkpoint is of step 0: the 30 steps after it that were logged before are "
        "repeated, with the same result to the bit",
    ]
    assert RunDirectory(run).newest_checkpoint().read_bytes() == end
    assert "repeated" not in run_command(*command, "--resume", "--steps", "40")[2]


def test_the_command_that_started_a_run_resumes_it_with_resume(run_command, tmp_path, quick):
    """Including switches that are already on in the stored config."""
    command = ["train", "digits", "--out", tmp_path / "run", *quick, "--generator.batch-norm"]
    assert run_command(*command)[0] == 0
    code, _, err = run_command(*command, "--resume", "--steps", "40")
    assert code == 0, err


def as_on_a_gpu(run, **runtime):
    """Change the config of a run to that of a machine with a GPU."""
    file = RunDirectory(run).config_file
    record = json.loads(file.read_text())
    record["config"]["runtime"] |= {"device": "cuda", "precision": "bfloat16"} | runtime
    file.write_text(json.dumps(record))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_run_from_a_gpu_resumes_on_the_cpu_on_request(run_command, tmp_path, quick):
    """Without the option the error names it."""
    run = tmp_path / "run"
    assert run_command("train", "digits", "--out", run, *quick)[0] == 0
    as_on_a_gpu(run, cuda_graph=True)
    longer = ("train", "--resume", "--out", run, "--steps", "40")
    code, _, err = run_command(*longer)
    assert code == 2
    assert err == (
        f"advnets: {run} was trained on cuda, which this machine lacks; give --device cpu to "
        "continue here, where the run will no longer be bit-exact\n"
    )
    code, _, err = run_command(*longer, "--device", "cpu")
    assert code == 0, err
    assert "device changed from cuda to cpu: the run is not bit-exact from step 30 on" in err
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
    assert "bit-exact after step 30." in (run / "report.html").read_text("utf-8")


def test_a_run_from_a_gpu_opens_on_a_cpu(run_command, tmp_path, quick):
    run, out = tmp_path / "run", tmp_path / "x.png"
    assert run_command("train", "digits", "--out", run, *quick)[0] == 0
    as_on_a_gpu(run, cuda_graph=True)
    for command in (
        ("sample", run, "--num-samples", "4", "--out", out),
        ("evaluate", run, "--metrics", "frechet", "--num-samples", "50"),
        ("visualize", run, "samples", "--num-samples", "4"),
    ):
        code, _, err = run_command(*command)
        assert code == 0, err


def test_a_change_of_threads_or_precision_is_applied_and_reported(run_command, tmp_path, quick):
    """The first step that is not bit-exact stays the first; changing nothing marks nothing."""
    run = tmp_path / "run"
    assert run_command("train", "digits", "--out", run, *quick)[0] == 0
    steps = (
        ("--precision", "float32", "--threads", "1"),
        ("--threads", "2"),
        ("--precision", "bfloat16"),
    )
    marks = []
    for number, more in enumerate(steps, 4):
        code, _, err = run_command(
            "train", "--resume", "--out", run, "--steps", f"{number}0", *more
        )
        assert code == 0, err
        marks.append(RunDirectory(run).read_config().get("bit_exact_until_step"))
        assert ("the run is not bit-exact from step" in err) == (number > 4)
    assert marks == [None, 40, 40]


def test_a_run_without_remaining_steps_says_so(run_command, tmp_path, trained):
    """On resume, and as a branch of its last step; not where steps remain."""
    line = "nothing is left to train: all 30 steps are done; give more --steps or --epochs"
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    branch = ("--branch", tmp_path / "branch")
    for flags in ((), branch):
        code, _, err = run_command("train", "--resume", "--out", copy, *flags)
        assert (code, err.splitlines().count(line)) == (0, 1), err
    code, _, err = run_command("train", "--resume", "--out", copy, "--steps", "31")
    assert (code, "nothing is left" in err) == (0, False)


def test_resuming_a_finished_run_changes_nothing(run_command, tmp_path, quick):
    run = tmp_path / "run"
    assert run_command("train", "digits", "--out", run, *quick)[0] == 0
    assert run_command("train", "--resume", "--out", run, "--threads", "2")[0] == 0
    record = RunDirectory(run).read_config()
    assert "bit_exact_until_step" not in record
    assert record["config"]["runtime"]["threads"] == 1
