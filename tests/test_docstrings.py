"""The docstrings of the public names: every argument is described, and every example is run."""

from __future__ import annotations

import doctest
import inspect
import re
from collections.abc import Callable, Iterator

import pytest
import torch

import advnets
from advnets.presets.preset import Preset
from advnets.run_directory import RunDirectory

MODULES = ["data", "extractors", "games", "losses", "metrics", "models", "presets", "sampling"]
MODULES += ["theory", "visualize"]
CLASSES = [advnets.Callback, advnets.Comparison, advnets.Config, advnets.TrainedModel]
CLASSES += [Preset, RunDirectory, advnets.visualize.View, advnets.extractors.Extractor]
"""The classes whose methods a reader calls or overrides; those of networks and games are called by
the training, with the arguments of `advnets.protocols`."""


def public() -> Iterator[tuple[str, object]]:
    """Yield the names of the package and of its modules, and the methods of the classes."""
    for name in ("train", "load", "evaluate", "compare"):
        yield name, getattr(advnets, name)
    for module in MODULES:
        package = getattr(advnets, module)
        for name in package.__all__:
            if callable(value := getattr(package, name)):
                yield f"{module}.{name}", value
    for owner in CLASSES:
        yield owner.__name__, owner
        for name, value in vars(owner).items():
            method = getattr(value, "__func__", value)
            if not name.startswith("_") and inspect.isfunction(method):
                yield f"{owner.__name__}.{name}", method


PUBLIC = dict(public())
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_documented(name):
    assert len(PUBLIC[name].__doc__ or "") > 20


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_described(name):
    """In a section Args, or by the name of the function that has the same arguments."""
    text = inspect.getdoc(FUNCTIONS[name]) or ""
    if re.search(r"arguments are\sthose\sof\s`", text):
        return
    section = re.search(r"^Args:\n((?:    .*\n?)+)", text, re.MULTILINE)
    described = re.findall(r"^    (\w+): \S", section[1], re.MULTILINE) if section else []
    parameters = [name for name in parameters_of(FUNCTIONS[name]) if name not in ("self", "cls")]
    assert described == parameters


def parameters_of(function: Callable[..., object]) -> list[str]:
    return list(inspect.signature(function).parameters)


def raises_by_its_checks(function: Callable[..., object]) -> bool:
    """Return whether `public_function` decorates it, which checks what it is given."""
    return "public_function" in inspect.getsource(inspect.unwrap(function)).split("def ")[0]


def test_every_decorated_function_names_its_errors():
    decorated = [name for name, value in FUNCTIONS.items() if raises_by_its_checks(value)]
    assert len(decorated) >= 12
    for name in decorated:
        assert "\nRaises:\n    " in inspect.getdoc(FUNCTIONS[name]), name


MAIN = [
    "advnets",
    "metrics",
    "extractors",
    "visualize",
    "train",
    "load",
    "evaluate",
    "compare",
    "TrainedModel.sample",
    "TrainedModel.invert",
]
MAIN += ["TrainedModel.discriminator_logits", "View.render", "data.open_dataset"]
MAIN += ["extractors.load_extractor", "losses.value_function", "metrics.frechet_distance"]
MAIN += ["metrics.polynomial_mmd", "metrics.prdc", "models.build_discriminator"]
MAIN += ["models.build_generator", "presets.get_preset", "sampling.draw_samples"]
MAIN += ["theory.optimal_discriminator", "theory.jensen_shannon"]


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(recurse=False)
    globs = {"advnets": advnets, "torch": torch}
    modules = {"advnets": advnets} | {name: getattr(advnets, name) for name in MODULES}
    tests = [
        test
        for name, value in (modules | PUBLIC).items()
        for test in finder.find(value, name, module=False, globs=globs)
    ]
    return [test for test in tests if test.examples]


EXAMPLES = {test.name: test for test in examples()}


def test_the_main_functions_have_an_example():
    assert not set(MAIN) - EXAMPLES.keys()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two short runs, evaluated, with the names that the examples use."""
    path = tmp_path_factory.mktemp("examples")
    for seed, name in enumerate(("digits", "other")):
        run = path / "runs" / name
        model = advnets.train(
            "digits", steps=20, seed=seed, out=run, progress=False, device="cpu", threads=1
        )
        model.evaluate("frechet", num_samples=300)
    return path


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_prints_what_it_says(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    failures: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(EXAMPLES[name], out=failures.append)
    assert not failures, "".join(failures)
