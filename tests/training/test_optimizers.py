import math
import subprocess
import sys

import pytest
import torch

from advnets import config
from advnets.training.optimizers import learning_rate, make_optimizer, momentum

FINE, FAULTY = torch.tensor(True), torch.tensor(False)
SPECS = [
    config.SGD(lr=0.1),
    config.Adam(lr=1e-2),
    config.Adam(lr=1e-2, beta2=0.9, beta2_final=0.99),
]
NAMES = ["sgd", "adam", "growing beta2"]


def test_adam_with_a_decaying_rate_equals_torchs():
    spec = config.Adam(lr=0.1, lr_decay=1.1, lr_min=0.03)
    actual, torch_result = torch.ones(3), torch.ones(3, requires_grad=True)
    tested, optimizer = (
        make_optimizer(spec, [actual]),
        torch.optim.Adam([torch_result], 0.1, (0.5, 0.999)),
    )
    for n in range(20):
        optimizer.param_groups[0]["lr"] = max(0.1 / 1.1**n, 0.03)
        torch_result.grad = torch.tensor([1.0, -2.0, 0.1]) * (n + 1)
        tested.step([torch_result.grad.clone()], n, 0, FINE)
        optimizer.step()
    torch.testing.assert_close(actual, torch_result.detach())


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_adam_is_unbiased_while_beta2_grows(beta1):
    """Compared with means of g and g² with explicit weights, divided by their sums.

    A constant gradient is then tested along by the learning rate itself, in every update.
    """
    spec = config.Adam(lr=0.1, lr_final=0.02, beta1=beta1, beta2=0.9, beta2_final=0.999)
    torch.manual_seed(0)
    gradients = torch.cat([torch.ones(1000, 1), torch.randn(1000, 2)], 1).double()
    actual, torch_result = torch.zeros(3), torch.zeros(3, dtype=torch.float64)
    tested, weights1, weights2 = make_optimizer(spec, [actual]), torch.zeros(0), torch.zeros(0)
    for n, gradient in enumerate(gradients.float()):
        left = (1 + math.cos(math.pi * n / 1000)) / 2
        lr, decay = 0.02 + left * 0.08, 0.999 - left * 0.099
        weights1 = torch.cat([weights1 * beta1, torch.tensor([1 - beta1])]).double()
        weights2 = torch.cat([weights2 * decay, torch.tensor([1 - decay])]).double()
        past = gradients[: n + 1]
        mean = weights1 @ past / weights1.sum()
        squares = weights2 @ past.square() / weights2.sum()
        before = actual[0].item()
        torch_result -= lr * mean / (squares.sqrt() + 1e-8)
        tested.step([gradient], n, 0, FINE, n / 1000)
        assert before - actual[0].item() == pytest.approx(lr, rel=1e-3)
    torch.testing.assert_close(actual.double(), torch_result, rtol=1e-4, atol=1e-4)


def test_adam_is_unbiased_where_beta2_grows_within_a_few_updates():
    """Both means are divided by the sum of their weights, while β₁ = 0.9 still matters."""
    spec = config.Adam(lr=0.1, beta1=0.9, beta2=0.5, beta2_final=0.999)
    torch.manual_seed(0)
    actual, torch_result = torch.zeros(3), torch.zeros(3, dtype=torch.float64)
    tested = make_optimizer(spec, [actual])
    mean, squares, weight1, weight2 = 0.0, 0.0, 0.0, 0.0
    for n in range(12):
        gradient = torch.randn(3)
        beta2 = 0.999 - (1 + math.cos(math.pi * n / 12)) / 2 * 0.499
        mean, weight1 = 0.9 * mean + 0.1 * gradient.double(), 0.9 * weight1 + 0.1
        squares = beta2 * squares + (1 - beta2) * gradient.double().square()
        weight2 = beta2 * weight2 + 1 - beta2
        torch_result -= 0.1 * (mean / weight1) / ((squares / weight2).sqrt() + 1e-8)
        tested.step([gradient], n, 0, FINE, n / 12)
        torch.testing.assert_close(actual.double(), torch_result, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [1e-12, 1e-9, 1e-8, 1e-6])
