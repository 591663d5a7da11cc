"""The Python interface: keywords, overrides and config files, and messages in its words."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import advnets
from advnets import presets
from advnets.config.overrides import option_names
from advnets.config.serialize import to_json
from advnets.errors import DataError, RunError, UsageError, in_python_words
from advnets.presets.config_file import read_config_file
from advnets.presets.preset import Preset


@pytest.fixture(autouse=True)
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def quick(*args, **keywords):
    return advnets.train(*args, steps=2, progress=False, device="cpu", threads=1, **keywords)


def test_keywords_and_overrides_reach_every_option():
    model = quick(
        "digits",
        batch_size=20,
        eval_every=2,
        hflip=True,
        ema_half_life=0,
        overrides={"game.r1": 1.0, "generator.latent_dim": 6},
    )
    assert (model.config.data.batch_size, model.config.data.hflip) == (20, True)
    assert model.config.intervals.eval_every == 2
    assert (model.config.stage.game.r1, model.config.stage.generator.latent_dim) == (1.0, 6)
    assert model.weights == "last"


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"learning_rate": 1}, TypeError, "train has no argument 'learning_rate'; did you mean lr"),
        ({"log_evry": 1}, TypeError, "did you mean log_every?"),
        ({"latent_dim": 1}, TypeError, r"did you mean overrides=\{'generator.latent_dim': …\}\?"),
        ({"lr": 1.0, "overrides": {"lr": 1}}, UsageError, "lr was given as a keyword and in over"),
        ({"size": 8}, UsageError, "size applies to your own images, and digits is .*leave size o"),
        ({"track": ("wandb",)}, TypeError, r'argument \'track\'; .* callbacks=\["tensorboard"\]'),
        ({"dry_run": True}, TypeError, "'dry_run'; the command `advnets train --dry-run` prints"),
        ({"verbose": True}, TypeError, "'verbose'; the command `advnets train --dry-run --verb"),
        ({"batch_size": 0}, UsageError, "batch_size is 0; it must be at least 1"),
        (
            {"overrides": {"batch_size": "8"}},
            UsageError,
            "batch_size is '8'; it must be an integer",
        ),
        ({"lr": 1e-320}, UsageError, "lr is 1e-320; it must be 0, or at least 1.2e-38, the small"),
        ({"keep_best": "zz"}, UsageError, "no metric of a training curve or value of one is calle"),
        ({"keep_best": "parzn"}, UsageError, "called 'parzn'; did you mean parzen?"),
        ({"callbacks": "tensorboard"}, UsageError, r'several .*; give a list .* \["tensorboard"\]'),
        ({"overrides": {"game.r3": 1}}, UsageError, "no option is called 'game.r3'"),
        (
            {"log_every": 0, "overrides": {"game.adaptive_k_threshold": 0.1, "game.k": 2}},
            UsageError,
            "log_every is 0; set log_every to 100",
        ),
    ],
)
def test_wrong_arguments(keywords, error, message):
    with pytest.raises(error, match=message):
        quick("digits", **keywords)
    assert not Path("runs").exists()


def test_an_unknown_keyword_that_is_like_none_lists_all():
    with pytest.raises(TypeError, match="its arguments are preset, data, labels, ") as caught:
        quick("digits", exist_ok=True)
    named = str(caught.value).partition("its arguments are ")[2].split(", ")
    declared = {name for name in signature(advnets.train).parameters if name != "options"}
    options = {name for name in option_names(presets.get_preset("digits")) if "." not in name}
    assert sorted(named) == sorted(declared | options)


def test_the_docstring_of_evaluate_names_all_keywords_of_the_method():
    for name in signature(advnets.TrainedModel.evaluate).parameters.keys() - {"self"}:
        assert name in advnets.evaluate.__doc__


def test_a_warning_shows_the_line_of_the_user(tmp_path):
    """In a process whose functions are not checked, as the checks' own lines call them."""
    script = tmp_path / "user.py"
    script.write_text(
        "import advnets\n"
        "m = advnets.train('digits', steps=2, eval_every=0, threads=1, progress=False)\n"
        "m.evaluate('swd', num_samples=20)\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert f"{script}:3: RunWarning: the EMA of G" in ended.stderr


def test_init_from_takes_a_model_as_its_checkpoint():
    model = quick("digits", out="a")
    other = quick("digits", out="b", init_from=model, seed=1)
    same = quick("digits", out="c", init_from="a/checkpoints/step-00000002.safetensors", seed=1)
    assert torch.equal(other.sample(2), same.sample(2))
    assert other.config.stage.init_from == same.config.stage.init_from


def test_a_message_names_keywords_in_python_and_flags_on_the_command_line(run_command):
    quick("digits", out="runs/mine")
    with pytest.raises(RunError, match=r"add resume=True to continue it, or give another out$"):
        quick("digits", out="runs/mine")
    _, _, message = run_command("train", "digits", "--out", "runs/mine")
    assert "add --resume to continue it, or give another --out" in message


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("give --batch-size 102", "give batch_size=102"),
        ("give --game.updates alternating --game.k 2", "give game.updates='alternating' game.k=2"),
        ("leave --compile and --cuda-graph out", "leave compile and cuda_graph out"),
        ("turn it off (--generator.no-batch-norm)", "turn it off (generator.batch_norm=False)"),
        ("set --data to a path", "set data to a path"),
        ("give --device cpu to continue", "give device='cpu' to continue"),
        ("set it with --data PATH", "set it with data=PATH"),
        ("that `advnets train --out` wrote", "that `advnets train --out` wrote"),
        ("use: advnets train --resume --out x; or", "use: advnets train --resume --out x; or"),
    ],
)
def test_words_of_python(message, expected):
    assert in_python_words(message) == expected


