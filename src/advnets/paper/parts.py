"""The paper's parts by name, in the paper's order."""

from __future__ import annotations

from advnets.paper import algorithm1, counterfeiter, equation1, figure1, helvetica
from advnets.paper.part import Part

PARTS: dict[str, Part] = {
    "eq1": Part("The minimax game", "Equation 1, section 3", equation1.show),
    "alg1": Part("Algorithm 1: k, and why D is not completed", "Algorithm 1", algorithm1.show),
    "fig1": Part("Figure 1: the game on a line", "Figure 1, section 3", figure1.show),
    "helvetica": Part("The Helvetica scenario", "Section 6", helvetica.show),
    "counterfeiter": Part("The counterfeiter", "Section 1", counterfeiter.show),
}
