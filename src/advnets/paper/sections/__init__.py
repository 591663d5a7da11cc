"""The registry of the paper's sections, in the paper's order."""

from __future__ import annotations

from advnets.paper.blocks import Section
from advnets.paper.sections import (
    algorithm1,
    counterfeiter,
    density,
    equation1,
    figure1,
    figure2,
    figure3,
    helvetica,
    proposition1,
    proposition2,
    saturation,
    table1,
    table2,
    theorem1,
    vae,
)

SECTIONS: dict[str, Section] = {
    "equation1": Section("The minimax game", "Equation 1, section 3", equation1.build),
    "algorithm1": Section(
        "Algorithm 1: k, and the cost of training D to completion", "Algorithm 1", algorithm1.build
    ),
    "saturation": Section(
        "The saturating generator loss", "Section 3, saturation", saturation.build
    ),
    "figure1": Section("Figure 1: a one-dimensional game", "Figure 1, section 3", figure1.build),
    "proposition1": Section(
        "The optimal discriminator", "Proposition 1, section 4.1", proposition1.build
    ),
    "theorem1": Section(
        "The training criterion is a divergence", "Theorem 1, section 4.1", theorem1.build
    ),
    "proposition2": Section(
        "Convergence of Algorithm 1", "Proposition 2, section 4.2", proposition2.build
    ),
    "table1": Section("Table 1: log-likelihoods", "Table 1, section 5", table1.build),
    "figure2": Section("Figure 2: samples", "Figure 2, section 5", figure2.build),
    "figure3": Section("Figure 3: linear interpolation in z", "Figure 3, section 5", figure3.build),
    "table2": Section(
        "Table 2: challenges of deep generative models", "Table 2, section 6", table2.build
    ),
    "vae": Section("VAE baseline", "Section 2", vae.build),
    "density": Section("Explicit density models", "Section 2", density.build),
    "helvetica": Section("Mode collapse: the Helvetica scenario", "Section 6", helvetica.build),
    "counterfeiter": Section("The counterfeiter analogy", "Section 1", counterfeiter.build),
}
