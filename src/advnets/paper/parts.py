"""The paper's parts by name, in the paper's order."""

from __future__ import annotations

from advnets.paper import density, equation1, figure1, table2
from advnets.paper.part import Part

PARTS: dict[str, Part] = {
    "eq1": Part("The minimax game", "Equation 1, section 3", equation1.show),
    "fig1": Part("Figure 1: the game on a line", "Figure 1, section 3", figure1.show),
    "table2": Part("Table 2: what each approach finds hard", "Table 2, section 6", table2.show),
    "density": Part("Why not fit p_model directly", "Section 2", density.show),
}
