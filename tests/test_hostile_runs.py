"""Hostile or damaged run directories are refused with one sentence, by every command.

Each case changes an intact run in one way; no command may end with an internal error.
"""

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import advnets
from advnets.errors import RunError, RunWarning
from advnets.run_directory import RunDirectory
from advnets.run_records import event_records

QUICK = ("--steps", "4", "--threads", "1", "--log-every", "2", "--sample-every", "2")
SMALL = (
    "--generator.hidden-sizes",
    "8",
    "--generator.activations",
    "relu",
    "--discriminator.hidden-sizes",
    "8",
)
UNEXPECTED = 70

COMMANDS = (
    ("sample", "RUN", "--out", "SCRATCH/a.png", "--num-samples", "2", "--overwrite"),
    ("train", "--resume", "--out", "RUN", "--steps", "5"),
    ("evaluate", "RUN", "--num-samples", "20"),
    ("compare", "RUN", "WHOLE"),
)
"""Commands that read a run; `train`, the last one, writes its report."""
READING = COMMANDS[:1]

Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def intact_run(tmp_path_factory) -> Path:
    from advnets.cli.main import main

    run = tmp_path_factory.mktemp("whole") / "run"
    flags = (*QUICK, *SMALL, "--checkpoint-every", "2", "--eval-every", "2")
    assert main(["train", "digits", "--out", str(run), *flags]) in (0, 3)
    assert main(["evaluate", str(run), "--num-samples", "20"]) == 0
    return run


@pytest.fixture
def run_on_changed_copy(run_command, intact_run, tmp_path):
    """Change a copy of a run, run commands on it; return each one's exit status and stderr."""

    def run_commands(change: Change, commands=COMMANDS) -> list[tuple[int, str]]:
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(intact_run, run)
        change(run)
        names = {"RUN": run, "WHOLE": intact_run}
        results = []
        for command in commands:
            words = [names.get(w, w.replace("SCRATCH", str(tmp_path))) for w in command]
            code, out, err = run_command(*words)
            assert code != UNEXPECTED, (command, err)
            assert "Traceback" not in err + out
            results.append((code, err))
        return results

    return run_commands


def overwrite(name: str, content: bytes | str) -> Change:
    def change(run: Path) -> None:
        data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        (run / name).write_bytes(data)

    return change


def paths(value: Any, path: tuple = ()) -> Iterator[tuple]:
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from paths(value[key], (*path, key))
    if isinstance(value, list):
        for number in range(len(value)):
            yield from paths(value[number], (*path, number))


def replace_value(value: Any, path: tuple, new: Any) -> Any:
    """Return a copy of JSON values in which the one at a path is replaced."""
    if not path:
        return new
    value = copy.copy(value)
    value[path[0]] = replace_value(value[path[0]], path[1:], new)
    return value


ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 2, 16.5, "16", "", [], {}, [1], [[]], {"kind": "MLPGenerator"}, [None]),
    *(
        float("nan"),
        float("inf"),
        -1e308,
        10**30,
        "x" * 5000,
        "\ud800",
        "a\0b",
        "$\\frac$",
        "\x1b[2J",
    ),
)


def replace_json_value(name: str, path: tuple, new: Any) -> Change:
    """Return a change of one value of a JSON file."""

    def change(run: Path) -> None:
        record = json.loads((run / name).read_text("utf-8"))
        (run / name).write_text(json.dumps(replace_value(record, path, new)), "utf-8")

    return change


DEEP = "[" * 100_000
TEXTS = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "number": b"3",
    "text": b'"config"',
    "object": b"{}",
    "format alone": b'{"format": 2}',
    "list of formats": b'[{"format": 2}]',
    "no config": b'{"format": 2, "config": null, "data": null}',
    "odd config": b'{"format": 2, "config": [], "data": 3, "versions": [], "parameters": "a"}',
    "deep": DEEP.encode(),
    "deep in time": b'{"format": 2, "config": ' + DEEP.encode() + b"]" * 100_000 + b"}",
    "not UTF-8": b'{"format": 2, "advnets": "\xff"}',
    "UTF-16": '{"format": 2}'.encode("utf-16"),
    "long number": b'{"format": ' + b"1" * 10_000 + b"}",
    "format true": b'{"format": true}',
    "format 2.0": b'{"format": 2.0}',
    "other format": b'{"format": {"a": 1}, "advnets": [1]}',
    "nulls": b"\0" * 100,
    "lone surrogate": b'{"format": 2, "command": "\\ud800"}',
}


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["config.json", "scores.json", "events.jsonl"])
def test_invalid_json_files_are_reported(run_on_changed_copy, name, text):
    for code, err in run_on_changed_copy(overwrite(name, TEXTS[text] + b"\n")):
        if name == "config.json":
            assert code in (1, 2)
            assert len(err.strip().splitlines()) == 1


