"""The paper's parts by name, in the paper's order."""

from __future__ import annotations

from advnets.paper import (
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
from advnets.paper.blocks import Part

PARTS: dict[str, Part] = {
    "eq1": Part("The minimax game", "Equation 1, section 3", equation1.show),
    "alg1": Part("Algorithm 1: k, and why D is not completed", "Algorithm 1", algorithm1.show),
    "saturation": Part("What G minimises in practice", "Section 3, saturation", saturation.show),
    "fig1": Part("Figure 1: the game on a line", "Figure 1, section 3", figure1.show),
    "prop1": Part("The optimal discriminator", "Proposition 1, section 4.1", proposition1.show),
    "thm1": Part("The criterion is a divergence", "Theorem 1, section 4.1", theorem1.show),
    "prop2": Part("Descent on p_g itself", "Proposition 2, section 4.2", proposition2.show),
    "table1": Part("Table 1: log-likelihoods", "Table 1, section 5", table1.show),
    "fig2": Part("Figure 2: samples", "Figure 2, section 5", figure2.show),
    "fig3": Part("Figure 3: lines in z", "Figure 3, section 5", figure3.show),
    "table2": Part("Table 2: what each approach finds hard", "Table 2, section 6", table2.show),
    "vae": Part("The variational autoencoder beside it", "Section 2", vae.show),
    "density": Part("Why not fit p_model directly", "Section 2", density.show),
    "helvetica": Part("The Helvetica scenario", "Section 6", helvetica.show),
    "counterfeiter": Part("The counterfeiter", "Section 1", counterfeiter.show),
}
