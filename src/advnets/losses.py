"""Losses of adversarial training, as pure functions of logits, and the objectives by name.

Every function takes logits a(x), with D(x) = sigmoid(a(x)), so that no logarithm of zero occurs:

    log D(x)       = log sigmoid(a)       = -softplus(-a)
    log(1 - D(x))  = log(1 - sigmoid(a))  = -softplus(a)

Losses are computed in float32, whatever the precision of the logits. Each is a mean over the batch;
likelihoods and penalties are returned for each image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid, relu, softplus

from advnets.distributed import all_reduce_mean
from advnets.lazy import set_attributes
from advnets.protocols import Logits, Scalar

__all__ = [
    "GENERATOR_LOSSES",
    "OBJECTIVES",
    "Objective",
    "bernoulli_log_likelihood",
    "classification_loss",
    "critic_generator_loss",
    "critic_metrics",
    "discriminator_loss",
    "feature_matching_loss",
    "finite_difference_penalty",
    "hinge_discriminator_loss",
    "input_gradients",
    "kl_to_standard_normal",
    "least_squares_discriminator_loss",
    "least_squares_generator_loss",
    "linearized_logits",
    "logit_metrics",
    "minimax_generator_loss",
    "mutual_information",
    "non_saturating_generator_loss",
    "normal_log_likelihood",
    "pair_metrics",
    "posterior_log_density",
    "reinforce_loss",
    "relativistic_logits",
    "value_function",
    "value_terms",
    "wasserstein_discriminator_loss",
    "wgan_gradient_penalty",
    "zero_centered_gradient_penalty",
]

set_attributes(__name__)

_TINY = 1e-12
"""Lower bound of arguments of roots and logarithms."""

FakeLogits = Float[Tensor, " samples"]
"""Logits a(G(z)), one for each sample; there may be more or fewer samples than images."""


def value_terms(real_logits: Logits, fake_logits: FakeLogits) -> tuple[Scalar, Scalar]:
    """Return E_x[log D(x)] and E_z[log(1 - D(G(z)))], the two terms of V, each at most 0.

    Args:
        real_logits: logits a(x) of real images, one for each.
        fake_logits: logits a(G(z)) of samples, one for each.
    """
    return -softplus(-real_logits.float()).mean(), -softplus(fake_logits.float()).mean()


def value_function(real_logits: Logits, fake_logits: FakeLogits) -> Scalar:
    """Return V(D, G) = E_x[log D(x)] + E_z[log(1 - D(G(z)))], in nats, estimated on a batch.

    D ascends it and G descends it. It is at most 0, and -log 4 where D is 1/2 everywhere.
    Source: Goodfellow et al. 2014, equation 1.

    Args:
        real_logits: logits a(x) of real images, one for each.
        fake_logits: logits a(G(z)) of samples, one for each.

    Example:
        >>> logits = torch.zeros(8)  # D(x) = 1/2 everywhere: -log 4
        >>> advnets.losses.value_function(logits, logits)
        tensor(-1.3863)
    """
    real, fake = value_terms(real_logits, fake_logits)
    return real + fake


def discriminator_loss(real_logits: Logits, fake_logits: FakeLogits) -> Scalar:
    """Return -V(D, G) / 2: the binary cross-entropy of D, half on real, half on generated images.

    The factor is the authors' own (`d_obj` of their code); under plain gradient descent it is part
    of the learning rate. Source: Goodfellow et al. 2014, Algorithm 1.

    Args:
        real_logits: logits a(x) of real images, one for each.
        fake_logits: logits a(G(z)) of samples, one for each.
    """
    return -0.5 * value_function(real_logits, fake_logits)


def minimax_generator_loss(fake_logits: Logits) -> Scalar:
    """Return E_z[log(1 - D(G(z)))], the term of V that depends on G, which G minimizes.

    Its gradient with respect to a logit is -D(G(z)): it saturates where D rejects the samples.
    Source: Goodfellow et al. 2014, equation 1.

    Args:
        fake_logits: logits a(G(z)) of samples, one for each.
    """
    return -softplus(fake_logits.float()).mean()


def non_saturating_generator_loss(fake_logits: Logits) -> Scalar:
    """Return -E_z[log D(G(z))], which G minimizes in practice.

    It has the same fixed point as the minimax loss; its gradient with respect to a logit is
    D(G(z)) - 1, which is largest where D rejects the samples.
    Source: Goodfellow et al. 2014, section 3.

    Args:
        fake_logits: logits a(G(z)) of samples, one for each.

    Example:
        >>> advnets.losses.non_saturating_generator_loss(torch.zeros(8))  # log 2
        tensor(0.6931)
    """
    return softplus(-fake_logits.float()).mean()


def hinge_discriminator_loss(real_logits: Logits, fake_logits: FakeLogits) -> Scalar:
    """Return E_x[max(0, 1 - a(x))] + E_z[max(0, 1 + a(G(z)))].

    An image beyond the margin of 1 has no gradient. The optimal a is the sign of p_data - p_g;
    where the two are equal the loss is 2. Source: Lim and Ye 2017, "Geometric GAN", equation 12;
    Miyato et al. 2018, equation 16.

    Args:
        real_logits: logits a(x) of real images, one for each.
        fake_logits: logits a(G(z)) of samples, one for each.
    """
    return relu(1 - real_logits.float()).mean() + relu(1 + fake_logits.float()).mean()


def least_squares_discriminator_loss(real_logits: Logits, fake_logits: FakeLogits) -> Scalar:
    """Return ½ E_x[(a(x) - 1)²] + ½ E_z[a(G(z))²].

    The optimal a is p_data / (p_data + p_g), which is D*; where the two are equal the loss is 1/4.
    Source: Mao et al. 2017, "Least squares generative adversarial networks", equation 9.

    Args:
        real_logits: logits a(x) of real images, one for each.
        fake_logits: logits a(G(z)) of samples, one for each.
    """
    return 0.5 * ((real_logits.float() - 1).square().mean() + fake_logits.float().square().mean())


def least_squares_generator_loss(fake_logits: Logits) -> Scalar:
    """Return ½ E_z[(a(G(z)) - 1)²], which G minimizes. Source: Mao et al. 2017, equation 9.

    Args:
        fake_logits: logits a(G(z)) of samples, one for each.
    """
    return 0.5 * (fake_logits.float() - 1).square().mean()


def wasserstein_discriminator_loss(real_logits: Logits, fake_logits: FakeLogits) -> Scalar:
    """Return E_z[a(G(z))] - E_x[a(x)], whose minimum over 1-Lipschitz a is -W₁(p_data, p_g).

    Without a bound on the gradients of a it has no minimum: use it with `wgan_gradient_penalty` or
    `zero_centered_gradient_penalty`.
    Source: Arjovsky et al. 2017, "Wasserstein GAN", equation 2.

    Args:
        real_logits: logits a(x) of real images, one for each.
        fake_logits: logits a(G(z)) of samples, one for each.
    """
    return fake_logits.float().mean() - real_logits.float().mean()


def critic_generator_loss(fake_logits: Logits) -> Scalar:
    """Return -E_z[a(G(z))], which G minimizes against a hinge or Wasserstein critic.

    Args:
        fake_logits: logits a(G(z)) of samples, one for each.
    """
    return -fake_logits.float().mean()


def relativistic_logits(real_logits: Logits, fake_logits: Logits) -> tuple[Logits, Logits]:
    """Return a(x) - a(G(z)) and a(G(z)) - a(x) for pairs of an image and a sample, row by row.

    As logits of the losses above they ask D which of the two is real:

        L_D = E softplus(-(a(x) - a(G(z)))),  L_G = E softplus(-(a(G(z)) - a(x)))

    At the solution both are log 2. Source: Jolicoeur-Martineau 2018, "The relativistic
    discriminator", section 4.1; used by Huang et al. 2024.

    Args:
        real_logits: logits a(x) of real images, one for each.
        fake_logits: logits a(G(z)) of samples, as many as images.
    """
    difference = real_logits.float() - fake_logits.float()
    return difference, -difference


def input_gradients(
    logits: Logits, images: Float[Tensor, "batch *shape"]
) -> Float[Tensor, "batch *shape"]:
    """Return ∇_x a(x) of each image, with a graph for second derivatives.

    Args:
        logits: logits a(x), one for each image.
        images: the images that the logits were computed from; they require a gradient.
    """
    # The gradient of the sum holds that of each logit, as each depends on its own image alone
    # (approximately under batch norm).
    (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradients


def linearized_logits(
    logits: Logits, images: Float[Tensor, "batch *shape"], gradients: Float[Tensor, "batch *shape"]
) -> Float[Tensor, " batch"]:
    """Return a(x) + ∇_x a(x) · (x - x), whose value and gradient in x are those of the logits.

    Given D's input gradients, the loss of G can be differentiated through these logits without
    another backward pass through D. Each logit must depend on its own image alone.

    Args:
        logits: logits a(x), one for each image.
        images: the images that the logits were computed from; they require a gradient.
        gradients: ∇_x a(x) of each image, as `input_gradients` returns it.
    """
    difference = images - images.detach()
    return logits.detach() + (gradients.detach() * difference).flatten(1).sum(1)


def zero_centered_gradient_penalty(
    gradients: Float[Tensor, "batch *shape"],
) -> Float[Tensor, " batch"]:
    """Return ‖∇_x a(x)‖² of each image, for the penalties γ/2 E‖∇_x a(x)‖².

    They are R1 for real images and R2 for generated ones. Source: Mescheder et al. 2018,
    "Which training methods for GANs do actually converge?", equation 9.

    Args:
        gradients: ∇_x a(x) of each image, as `input_gradients` returns it.
    """
    return gradients.float().square().flatten(1).sum(1)


def finite_difference_penalty(
    forward_logits: Logits, backward_logits: Logits, step: float
) -> Float[Tensor, " batch"]:
    """Return ((a(x + h v) - a(x - h v)) / 2h)² of each image and its direction v.

    Where each pixel of v is 1 or -1 with equal probability, so that E[v vᵀ] = I, the expectation is
    ‖∇_x a(x)‖² up to an error of order h², and its gradient needs no second derivatives. (With v
    uniform on the unit sphere it would have to be multiplied by the number of pixels.)

    Args:
        forward_logits: logits a(x + h v), one for each image.
        backward_logits: logits a(x - h v), one for each image.
        step: h, above 0.
    """
    return ((forward_logits.float() - backward_logits.float()) / (2 * step)).square()


def wgan_gradient_penalty(gradients: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
    """Return (‖∇_x a(x)‖ - 1)² of each image, for the penalty λ E(‖∇_x a(x)‖ - 1)².

    The images are interpolated between real and generated ones, where the gradient of the optimal
    critic has norm 1.
    Source: Gulrajani et al. 2017, "Improved training of Wasserstein GANs", equation 3.

    Args:
        gradients: ∇_x a(x) of each image, as `input_gradients` returns it.
    """
    # The derivative of the root is infinite at 0, the gradient norm of a constant critic.
    return ((zero_centered_gradient_penalty(gradients) + _TINY).sqrt() - 1).square()


def normal_log_likelihood(
    x: Float[Tensor, "batch *shape"], mean: Float[Tensor, "batch *shape"], std: float
) -> Float[Tensor, " batch"]:
    """Return log N(x; mean, std² I) of each image, in nats.

    Args:
        x: images, (batch, …).
        mean: mean of each pixel, (batch, …).
        std: standard deviation of each pixel, above 0.
    """
    scaled = (x.float() - mean.float()) / std
    constant = math.log(std) + 0.5 * math.log(2 * math.pi)
    return -(0.5 * scaled.square() + constant).flatten(1).sum(1)


def bernoulli_log_likelihood(
    x: Float[Tensor, "batch *shape"], logits: Float[Tensor, "batch *shape"]
) -> Float[Tensor, " batch"]:
    """Return Σ x log p + (1 - x) log(1 - p), p = sigmoid(logits), of each image, in nats.

    x log p + (1 - x) log(1 - p) = x a - softplus(a). It is a log-probability for x in {0, 1};
    between these it is the value that implementations of Kingma and Welling 2014 use.

    Args:
        x: pixels from 0 to 1, (batch, …).
        logits: logits of the pixels, (batch, …).
    """
    a = logits.float()
    return (x.float() * a - softplus(a)).flatten(1).sum(1)


def kl_to_standard_normal(
    mean: Float[Tensor, "batch latent"], log_variance: Float[Tensor, "batch latent"]
) -> Float[Tensor, " batch"]:
    """Return KL(N(μ, diag σ²) ‖ N(0, I)) = ½ Σ (μ² + σ² - 1 - log σ²), in nats.

    Source: Kingma and Welling 2014, appendix B.

    Args:
        mean: μ, (batch, latent).
        log_variance: log σ² of each row and dimension.
    """
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def posterior_log_density(
    z: Float[Tensor, "batch latent"],
    mean: Float[Tensor, "batch latent"],
    log_variance: Float[Tensor, "batch latent"],
) -> Float[Tensor, " batch"]:
    """Return log N(z; μ, diag σ²) of each row, in nats.

    Args:
        z: latents, (batch, latent).
        mean: μ, (batch, latent).
        log_variance: log σ² of each row and dimension.
    """
    z, mean, log_variance = z.float(), mean.float(), log_variance.float()
    squares = (z - mean).square() * (-log_variance).exp()
    return -0.5 * (squares + log_variance + math.log(2 * math.pi)).sum(1)


def classification_loss(
    class_logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"]
) -> Scalar:
    """Return -E log p(y | x), where p(y | x) is the softmax of the logits.

    Args:
        class_logits: logits of the classes, (batch, classes).
        labels: index of the class of each image.
    """
    return cross_entropy(class_logits.float(), labels)


def mutual_information(
    class_logits: Float[Tensor, "batch classes"], other_logits: Float[Tensor, "batch classes"]
) -> Scalar:
    """Return I(c; c') in nats, c and c' the classes predicted for two views of each image.

        I(c; c') = Σ P log(P / (P_c P_c')),  P = E p(c | x) p(c' | x'), made symmetric

    It is at most log K, which is reached where both views have one class with certainty and all
    classes are equally frequent. It uses no labels. Source: Ji et al. 2019, "Invariant information
    clustering", equations 2 and 3.

    Args:
        class_logits: logits of the classes of one view of each image.
        other_logits: those of another view of the same images.
    """
    p, other_p = (logits.float().softmax(1) for logits in (class_logits, other_logits))
    joint = all_reduce_mean(p.T @ other_p / len(p))
    joint = 0.5 * (joint + joint.T)
    product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    # Clamp, so that pairs of probability 0 contribute 0 and not NaN.
    ratio = joint.clamp_min(_TINY).log() - product.clamp_min(_TINY).log()
    return (joint * ratio).sum()


def reinforce_loss(logits: Logits, log_probability: Float[Tensor, " batch"]) -> Scalar:
    """Return -E (a - E a) log p(c), whose gradient in p is that of -E a.

    a(G(z)) are D's logits of samples and c the mixture components drawn for them, with learned
    probabilities p: components whose samples D rates above the mean of the batch become more
    probable. Source: Williams 1992, "Simple statistical gradient-following algorithms", equation
    11, here with the mean of the batch as baseline.

    Args:
        logits: logits a(G(z)) of samples, one for each.
        log_probability: log p(c) of the component of each sample, in nats.
    """
    a = logits.detach().float()
    return -((a - all_reduce_mean(a.mean())) * log_probability.float()).mean()


def feature_matching_loss(
    real_features: Float[Tensor, "batch features"], fake_features: Float[Tensor, "samples features"]
) -> Scalar:
    """Return ‖E f(x) - E f(G(z))‖² / features, which G minimizes; f are features of D.

    Source: Salimans et al. 2016, section 3.1; the mean over features is that of their experiments.

    Args:
        real_features: features of real images, (batch, features).
        fake_features: features of samples, (samples, features).
    """
    difference = real_features.float().mean(0) - fake_features.float().mean(0)
    return all_reduce_mean(difference).square().mean()


Metrics = dict[str, Scalar]


def logit_metrics(real_logits: Logits, fake_logits: FakeLogits) -> Metrics:
    """Return the batch means of D(x) and D(G(z)), V(D, G) and its two terms.

    They are computed with dropout, as D is trained.

    Args:
        real_logits: logits a(x) of real images, one for each.
        fake_logits: logits a(G(z)) of samples, one for each.
    """
    with torch.no_grad():
        real_term, fake_term = value_terms(real_logits, fake_logits)
        return {
            "d_real": torch.sigmoid(real_logits.float()).mean(),
            "d_fake": torch.sigmoid(fake_logits.float()).mean(),
            "value": real_term + fake_term,
            "value/real": real_term,
            "value/fake": fake_term,
        }


def pair_metrics(differences: Float[Tensor, " pairs"]) -> Metrics:
    """Return the batch means of D(x, G(z)) = sigmoid(a(x) - a(G(z))) and of its logarithm.

    D(x, G(z)) is the probability that the first of a pair is the real one; where D cannot tell, the
    two are 1/2 and -log 2. In a relativistic game a(x) is defined up to a constant alone.

    Args:
        differences: a(x) - a(G(z)) of each pair.
    """
    with torch.no_grad():
        return {
            "d_pair": torch.sigmoid(differences.float()).mean(),
            "value_pair": logsigmoid(differences.float()).mean(),
        }


def critic_metrics(real_logits: Logits, fake_logits: FakeLogits) -> Metrics:
    """Return the batch means of a(x) and a(G(z)), for objectives without probabilities.

    Args:
        real_logits: logits a(x) of real images, one for each.
        fake_logits: logits a(G(z)) of samples, one for each.
    """
    with torch.no_grad():
        return {"a(x)": real_logits.float().mean(), "a(G(z))": fake_logits.float().mean()}


@dataclass(frozen=True)
class Objective:
    """The losses of both players, and the metrics of the logits."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    """A function of logits of images and of samples, which D minimizes."""
    generator: Callable[[Tensor], Tensor]
    """A function of logits of samples, which G minimizes."""
    metrics: Callable[[Tensor, Tensor], Metrics] = logit_metrics


GENERATOR_LOSSES = {
    "minimax": minimax_generator_loss,
    "non-saturating": non_saturating_generator_loss,
}
"""Losses of G in the game of 2014, in which D is a classifier."""

OBJECTIVES = {
    **{name: Objective(discriminator_loss, loss) for name, loss in GENERATOR_LOSSES.items()},
    "hinge": Objective(hinge_discriminator_loss, critic_generator_loss, critic_metrics),
    "least-squares": Objective(
        least_squares_discriminator_loss, least_squares_generator_loss, critic_metrics
    ),
    "wasserstein": Objective(wasserstein_discriminator_loss, critic_generator_loss, critic_metrics),
}
"""Objectives by the names of `--game.objective`."""
