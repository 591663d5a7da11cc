"""A generator and a discriminator of the user: training, resuming, sampling, trust and errors."""

import math
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import advnets
from advnets import config, presets
from advnets.errors import CustomCodeError, RunError, UsageError
from advnets.experiment.players import init_seed
from advnets.models import custom

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_models.py"
QUICK = ("--steps", "8", "--threads", "1", "--log-every", "2", "--checkpoint-every", "4")
MODELS = ("--generator", f"{EXAMPLE}:Generator", "--discriminator", f"{EXAMPLE}:Discriminator")


@pytest.fixture
def new_process(monkeypatch):
    """Forget the code that was given before, as a new process does."""

    def forget():
        monkeypatch.setattr(custom, "_factories", {})
        monkeypatch.setattr("advnets.custom_code._names", {})

    forget()
    return forget


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory) -> Path:
    from advnets.cli.main import main

    out = tmp_path_factory.mktemp("own") / "run"
    assert main(["train", "digits", *MODELS, "--out", str(out), *QUICK]) == 0
    return out


def example(name: str, *arguments) -> nn.Module:
    names = {}
    exec(EXAMPLE.read_text("utf-8"), names)
    return names[name](*arguments)


def test_models_that_are_not_those_of_the_run_are_refused(trained_run, tiny, tmp_path):
    class Other(nn.Module):
        pass

    advnets.load(trained_run, generator=f"{EXAMPLE}:Generator", trust_code=True)
    with pytest.raises(RunError, match="generator given is not that of the run, which is /"):
        advnets.load(trained_run, generator=Other, trust_code=True)
    advnets.train(tiny, out=tmp_path / "run", progress=False)
    with pytest.raises(RunError, match=r"which is not a custom one \(MaxoutDiscriminator\)"):
        advnets.load(tmp_path / "run", discriminator=Other)


def test_initial_weights_are_those_of_the_seed(trained_run):
    """Torch's generator, seeded with the run's seed, builds the generator and then D."""
    torch.manual_seed(init_seed(0, 0))
    generator, discriminator = (
        example("Generator", (1, 8, 8), 10),
        example("Discriminator", (1, 8, 8), 10),
    )
    players = advnets.load(trained_run, trust_code=True).initial_players()
    for player, expected in (("generator", generator), ("discriminator", discriminator)):
        found = players[player].net.state_dict()
        for name, tensor in expected.state_dict().items():
            assert torch.equal(found[name], tensor), name


def test_a_resumed_run_ends_in_the_same_bytes(run_command, trained_run, tmp_path):
    """The example's D has dropout, whose masks torch draws."""
    assert any(isinstance(m, nn.Dropout) for m in example("Discriminator", (1, 8, 8), 0))
    words = ("--out", tmp_path / "cut", *QUICK[2:])
    assert run_command("train", "digits", *MODELS, *words, "--steps", "4")[0] == 0
    torch.manual_seed(5)
    torch.rand(3)  # another state of torch's generator than the uninterrupted run had
    assert run_command("train", "--resume", *MODELS, *words, "--steps", "8")[0] == 0
    whole, cut = (advnets.load(path, trust_code=True) for path in (trained_run, tmp_path / "cut"))
    for role in ("generator", "discriminator"):
        weights = cut.players[role].state_dict()
        for name, tensor in whole.players[role].state_dict().items():
            assert torch.equal(weights[name], tensor), name
    assert torch.equal(whole.sample(3, seed=4), cut.sample(3, seed=4))


def test_samples_are_g_of_normal_latents(trained_run):
    model = advnets.load(trained_run, trust_code=True)
    z = model.latents(600, seed=2)
    assert z.shape == (600, 32)
    assert abs(z.mean()) < 0.05
    assert abs(z.std() - 1) < 0.05
    net = example("Generator", (1, 8, 8), 10).eval()
    net.load_state_dict(model.generator.net.state_dict())
    assert torch.allclose(net(z[:5]), model.sample(5, seed=2), atol=1e-6)
    assert torch.equal(model.sample(5, seed=2), model.sample(40, seed=2)[:5])


def test_the_file_is_named_before_its_code_runs(run_command, tmp_path, new_process):
    file = tmp_path / "loud.py"
    file.write_text("import sys\nprint('LOUD', file=sys.stderr)\n" + EXAMPLE.read_text("utf-8"))
    words = ("--steps", "1", "--out", tmp_path / "run")
    code, _, err = run_command("train", "digits", "--generator", f"{file}:Generator", *words)
    assert code == 0
    assert err.splitlines()[:2] == [f"advnets: running the code of {file}", "LOUD"]
    assert err.count("LOUD") == 1  # it runs once


