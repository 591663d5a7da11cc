"""The value function of the minimax game and its kin, as pure functions of logits.

D(x) = sigmoid(a(x)); a is what every function here takes. Written so, no confident discriminator
makes a logarithm of zero:

    log D(x)       = log sigmoid(a)       = -softplus(-a)
    log(1 - D(x))  = log(1 - sigmoid(a))  = -softplus(a)

Every loss is computed in float32, whatever precision the logits came in.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus


def value_terms(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " batch"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """E_x[log D(x)] and E_z[log(1 - D(G(z)))], the expectations whose sum V is, each at most 0."""
    return -softplus(-real_logits.float()).mean(), -softplus(fake_logits.float()).mean()


def value_function(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """V(D, G) = E_x[log D(x)] + E_z[log(1 - D(G(z)))], in nats, estimated on a batch.

    D ascends it, G descends it; it is at most 0, and -log 4 when D is 1/2 everywhere.
    Source: Goodfellow et al. 2014, equation 1.
    """
    real, fake = value_terms(real_logits, fake_logits)
    return real + fake


def discriminator_loss(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """-V(D, G) / 2: the binary cross-entropy of D as a classifier, half real and half generated.

    The half is the authors' own (`d_obj` of their code); under plain gradient descent it is part
    of the learning rate. Source: Goodfellow et al. 2014, Algorithm 1.
    """
    return -0.5 * value_function(real_logits, fake_logits)


def minimax_generator_loss(fake_logits: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """E_z[log(1 - D(G(z)))], the part of V that G can change, which G minimises.

    Its gradient with respect to a logit is -D(G(z)): it saturates where D rejects the samples.
    Source: Goodfellow et al. 2014, equation 1.
    """
    return -softplus(fake_logits.float()).mean()


def non_saturating_generator_loss(fake_logits: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
    """-E_z[log D(G(z))], which G minimises in practice.

    It has the same fixed point as the minimax loss; its gradient with respect to a logit is
    D(G(z)) - 1: strongest where D rejects the samples.
    Source: Goodfellow et al. 2014, section 3.
    """
    return softplus(-fake_logits.float()).mean()


def relative(
    real_logits: Float[Tensor, " batch"], fake_logits: Float[Tensor, " batch"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """a(x) - a(G(z)) and a(G(z)) - a(x), for pictures and samples that are paired as they come.

    Taken for logits by the losses above, D is asked which of the two is real:

        L_D = E softplus(-(a(x) - a(G(z)))),  L_G = E softplus(-(a(G(z)) - a(x)))

    At the solution both are log 2. Source: Jolicoeur-Martineau 2018, "The relativistic
    discriminator", section 4.1, which Huang et al. 2024 take up.
    """
    difference = real_logits.float() - fake_logits.float()
    return difference, -difference


def squared_slopes(
    logits: Float[Tensor, " batch"], pictures: Float[Tensor, "batch *shape"]
) -> Float[Tensor, " batch"]:
    """‖∇_x a(x)‖² of each picture, for the penalties γ/2 E‖∇_x a(x)‖².

    R1 where the pictures are real, R2 where they are generated; `pictures` are what the logits were
    computed from, and require a gradient. Source: Mescheder et al. 2018, "Which training methods
    for GANs do actually converge?", equation 9.
    """
    # Of a sum, as no logit depends on another's picture; under batch norm it does, a little.
    (slopes,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return slopes.float().square().flatten(1).sum(1)
