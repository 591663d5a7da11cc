"""Section 3's remark: early in training log(1 - D(G(z))) saturates and -log D(G(z)) does not."""

from __future__ import annotations

from advnets.paper.blocks import SectionContent, SectionContext
from advnets.paper.studies import bad_start, init_range, loss_gradients


def build(context: SectionContext) -> SectionContent:
    """Build the section: both losses' gradients, training with either, and numerical stability."""
    contents = [study.build(context) for study in (loss_gradients, bad_start, init_range)]
    return SectionContent(
        blocks=tuple(block for content in contents for block in content.blocks),
        checks=tuple(check for content in contents for check in content.checks),
    )