def test_the_code_of_a_run_runs_only_if_it_is_given_or_trusted(
    run_command, trained_run, tmp_path, new_process
):
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    commands = [
        ("sample", run, "--out", tmp_path / "a.png"),
        ("evaluate", run, "--metrics", "frechet", "--num-samples", "20"),
        ("visualize", run, "interpolation"),
        ("train", "--resume", "--out", run, "--steps", "9"),
    ]
    for words in commands:
        new_process()
        code, _, err = run_command(*words)
        assert code == 1, words
        assert err.count("\n") == 1, err
        assert "whose Python code would run" in err
        assert "--trust-code" in err
    for words in commands:
        new_process()
        code, out, _ = run_command(*words, "--trust-code")
        assert code == 0, words
    # The commands that a training prints are complete.
    printed = [shlex.split(line)[1:] for line in out.splitlines() if line.startswith("  advnets")]
    assert [words[0] for words in printed] == ["evaluate", "sample"]
    assert all(words[-1] == "--trust-code" for words in printed)
    new_process()
    assert run_command(*commands[-1][:-1], "10", *MODELS)[0] == 0
    new_process()
    with pytest.raises(RunError, match="trust_code=True"):
        advnets.load(run)
    generator, discriminator = (f"{EXAMPLE}:{name}" for name in ("Generator", "Discriminator"))
    assert advnets.load(run, generator=generator, discriminator=discriminator).step == 10


def test_a_changed_file_is_refused(run_command, tmp_path, new_process):
    file, out = tmp_path / "own.py", tmp_path / "run"
    file.write_text(EXAMPLE.read_text("utf-8"))
    model = ("--generator", f"{file}:Generator")
    assert run_command("train", "digits", *model, "--out", out, *QUICK)[0] == 0
    file.write_text(file.read_text() + "# changed\n")
    new_process()
    code, _, err = run_command("sample", out, "--out", tmp_path / "a.png", "--trust-code")
    assert (code, "has changed since the run started" in err) == (1, True)
    code, _, err = run_command("train", "--resume", *model, "--out", out, "--steps", "9")
    assert (code, "digest" in err) == (1, True)
    moved = tmp_path / "moved.py"
    moved.write_text(EXAMPLE.read_text("utf-8"))
    moved_model = ("--generator", f"{moved}:Generator")
    assert run_command("train", "--resume", *moved_model, "--out", out, "--steps", "9")[0] == 0
    assert advnets.load(out).config.stage.generator.source == f"{moved}:Generator"


class Given(nn.Module):
    """A generator that is passed from Python and adds noise of torch to z."""

    latent_dim = 6

    def __init__(self, shape, classes):
        super().__init__()
        self.shape, self.classes = shape, classes
        self.linear = nn.Linear(self.latent_dim + classes, math.prod(shape))

    def forward(self, z, y=None):
        z = z + 0.1 * torch.randn_like(z)
        inputs = z if y is None else torch.cat((z, y), 1)
        return self.linear(inputs).sigmoid().unflatten(1, self.shape)


class GivenDiscriminator(nn.Module):
    """A conditional discriminator that returns logits of (batch, 1)."""

    def __init__(self, shape, classes):
        super().__init__()
        self.linear = nn.Linear(math.prod(shape) + classes, 1)

    def forward(self, x, y):
        return self.linear(torch.cat((x.flatten(1), y), 1))


def test_a_class_from_python_trains_and_loads_if_it_is_given_again(tmp_path, new_process):
    out = tmp_path / "run"
    options = {"progress": False, "device": "cpu"}
    trained = advnets.train("digits", out=out, steps=4, generator=Given, **options)
    images = trained.sample(3, seed=1)
    assert trained.generator.net.classes == 0
    new_process()
    with pytest.raises(RunError, match=r"generator is Given.*pass the same one again as generator"):
        advnets.load(out)
    assert torch.equal(advnets.load(out, generator=Given).sample(3, seed=1), images)
    resumed = advnets.train(out=out, resume=True, steps=6, generator=Given, **options)
    whole = advnets.train(
        "digits", out=tmp_path / "whole", steps=6, generator=lambda s, c: Given(s, c), **options
    )
    assert torch.equal(resumed.sample(3), whole.sample(3))


def test_conditional_models_are_called_with_one_hot_classes(tmp_path):
    start = presets.get_preset("digits")
    start = start.with_stage(replace(start.stage, game=config.ConditionalGame(), steps=3))
    model = advnets.train(
        start,
        out=tmp_path / "run",
        generator=Given,
        discriminator=GivenDiscriminator,
        progress=False,
    )
    z = model.latents(4, label_index=7)
    torch.manual_seed(0)
    noisy = torch.cat((z[:, :6] + 0.1 * torch.randn(500, 6)[:4], z[:, 6:]), 1)
    assert torch.equal(z[:, 6:], F.one_hot(torch.full((4,), 7), 10).float())
    weights = model.generator.net.linear
    expected = (noisy @ weights.weight.T + weights.bias).sigmoid().unflatten(1, (1, 8, 8))
    assert torch.allclose(model.sample(4, label_index=7), expected, atol=1e-5)
    x, labels = torch.rand(5, 1, 8, 8), torch.tensor([0, 9, 3, 3, 1])
    assert model.discriminator(x, None, labels).shape == (5,)