EVENTS = (
    *(b"null", b"[]", b"3", b'"log"', b"{}", b'{"step": "3"}', b'{"step": null}', b'{"step": -4}'),
    *(b'{"step": 1e400}', b'{"kind": []}', b'{"kind": "log", "step": 3, "d_real": "high"}'),
    b'{"kind": "log", "step": 3, "d_real": null, "d_fake": 0.1, "value": 0}',
    b'{"kind": "log", "step": 3, "$\\\\frac$": 0.1, "epoch": NaN}',
    b'{"kind": "log", "step": 3, "epoch": 1, "seconds": 1e308, "loss/$x": Infinity}',
    b'{"kind": "log", "step": 3, "epoch": 1, "loss/a": 1' + b"0" * 400 + b"}",
    b'{"kind": "log", "step": 3, "epoch": 1, "loss/a": 1e308, "loss/b": -1e308}',
    b'{"kind": "evaluate", "step": 3, "metric": "none", "mean": 1}',
    b'{"kind": "evaluate", "step": 3, "metric": "parzen", "mean": "1", "epoch": "2"}',
    b'{"kind": "evaluate", "step": 3, "metric": "frechet", "weights": "both"}',
    *(b'{"kind": "evaluate", "step": 3, "metric": []}', b'{"kind": "evaluate", "step": 3}'),
    *(b'{"kind": "start", "time": 1e300}', b'{"kind": "start", "time": -1e9, "device": 3}'),
    b'{"kind": "end", "step": 4, "reason": {"a": 1}}',
    b'{"kind": "end", "step": 4, "problem": [1], "reason": "diverged"}',
    b'{"kind": "skipped_files", "step": 0, "files": ["a"]}',
    b'{"kind": "resume", "step": 2, "steps": "many"}',
    b'{"kind": "rollback", "step": "back", "diverged_step": null}',
    *(DEEP.encode(), b"\xff\xfe", b"x" * 3_000_000, b'{"' + b"n" * 5000 + b'": 1, "kind": "log"}'),
)


@pytest.mark.usefixtures("with_curves")
@pytest.mark.parametrize("number", range(len(EVENTS)))
def test_invalid_lines_of_events_are_skipped(run_on_changed_copy, number):
    """The run can be used, and its report has the other lines."""

    def change(run: Path) -> None:
        with (run / "events.jsonl").open("ab") as file:
            file.write(EVENTS[number] + b"\n")

    ((code, err),) = run_on_changed_copy(change, COMMANDS[1:2])
    assert code in (0, 3), err


def test_valid_lines_of_events_are_kept(tmp_path):
    file = tmp_path / "events.jsonl"
    lines = (b'{"step": 1, "kind": "log", "a": 0.5}', *EVENTS[:10], b'{"step": 2, "kind": "log"}')
    file.write_bytes(b"\n".join(lines) + b'\n{"step": 3, "ki')
    steps = [event.get("step") for event in event_records(file)]
    assert steps == [1, None, 2]


def test_special_files_are_refused(run_on_changed_copy):
    """A folder, a pipe, an endless device and a cyclic link in place of each file."""

    def folder(path: Path) -> None:
        path.mkdir()

    def circle(path: Path) -> None:
        path.symlink_to(path.name)

    kinds = (folder, os.mkfifo, circle, lambda path: path.symlink_to("/dev/zero"))
    newest = "checkpoints/step-00000004.safetensors"
    for name in ("config.json", "scores.json", "events.jsonl", newest, "samples/step-00000004.png"):
        for make in kinds:

            def change(run: Path, name=name, make=make) -> None:
                (run / name).unlink()
                make(run / name)

            run_on_changed_copy(change, COMMANDS[:2])


@pytest.mark.parametrize("name", ["checkpoints", "samples"])
def test_a_file_in_place_of_a_folder_is_refused(run_on_changed_copy, name):
    def change(run: Path) -> None:
        shutil.rmtree(run / name)
        (run / name).write_text("no folder")

    run_on_changed_copy(change)


