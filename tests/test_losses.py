import math

import pytest
import torch
from sklearn.metrics import mutual_info_score

from advnets import losses
from advnets.losses import (
    Objective,
    bernoulli_log_likelihood,
    classification_loss,
    critic_generator_loss,
    critic_metrics,
    discriminator_loss,
    feature_matching_loss,
    finite_difference_penalty,
    hinge_discriminator_loss,
    input_gradients,
    kl_to_standard_normal,
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    linearized_logits,
    logit_metrics,
    minimax_generator_loss,
    mutual_information,
    non_saturating_generator_loss,
    normal_log_likelihood,
    pair_metrics,
    posterior_log_density,
    reinforce_loss,
    relativistic_logits,
    value_function,
    value_terms,
    wasserstein_discriminator_loss,
    wgan_gradient_penalty,
    zero_centered_gradient_penalty,
)

LOGITS = torch.linspace(-8, 8, 41, dtype=torch.float32)
REAL, FAKE = LOGITS.flip(0) * 0.7 + 0.3, LOGITS


def written_value(real, fake):
    """Return Equation 1 as in the paper, in float64."""
    d_real, d_fake = torch.sigmoid(real.double()), torch.sigmoid(fake.double())
    return torch.log(d_real).mean() + torch.log(1 - d_fake).mean()


WRITTEN = {
    value_function: written_value,
    discriminator_loss: lambda real, fake: -0.5 * written_value(real, fake),
    minimax_generator_loss: lambda _, fake: torch.log(1 - torch.sigmoid(fake.double())).mean(),
    non_saturating_generator_loss: lambda _, fake: -torch.log(torch.sigmoid(fake.double())).mean(),
}


@pytest.mark.parametrize("actual", WRITTEN, ids=lambda f: f.__name__)
def test_value_and_gradient_are_those_of_the_written_formula(actual):
    """Compared with autograd of log and sigmoid as in the paper, in float64."""
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    arguments = (real, fake) if actual in (value_function, discriminator_loss) else (fake,)
    written = WRITTEN[actual](real, fake)
    assert actual(*arguments).item() == pytest.approx(written.item(), rel=1e-6)
    for own, reference in zip(
        torch.autograd.grad(actual(*arguments), arguments),
        torch.autograd.grad(written, arguments),
        strict=True,
    ):
        torch.testing.assert_close(own, reference.float(), rtol=1e-4, atol=1e-7)


def test_losses_of_relativistic_logits_are_those_of_pairs():
    """-log σ(a(x) - a(G(z))) for D, -log σ(a(G(z)) - a(x)) for G, in float64; log 2 if equal."""
    difference = REAL.double() - FAKE.double()
    real, fake = relativistic_logits(REAL, FAKE)
    for actual, written in (
        (discriminator_loss(real, fake), -torch.log(torch.sigmoid(difference)).mean()),
        (non_saturating_generator_loss(fake), -torch.log(torch.sigmoid(-difference)).mean()),
    ):
        assert actual.item() == pytest.approx(written.item(), rel=1e-6)
    real, fake = relativistic_logits(REAL, REAL)
    assert discriminator_loss(real, fake).item() == pytest.approx(math.log(2))
    # A constant added to all logits changes nothing.
    torch.testing.assert_close(
        relativistic_logits(REAL + 8, FAKE + 8), relativistic_logits(REAL, FAKE)
    )


def test_at_the_solution_the_value_is_minus_log_4():
    """D = 1/2 everywhere gives V = -log 4 (Theorem 1)."""
    zeros = torch.zeros(5)
    assert value_function(zeros, zeros).item() == pytest.approx(-math.log(4), rel=1e-6)


def test_the_gradients_of_both_generator_losses_are_those_of_the_theory():
    """dL/da is -D for the minimax loss and D - 1 for the non-saturating one."""
    fake = torch.tensor([-9.21], requires_grad=True)  # D(G(z)) = 1e-4
    d = torch.sigmoid(fake).item()
    (minimax,) = torch.autograd.grad(minimax_generator_loss(fake), fake)
    (non_saturating,) = torch.autograd.grad(non_saturating_generator_loss(fake), fake)
    assert minimax.item() == pytest.approx(-d, rel=1e-5)
    assert non_saturating.item() == pytest.approx(d - 1, rel=1e-5)


@pytest.mark.parametrize("actual", WRITTEN, ids=lambda f: f.__name__)
@pytest.mark.parametrize("confident", [-1e4, 1e4])
def test_losses_of_confident_logits_are_finite(actual, confident):
    """Where the log of a sigmoid is -inf, the logit form has a finite value and gradient."""
    logits = torch.full((3,), confident, requires_grad=True)
    two = actual in (value_function, discriminator_loss)
    loss = actual(logits, logits) if two else actual(logits)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