def test_a_preset_its_name_and_its_config_are_the_same():
    config = presets.get_preset("digits")
    trained = [
        quick(given, out=f"runs/{number}").config
        for number, given in enumerate(("digits", config, Preset(config, "a description")))
    ]
    assert trained[0] == trained[1] == trained[2]


def test_a_config_json_gives_the_identical_config(run_command):
    model = quick("digits", out="runs/mine", overrides={"game.r1": 0.5})
    again = advnets.train("runs/mine/config.json", out="runs/again", progress=False)
    assert again.config == model.config
    assert again.generator.state_dict().keys() == model.generator.state_dict().keys()
    for name, tensor in again.generator.state_dict().items():
        assert tensor.equal(model.generator.state_dict()[name])
    status, _, _ = run_command("train", Path("runs/mine/config.json"), "--out", "runs/third")
    assert status == 0
    read = [json.loads(Path(f"runs/{run}/config.json").read_text()) for run in ("mine", "third")]
    assert read[0]["config"] == read[1]["config"] == json.loads(json.dumps(to_json(model.config)))


YAML = """
preset: digits
steps: 2
device: cpu
threads: 1
generator.latent_dim: 6
game:
  r1: 0.5
  augmentations: [flip, color]
"""
TOML = """
preset = "digits"
steps = 2
device = "cpu"
threads = 1
generator.latent_dim = 6
[game]
r1 = 0.5
augmentations = ["flip", "color"]
"""


def test_yaml_and_toml_files_take_the_place_of_a_preset(run_command):
    Path("mine.yaml").write_text(YAML)
    Path("mine.toml").write_text(TOML)
    overrides = {"generator.latent_dim": 6, "game.r1": 0.5, "game.augmentations": ("flip", "color")}
    expected = quick("digits", out="runs/expected", overrides=overrides).config
    assert advnets.train("mine.yaml", out="runs/yaml", progress=False).config == expected
    assert advnets.train(Path("mine.toml"), out="runs/toml", progress=False).config == expected
    status, _, _ = run_command("train", "mine.toml", "--out", "runs/typed", "--seed", "3")
    assert status == 0
    assert advnets.load("runs/typed").config == replace(expected, seed=3)
    # A run goes on with the same file, and is refused with another.
    status, _, _ = run_command("train", "mine.yaml", "--resume", "--out", "runs/typed", "--seed=3")
    assert status == 0
    Path("mine.yaml").write_text(YAML.replace("r1: 0.5", "r1: 0.25"))
    status, _, message = run_command("train", "mine.yaml", "--resume", "--out", "runs/typed")
    assert (status, "game.r1: 0.5, 0.25" in message) == (1, True)


