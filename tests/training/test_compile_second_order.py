"""Compiled steps keep the second-order gradients that torch.compile itself refuses or gets wrong.

pytorch's issues 91469, 181581 and 183603: a function compiled by torch.compile cannot be
differentiated twice. It raises an error or, for functions such as exp and tanh, silently omits the
second derivatives (seen in torch 2.11 and 2.13). The tests take each version of torch as it is:
they record what torch.compile does there, and require the right numbers of advnets, which traces
the derivatives first and compiles a program without any.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch

from advnets import config, presets
from advnets.config.overrides import apply_overrides
from advnets.data.prepared import open_data
from advnets.experiment import setup
from advnets.training import compile
from advnets.training.step import compute_gradients, last_batch

# The import of the compiler.
pytestmark = pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")

AOT_EAGER = partial(torch.compile, backend="aot_eager")
"""torch.compile without its code generator, which takes half a minute: the issues lie before it."""


def power(x):
    return (x**4).sum()


def slope(x):
    return torch.autograd.grad(power(x), x, create_graph=True)[0]


def curvature(x):
    return torch.autograd.grad(slope(x).sum(), x)[0]


def growth(x):
    return x.exp().sum()


def penalized(wrap, x):
    """Return the gradient of f + ½ ‖∇f‖², f = sum exp(x), as of a critic with a penalty."""
    value = wrap(growth)(x)
    (gradient,) = torch.autograd.grad(value, x, create_graph=True)
    return torch.autograd.grad(value + 0.5 * gradient.square().sum(), x)[0]


ISSUES = {
    # A compiled function is differentiated twice.
    "91469, twice outside": lambda wrap, x: torch.autograd.grad(
        torch.autograd.grad(wrap(power)(x), x, create_graph=True)[0].sum(), x
    )[0],
    # It differentiates twice itself.
    "91469, twice inside": lambda wrap, x: wrap(curvature)(x),
    # Its gradient has no graph if only outputs were saved for it (exp, tanh), so that a penalty on
    # the gradient has no effect.
    "181581": penalized,
    # It differentiates itself, and its result is differentiated again.
    "183603": lambda wrap, x: torch.autograd.grad(wrap(slope)(x).sum(), x)[0],
}


@pytest.fixture(autouse=True)
def fresh_compiler():
    """Forget compiled functions."""
    yield
    torch.compiler.reset()


def points():
    return torch.tensor([0.5, 1.5, 2.5, 3.5], requires_grad=True)


def closed_form(issue, x):
    x = x.detach()
    return x.exp() + (2 * x).exp() if issue == "181581" else 12 * x**2


@pytest.mark.parametrize("issue", ISSUES)
def test_what_torch_compile_does_is_recorded(issue, record_property):
    """It may be right in a later version; the eager result is the closed form in each."""
    x = points()
    expected = closed_form(issue, x)
    torch.testing.assert_close(ISSUES[issue](lambda function: function, x), expected)
    try:
        with warnings.catch_warnings(action="ignore"):  # of the compiler, about the .grad of x
            result = ISSUES[issue](AOT_EAGER, x)
    except RuntimeError as error:
        outcome = f"raises an error: {str(error).splitlines()[0]}"
    else:
        outcome = "is right" if torch.allclose(result, expected) else "is wrong, silently"
    record_property(f"torch {torch.__version__}, issue {issue}", outcome)
    print(f"torch {torch.__version__}, issue {issue}: torch.compile {outcome}")


@pytest.mark.parametrize("issue", ISSUES)
def test_traced_first_and_compiled_then_each_is_right(issue, monkeypatch):
    """The derivatives are in the traced program, which the compiler need not differentiate."""
    monkeypatch.setattr(torch, "compile", AOT_EAGER)
    x = points()

    def function(x):
        return [ISSUES[issue](lambda inner: inner, x)]

    (result,) = compile.trace_and_compile(function, [x])(x)
    assert not result.requires_grad
    torch.testing.assert_close(result, closed_form(issue, x))


WEIGHTS = ("game.r1", "game.r2", "game.gp_weight")
PENALTIES = {
    "r1 and r2": {"game.r1": 2.0, "game.r2": 2.0, "game.relativistic": True},
    "wgan-gp": {"game.objective": "wasserstein", "game.gp_weight": 10.0},
}
DISCRIMINATORS = {
    "fully connected": config.MLPDiscriminator(hidden_sizes=(8, 8), activation="tanh"),
    "convolutional": config.DCGANDiscriminator(
        base_channels=4, kernel_size=4, batch_norm=False, init_std=0.3
    ),
}


def make_state(discriminator, options):
    """Return the train state of a small game on the digits."""
    run = presets.get_preset("digits")
    stage = replace(
        run.stage,
        generator=config.MLPGenerator(latent_dim=4, hidden_sizes=(8,), activations=("relu",)),
        discriminator=DISCRIMINATORS[discriminator],
    )
    run = apply_overrides(run.with_stage(stage), {"batch_size": 10, **options})
    data = open_data(run.data)
    run = setup.resolve_config(run, data.info, config.Runtime("cpu", "float32", 1))
    return setup.make_train_state(run, data, 0, torch.device("cpu"))


def discriminator_gradient(discriminator, options, gradient_fn=compute_gradients):
    """Return the gradient of D's loss in the first phase of a step, as one vector."""
    state = make_state(discriminator, options)
    phase = state.game.phases()[0]
    batch = last_batch(state, phase, None)
    output = gradient_fn(state.players, phase, batch, state.rng, torch.float32)
    return torch.cat([gradient.flatten() for gradient in output.gradients["discriminator"]])


def assert_penalties_are_differentiated(discriminator, options, gradient_fn):
    """Compare with the eager gradient, within a thousandth of what the penalties add to it."""
    eager = discriminator_gradient(discriminator, options)
    compiled = discriminator_gradient(discriminator, options, gradient_fn)
    negligible = {name: 1e-9 for name in WEIGHTS if name in options}
    added = (eager - discriminator_gradient(discriminator, {**options, **negligible})).norm()
    assert added > 0.1 * eager.norm()
    assert (compiled - eager).norm() < 1e-3 * added


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize(
    ("discriminator", "updates"),
    [("fully connected", "alternating"), ("convolutional", "simultaneous")],
)
def test_a_step_through_the_compiler_differentiates_penalties(
    discriminator, penalty, updates, monkeypatch
):
    monkeypatch.setattr(torch, "compile", AOT_EAGER)
    options = {**PENALTIES[penalty], "game.updates": updates}
    assert_penalties_are_differentiated(discriminator, options, compile.compile_step())


def test_a_compiled_step_differentiates_penalties():
    """One program of the code generator; the slow tests have the others."""
    options = PENALTIES["r1 and r2"]
    assert_penalties_are_differentiated("fully connected", options, compile.compile_step())


@pytest.mark.slow
@pytest.mark.parametrize("updates", ["alternating", "simultaneous"])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
def test_every_compiled_step_differentiates_penalties(discriminator, penalty, updates):
    options = {**PENALTIES[penalty], "game.updates": updates}
    assert_penalties_are_differentiated(discriminator, options, compile.compile_step())