def test_other_names_in_the_folders_of_a_run_are_ignored(run_on_changed_copy, intact_run):
    names = ("step-abc", "step-", "step--0000001", "step-1e9", "step-00000004 (1)", "step-\udcff")

    def change(run: Path) -> None:
        for name in names:
            (run / "checkpoints" / f"{name}.safetensors").write_bytes(b"")
            (run / "samples" / f"{name}.png").write_bytes(b"")

    assert all(code in (0, 3) for code, _ in run_on_changed_copy(change))


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 2500, "a\0b", "~nobody-of-that-name/run"])
def test_invalid_paths_are_refused(run_command, name, intact_run):
    begin = () if name[0] == "~" else (("train", "digits", "--out", "RUN"),)
    for command in (*COMMANDS, ("visualize", "RUN", "samples"), *begin):
        words = [{"RUN": name, "WHOLE": intact_run}.get(word, word) for word in command]
        code, _, err = run_command(*words, *(QUICK if "digits" in words else ()))
        assert code in (1, 2), err
        assert len(err.strip().splitlines()) == 1, err
    with pytest.raises(RunError):
        advnets.load(name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all")
@pytest.mark.parametrize(
    "name", ["", "config.json", "events.jsonl", "scores.json", "checkpoints", "samples"]
)
def test_unreadable_files_are_reported(run_on_changed_copy, name, tmp_path):
    for mode in (0, 0o444, 0o111):
        path = tmp_path / "run" / name
        try:
            run_on_changed_copy(lambda run, mode=mode, path=path: path.chmod(mode))
        finally:
            path.chmod(0o755)


def test_system_errors_are_reported(run_on_changed_copy, monkeypatch):
    """Also for root: the error is simulated, file by file."""
    for name in ("config.json", "events.jsonl", "scores.json", "step-00000004.safetensors"):
        real, real_open = Path.is_file, Path.open

        def refuse(self, name=name, real=real):
            if self.name == name:
                raise PermissionError(13, "Permission denied", str(self))
            return real(self)

        def refuse_open(self, *args, name=name, real_open=real_open, **kwargs):
            if self.name == name:
                raise PermissionError(13, "Permission denied", str(self))
            return real_open(self, *args, **kwargs)

        for attribute, by in (("is_file", refuse), ("open", refuse_open)):
            with monkeypatch.context() as patched:
                patched.setattr(Path, attribute, by)
                for code, err in run_on_changed_copy(
                    lambda _: None, COMMANDS[:1] if "s" in name else ()
                ):
                    if name in ("config.json", "step-00000004.safetensors") and code:
                        assert "Permission denied" in err
                        assert "remove" not in err


def replace_info(path: tuple, new: Any) -> Change:
    """Return a change of a checkpoint's metadata that keeps its hash valid, as in an attack."""

    def change(run: Path) -> None:
        from advnets.training import checkpoint

        file = RunDirectory(run).newest_checkpoint()
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            record = json.loads(opened.metadata()["advnets"])
        record = replace_value(record, path, new)
        if isinstance(record, dict):
            record.pop("digest", None)
            record["digest"] = checkpoint._digest(tensors, record)
        save_file(tensors, file, {"advnets": json.dumps(record)})

    return change


CHECKPOINT = (
    *((), ("metadata",), ("format",), ("identity",), ("metadata", "stage"), ("metadata", "step")),
    *(
        ("metadata", "progress"),
        ("metadata", "progress", "step"),
        ("metadata", "progress", "updates"),
    ),
    *(
        ("metadata", "progress", "updates", "generator"),
        ("metadata", "attempt"),
        ("metadata", "summed_steps"),
    ),
    *(("metadata", "last_metrics"), ("metadata", "last_metrics", "d_real")),
)


@pytest.mark.parametrize("path", CHECKPOINT, ids=lambda path: ".".join(path) or "all")
def test_invalid_metadata_of_checkpoints_are_refused(run_on_changed_copy, path):
    for new in (None, True, -1, 10**30, "4", [], {}, float("nan")):
        for code, err in run_on_changed_copy(replace_info(path, new), COMMANDS[:1]):
            assert code in (0, 1), err


def test_unexpected_tensors_in_a_checkpoint_are_reported(run_on_changed_copy):
    """Its hash and identity are valid."""

    def changed(by: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Change:
        def change(run: Path) -> None:
            from advnets.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

            file = RunDirectory(run).newest_checkpoint()
            old = read_checkpoint(file)
            write_checkpoint(file, Checkpoint(by(old.tensors), old.metadata, old.identity))

        return change

    for by in (
        lambda t: {},
        lambda t: {name: x.half() if x.is_floating_point() else x for name, x in t.items()},
        lambda t: {name: x.long() for name, x in t.items()},
        lambda t: {name: x[None] for name, x in t.items()},
        lambda t: {**t, "players/generator/extra": torch.zeros(1)},
        lambda t: {name: x for name, x in t.items() if "generator/output.weight" not in name},
    ):
        _, (code, err) = run_on_changed_copy(changed(by), COMMANDS[:2])
        assert code == 1
        assert "differs from the model or optimizer in the config" in err


@pytest.mark.filterwarnings("ignore:.*was written with other versions:advnets.errors.RunWarning")
@pytest.mark.parametrize("name", ["config.json", "scores.json"])
@pytest.mark.parametrize("part", range(4))
def test_invalid_values_in_files_are_reported(run_on_changed_copy, intact_run, name, part):
    """Random values at each position; takes seconds for each part."""
    record = json.loads((intact_run / name).read_text("utf-8"))
    chance = random.Random(f"{name} {part}")
    cases = [(path, new) for path in paths(record) for new in ODD]
    for path, new in chance.sample(cases, 25):
        try:
            run_on_changed_copy(replace_json_value(name, path, new), chance.sample(COMMANDS, 1))
        except AssertionError as error:
            raise AssertionError(f"{path} {new!r:.80}") from error


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "scores.json"])
@pytest.mark.parametrize("part", range(8))
def test_more_invalid_values_in_files_are_reported(run_on_changed_copy, intact_run, name, part):
    """The same with every command, for minutes."""
    record = json.loads((intact_run / name).read_text("utf-8"))
    chance = random.Random(f"{name} more {part}")
    cases = [(path, new) for path in paths(record) for new in ODD]
    for path, new in chance.sample(cases, 50):
        run_on_changed_copy(replace_json_value(name, path, new))


