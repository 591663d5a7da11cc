"""The value function of the minimax game and its kin, as pure functions of logits.

D(x) = sigmoid(a(x)); a is what every function here takes. Written so, no confident discriminator
makes a logarithm of zero:

    log D(x)       = log sigmoid(a)       = -softplus(-a)
    log(1 - D(x))  = log(1 - sigmoid(a))  = -softplus(a)

Every loss is computed in float32, whatever precision the logits came in.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, relu, softplus

_LEAST = 1e-12


def value_terms(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " samples"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """E_x[log D(x)] and E_z[log(1 - D(G(z)))], the expectations whose sum V is, each at most 0."""
    return -softplus(-real_logits.float()).mean(), -softplus(fake_logits.float()).mean()


def value_function(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " samples"]
) -> Float[Tensor, ""]:
    """V(D, G) = E_x[log D(x)] + E_z[log(1 - D(G(z)))], in nats, estimated on a batch.

    D ascends it, G descends it; it is at most 0, and -log 4 when D is 1/2 everywhere.
    Source: Goodfellow et al. 2014, equation 1.
    """
    real, fake = value_terms(real_logits, fake_logits)
    return real + fake


def discriminator_loss(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " samples"]
) -> Float[Tensor, ""]:
    """-V(D, G) / 2: the binary cross-entropy of D as a classifier, half real and half generated.

    The half is the authors' own (`d_obj` of their code); under plain gradient descent it is part
    of the learning rate. Source: Goodfellow et al. 2014, Algorithm 1.
    """
    return -0.5 * value_function(real_logits, fake_logits)


def minimax_generator_loss(fake_logits: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """E_z[log(1 - D(G(z)))], the part of V that G can change, which G minimizes.

    Its gradient with respect to a logit is -D(G(z)): it saturates where D rejects the samples.
    Source: Goodfellow et al. 2014, equation 1.
    """
    return -softplus(fake_logits.float()).mean()


def non_saturating_generator_loss(fake_logits: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """-E_z[log D(G(z))], which G minimizes in practice.

    It has the same fixed point as the minimax loss; its gradient with respect to a logit is
    D(G(z)) - 1: strongest where D rejects the samples.
    Source: Goodfellow et al. 2014, section 3.
    """
    return softplus(-fake_logits.float()).mean()


def hinge_discriminator_loss(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " samples"]
) -> Float[Tensor, ""]:
    """E_x[max(0, 1 - a(x))] + E_z[max(0, 1 + a(G(z)))]: what is told by a margin of 1 is left.

    Its optimum is the sign of p_data - p_g; where the two are equal it is 2. Source: Lim and Ye
    2017, "Geometric GAN", equation 12; Miyato et al. 2018, equation 16.
    """
    return relu(1 - real_logits.float()).mean() + relu(1 + fake_logits.float()).mean()


def least_squares_discriminator_loss(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " samples"]
) -> Float[Tensor, ""]:
    """½ E_x[(a(x) - 1)²] + ½ E_z[a(G(z))²].

    Its optimum is p_data / (p_data + p_g), D* itself; where the two are equal it is 1/4.
    Source: Mao et al. 2017, "Least squares generative adversarial networks", equation 9.
    """
    return 0.5 * ((real_logits.float() - 1).square().mean() + fake_logits.float().square().mean())


def least_squares_generator_loss(fake_logits: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """½ E_z[(a(G(z)) - 1)²], which G minimizes. Source: Mao et al. 2017, equation 9."""
    return 0.5 * (fake_logits.float() - 1).square().mean()


def wasserstein_discriminator_loss(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " samples"]
) -> Float[Tensor, ""]:
    """E_z[a(G(z))] - E_x[a(x)]; the least of it, of slopes up to 1, is -W₁(p_data, p_g).

    Without a bound on slopes it has no least: play it with `excess_slopes` or `squared_slopes`.
    Source: Arjovsky et al. 2017, "Wasserstein GAN", equation 2.
    """
    return fake_logits.float().mean() - real_logits.float().mean()


def critic_generator_loss(fake_logits: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """-E_z[a(G(z))], which G minimizes against a hinge or a Wasserstein critic."""
    return -fake_logits.float().mean()


def relativistic_logits(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " batch"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """a(x) - a(G(z)) and a(G(z)) - a(x), for images and samples that are paired as they come.

    Taken for logits by the losses above, D is asked which of the two is real:

        L_D = E softplus(-(a(x) - a(G(z)))),  L_G = E softplus(-(a(G(z)) - a(x)))

    At the solution both are log 2. Source: Jolicoeur-Martineau 2018, "The relativistic
    discriminator", section 4.1, which Huang et al. 2024 take up.
    """
    difference = real_logits.float() - fake_logits.float()
    return difference, -difference


def input_gradients(
    logits: Float[Tensor, " batch"], images: Float[Tensor, "batch *shape"]
) -> Float[Tensor, "batch *shape"]:
    """∇_x a(x) of each image, which can itself be differentiated.

    `images` are what the logits were computed from, and require a gradient.
    """
    # Of a sum, as no logit depends on another's image; under batch norm it does, a little.
    (found,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return found


def linearized_logits(
    logits: Float[Tensor, " batch"],
    images: Float[Tensor, "batch *shape"],
    gradients: Float[Tensor, "batch *shape"],
) -> Float[Tensor, " batch"]:
    """a(x) + ∇_x a(x) · (x - x), whose value and gradient in x are those of the logits a(x).

    Whoever has the slopes of D has what G learns from: to come to it from here, no pass leads back
    through D. Only where no logit depends on another's image.
    """
    moved = images - images.detach()
    return logits.detach() + (gradients.detach() * moved).flatten(1).sum(1)


def zero_centered_gradient_penalty(
    gradients: Float[Tensor, "batch *shape"],
) -> Float[Tensor, " batch"]:
    """‖∇_x a(x)‖² of each image, for the penalties γ/2 E‖∇_x a(x)‖².

    R1 where the images are real, R2 where they are generated. Source: Mescheder et al. 2018,
    "Which training methods for GANs do actually converge?", equation 9.
    """
    return gradients.float().square().flatten(1).sum(1)


def wgan_gradient_penalty(gradients: Float[Tensor, "batch *shape"]) -> Float[Tensor, " batch"]:
    """(‖∇_x a(x)‖ - 1)² of each image, for the penalty λ E(‖∇_x a(x)‖ - 1)².

    The images lie on lines between real and generated ones, as where the best critic has slope 1.
    Source: Gulrajani et al. 2017, "Improved training of Wasserstein GANs", equation 3.
    """
    # The root has no slope at 0, where a critic that is flat would begin.
    return ((zero_centered_gradient_penalty(gradients) + _LEAST).sqrt() - 1).square()


def normal_log_likelihood(
    x: Float[Tensor, "batch *shape"], mean: Float[Tensor, "batch *shape"], std: float
) -> Float[Tensor, " batch"]:
    """Log N(x; mean, deviation² I) of each image, in nats."""
    scaled = (x.float() - mean.float()) / std
    constant = math.log(std) + 0.5 * math.log(2 * math.pi)
    return -(0.5 * scaled.square() + constant).flatten(1).sum(1)


def bernoulli_log_likelihood(
    x: Float[Tensor, "batch *shape"], logits: Float[Tensor, "batch *shape"]
) -> Float[Tensor, " batch"]:
    """Σ x log p + (1 - x) log(1 - p), p = sigmoid(logits), of each image, in nats.

    x log p + (1 - x) log(1 - p) = x a - softplus(a). A density for x in {0, 1}; between them it is
    the bound that readers of Kingma and Welling 2014 use.
    """
    a = logits.float()
    return (x.float() * a - softplus(a)).flatten(1).sum(1)


def kl_to_standard_normal(
    mean: Float[Tensor, "batch latent"], log_variance: Float[Tensor, "batch latent"]
) -> Float[Tensor, " batch"]:
    """KL(N(μ, diag σ²) ‖ N(0, I)) = ½ Σ (μ² + σ² - 1 - log σ²), in nats.

    Source: Kingma and Welling 2014, appendix B.
    """
    mean, log_variance = mean.float(), log_variance.float()
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def posterior_log_density(
    z: Float[Tensor, "batch latent"],
    mean: Float[Tensor, "batch latent"],
    log_variance: Float[Tensor, "batch latent"],
) -> Float[Tensor, " batch"]:
    """Log N(z; μ, diag σ²) of each row, in nats."""
    z, mean, log_variance = z.float(), mean.float(), log_variance.float()
    squares = (z - mean).square() * (-log_variance).exp()
    return -0.5 * (squares + log_variance + math.log(2 * math.pi)).sum(1)


def classification_loss(
    class_logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """-E log p(y | x), p(y | x) = softmax of the logits."""
    return cross_entropy(class_logits.float(), labels)


def mutual_information(
    class_logits: Float[Tensor, "batch classes"], others: Float[Tensor, "batch classes"]
) -> Float[Tensor, ""]:
    """I(c; c') in nats, c and c' the classes given to an image seen in two ways.

        I(c; c') = Σ P log(P / (P_c P_c')),  P = E p(c | x) p(c' | x'), made symmetric

    At most log K: where each image has one class, the same in both ways, and all classes are as
    frequent. No label is in it. Source: Ji et al. 2019, "Invariant information clustering",
    equations 2 and 3.
    """
    one, other = (logits.float().softmax(1) for logits in (class_logits, others))
    joint = one.T @ other / len(one)
    joint = 0.5 * (joint + joint.T)
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    # What is never met adds 0, and its logarithm would add NaN.
    ratio = joint.clamp_min(_LEAST).log() - apart.clamp_min(_LEAST).log()
    return (joint * ratio).sum()


def reinforce_loss(
    logits: Float[Tensor, " batch"], log_probability: Float[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """-E (a - E a) log p(c), whose gradient in p is that of -E a.

    a(G(z)) are D's logits of samples, c the choices that were drawn with learned probabilities p to
    make them: those that D finds more real than the mean of the batch become more probable. Source:
    Williams 1992, "Simple statistical gradient-following algorithms", equation 11, whose baseline
    is the batch's mean here.
    """
    a = logits.detach().float()
    return -((a - a.mean()) * log_probability.float()).mean()


def feature_matching_loss(
    real_features: Float[Tensor, "batch features"], fake_features: Float[Tensor, "samples features"]
) -> Float[Tensor, ""]:
    """‖E f(x) - E f(G(z))‖² / features, which G minimizes; f are D's hidden units.

    Source: Salimans et al. 2016, section 3.1; the mean over features as in their experiments.
    """
    return (real_features.float().mean(0) - fake_features.float().mean(0)).square().mean()
