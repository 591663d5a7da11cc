"""Runs that start from the state, or from the weights, of another run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import advnets
from advnets import config
from advnets.errors import DataError, RunError, UsageError
from advnets.experiment.stored_run import StoredRun
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.run_directory import RunDirectory
from advnets.training.callback import Callback
from advnets.training.checkpoint import read_checkpoint


class Crashing(Callback):
    """A callback that interrupts the training at a step, before it can save."""

    def __init__(self, step):
        self.step = step

    def on_step(self, step):
        if step == self.step:
            raise KeyboardInterrupt


def end(run):
    checkpoint = read_checkpoint(RunDirectory(run).newest_checkpoint())
    return checkpoint.tensors, checkpoint.metadata


def logged(run):
    timed = ("seconds", "cpu_seconds", "images_per_second")
    events = [e for e in RunDirectory(run).events() if e["kind"] in ("log", "evaluate")]
    return [{key: value for key, value in e.items() if key not in timed} for e in events]


def assert_same_state(first, second):
    assert first[1] == second[1]
    assert first[0].keys() == second[0].keys()
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])


@pytest.fixture
def kept(tiny):
    """Return a config of which all checkpoints are kept."""
    intervals = replace(
        tiny.intervals, keep_checkpoints="all", eval_every=30, eval_metric="frechet"
    )
    return replace(tiny, intervals=intervals)


@pytest.mark.parametrize("rule", [None, config.Adam(lr_final=1e-5)], ids=["sgd", "adam"])
def test_a_branch_without_differences_ends_in_the_same_state(kept, tmp_path, rule):
    """From any kept step, also after a crash of the branch; the source stays as it is."""
    if rule is not None:
        kept = kept.with_stage(
            replace(kept.stage, generator_optimizer=rule, discriminator_optimizer=rule)
        )
    source = tmp_path / "source"
    train(kept, source)
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    stored = StoredRun.read(source)
    for step in (0, 20, 40):
        branch = tmp_path / f"branch-{step}"
        if step == 20:
            with pytest.raises(KeyboardInterrupt):
                train(kept, source, [Crashing(47)], resume=True, branch=branch, step=step)
            train(StoredRun.read(branch).config, branch, resume=True)
        else:
            result = train(stored.config, source, resume=True, branch=branch, step=step)
            assert (result.run, result.step) == (branch, 60)
        assert_same_state(end(branch), end(source))
        assert logged(branch) == logged(source)
        point = json.loads((branch / "config.json").read_text())["config"]["branched_from"]
        assert point == {
            "run": str(source),
            "step": step,
            "identity": stored.identity,
            "differences": [],
        }
        assert StoredRun.read(branch).identity != stored.identity
    assert {p: p.read_bytes() for p in source.rglob("*") if p.is_file()} == before


def test_a_branch_records_how_its_config_differs(kept, tmp_path):
    """It starts from the same state, with which other rates end elsewhere."""
    source, branch = tmp_path / "source", tmp_path / "branch"
    train(kept, source)
    changed = kept.with_stage(replace(kept.stage.with_learning_rate(1e-5), steps=50))
    train(changed, source, resume=True, branch=branch, step=20)
    assert StoredRun.read(branch).config.branched_from.differences == (
        "generator_optimizer.lr: 0.0002, 1e-05",
        "discriminator_optimizer.lr: 0.05, 1e-05",
        "steps: 60, 50",
    )
    first = read_checkpoint(RunDirectory(branch).checkpoint_file(20))
    same = read_checkpoint(RunDirectory(source).checkpoint_file(20))
    assert_same_state((first.tensors, first.metadata), (same.tensors, same.metadata))
    key = "players/generator/hidden.linears.0.weight"
    later = (
        read_checkpoint(RunDirectory(run).checkpoint_file(40)).tensors for run in (branch, source)
    )
    slow, fast = ((tensors[key] - same.tensors[key]).norm() for tensors in later)
    assert 0 < slow < fast


def test_a_branch_has_the_best_checkpoint_of_its_run_until_it_finds_a_better_one(kept, tmp_path):
    """Also where the branch stops at once; a later best of the run is not taken over."""
    source, branch = tmp_path / "source", tmp_path / "branch"
    kept = replace(kept, intervals=replace(kept.intervals, eval_every=10, keep_best="fid"))
    kept = kept.with_stage(replace(kept.stage.with_learning_rate(0.03), ema_half_life=0))
    train(kept, source)
    events = RunDirectory(source).events()
    scores = {e["step"]: e["value"] for e in events if e["kind"] == "evaluate"}
    best = min(step for step in scores if scores[step] == min(scores.values()))
    assert 0 < best < 60
    start = min(step for step in RunDirectory(source).checkpoints_by_step() if step > best)
    few = replace(kept, intervals=replace(kept.intervals, keep_checkpoints=1))
    with pytest.raises(KeyboardInterrupt):
        train(few, source, [Crashing(start + 1)], resume=True, branch=branch, step=start)
    assert [load(branch, step=step).step for step in (None, "best")] == [start, best]
    assert torch.equal(
        load(branch, step="best").sample(4, seed=1), load(source, step="best").sample(4, seed=1)
    )
    train(StoredRun.read(branch).config, branch, resume=True)
    assert load(branch, step="best").step == best
    assert list(RunDirectory(branch).checkpoints_by_step()) == [best, 60]
    assert logged(branch) == logged(source)

    # A branch from an earlier step, or on other data, does not know it.
    earlier = tmp_path / "earlier"
    with pytest.raises(KeyboardInterrupt):
        train(kept, source, [Crashing(1)], resume=True, branch=earlier, step=0)
    with pytest.raises(UsageError, match="none was kept as the best"):
        load(earlier, step="best")


def test_what_cannot_be_branched_is_refused_before_anything_is_written(kept, tmp_path):
    source, branch = tmp_path / "source", tmp_path / "branch"
    train(kept, source)
    stage = kept.stage
    for changed, message in (
        (replace(stage, generator=replace(stage.generator, hidden_sizes=(5,))), r"\(5,"),
        (replace(stage, generator_optimizer=config.SGD()), "optimizers/generator/"),
        (replace(stage, steps=10), "is at step 40 of 1 stages, and the new run has 10 steps"),
    ):
        with pytest.raises(UsageError, match=message):
            train(kept.with_stage(changed), source, resume=True, branch=branch, step=40)
        assert not branch.exists()
    with pytest.raises(UsageError, match=r"step is 30, but .* has no checkpoint of it"):
        train(kept, source, resume=True, branch=branch, step=30)
    with pytest.raises(RunError, match="already holds a run"):
        train(kept, source, resume=True, branch=source)


def test_the_command_line_offers_and_makes_a_branch(run_command, kept, tmp_path):
    source, branch = tmp_path / "source", tmp_path / "branch"
    train(kept, source)
    code, _, err = run_command("train", "--resume", "--out", source, "--lr", "0.01")
    assert code == 1
    assert err.endswith(
        "; resume without these options, or set --branch to the directory of a new run that "
        "continues with them\n"
    )
    command = ("train", "--resume", "--out", source, "--lr", "0.01", "--branch", branch)
    code, out, err = run_command(*command, "--step", "20")
    assert code == 0
    assert f"from step 20 of {source}" in err
    assert f"  advnets sample {branch} " in out
    assert RunDirectory(branch).events()[0]["kind"] == "start"
    assert advnets.load(branch).step == 60
    for arguments, message in (
        (("digits", "--branch", branch), "--branch continues another run, but --resume is not"),
        (("digits", "--step", "100"), "--step is 100, which selects the checkpoint that --branch"),
        (command[1:], f"{branch} already holds a run; add --resume to continue it, or give anot"),
    ):
        code, _, err = run_command("train", *arguments)
        assert code == (1 if "holds a run" in message else 2)
        assert err.startswith(f"advnets: {message}")


def test_a_new_run_on_other_data_starts_from_the_weights_of_a_run(tiny, tmp_path):
    """G starts from the EMA; a crash before the first checkpoint changes nothing."""
    source, run = tmp_path / "source", tmp_path / "run"
    train(tiny, source)
    (images := tmp_path / "images").mkdir()
    for i in range(32):
        Image.new("L", (8, 8), 8 * i).save(images / f"{i}.png")
    data = config.Data(source=str(images), size=8, channels=1, batch_size=10)
    fine = replace(tiny.with_stage(replace(tiny.stage, init_from=str(source), steps=20)), data=data)
    train(fine, run)
    stored = StoredRun.read(run)
    assert stored.config.stage.init_players == ("generator", "discriminator")
    whole = end(run)

    # Train it again from the same weights, where no checkpoint was written.
    for file in RunDirectory(run).checkpoint_files():
        file.unlink()
    train(stored.config, run, resume=True)
    assert_same_state(end(run), whole)

    # It is another run than one that starts from random weights, wherever the source is.
    scratch = tmp_path / "scratch"
    train(fine.with_stage(replace(fine.stage, init_from=None)), scratch)
    assert StoredRun.read(scratch).identity != stored.identity
    source.rename(tmp_path / "moved")
    assert load(run).step == 20


@pytest.mark.parametrize("players", [(), ("generator",), ("discriminator",)])
def test_the_initial_weights_are_those_of_the_players_that_were_named(tiny, tmp_path, players):
    source, run = tmp_path / "source", tmp_path / "run"
    train(tiny, source)
    stage = replace(tiny.stage, init_from=str(source), init_players=players, steps=1)
    fine = replace(
        tiny.with_stage(stage),
        seed=5,
        intervals=replace(tiny.intervals, keep_checkpoints="all"),
    )
    train(fine, run)
    initial = read_checkpoint(RunDirectory(run).checkpoint_file(0)).tensors
    trained = read_checkpoint(RunDirectory(source).newest_checkpoint()).tensors
    for name in ("generator", "discriminator"):
        prefix = "ema" if name == "generator" else "players"
        keys = [k.partition("/")[2] for k in trained if k.startswith(f"{prefix}/{name}/")]
        same = all(torch.equal(initial[f"players/{k}"], trained[f"{prefix}/{k}"]) for k in keys)
        assert same == (name in (players or ("generator", "discriminator")))
    assert torch.equal(
        initial["ema/generator/hidden.linears.0.weight"],
        initial["players/generator/hidden.linears.0.weight"],
    )


def test_weights_of_other_images_are_refused_with_what_differs(tiny, tmp_path):
    """Networks without a size of their own would be trained on images that they misread."""
    source, run = tmp_path / "source", tmp_path / "run"
    train(tiny, source)
    fine = tiny.with_stage(replace(tiny.stage, init_from=str(source)))
    (images := tmp_path / "images").mkdir()
    for i in range(8):
        Image.new("RGB", (8, 8), (8 * i, 0, 0)).save(images / f"{i}.png")
    own = config.Data(source=str(images), size=8, channels=1, batch_size=10)
    for data, message in (
        (replace(tiny.data, normalize="symmetric"), "normalize unit, .* have normalize symmetric;"),
        (replace(own, channels=3), "channels 1, and those of the new run have channels 3;"),
        (replace(own, size=6), "size 8 x 8, and those of the new run have size 6 x 6; give data"),
    ):
        with pytest.raises(UsageError, match=message):
            train(replace(fine, data=data), run)
        assert not run.exists()
    assert train(replace(fine, data=own), run).complete


def test_weights_are_taken_without_running_the_code_of_their_networks(
    tiny, tmp_path, monkeypatch, run_command
):
    """The code of networks and games in files is not needed; the file may be gone."""
    source, code = tmp_path / "source", tmp_path / "nets.py"
    example = Path(__file__).parents[2] / "examples" / "custom_models.py"
    code.write_text(example.read_text("utf-8"))
    models = ("--generator", f"{code}:Generator", "--discriminator", f"{code}:Discriminator")
    short = ("--steps", "5", "--threads", "1", "--batch-size", "20", "--sample-every", "0")
    assert run_command("train", "digits", *models, "--out", source, *short)[0] == 0

    # A branch needs the code, which the command names or trusts.
    branch = ("train", "--resume", "--out", source, "--lr", "0.01", "--steps", "8", "--branch")
    monkeypatch.setattr("advnets.models.custom._factories", {})  # as in a new process
    status, _, err = run_command(*branch, tmp_path / "b")
    assert status == 1 and "whose Python code would run" in err and not (tmp_path / "b").exists()
    assert run_command(*branch, tmp_path / "trusted", "--trust-code")[0] == 0
    assert run_command(*branch, tmp_path / "named", *models)[0] == 0
    assert_same_state(end(tmp_path / "trusted"), end(tmp_path / "named"))

    # Initial weights are taken from the checkpoint.
    monkeypatch.setattr("advnets.models.custom._factories", {})
    moved = code.rename(tmp_path / "moved.py")
    given = ("--discriminator", f"{moved}:Discriminator", "--init-players", "discriminator")
    run = tmp_path / "run"
    command = ("train", "digits", *given, "--init-from", source, "--out", run, *short)
    status, _, err = run_command(*command, "--keep-checkpoints", "all")
    assert status == 0, err
    first = read_checkpoint(RunDirectory(run).checkpoint_file(0)).tensors
    for name, tensor in end(source)[0].items():
        if name.startswith("players/discriminator/"):
            assert tensor.equal(first[name])
    status, _, err = run_command(
        "train", "digits", "--init-from", source, "--out", tmp_path / "other", *short
    )
    assert status == 2 and "--init-from does not fit: " in err and "no such weight" in err


def test_weights_of_a_player_that_the_other_run_lacks_are_named(tiny, tmp_path):
    source = tmp_path / "source"
    train(replace(tiny, intervals=replace(tiny.intervals, weights_only=True)), source)
    named = replace(tiny.stage, init_from=str(source), init_players=("discriminator",))
    with pytest.raises(UsageError, match=r"has discriminator, but .* has the players generator;"):
        train(tiny.with_stage(named), tmp_path / "run")
    with pytest.raises(UsageError, match=r"of the game are generator and .*; did you mean genera"):
        advnets.train(tiny, out=tmp_path / "run", init_from=source, init_players="generatr")
    fine = replace(tiny.stage, init_from=str(source))
    assert train(tiny.with_stage(fine), tmp_path / "run").complete


def test_data_in_memory_are_branched_and_fine_tuned(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    given = {"data": images, "progress": False}
    advnets.train(tiny, out="a", steps=20, **given)
    branch = advnets.train(resume=True, out="a", branch="b", lr=0.01, steps=40, **given)
    assert branch.config.branched_from.step == 20
    # Other data in memory are a difference like any other; none at all are asked for.
    other = advnets.train(resume=True, out="a", branch="c", **{**given, "data": images[:50]})
    assert any(text.startswith("data: ") for text in other.config.branched_from.differences)
    with pytest.raises(DataError, match="was passed from Python, in memory"):
        advnets.train(resume=True, out="a", branch="d", steps=40, progress=False)
    fine = advnets.train(tiny, out="e", steps=20, init_from="a", **given)
    assert fine.config.stage.init_from == str(tmp_path / "a")
    assert fine.config.stage.init_digest is not None


def test_weights_that_do_not_fit_are_named_with_both_shapes(tiny, tmp_path):
    source, run = tmp_path / "source", tmp_path / "run"
    train(tiny, source)
    stage = replace(tiny.stage, init_from=str(source))
    sizes = tiny.stage.generator.hidden_sizes
    wider = replace(stage, generator=replace(stage.generator, hidden_sizes=(7, *sizes[1:])))
    with pytest.raises(UsageError) as caught:
        train(tiny.with_stage(wider), run)
    latent = tiny.stage.generator.latent_dim
    assert str(caught.value) == (
        "init_from does not fit: hidden.linears.0.weight of the generator has the shape "
        f"({sizes[0]}, {latent}) in {source} and the shape (7, {latent}) in the new run; "
        "use networks of the same sizes, or init_players without that player"
    )
    known = "but the players of the game are generator and discriminator"
    for name, remedy in {"encoder": "leave it out", "G": r"did you mean generator\?"}.items():
        with pytest.raises(UsageError, match=f"init_players has '{name}', {known}; {remedy}"):
            train(tiny.with_stage(replace(stage, init_players=(name,))), run)
    with pytest.raises(UsageError, match=r"on images, and .* for points; give a run on p"):
        advnets.train("ring", out=run, init_from=source, steps=2, progress=False)
    with pytest.raises(UsageError, match="init_players is generator, but init_from is not given"):
        replace(tiny.stage, init_players=("generator",))
    with pytest.raises(RunError, match="holds no run"):
        train(tiny.with_stage(replace(stage, init_from=str(tmp_path / "none"))), run)
    assert not run.exists()

    # A run whose weights have changed since is no longer where this one started.
    train(tiny.with_stage(stage), run)
    shutil.rmtree(RunDirectory(run).checkpoints)
    train(tiny.with_stage(replace(tiny.stage, steps=80)), source, resume=True)
    with pytest.raises(
        RunError, match=r"the weights of .* have changed since this run was started"
    ):
        train(StoredRun.read(run).config, run, resume=True)
