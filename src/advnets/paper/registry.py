"""The paper's parts by name, in the paper's order."""

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
    "eq1": Section("The minimax game", "Equation 1, section 3", equation1.show),
    "alg1": Section("Algorithm 1: k, and why D is not completed", "Algorithm 1", algorithm1.show),
    "saturation": Section("What G minimizes in practice", "Section 3, saturation", saturation.show),
    "fig1": Section("Figure 1: the game on a line", "Figure 1, section 3", figure1.show),
    "prop1": Section("The optimal discriminator", "Proposition 1, section 4.1", proposition1.show),
    "thm1": Section("The criterion is a divergence", "Theorem 1, section 4.1", theorem1.show),
    "prop2": Section("Descent on p_g itself", "Proposition 2, section 4.2", proposition2.show),
    "table1": Section("Table 1: log-likelihoods", "Table 1, section 5", table1.show),
    "fig2": Section("Figure 2: samples", "Figure 2, section 5", figure2.show),
    "fig3": Section("Figure 3: lines in z", "Figure 3, section 5", figure3.show),
    "table2": Section("Table 2: what each approach finds hard", "Table 2, section 6", table2.show),
    "vae": Section("The variational autoencoder beside it", "Section 2", vae.show),
    "density": Section("Why not fit p_model directly", "Section 2", density.show),
    "helvetica": Section("The Helvetica scenario", "Section 6", helvetica.show),
    "counterfeiter": Section("The counterfeiter", "Section 1", counterfeiter.show),
}
