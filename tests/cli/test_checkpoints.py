"""Checkpoints to keep, to load, and to strip; early stopping."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

import advnets
from advnets.errors import UsageError
from advnets.run_directory import RunDirectory
from advnets.training.checkpoint import read_checkpoint

NEVER = ("--eval-every", "0")
EVALUATED = ("--eval-every", "5", "--eval-metric", "frechet")


@pytest.fixture(scope="module")
def kept(tmp_path_factory, quick):
    """Return a run that keeps the best checkpoint, of step 5: its learning rates are too high."""
    run = tmp_path_factory.mktemp("runs") / "kept"
    flags = (*quick, *EVALUATED, "--keep-checkpoints", "3", "--keep-best", "fid")
    flags += ("--lr", "0.05", "--ema-half-life", "0")
    assert advnets.cli.main.main(["train", "digits", "--out", str(run), *flags]) == 0
    return run


def scores(run):
    return {e["step"]: e["value"] for e in RunDirectory(run).events() if e["kind"] == "evaluate"}


def test_the_checkpoint_of_any_kept_step_and_of_the_best_is_loaded(run_command, kept, tmp_path):
    """`sample`, `evaluate` and `load` agree on the weights; the best step has the least score."""
    by_step = scores(kept)
    best = min(by_step, key=lambda step: by_step[step])
    assert list(RunDirectory(kept).checkpoints_by_step()) == [best, 10, 20, 30]
    for step in (10, "best"):
        image = tmp_path / f"{step}.npz"
        code, out, _ = run_command(
            "sample", kept, "--step", step, "--out", image, "--num-samples", 4
        )
        number = best if step == "best" else step
        assert (code, f"4 samples of step {number}" in out) == (0, True), out
        model = advnets.load(kept, step=step)
        assert model.step == number
        stored = read_checkpoint(RunDirectory(kept).checkpoint_file(number)).tensors
        weights = model.generator.state_dict()
        assert all(torch.equal(stored[f"players/generator/{n}"], w) for n, w in weights.items())
    code, out, _ = run_command(
        *("evaluate", kept, "--step", "best", "--metrics", "frechet", "--json"),
        *("--num-samples", "10000"),
    )
    assert code == 0
    record = next(r for r in json.loads(out) if r["samples"] == "generator")
    assert (record["step"], record["value"]) == (best, by_step[best])
    code, _, err = run_command("visualize", kept, "--step", "best", "samples")
    assert code == 0, err


def test_a_step_that_is_not_kept_is_refused_with_those_that_are(run_command, kept, trained):
    code, _, err = run_command("sample", kept, "--step", "7", "--out", "x.png")
    assert (code, err) == (
        2,
        f"advnets: --step is 7, but {kept} has no checkpoint of it; give one of the kept "
        "steps, 5, 10, 20, 30\n",
    )
    code, _, err = run_command("sample", trained, "--step", "best", "--out", "x.png")
    assert code == 2
    assert "--step is best, but none was kept as the best (--keep-best); give one of" in err


def test_what_is_selected_by_must_be_evaluated_and_have_a_direction(run_command, tmp_path):
    for flags, message in (
        (("--patience", "3", *NEVER), "--patience is 3, but --eval-every is 0, so that nothing is"),
        (("--keep-best", "fid", *NEVER), "--keep-best is fid, but --eval-every is 0, so that not"),
        (("--keep-best", "fid", "--steps", "9"), "--keep-best is fid, but a training of 9 steps "),
        (
            (*EVALUATED, "--keep-best", "n_real"),
            "no metric of a training curve or value of one is called 'n_real'",
        ),
        (
            (*EVALUATED, "--keep-best", "KID"),
            "--keep-best is KID, but the evaluations are by frechet, which has no such score; set "
            "--eval-metric to mmd\n",
        ),
        (
            ("--eval-every", "5", "--keep-best", "modes_found"),
            "--keep-best is modes_found, but the evaluations are by parzen, which has no such "
            "score; set --eval-metric to modes or mixture\n",
        ),
        (("--keep-best", "precision"), "no metric of a training curve is called 'prdc'; known: "),
        (("--keep-checkpoints", "0"), "--keep-checkpoints is 0; it must be at least 1"),
        (("--keep-checkpoints", "some"), "--keep-checkpoints is 'some'; it must be"),
    ):
        code, _, err = run_command("train", "digits", "--out", tmp_path / "run", *flags)
        assert code == 2
        assert err.startswith(f"advnets: {message}"), err
        assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "metric"),
    [("frechet", "frechet"), ("fid", "frechet"), ("KID", "mmd"), ("parzen", "parzen")],
)
def test_the_metric_to_keep_by_is_that_of_the_evaluations(run_command, tmp_path, name, metric):
    """Also after the advice for a short training is followed."""
    command = ("train", "digits", "--steps", "20", "--keep-best", name, "--out", tmp_path / "run")
    code, _, err = run_command(*command)
    assert (code, err.endswith("by default; set --eval-every to 2\n")) == (2, True), err
    code, out, _ = run_command(*command, "--eval-every", "10")
    events = [e for e in RunDirectory(tmp_path / "run").events() if e["kind"] == "evaluate"]
    assert (code, "the best checkpoint is of step " in out) == (0, True)
    assert {event["metric"] for event in events} == {metric}


def test_training_ends_early_and_says_so(run_command, tmp_path, quick):
    """A generator that is not trained does not improve: it ends at the second evaluation."""
    run = tmp_path / "run"
    flags = (*quick, *EVALUATED, "--patience", "2", "--generator-optimizer.lr", "1e-12")
    code, out, _ = run_command("train", "digits", "--out", run, *flags)
    by_step = scores(run)
    end = RunDirectory(run).events()[-1]
    assert code == 0
    assert end["reason"] == "early stop"
    steps = list(by_step)
    best = min(steps, key=lambda step: by_step[step])
    assert len(steps) == steps.index(best) + 3
    assert out.startswith(
        f"ended early at step {end['step']}: 2 evaluations in a row have no better value of "
        f"frechet than that of step {best}\n"
    )
    assert "The run ended early, as its score did not improve." in (
        (run / "report.html").read_text("utf-8")
    )
    code, out, _ = run_command("train", "--resume", "--out", run)
    assert (code, f"ended early at step {end['step']}" in out) == (0, True)
    assert scores(run) == by_step


def test_weights_only_keeps_the_samples_in_a_smaller_file(run_command, trained, tmp_path):
    """An existing run is stripped too; uses of D or the optimizers are refused with the reason."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    file = RunDirectory(run).newest_checkpoint()
    size, images = file.stat().st_size, advnets.load(run).sample(8, seed=1)
    assert run_command("train", "--resume", "--out", run, "--weights-only")[0] == 0
    assert file.stat().st_size < size / 3
    names = {name.split("/")[1] for name in read_checkpoint(file).tensors}
    assert names == {"generator"}
    model = advnets.load(run)
    assert torch.equal(model.sample(8, seed=1), images)
    assert run_command("evaluate", run, "--metrics", "parzen")[0] == 0
    with pytest.raises(UsageError, match="has no discriminator; the players whose weights were k"):
        model.sample(8, keep_fraction=0.5)
    code, _, err = run_command("train", "--resume", "--out", run, "--steps", "40")
    assert code == 1
    assert "holds weights only, without the optimizer state that training needs; start" in err
    for command in (
        ("evaluate", run, "--metrics", "probe"),
        ("evaluate", run, "--metrics", "frechet", "--extractor", "discriminator"),
        ("visualize", run, "guided-backprop"),
    ):
        code, _, err = run_command(*command)
        assert (code, err.count("\n")) in ((1, 1), (2, 1)), err
        assert "discriminator" in err


def test_an_average_with_much_of_the_initial_weights_gives_a_warning(run_command, trained):
    """After 30 steps of 100 images, 2^-0.1 of the weights of G are the initial ones."""
    code, _, err = run_command("evaluate", trained, "--metrics", "frechet", "--num-samples", "50")
    assert (code, err) == (
        0,
        "advnets: the EMA of G still has 93 % of its initial weights at step 30 (half-life 30,000 "
        "images): train longer, or add --weights last\n",
    )
    options = ("--metrics", "frechet", "--num-samples", "50", "--weights", "last")
    assert run_command("evaluate", trained, *options)[::2] == (0, "")