SHORT = torch.linspace(-2.9, 3.4, 24)
"""Numbers that bfloat16 rounds."""
MANY = (SHORT.reshape(6, 4), SHORT.flip(0).reshape(6, 4) * 0.7)
LOSSES = {
    value_terms: (SHORT, SHORT.flip(0)),
    value_function: (SHORT, SHORT.flip(0)),
    discriminator_loss: (SHORT, SHORT.flip(0)),
    minimax_generator_loss: (SHORT,),
    non_saturating_generator_loss: (SHORT,),
    hinge_discriminator_loss: (SHORT, 0.3 * SHORT.flip(0)),
    least_squares_discriminator_loss: (SHORT, 0.3 * SHORT.flip(0)),
    least_squares_generator_loss: (SHORT,),
    wasserstein_discriminator_loss: (SHORT, SHORT.square()),
    critic_generator_loss: (SHORT + SHORT.square(),),
    relativistic_logits: (SHORT, SHORT.square()),
    finite_difference_penalty: (SHORT, SHORT.flip(0), 0.3),
    zero_centered_gradient_penalty: MANY[:1],
    wgan_gradient_penalty: MANY[:1],
    normal_log_likelihood: (*MANY, 0.3),
    bernoulli_log_likelihood: (MANY[0].sigmoid(), MANY[1]),
    kl_to_standard_normal: MANY,
    posterior_log_density: (*MANY, MANY[0].cos()),
    classification_loss: (MANY[0], torch.arange(6) % 4),
    mutual_information: MANY,
    reinforce_loss: (SHORT, SHORT.flip(0) - 4),
    feature_matching_loss: MANY,
}
"""Arguments for every function of `losses` that is a loss or a term of one."""


def test_every_loss_is_in_the_table():
    """A function that is added to `losses` is added here, unless it is no loss."""
    defined = {
        value
        for value in vars(losses).values()
        if callable(value) and getattr(value, "__module__", "") == losses.__name__
    }
    others = {input_gradients, linearized_logits, logit_metrics, pair_metrics, critic_metrics}
    assert defined == set(LOSSES) | others | {Objective}


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_loss_is_computed_in_float32(loss, dtype):
    """Short inputs give the same bits as these inputs in float32."""

    def as_(dtype, arguments):
        floating = [isinstance(a, torch.Tensor) and a.is_floating_point() for a in arguments]
        return [a.to(dtype) if yes else a for a, yes in zip(arguments, floating, strict=True)]

    short = as_(dtype, LOSSES[loss])
    result, expected = loss(*short), loss(*as_(torch.float32, short))
    for value, expected_value in zip(
        *(output if isinstance(output, tuple) else (output,) for output in (result, expected)),
        strict=True,
    ):
        assert value.dtype == torch.float32
        assert torch.equal(value, expected_value)


def test_the_values_two_terms_are_those_of_equation_1():
    """In the order real, fake; compared with log and sigmoid as in the paper, in float64."""
    real, fake = value_terms(REAL, FAKE)
    assert real.item() == pytest.approx(REAL.double().sigmoid().log().mean().item(), rel=1e-6)
    assert fake.item() == pytest.approx((1 - FAKE.double().sigmoid()).log().mean().item(), rel=1e-6)
    assert real.item() != pytest.approx(fake.item(), rel=1e-2)


def test_likelihoods_and_densities_are_those_of_torchs_distributions():
    """Images of 2 x 3 pixels: a sum over pixels for each image."""
    torch.manual_seed(0)
    x, mean = torch.randn(5, 1, 2, 3), torch.randn(5, 1, 2, 3)
    normal = torch.distributions.Normal(mean, 0.3).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(normal_log_likelihood(x, mean, 0.3), normal)
    bits = (x > 0).float()
    bernoulli = torch.distributions.Bernoulli(logits=mean).log_prob(bits).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli_log_likelihood(bits, mean), bernoulli)
    p, gray = mean.sigmoid(), x.sigmoid()
    between = (gray * p.log() + (1 - gray) * (1 - p).log()).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli_log_likelihood(gray, mean), between)


def test_divergence_and_density_of_posteriors_are_those_of_torchs_distributions():
    torch.manual_seed(0)
    mean, log_variance, z = torch.randn(3, 5, 4)
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = torch.distributions.Normal(torch.zeros(5, 4), torch.ones(5, 4))
    expected = torch.distributions.kl_divergence(posterior, prior).sum(1)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)
    density = posterior_log_density(z, mean, log_variance)
    torch.testing.assert_close(density, posterior.log_prob(z).sum(1))