def test_adams_updates_shrink_for_gradients_as_small_as_epsilon(size):
    """For a constant gradient g each update is lr g / (|g| + 1e-8), as in torch.optim."""
    spec = config.Adam(lr=0.1, beta1=0.5, beta2=0.9)
    actual = torch.zeros(2, dtype=torch.float64)
    torch_result = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    tested = make_optimizer(spec, [actual])
    optimizer = torch.optim.Adam([torch_result], 0.1, (0.5, 0.9), foreach=False)
    gradient = torch.tensor([size, -size], dtype=torch.float64)
    for n in range(5):
        tested.step([gradient], n, 0, FINE)
        torch_result.grad = gradient.clone()
        optimizer.step()
    step = 0.1 * size / (size + 1e-8)
    assert actual.tolist() == pytest.approx([-5 * step, 5 * step], rel=1e-6)
    torch.testing.assert_close(actual, torch_result.detach(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("flush", [False, True])
def test_sgd_without_momentum_is_gradient_descent(flush):
    """Also with denormals flushed to zero, as in every run."""
    torch.set_flush_denormal(flush)
    try:
        actual = torch.ones(3)
        tested = make_optimizer(
            config.SGD(lr=0.5, momentum=0.0, momentum_final=0.0, lr_decay=1.0), [actual]
        )
        for n in range(3):
            tested.step([torch.tensor([1.0, -2.0, 0.5])], n, 0, FINE)
        torch.testing.assert_close(actual, torch.tensor([-0.5, 4.0, 0.25]))
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize("spec", [config.SGD(lr=0.0, lr_min=0.0), config.Adam(lr=0.0)])
def test_a_learning_rate_of_zero_changes_nothing(spec):
    actual = torch.ones(3)
    tested = make_optimizer(spec, [actual])
    for n in range(3):
        tested.step([torch.tensor([1.0, -2.0, 0.5])], n, 0, FINE)
    assert torch.equal(actual, torch.ones(3))


def test_sgd_equals_that_of_the_authors_library():
    """Compared with v <- m v - lr g, p <- p + v, with decaying rate and increasing momentum."""
    spec = config.SGD(lr=0.1, lr_decay=1.01, momentum_epochs=20)
    torch.manual_seed(0)
    gradients = torch.randn(60, 5, dtype=torch.float64)
    p = torch.zeros(5, dtype=torch.float64)
    actual = torch.zeros(5, dtype=torch.float64)
    velocity = torch.zeros_like(p)
    tested = make_optimizer(spec, [actual])
    for n, gradient in enumerate(gradients):
        epoch = n // 3
        velocity = momentum(spec, epoch) * velocity - learning_rate(spec, n) * gradient
        p = p + velocity
        tested.step([gradient], n, epoch, FINE)
    torch.testing.assert_close(actual, p, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("spec", "reference"),
    [
        (config.Adam(lr=1e-2), lambda p: torch.optim.Adam(p, 1e-2, (0.5, 0.999), foreach=False)),
        (
            config.SGD(lr=0.1, lr_decay=1.0, momentum=0.5, momentum_final=0.5),
            lambda p: torch.optim.SGD(p, 0.1, momentum=0.5, foreach=False),
        ),
    ],
    ids=["adam", "sgd"],
)
def test_updates_equal_those_of_torchs_optimizers(spec, reference):
    """Compared with the unfused form of torch.optim, for parameters of several shapes."""
    torch.manual_seed(0)
    shapes = [(4,), (3, 5), ()]
    actual = [torch.ones(shape) for shape in shapes]
    torch_result = [torch.ones(shape, requires_grad=True) for shape in shapes]
    tested, optimizer = make_optimizer(spec, actual), reference(torch_result)
    for n in range(20):
        gradients = [torch.randn(shape) for shape in shapes]
        tested.step(gradients, n, 0, FINE)
        for parameter, gradient in zip(torch_result, gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    for updated, expected in zip(actual, torch_result, strict=True):
        torch.testing.assert_close(updated, expected.detach())


@pytest.mark.parametrize("spec", SPECS, ids=NAMES)
def test_a_non_finite_update_changes_nothing(spec):
    """Neither parameters nor state, in the first update or a later one."""
    parameter = torch.ones(3)
    tested = make_optimizer(spec, [parameter])
    for n in range(2):
        tensors = [
            parameter.clone(),
            *(t.clone() for state in tested.state.values() for t in state),
        ]
        tested.step([torch.full((3,), float("nan"))], n, 0, FAULTY)
        now = [parameter, *(t for state in tested.state.values() for t in state)]
        assert all(torch.equal(a, b) for a, b in zip(tensors, now, strict=True))
        tested.step([torch.ones(3)], n, 0, FINE)
        assert not torch.equal(parameter, tensors[0])


def test_torchs_compiler_is_not_imported():
    """Its import takes longer than everything else at the start."""
    program = """
import sys, torch
from advnets import config
from advnets.training.optimizers import make_optimizer
for spec in (config.SGD(), config.Adam()):
    make_optimizer(spec, [torch.ones(2)]).step([torch.ones(2)], 0, 0, torch.tensor(True))
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("spec", SPECS, ids=NAMES)
def test_parameter_and_gradient_may_have_different_layouts(spec):
    """Kernels have channels last; their gradients may have another layout."""
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 3, 2, 2), torch.randn(3, 4, 3, 2, 2)
    plain, strided = start.clone(), start.clone(memory_format=torch.channels_last)
    for parameter in (plain, strided):
        tested = make_optimizer(spec, [parameter])
        for n, gradient in enumerate(gradients):
            tested.step([gradient], n, 0, FINE)
    assert torch.equal(plain, strided)