def test_numbers_in_yaml_may_have_exponents():
    for text, value in (
        ("1e-3", 1e-3),
        ("1.e-3", 1e-3),
        ("+.1E-2", 1e-3),
        ("2e0", 2),
        ("0.5", 0.5),
    ):
        Path("a.yaml").write_text(f"lr: {text}")
        stage = read_config_file(Path("a.yaml")).stage
        assert stage.generator_optimizer.lr == stage.discriminator_optimizer.lr == value
    for text in "'1e-3'", "1e-3 x", "1e":
        Path("a.yaml").write_text(f"lr: {text}")
        with pytest.raises(UsageError, match="it must be a number"):
            read_config_file(Path("a.yaml"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "preset: digts", "a.yaml: no preset is called 'digts'; did you mean digits"),
        ("a.yaml", "preset: game.py:game", "no preset is called 'game.py:game'"),
        ("a.yaml", "game.r11: 3", "a.yaml: no option is called 'game.r11'; did you mean game.r1"),
        ("a.yaml", "batch_size: x", "a.yaml: batch_size is 'x'; it must be an integer"),
        ("a.yaml", "- 3", "a.yaml is not a table of names and values"),
        ("a.yaml", "a: &x [1]\nb: [*x, *x]", "it has an alias"),
        ("a.yaml", "a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a.yaml", "[" * 5000, "a.yaml cannot be read"),
        ("a.toml", "[a", "a.toml cannot be read .*correct the file"),
        ("a.toml", b"\xff", "a.toml cannot be read"),
        (
            "a.json",
            '{"batch_size": 16}',
            "a.json is not the config.json of a run; .* or write options",
        ),
        ("a.json", '{"config": {}}', "a.json has format None"),
        ("a.toml", "--lr = 1", "a.toml: no option is called '--lr'; did you mean lr"),
        ("absent.yaml", None, "absent.yaml does not exist"),
        ("large.yaml", " " * (1 << 21), "large.yaml cannot be read .larger than"),
    ],
)
def test_wrong_config_files(name, text, message, run_command):
    if text is not None:
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(advnets.AdvnetsError, match=message):
        advnets.train(name)
    status, _, err = run_command("train", name)
    assert status in (1, 2) and len(err.splitlines()) == 1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return quick("digits", out=tmp_path_factory.mktemp("digits") / "run")