def test_reinforce_makes_components_above_the_mean_logit_more_probable():
    """dL/dlog p of each row is -(a - mean a) / n; the logits themselves get no gradient."""
    logits = torch.tensor([0.0, 1.0, 5.0], requires_grad=True)
    log_p = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    loss = reinforce_loss(logits, log_p)
    of_logits, of_p = torch.autograd.grad(loss, (logits, log_p), allow_unused=True)
    assert of_logits is None
    torch.testing.assert_close(of_p, torch.tensor([2.0, 1.0, -3.0]) / 3)
    assert loss.item() == pytest.approx(-(-2 * -1.0 - 1 * -2.0 + 3 * -0.5) / 3)


def test_feature_matching_compares_means():
    """((0 - 2)² + (3 - 2)²) / 2 features, for any variance and number of rows."""
    real = torch.tensor([[-1.0, 2.0], [1.0, 4.0]])
    fake = torch.tensor([[1.0, 2.0], [2.0, 0.0], [3.0, 4.0]])
    assert feature_matching_loss(real, fake).item() == pytest.approx(2.5)


def test_a_classification_loss_is_the_mean_of_minus_log_p_of_the_labels():
    logits = torch.tensor([[0.0, math.log(3)], [math.log(4), 0.0]])
    labels = torch.tensor([1, 1])
    expected = -(math.log(3 / 4) + math.log(1 / 5)) / 2
    assert classification_loss(logits, labels).item() == pytest.approx(expected)


def test_losses_of_critics_are_their_written_formulas():
    """In float64, at logits on either side of the margins."""
    real, fake = REAL.double(), FAKE.double()
    zero = torch.zeros_like(real)
    written = {
        hinge_discriminator_loss: (
            torch.maximum(zero, 1 - real).mean() + torch.maximum(zero, 1 + fake).mean()
        ),
        least_squares_discriminator_loss: ((real - 1) ** 2).mean() / 2 + (fake**2).mean() / 2,
        wasserstein_discriminator_loss: fake.mean() - real.mean(),
    }
    for loss, expected in written.items():
        assert loss(REAL, FAKE).item() == pytest.approx(expected.item(), rel=1e-6), loss
    expected = ((fake + 2) ** 2).mean() / 2
    assert least_squares_generator_loss(FAKE + 3).item() == pytest.approx(expected.item(), rel=1e-6)
    assert critic_generator_loss(FAKE + 3).item() == pytest.approx(-3.0, rel=1e-6)


def test_input_gradients_do_not_depend_on_the_position_in_the_batch():
    """For a(x) = w · x the penalties are ‖w‖² and (‖w‖ - 1)² for each image."""
    w = torch.tensor([3.0, 4.0])
    x = torch.randn(7, 1, 1, 2, requires_grad=True)
    steepness = input_gradients(x.flatten(1) @ w, x)
    torch.testing.assert_close(zero_centered_gradient_penalty(steepness), torch.full((7,), 25.0))
    torch.testing.assert_close(wgan_gradient_penalty(steepness), torch.full((7,), 16.0))


def test_mutual_information_is_that_of_the_joint_distribution():
    """Compared with scikit-learn for certain classes; 0 for independent ones."""
    first, second = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 2, 2, 0])
    certain = [1000.0 * torch.nn.functional.one_hot(labels, 4) for labels in (first, second)]
    # Symmetric: include each pair in both orders.
    both = torch.cat((first, second)), torch.cat((second, first))
    expected = mutual_info_score(*(labels.numpy() for labels in both))
    assert mutual_information(*certain).item() == pytest.approx(expected)
    same = 1000.0 * torch.eye(5)
    assert mutual_information(same, same).item() == pytest.approx(math.log(5))
    unsure = torch.zeros(6, 4)
    assert mutual_information(unsure, unsure).item() == pytest.approx(0.0, abs=1e-6)
    logits = torch.cat(certain).requires_grad_()
    assert mutual_information(*logits.chunk(2)).isfinite()
    (slope,) = torch.autograd.grad(mutual_information(*logits.chunk(2)), logits)
    assert slope.isfinite().all()


