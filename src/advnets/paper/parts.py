"""The paper's parts by name, in the paper's order."""

from __future__ import annotations

from advnets.paper import equation1, figure1
from advnets.paper.part import Part

PARTS: dict[str, Part] = {
    "eq1": Part("The minimax game", "Equation 1, section 3", equation1.show),
    "fig1": Part("Figure 1: the game on a line", "Figure 1, section 3", figure1.show),
}