@pytest.mark.parametrize("seed", range(3))
def test_any_bytes_in_files_are_reported(run_on_changed_copy, intact_run, seed):
    """Bytes of a file changed at random, truncated, or repeated."""
    chance = random.Random(seed)
    files = [
        path.relative_to(intact_run) for path in sorted(intact_run.rglob("*")) if path.is_file()
    ]

    def change(run: Path) -> None:
        path = run / chance.choice(files)
        content = bytearray(path.read_bytes())
        for _ in range(chance.choice((1, 1, 8, 200))):
            if content:
                content[chance.randrange(len(content))] = chance.randrange(256)
        start, end = sorted(chance.randrange(len(content) + 1) for _ in range(2))
        content[start:end] = chance.choice((content[start:end] * 2, b"", content[start:end]))
        path.write_bytes(content)

    for _ in range(12):
        run_on_changed_copy(change, chance.sample(COMMANDS, 1))


def test_scores_of_invalid_types_are_reported(run_on_changed_copy, intact_run):
    """Two regressions: a number of images that is a string, and one that is a list."""
    scores = json.loads((intact_run / "scores.json").read_text("utf-8"))
    first = [{**scores[0], "metric": "frechet"}, *scores[1:]]
    for key, new in (("n_real", "many"), ("n_fake", [[]]), ("seed", {}), ("keep_fraction", "half")):
        text = json.dumps(replace_value(first, (0, key), new))
        run_on_changed_copy(overwrite("scores.json", text), COMMANDS[1:3])


def test_other_versions_in_a_config_are_reported(run_command, intact_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(intact_run, run)
    replace_json_value("config.json", ("versions", "torch"), "1.13.0")(run)
    code, _, err = run_command("train", "--resume", "--out", run, "--steps", "5")
    assert code in (0, 3)
    assert f"was written with other versions (torch 1.13.0, now {torch.__version__})" in err
    with pytest.warns(RunWarning, match=r"torch 1.13.0, now"):
        advnets.load(run)


def test_the_checkpoint_of_another_run_is_refused(run_command, intact_run, tmp_path):
    """Of another seed, with the same names and shapes, intact."""
    flags = (*QUICK, *SMALL, "--checkpoint-every", "2", "--eval-every", "2", "--seed", "1")
    assert run_command("train", "digits", "--out", tmp_path / "other", *flags)[0] in (0, 3)
    run = tmp_path / "run"
    shutil.copytree(intact_run, run)
    for step in (4, 2):
        file = RunDirectory(run).checkpoint_file(step)
        shutil.copy(RunDirectory(tmp_path / "other").checkpoint_file(step), file)
        code, _, err = run_command(
            "sample", run, "--out", tmp_path / "a.png", "--num-samples", "2", "--overwrite"
        )
        assert f"{file} belongs to another run" in err
        assert code == (0 if step == 4 else 1)