def test_the_zero_centered_penalty_of_a_quadratic_is_exact():
    """a(x) = xᵀAx / 2 + bᵀx has gradient Ax + b, and ½ d‖Ax + b‖²/db is Ax + b."""
    torch.manual_seed(0)
    a, b = torch.randn(6, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    a, b = a + a.T, b.requires_grad_()
    images = torch.randn(5, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    x = images.flatten(1)
    logits = 0.5 * torch.einsum("ni,ij,nj->n", x, a, x) + x @ b
    expected = x @ a + b
    squared = zero_centered_gradient_penalty(input_gradients(logits, images))
    torch.testing.assert_close(squared, expected.square().sum(1).float(), check_dtype=False)
    (gradient,) = torch.autograd.grad(0.5 * squared.sum(), b)
    torch.testing.assert_close(gradient, expected.sum(0), rtol=1e-5, atol=1e-5)


def test_linearized_logits_have_the_value_and_gradient_of_the_logits():
    torch.manual_seed(0)
    x = torch.randn(5, 2, 3, requires_grad=True)
    w = torch.randn(6, requires_grad=True)
    logits = torch.tanh(x.flatten(1) @ w)
    linear = linearized_logits(logits, x, input_gradients(logits, x))
    assert torch.equal(linear, logits)
    losses = (torch.nn.functional.softplus(-values).mean() for values in (logits, linear))
    through, along = (torch.autograd.grad(loss, (x, w), allow_unused=True) for loss in losses)
    torch.testing.assert_close(along[0], through[0])
    assert along[1] is None  # no pass through D


P_DATA = torch.tensor([0.5, 0.2, 0.2, 0.1], dtype=torch.float64)
P_G = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
PLACES = torch.tensor([0.0, 1.0, 2.0, 4.0])


def draw_probability(p):
    """Return ten points whose frequencies at four places are p."""
    return torch.repeat_interleave(torch.arange(4), (10 * p).round().long())


def best(loss):
    """Return D's optimal logits at four places, by grid search."""
    grid, result = torch.linspace(-2, 2, 401), []
    for place in range(4):
        values = []
        for a in grid:
            logits = torch.zeros(4)
            logits[place] = a
            values.append(loss(logits[draw_probability(P_DATA)], logits[draw_probability(P_G)]))
        result.append(grid[torch.stack(values).argmin()])
    return torch.stack(result)


def test_the_optimal_hinge_critic_is_the_sign_of_the_difference():
    """Where p_data = p_g all logits in [-1, 1] are optimal, with loss 2."""
    a = best(hinge_discriminator_loss)
    assert a[[0, 2, 3]].tolist() == pytest.approx([1.0, -1.0, -1.0], abs=1e-5)
    assert a[1].abs() <= 1.01
    for equal in (torch.zeros(5), torch.linspace(-1, 1, 5)):
        assert hinge_discriminator_loss(equal, equal).item() == pytest.approx(2.0)


def test_the_optimal_least_squares_critic_is_the_optimal_d():
    """p_data / (p_data + p_g), with loss 1/4 where the two are equal."""
    expected = (P_DATA / (P_DATA + P_G)).float()
    torch.testing.assert_close(best(least_squares_discriminator_loss), expected, rtol=0, atol=0.006)
    half = torch.full((5,), 0.5)
    assert least_squares_discriminator_loss(half, half).item() == pytest.approx(0.25)
    assert least_squares_generator_loss(torch.ones(5)).item() == 0


def test_the_optimal_1_lipschitz_critic_gives_the_wasserstein_distance():
    """On a line W₁ is the area between the distribution functions."""
    cumulated = (P_DATA - P_G).cumsum(0)
    distance = (cumulated[:-1].abs() * PLACES.diff()).sum().item()
    # Its gradient is the sign of the area: here p_g is to the right of p_data everywhere.
    assert (cumulated[:-1] >= 0).all()
    loss = wasserstein_discriminator_loss(
        -PLACES[draw_probability(P_DATA)], -PLACES[draw_probability(P_G)]
    )
    assert loss.item() == pytest.approx(-distance, rel=1e-6)
    for places in (PLACES, -0.5 * PLACES, -(PLACES - 1).abs()):
        worse = wasserstein_discriminator_loss(
            places[draw_probability(P_DATA)], places[draw_probability(P_G)]
        )
        assert worse.item() > loss.item()
    assert critic_generator_loss(-PLACES[draw_probability(P_G)]).item() == pytest.approx(
        (PLACES * P_G).sum().item()
    )


def test_the_gradient_of_a_penalized_critic_is_slightly_above_1():
    """For a(x) = -s x, -s W₁ + λ (s - 1)² is minimal at s = 1 + W₁ / 2λ."""
    x = torch.rand(50, 1, 1, 1, requires_grad=True)
    s = torch.tensor(1.5, requires_grad=True)
    excess = wgan_gradient_penalty(input_gradients(-s * x.flatten(), x))
    torch.testing.assert_close(excess, torch.full((50,), 0.25))
    distance, weight = 2.0, 2.0
    (slope,) = torch.autograd.grad(weight * excess.mean() - s * distance, s)
    assert slope.item() == pytest.approx(0.0, abs=1e-6)  # at 1 + 2 / 4


def test_a_constant_critic_has_a_finite_penalty():
    x = torch.rand(3, 1, 1, 2, requires_grad=True)
    w = torch.zeros(2, requires_grad=True)
    excess = wgan_gradient_penalty(input_gradients(x.flatten(1) @ w, x))
    torch.testing.assert_close(excess, torch.ones(3))
    (gradient,) = torch.autograd.grad(excess.mean(), w)
    assert torch.isfinite(gradient).all()