IMAGES = torch.zeros(2, 1, 8, 8)
PIXELS = "expected pixels from 0 to 1"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.sample("a"), "n is 'a'; expected an integer"),
        (lambda m: m.sample(2.5), "n is 2.5; expected an integer"),
        (lambda m: m.sample(True), "n is True; expected an integer"),
        (lambda m: m.sample(-1), "the number of samples is -1; give at least 1"),
        (lambda m: m.sample_blocks(0), "the number of samples is 0; give at least 1"),
        (lambda m: m.sample(2, seed="a"), "seed is 'a'; expected an integer"),
        (
            lambda m: m.sample(2, label=3),
            "label is 3; expected a string, several values, each a string or None; set label_index",
        ),
        (
            lambda m: m.sample(2, class_proportions="x"),
            "class_proportions is 'x'; expected 'data' or 'uniform'",
        ),
        (lambda m: m.sample(2, keep_fraction="x"), "keep_fraction is 'x'; expected a num"),
        (lambda m: m.sample(2, keep_fraction=2.0), "keep_fraction is 2.0; expected 0.002 to 1"),
        (lambda m: m.latents(-1), "the number of samples is -1; give at least 1"),
        (lambda m: m.decode(torch.zeros(2, 3)), r"z has shape \(2, 3\); expected \(n, 32\)"),
        (lambda m: m.decode("x"), r"z is 'x'; expected a float Tensor of shape \(n, latent\)"),
        (lambda m: m.discriminator_logits("x"), "images is of type str; give an array or ten"),
        (lambda m: m.discriminator_logits([]), "images has no images; give at least one"),
        (lambda m: m.invert([3]), "image 0 is of type int; give an array, tensor, PIL image or"),
        (lambda m: m.discriminator_logits(IMAGES * np.nan), "images has values that are NaN; re"),
        (lambda m: m.evaluate("fid", real=3), "real is of type int; give an array or tensor"),
        (lambda m: m.discriminator_logits(np.array(["x"])), "images is not an array of nu"),
        (lambda m: m.discriminator_logits(IMAGES[0, 0]), r"images has shape \(8, 8\); exp"),
        (lambda m: m.discriminator_logits(IMAGES + 2), f"values from 2 to 2; {PIXELS}"),
        (lambda m: m.discriminator_logits(IMAGES.int()), "of torch.int32; expected uint8, or"),
        (lambda m: m.invert(IMAGES[:, :, 1:]), r"images has shape \(2, 1, 7, 8\); expected"),
        (lambda m: m.invert(IMAGES, steps=2.5), "steps is 2.5; expected an integer"),
        (lambda m: m.invert(IMAGES, lr="x"), "lr is 'x'; expected a number"),
        (lambda m: m.to("tpu9"), "torch has no device 'tpu9'; give auto, cpu, cuda"),
        (lambda m: m.player(3), "name is 3; expected a string"),
        (lambda m: m.evaluate(3), "metrics is 3; expected a string, MetricSpec or several"),
        (lambda m: m.evaluate(["fid", 3]), r"metrics\[1\] is 3; expected a string or Met"),
        (lambda m: m.evaluate(num_samples="x"), "num_samples is 'x'; expected an integer"),
        (
            lambda m: advnets.load(m.run.path, step="x"),
            "step is 'x'; expected an integer, 'best' or None",
        ),
        (lambda m: advnets.load(m.run.path, step=99), "step is 99, but .* has no checkpoint"),
        (
            lambda m: advnets.load(m.run.path, weights="x"),
            "weights is 'x'; expected 'ema', 'last' o",
        ),
        (lambda m: advnets.load(3), "run is 3; expected a string or Path"),
        (lambda m: advnets.evaluate(None), "model is None; expected TrainedModel, a string or"),
        (lambda m: advnets.compare(3), "runs is 3; expected a string, Path, TrainedM"),
        (lambda m: advnets.compare([m, 3]), r"runs\[1\] is 3; expected a string, Path or Tra"),
        (lambda m: advnets.train(3), "preset is 3; expected a string, Path, Preset, Config"),
        (lambda m: advnets.train(""), "no preset, dataset, file or folder is called ''; `adv"),
        (lambda m: advnets.train("digits", steps="x"), "steps is 'x'; expected an integer or N"),
        (
            lambda m: m.sample(2, label=["0", 3]),
            r"label\[1\] is 3; expected a string; set label_index",
        ),
        (
            lambda m: m.decode(np.zeros((2, 32))),
            "z is of type ndarray; expected a float Tensor of sh",
        ),
        (
            lambda m: advnets.train("digits", overrides={3: 4}),
            "a key of overrides is 3; expected a string",
        ),
        (lambda m: advnets.train("digits", callbacks=3), "callbacks is 3; expected several values"),
        (lambda m: advnets.train("digits", callbacks=[3]), r"callbacks\[0\] is of type int; e"),
    ],
)
def test_an_argument_of_another_type_is_one_sentence(model, call, message):
    with pytest.raises(UsageError, match=message) as caught:
        call(model)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers(model):
    expected = model.sample(3, seed=2, keep_fraction=0.5)
    given = model.sample(np.int64(3), seed=np.uint8(2), keep_fraction=np.float32(0.5))
    assert torch.equal(given, expected)


def test_images_of_a_list_are_those_of_an_array(model, tmp_path):
    pixels = np.rint(model.sample(3).numpy()[:, 0] * 255).astype(np.uint8)
    images = [Image.fromarray(image) for image in pixels]
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
    expected = model.discriminator_logits(pixels)
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for given in list(pixels), images, files:
        assert torch.equal(model.discriminator_logits(given), expected)
    assert torch.equal(model.invert(images, steps=3).z, model.invert(pixels, steps=3).z)


def test_a_device_of_torch_is_a_device(model):
    cpu = torch.device("cpu")
    trained = advnets.train("digits", device=cpu, steps=2, progress=False)
    assert trained.config.runtime.device == "cpu"
    assert advnets.load(model.run.path, device=cpu).to(cpu).device == cpu


@pytest.fixture
def scored(tiny):
    """Two runs of different seeds and one of another config, evaluated."""
    other = replace(tiny, stages=(replace(tiny.stage, ema_half_life=0),))
    given = {"a": tiny, "b": replace(tiny, seed=1), "c": other}
    for name, config in given.items():
        advnets.train(config, out=f"runs/{name}", progress=False)
        advnets.evaluate(f"runs/{name}", metrics=["frechet"], num_samples=50)
    return [f"runs/{name}" for name in given]


def test_compare_has_what_the_command_prints(scored, run_command):
    comparison = advnets.compare(scored)
    _, out, _ = run_command("compare", *scored)
    assert str(comparison) == out.rstrip("\n")
    run_command("compare", *scored, "--out", "table.md")
    assert comparison.to_markdown() == Path("table.md").read_text()
    # One line for each row, with the numbers of the record.
    lines = list(csv.DictReader(io.StringIO(comparison.to_csv())))
    rows = [*comparison.record["rows"], *comparison.record["references"]]
    assert [line["run"] for line in lines] == [row["name"] for row in rows]
    column = comparison.record["columns"][0]["name"]
    for line, row in zip(lines, rows, strict=True):
        assert float(line[column]) == row["cells"][0]["mean"]
    assert lines[0]["seeds"] == "0 1"
    html = comparison._repr_html_()
    assert html.count("<tr>") == 1 + len(rows) and "<script" not in html


