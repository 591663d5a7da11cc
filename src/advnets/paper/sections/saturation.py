"""Section 3's remark: early on log(1 - D(G(z))) saturates, and -log D(G(z)) does not."""

from __future__ import annotations

from advnets.paper.blocks import SectionContent, SectionContext
from advnets.paper.studies import bad_start, init_range, loss_gradients


def show(context: SectionContext) -> SectionContent:
    """The two pulls, training with either, and the logits that either way of writing bears."""
    told = [part.show(context) for part in (loss_gradients, bad_start, init_range)]
    return SectionContent(
        blocks=tuple(block for one in told for block in one.blocks),
        checks=tuple(check for one in told for check in one.checks),
    )
