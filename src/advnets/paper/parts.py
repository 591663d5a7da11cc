"""The paper's parts by name, in the paper's order."""

from __future__ import annotations

from advnets.paper import equation1, figure1, figure2, figure3, table1
from advnets.paper.part import Part

PARTS: dict[str, Part] = {
    "eq1": Part("The minimax game", "Equation 1, section 3", equation1.show),
    "fig1": Part("Figure 1: the game on a line", "Figure 1, section 3", figure1.show),
    "table1": Part("Table 1: log-likelihoods", "Table 1, section 5", table1.show),
    "fig2": Part("Figure 2: samples", "Figure 2, section 5", figure2.show),
    "fig3": Part("Figure 3: lines in z", "Figure 3, section 5", figure3.show),
}
