"""No file of a run, dataset or checkpoint runs code that was neither typed nor trusted.

A payload that runs writes a file, the canary.
"""

from __future__ import annotations

import ast
import json
import os
import pickle
import py_compile
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import advnets
from advnets import config
from advnets.data.datasets.cifar import is_cifar10_folder
from advnets.data.registry import file_formats, image_datasets, open_dataset
from advnets.errors import AdvnetsError, RunError, RunWarning, UsageError
from advnets.extractors.file import READERS, load_extractor_file
from advnets.extractors.inception import WEIGHTS_FILE, WEIGHTS_VARIABLE, load_inception
from advnets.paper.blocks import SectionResult
from advnets.run_directory import RunDirectory

PACKAGE = Path(advnets.__file__).parent
EXAMPLES = Path(__file__).parents[1] / "examples"
GAME = (EXAMPLES / "custom_game.py").read_text("utf-8")
MODELS = (EXAMPLES / "custom_models.py").read_text("utf-8")
QUICK = ("--steps", "4", "--threads", "1", "--log-every", "2", "--sample-every", "2")


class Canary:
    """A file that a payload writes when it runs."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "canary"
        self.source = f"__import__('pathlib').Path({str(self.file)!r}).touch()\n"

    def sang(self) -> bool:
        """Return whether a payload has run since the last call."""
        result = self.file.exists()
        self.file.unlink(missing_ok=True)
        return result

    def __reduce__(self):
        return exec, (self.source,)


@pytest.fixture
def canary(tmp_path_factory) -> Canary:
    return Canary(tmp_path_factory.mktemp("cage"))


@pytest.fixture
def ghostscript(tmp_path_factory, monkeypatch, canary) -> None:
    """Install a program `gs`, which Pillow starts for PostScript, as a payload."""
    folder = tmp_path_factory.mktemp("programs")
    program = folder / "gs"
    program.write_text(f"#!/bin/sh\necho 9 | tee -a '{canary.file}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)


def postscript() -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def payloads(canary: Canary, folder: Path) -> dict[str, bytes]:
    """Return contents that run when they are unpickled, imported, or drawn."""
    objects = folder / "objects.npy"
    np.save(objects, np.array([canary, canary], dtype=object), allow_pickle=True)
    np.savez(folder / "objects.npz", images=np.array([canary], dtype=object))
    torch.save({"weights": canary}, folder / "weights.pt")
    return {
        **{f"pickle{protocol}": pickle.dumps(canary, protocol) for protocol in (0, 2, 5)},
        "npy": objects.read_bytes(),
        "npz": (folder / "objects.npz").read_bytes(),
        "torch": (folder / "weights.pt").read_bytes(),
        "python": canary.source.encode(),
        "postscript": postscript(),
    }


def test_each_payload_can_run(canary, ghostscript, tmp_path):
    """Otherwise the tests below would pass for any behavior."""
    result = payloads(canary, tmp_path)
    for protocol in (0, 2, 5):
        pickle.loads(result[f"pickle{protocol}"])
        assert canary.sang()
    np.load(tmp_path / "objects.npy", allow_pickle=True)
    assert canary.sang()
    torch.load(tmp_path / "weights.pt", weights_only=False)
    assert canary.sang()
    from PIL import Image

    (tmp_path / "a.png").write_bytes(result["postscript"])
    with pytest.raises(OSError), Image.open(tmp_path / "a.png") as image:
        image.load()
    assert canary.sang()


# ------------------------------------------------------------------------------ the run directory


@pytest.fixture(scope="module")
def trained_runs(tmp_path_factory) -> Path:
    """Train a run of a game in a file, and one of a preset."""
    from advnets.cli.main import main

    folder = tmp_path_factory.mktemp("whole")
    (folder / "own.py").write_text(GAME)
    place = f"{folder / 'own.py'}:game"
    assert main(["train", place, "--out", str(folder / "own"), *QUICK]) == 0
    flags = ("--checkpoint-every", "2", "--sample-every", "2")
    assert main(["train", "digits", "--out", str(folder / "plain"), *QUICK, *flags]) == 0
    assert main(["evaluate", str(folder / "plain"), "--num-samples", "20"]) == 0
    return folder


@pytest.fixture
def stranger(tmp_path, canary, run_command) -> tuple[Path, Path]:
    """Return a run of another person, whose config names a file of code next to it."""
    run, code = tmp_path / "run", tmp_path / "notes.py"
    code.write_text(canary.source + GAME)
    assert run_command("train", f"{code}:game", "--out", run, *QUICK)[0] == 0
    assert canary.sang()
    return run, code


COMMANDS = (
    ("train", "--resume", "--out", "RUN", "--steps", "6"),
    ("train", "--resume", "--out", "RUN", "--steps", "6", "--dry-run"),
    ("train", "--out", "RUN", "--resume", "--help"),
    ("train", "digits", "--resume", "--out", "RUN", "--steps", "6"),
    ("train", "OWN:game", "--resume", "--out", "RUN", "--steps", "6"),
    ("train", "OWN:game", "--resume", "--out", "RUN", "--steps", "6", "--dry-run"),
    (
        "train",
        "latent-regression-mnist",
        "--game.generator-run",
        "RUN",
        "--data",
        "digits",
        "--dry-run",
    ),
    ("train", "RUN"),
    ("train", "--data", "RUN", "--dry-run"),
    ("sample", "RUN", "--out", "SCRATCH/a.png"),
    ("sample", "RUN", "--out", "SCRATCH/b.npz", "--keep-fraction", ".5"),
    ("evaluate", "RUN", "--num-samples", "20"),
    ("evaluate", "RUN", "--metrics", "frechet", "--num-samples", "20", "--extractor", "RUN"),
    (
        "evaluate",
        "RUN",
        "--metrics",
        "frechet",
        "--num-samples",
        "20",
        "--extractor",
        "discriminator",
    ),
    ("visualize", "RUN", "samples"),
    ("visualize", "RUN", "timelapse"),
    ("visualize", "RUN", "interpolation"),
    ("compare", "RUN", "PLAIN"),
    ("data", "audit", "RUN"),
)
"""Every command that reads a directory."""


@pytest.mark.parametrize("preset", [None, "as stored"])
def test_no_command_runs_the_file_that_a_config_names(
    run_command, trained_runs, stranger, tmp_path, canary, preset, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run, code = stranger
    if preset:  # a config whose preset has the name of a typed file
        record = json.loads((run / "config.json").read_text())
        record["config"]["preset"] = f"{code}:game"
        (run / "config.json").write_text(json.dumps(record))
    names = {
        "RUN": run,
        "OWN:game": f"{trained_runs / 'own.py'}:game",
        "PLAIN": trained_runs / "plain",
    }
    for command in COMMANDS[: 6 if preset else None]:
        words = [names.get(word, word.replace("SCRATCH", str(tmp_path))) for word in command]
        status, _, err = run_command(*words)
        assert not canary.sang(), words
        if "--resume" in command and "--help" not in command:
            assert status in (1, 2), (words, err)
            assert len(err.strip().splitlines()) == 1, err
    with pytest.raises(RunError, match=r"whose Python code would run.*trust_code=True"):
        advnets.train(out=run, resume=True, steps=6)
    stored = advnets.load(run).config
    with pytest.raises(RunError, match="trust_code=True"):
        advnets.train(stored, out=tmp_path / "again")
    assert not (tmp_path / "again").exists()
    assert not canary.sang()


def test_the_file_of_a_config_runs_if_it_is_typed_or_trusted(run_command, stranger, canary):
    run, code = stranger
    for steps, words in enumerate(((), ("--dry-run",)), start=5):
        command = ("--resume", "--out", run, "--steps", steps, *words)
        assert run_command("train", *command)[0] == 1
        assert not canary.sang()
        assert run_command("train", *command, "--trust-code")[0] == 0
        assert canary.sang()
        assert run_command("train", f"{code}:game", *command)[0] == 0
        assert canary.sang()
    advnets.train(out=run, resume=True, steps=7, trust_code=True)
    assert canary.sang()
    advnets.train(f"{code}:game", out=run, resume=True, steps=8)
    assert canary.sang()


@pytest.mark.parametrize("typed_game", [False, True])
def test_no_command_runs_the_models_that_a_config_names(
    run_command, trained_runs, tmp_path, canary, monkeypatch, typed_game
):
    """Not even where the game of the same run is typed."""
    monkeypatch.chdir(tmp_path)
    run, code = tmp_path / "run", tmp_path / "nets.py"
    code.write_text(canary.source + MODELS)
    game = f"{trained_runs / 'own.py'}:game"
    models = ("--generator", f"{code}:Generator", "--discriminator", f"{code}:Discriminator")
    start = game if typed_game else "digits"
    assert run_command("train", start, *models, "--out", run, *QUICK)[0] == 0
    assert canary.sang()
    names = {"RUN": run, "OWN:game": game, "PLAIN": trained_runs / "plain"}
    for command in COMMANDS:
        monkeypatch.setattr("advnets.models.custom._factories", {})  # as in a new process
        words = [names.get(word, word.replace("SCRATCH", str(tmp_path))) for word in command]
        run_command(*words)
        assert not canary.sang(), words
    monkeypatch.setattr("advnets.models.custom._factories", {})
    for options in ({}, {"generator": lambda shape, classes: None}):
        with pytest.raises(RunError, match="trust_code=True"):
            advnets.load(run, **options)
    assert not canary.sang()


def test_the_typed_file_is_the_one_that_runs(run_command, trained_runs, tmp_path, canary):
    """At any stored path: a game is identified by name and content."""
    run = tmp_path / "run"
    shutil.copytree(trained_runs / "own", run)
    moved = tmp_path / "renamed.py"
    moved.write_text(GAME)
    assert run_command("train", f"{moved}:game", "--resume", "--out", run, "--steps", "6")[0] == 0
    assert advnets.load(run).config.stage.game.source == f"{moved}:game"
    (tmp_path / "other.py").write_text(f"{GAME}\nother = game\n")
    code, _, err = run_command("train", f"{tmp_path / 'other.py'}:other", "--resume", "--out", run)
    assert code == 1
    assert "is another game or has changed since" in err


def test_cached_bytecode_of_a_file_is_not_run(run_command, trained_runs, tmp_path, canary):
    """Python would load a matching `__pycache__`; the source that was read is what runs."""
    module = tmp_path / "own.py"
    module.write_text(canary.source)
    cache = Path(
        py_compile.compile(
            str(module), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )
    )
    assert cache.is_file()
    module.write_text(GAME)
    assert run_command("train", f"{module}:game", "--out", tmp_path / "run", *QUICK)[0] == 0
    assert not canary.sang()


def test_no_other_file_of_a_run_runs(
    run_command, trained_runs, tmp_path, canary, ghostscript, monkeypatch
):
    """Each file of a run is replaced by each payload, and every command reads it."""
    monkeypatch.chdir(tmp_path)
    plain = trained_runs / "plain"
    files = [path.relative_to(plain) for path in plain.rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files}
    assert {".json", ".jsonl", ".png", ".safetensors", ".html"} <= kinds
    one_per_suffix = {
        (path.suffix, path.name if path.suffix == ".json" else ""): path for path in files
    }
    contents = payloads(canary, tmp_path)
    for path in one_per_suffix.values():
        binary = path.suffix in (".png", ".safetensors")
        for name in ("pickle2", "torch", "npy", "postscript") if binary else ("pickle0", "python"):
            run = tmp_path / f"{name}-{path.name}"
            shutil.copytree(plain, run)
            alike = run.rglob(f"*{path.suffix}") if path.suffix != ".json" else [run / path]
            for file in filter(Path.is_file, alike):
                file.write_bytes(contents[name])
            words = {"RUN": run, "PLAIN": plain}
            for command in LOOKING:
                run_command(*(words.get(w, w.replace("SCRATCH", str(tmp_path))) for w in command))
                assert not canary.sang(), (name, path, command)
            shutil.rmtree(run)


LOOKING = (
    ("train", "--resume", "--out", "RUN", "--steps", "5"),
    ("sample", "RUN", "--out", "SCRATCH/a.png", "--num-samples", "2"),
    ("evaluate", "RUN", "--num-samples", "20"),
    ("visualize", "RUN", "timelapse"),
    ("compare", "RUN", "PLAIN"),
)


# ------------------------------------------------------------------------------------- datasets


def write_payload(kind: str, content: bytes, folder: Path) -> list[str]:
    """Return sources of every kind that a path may have, whose files are all one payload."""
    files = {
        "an array": ["a.npz", "images.npy"],
        "a table": ["points.csv", "points.npy"],
        "a pack": ["pack.json", "images.npy", "labels.npy", "places.npy", "uncut.bin"],
        "a MATLAB file": ["TFD_48x48.mat"],
        "IDX": ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"],
        "CIFAR-10": [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"],
        "CIFAR-100": ["train", "test", "meta"],
        "SVHN": ["train_32x32.mat", "test_32x32.mat"],
        "shards": ["a.parquet", "b.tar", "saved.arrow", "dataset_info.json", "state.json"],
        "images": ["a.png", "b.jpg", "c.eps", "d.wmf", "e.tif", "f.py", "shards.py"],
    }[kind]
    root = folder / kind.replace(" ", "-")
    root.mkdir(parents=True)
    for name in files:
        (root / name).write_bytes(content)
    if kind == "a pack":
        trained_runs = {
            "version": 1,
            "name": "a",
            "counts": [2, 0, 0],
            "classes": [],
            "skipped_files": [],
        }
        (root / "pack.json").write_text(
            json.dumps({**trained_runs, "frame": vars(config.ImagePreprocessing()), "digest": "x"})
        )
    if kind == "shards":
        with tarfile.open(root / "b.tar", "w") as tar:
            for name in ("0.png", "0.pkl", "0.pyd", "0.pickle", "0.npy", "0.npz", "0.pth", "0.py"):
                (root / "member").write_bytes(content)
                tar.add(root / "member", name)
        (root / "member").unlink()
        (root / "a.parquet").unlink()
        (root / f"{root.name}.py").write_bytes(content)  # the path of a loading script
    if kind == "an array":
        with zipfile.ZipFile(root / "a.npz", "w") as archive:
            for name in ("images.npy", "labels.npy", "images.pkl"):
                archive.writestr(name, content)
    if kind == "images":
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for name in files:
                archive.writestr(name, content)
        return [str(root), str(folder / "images.zip")]
    several = kind in ("an array", "a table", "a MATLAB file", "shards")
    return [str(root), *(str(root / name) for name in files if several)]


NAMES = (
    *("an array", "a table", "a pack", "a MATLAB file", "IDX", "CIFAR-10", "CIFAR-100", "SVHN"),
    *("shards", "images"),
)


def test_every_kind_of_data_has_a_payload():
    """A new type of file has to be added to `write_payload`."""
    assert len(NAMES) == len(file_formats())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", NAMES)
def test_no_file_of_a_dataset_runs(kind, tmp_path, canary, ghostscript, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    opened = 0
    for name, content in payloads(canary, tmp_path).items():
        for source in write_payload(kind, content, tmp_path / name):
            try:
                open_dataset(source, size=8)
            except AdvnetsError:
                pass
            else:
                opened += 1
            assert not canary.sang(), (name, source)
    if kind == "CIFAR-10":
        assert is_cifar10_folder(tmp_path / "pickle2" / kind)  # the reader was reached
    assert opened == 0 or kind == "IDX"


def test_no_file_of_a_named_dataset_runs(tmp_path, canary):
    """In the folder of that name."""
    files = {
        "cifar10": "cifar-10-batches-py/data_batch_1",
        "cifar100": "cifar-100-python/train",
        "tfd": "TFD_48x48.mat",
        "svhn": "train_32x32.mat",
        "mnist": "train-images-idx3-ubyte",
    }
    for payload in payloads(canary, tmp_path).values():
        for name in image_datasets():
            if name in files:
                for place in (tmp_path / "d" / name, tmp_path / "d"):
                    file = place / files[name]
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(payload)
                with pytest.raises(AdvnetsError):
                    open_dataset(name, directory=str(tmp_path / "d"))
                assert not canary.sang(), name


# ----------------------------------------------------------------- extractors, results, records


class Mean(nn.Module):
    """A network with four features."""

    def forward(self, x):
        return x.flatten(1)[:, :4]


def test_an_exported_program_is_opened_only_if_trusted(run_command, trained_runs, tmp_path):
    program = torch.export.export(
        Mean().eval(), (torch.rand(2, 1, 8, 8),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    )
    path = tmp_path / "mean.pt2"
    torch.export.save(program, path)
    run = tmp_path / "run"
    shutil.copytree(trained_runs / "plain", run)
    words = ("evaluate", run, "--metrics", "frechet", "--num-samples", "20", "--extractor", path)
    code, _, err = run_command(*words)
    assert code == 2
    assert f"opening {path} can run any code in it" in err
    assert run_command(*words, "--trust-code")[0] == 0
    trained = advnets.load(run)
    with pytest.raises(UsageError, match="trust_code=True"):
        trained.evaluate("frechet", extractor=str(path), num_samples=20)
    assert trained.evaluate("frechet", extractor=str(path), num_samples=20, trust_code=True)


@pytest.mark.parametrize("ending", sorted(READERS))
def test_no_file_of_an_extractor_runs(ending, tmp_path, canary, monkeypatch):
    for name, content in payloads(canary, tmp_path).items():
        path = tmp_path / f"{name}{ending}"
        path.write_bytes(content)
        with pytest.raises(AdvnetsError):
            load_extractor_file(path)
        assert not canary.sang()
    path = tmp_path / WEIGHTS_FILE
    path.write_bytes((tmp_path / "weights.pt").read_bytes())
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(path))
    monkeypatch.setattr("advnets.extractors.inception._DIGEST", "")  # as if the hash agreed
    monkeypatch.setattr("advnets.extractors.inception._torch_fidelity", lambda: None)
    with pytest.raises(AdvnetsError, match="is not a file of weights"):
        load_inception()
    assert not canary.sang()


def test_pickles_of_a_trusted_exported_program_run(tmp_path, canary):
    """Therefore it needs `--trust-code`."""
    program = torch.export.export(Mean().eval(), (torch.rand(2, 1, 8, 8),))
    torch.export.save(program, tmp_path / "mean.pt2")
    with zipfile.ZipFile(tmp_path / "mean.pt2") as old:
        members = {name: old.read(name) for name in old.namelist()}
    torch.save(canary, tmp_path / "canary.pt")
    with zipfile.ZipFile(tmp_path / "evil.pt2", "w") as new:
        for name, content in members.items():
            new.writestr(
                name,
                (tmp_path / "canary.pt").read_bytes() if name.endswith(".pt") else content,
            )
    with pytest.raises(UsageError, match="can run any code"):
        load_extractor_file(tmp_path / "evil.pt2")
    assert not canary.sang()
    with pytest.raises(AdvnetsError, match="cannot be opened"):
        load_extractor_file(tmp_path / "evil.pt2", trust_code=True)
    assert canary.sang()


def test_neither_results_nor_records_run(tmp_path, canary):
    for content in payloads(canary, tmp_path).values():
        (tmp_path / "result.json").write_bytes(content)
        assert SectionResult.read(tmp_path) is None
    code = tmp_path / "own.py"
    code.write_text(canary.source + GAME)
    from advnets.cli.arguments import config_of

    with pytest.raises(UsageError, match=r"names the Python file .* whose code is not run"):
        config_of(f"advnets train {code}:game --steps 5")
    assert not canary.sang()


def test_metadata_of_a_checkpoint_are_not_run(trained_runs, tmp_path, canary):
    run = tmp_path / "run"
    shutil.copytree(trained_runs / "plain", run)
    newest = RunDirectory(run).newest_checkpoint()
    save_file({"a": torch.zeros(1)}, newest, {"advnets": canary.source, "__reduce__": "exec"})
    with pytest.warns(RunWarning, match="is not an advnets checkpoint"):
        advnets.load(run)
    assert not canary.sang()


# ----------------------------------------------------------------------------------- the package

EXECUTING = {
    ("custom_code.py", "exec"): "a file whose place was typed or trusted",
    ("custom_code.py", "compile"): "the same",
    ("extractors/file.py", "torch.export.load"): "with trust_code only",
    ("extractors/inception.py", "torch.load"): "weights_only",
    ("extractors/efficientnet.py", "torch.load"): "weights_only",
    ("extractors/dinov2.py", "torch.load"): "weights_only",
    ("extractors/inception.py", "importlib.import_module"): "a module of an installed library",
    ("training/memory.py", "importlib.import_module"): "`resource` of the standard library",
    ("errors.py", "importlib.import_module"): "a library by a name that stands in the source",
    ("lazy.py", "importlib.import_module"): "a module of the package's own",
    ("cli/commands.py", "importlib.import_module"): "torch",
    ("bench/runner.py", "subprocess.Popen"): "this package's own worker",
    ("presets/config_file.py", "yaml.load"): "with a subclass of SafeLoader",
    ("metrics/linear_probe.py", "torch.compile"): "",
}
"""All calls in the package that run, import or unpickle, with their arguments."""

_RUNNING = {
    *("exec", "eval", "compile", "__import__", "torch.load", "torch.jit.load", "torch.hub.load"),
    *("torch.export.load", "pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load"),
    *("importlib.import_module", "runpy.run_path", "os.system", "os.popen", "marshal.loads"),
    *("subprocess.run", "subprocess.Popen", "subprocess.call", "yaml.load", "shelve.open"),
    *("spec.loader.exec_module", "importlib.util.spec_from_file_location", "code.interact"),
}


def test_calls_that_could_run_code_are_listed():
    """A call that could run what a file contains has to be added to the list above."""
    names: set[tuple[str, str]] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                call_site = (path.relative_to(PACKAGE).as_posix(), name)
                if name in _RUNNING:
                    names.add(call_site)
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords.get("allow_pickle", "False") == "False", call_site
                assert keywords.get("trust_remote_code", "False") == "False", call_site
                if name == "torch.load":
                    assert keywords["weights_only"] == "True"
    assert names == {key for key in EXECUTING if key[1] in _RUNNING}


@pytest.mark.parametrize("file", ["plots/image_grid.py", "visualize/timelapse.py", "paper/page.py"])
def test_images_of_runs_are_opened_by_few_readers(file):
    """Pillow starts Ghostscript for PostScript, whatever the suffix of the file."""
    opened = [
        node
        for node in ast.walk(ast.parse((PACKAGE / file).read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"
    ]
    assert opened
    for call in opened:
        assert "formats" in {keyword.arg for keyword in call.keywords}


def test_matplotlib_settings_in_the_working_directory_have_no_effect(tmp_path, canary):
    """A folder of images may contain a matplotlibrc, whose backend is a module to import."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: module://payload\n")
    (tmp_path / "payload.py").write_text(canary.source)
    for program in ("latex", "dvipng", "kpsewhich"):
        (tmp_path / program).write_text(f"#!/bin/sh\ntouch '{canary.file}'\n")
        (tmp_path / program).chmod(0o755)
    completed = subprocess.run(
        [sys.executable, "-m", "advnets", "train", "digits", *QUICK, "--out", tmp_path / "run"],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert completed.returncode == 0, completed.stderr
    assert not canary.sang()
    assert "base64" in (tmp_path / "run" / "report.html").read_text("utf-8")