def test_compare_takes_what_the_command_takes(scored, run_command):
    """Models, patterns, record files, and a mixture of them; a model has the scores of its step."""
    expected = advnets.compare(scored)
    models = [advnets.load(run) for run in scored]
    assert advnets.compare(models).record == advnets.compare("runs/*").record == expected.record
    assert advnets.compare([models[0], Path(scored[1]), "runs/c*"]).record == expected.record
    run_command("compare", *scored, "--out", "table.tex")
    assert expected.to_latex() == Path("table.tex").read_text()
    record = Path("records/a.json")
    record.parent.mkdir()
    scores = json.loads(Path("runs/a/scores.json").read_text())
    record.write_text(json.dumps({"command": "advnets train digits --seed 0", "scores": scores}))
    mixed = advnets.compare([record, scored[1]])
    printed = run_command("compare", record, scored[1], "--json")[1]
    assert json.loads(printed) == json.loads(json.dumps(mixed.record))
    earlier = advnets.load(scored[0], step=40)
    with pytest.raises(RunError, match=r"runs/a has no scores of step 40; call .*, step=40"):
        advnets.compare([earlier, scored[1]])
    with pytest.raises(UsageError, match=r"no run directory or record file matches 'runs/x\*'"):
        advnets.compare("runs/x*")


def test_wrong_arguments_of_compare_and_evaluate(scored):
    with pytest.raises(UsageError, match="1 run was given; give at least two"):
        advnets.compare(scored[:1])
    with pytest.raises(UsageError, match="no metric is called 'fidd'"):
        advnets.compare(scored, metrics="fidd")
    with pytest.raises(RunError, match="nowhere holds no run"):
        advnets.compare([*scored, "nowhere"])
    with pytest.raises(TypeError, match="compare has no argument 'metric'; did you mean metrics"):
        advnets.compare(scored, metric="fid")
    with pytest.raises(
        TypeError, match="evaluate has no argument 'num_sample'; did you mean num_s"
    ):
        advnets.evaluate(scored[0], num_sample=3)


def test_evaluate_takes_a_model_or_what_load_takes(scored):
    model = advnets.load(scored[0])
    first = advnets.evaluate(model, "frechet", num_samples=50)
    assert first == advnets.evaluate(scored[0], "frechet", num_samples=50)
    assert first == model.run.scores()


def test_load_takes_a_step_or_a_checkpoint_file(tiny):
    advnets.train(tiny, out="runs/mine", progress=False)
    newest = advnets.load("runs/mine")
    earlier = advnets.load("runs/mine", step=40, weights="last")
    assert (newest.step, earlier.step) == (60, 40)
    file = Path("runs/mine/checkpoints/step-00000040.safetensors")
    of_file = advnets.load(file, weights="last")
    assert of_file.step == 40
    assert of_file.sample(2).equal(earlier.sample(2))
    assert not of_file.sample(2).equal(newest.sample(2))

    with pytest.raises(UsageError, match=r"step is 41, but runs/mine has no checkpoint of it"):
        advnets.load("runs/mine", step=41)
    with pytest.raises(UsageError, match=r"is a checkpoint, and step is 40; give one of them"):
        advnets.load(file, step=40)
    with pytest.raises(RunError, match=r"is a file of a run; give the run's directory, runs/mine"):
        advnets.load("runs/mine/config.json")
    with pytest.raises(DataError, match=r"runs/mine is missing: no file or folder is called nope"):
        advnets.load("runs/mine", data="nope")
    for data in None, "digits":
        with pytest.raises(UsageError, match="labels apply to data in memory, and data is not in"):
            advnets.load("runs/mine", data=data, labels=[0])
        with pytest.raises(UsageError, match="labels apply to data in memory, and data is not in"):
            advnets.evaluate("runs/mine", "swd", data=data, labels=[0])
    elsewhere = file.rename("step-00000040.safetensors")
    for absent in file, elsewhere:
        with pytest.raises(RunError, match=r"is not a checkpoint in the folder checkpoints/"):
            advnets.load(absent)
