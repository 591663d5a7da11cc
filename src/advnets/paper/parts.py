"""The paper's parts by name, in the paper's order."""

from __future__ import annotations

from advnets.paper import equation1, figure1, proposition1, proposition2, saturation, theorem1
from advnets.paper.part import Part

PARTS: dict[str, Part] = {
    "eq1": Part("The minimax game", "Equation 1, section 3", equation1.show),
    "saturation": Part("What G minimises in practice", "Section 3, saturation", saturation.show),
    "fig1": Part("Figure 1: the game on a line", "Figure 1, section 3", figure1.show),
    "prop1": Part("The optimal discriminator", "Proposition 1, section 4.1", proposition1.show),
    "thm1": Part("The criterion is a divergence", "Theorem 1, section 4.1", theorem1.show),
    "prop2": Part("Descent on p_g itself", "Proposition 2, section 4.2", proposition2.show),
}