def test_a_model_that_reads_its_weights_is_built(tmp_path):
    """Memory is estimated with tensors on the device meta, of which `.item()` is an error."""

    class Counting(Given):
        def __init__(self, shape, classes):
            super().__init__(shape, classes)
            self.scale = self.linear.weight.abs().max().item()

    advnets.train("digits", out=tmp_path / "run", steps=1, generator=Counting, progress=False)


LINEAR = "class G(nn.Linear):\n  def __init__(self, s, c): super().__init__(4, 9)\n"
FLAT = (
    "class G(nn.Linear):\n  latent_dim = 4\n"
    "  def __init__(self, s, c): super().__init__(4, 64)\n"
    "  def forward(self, z): return super().forward(z)"
)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("G = 3", ", is an object of int; give a class or a function"),
        ("def G(shape, classes): return 3", "returned an object of int; return a torch.nn."),
        ("def G(shape): return 3", "failed for images of (1, 8, 8) and 0 classes (TypeError"),
        ("def G(shape, classes): return nn.Linear(4, 64)", "has latent_dim None; set self.latent"),
        (f"{LINEAR}  latent_dim = 4",
         "returned (2, 9) for a batch of 2, expected shape (2, 1, 8, 8)"),
        (f"{LINEAR}  latent_dim = 5",
         "failed on a batch of shape (2, 5) (RuntimeError"),
        (f"{FLAT}.view(-1, 1, 8, 8).detach()", "returned images without a gradient, expected"),
        (f"{FLAT}.view(-1, 1, 8, 8).byte()", "returned values of type uint8, expected float32"),
        (f"{FLAT}.view(-1, 1, 8, 8).double()", "returned values of type float64, expected float32"),
        (f"{FLAT}.view(-1, 1, 8, 8) * 1j", "returned values of type complex64, expected float32"),
        ("class G(nn.Module):\n  def __init__(self, s, c): super().__init__()",
         "has no weights, expected one or more parameters"),
        ("def G(shape, classes): exit(7)", "(1, 8, 8) and 0 classes (SystemExit: 7); correct"),
        ("x = 1", "does not define 'G'; it defines nn, x"),
    ],
)  # fmt: skip
def test_objects_that_are_not_generators_are_refused(run_command, tmp_path, code, message):
    (tmp_path / "own.py").write_text(f"from torch import nn\n{code}\n")
    out = tmp_path / "run"
    place = tmp_path / "own.py:G"
    status, _, err = run_command("train", "digits", "--generator", place, "--out", out)
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) == 2  # the file that runs, and the error
    assert not out.exists()


def test_an_instance_is_refused():
    message = "generator is an instance of Linear; give a class or a function that is called with"
    with pytest.raises(UsageError, match=message):
        advnets.train("digits", generator=nn.Linear(4, 64))


def test_a_discriminator_with_several_outputs_is_refused(tmp_path):
    with pytest.raises(
        UsageError, match=r"returned \(2, 3\) for a batch of 2, expected .*; return one logit for"
    ):
        advnets.train(
            "digits",
            out=tmp_path / "run",
            discriminator=lambda shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
        )


def test_a_discriminator_without_weights_or_gradient_is_refused(tmp_path):
    class Detached(nn.Linear):
        def __init__(self, shape, classes):
            super().__init__(math.prod(shape), 1)

        def forward(self, x):
            return super().forward(x.flatten(1)).detach()

    for model, message in (
        (lambda shape, classes: nn.Flatten(), "has no weights, expected one or more parameters"),
        (Detached, "returned logits without a gradient, expected logits that depend on its weig"),
    ):
        with pytest.raises(UsageError, match=message):
            advnets.train("digits", out=tmp_path / "run", discriminator=model)
    assert not (tmp_path / "run").exists()


def test_a_weight_without_use_is_named(tmp_path):
    """The game is built in; torch's own error names no weight."""

    class Unused(Given):
        def __init__(self, shape, classes):
            super().__init__(shape, classes)
            self.other = nn.Linear(2, 2)

    with pytest.raises(CustomCodeError, match=r"a loss of the generator .* on net.other.weight"):
        advnets.train("digits", out=tmp_path / "run", generator=Unused, progress=False, steps=2)


def test_custom_models_run_eagerly(run_command, tmp_path):
    code, _, err = run_command(
        "train", "digits", *MODELS, "--compile", "--out", tmp_path / "run", "--device", "cpu"
    )
    assert code == 2
    assert "a CustomGenerator can only run eagerly" in err


@pytest.mark.parametrize("value", ["unet", "none.py:G"])
def test_a_model_that_does_not_exist_is_one_sentence(run_command, tmp_path, value):
    code, _, err = run_command("train", "digits", "--generator", value, "--out", tmp_path / "run")
    assert code == 2
    assert "give FILE.py:NAME" in err
    assert len(err.strip().splitlines()) == 1
