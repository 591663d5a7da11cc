"""Section 3's remark: early on log(1 - D(G(z))) saturates, and -log D(G(z)) does not."""

from __future__ import annotations

from advnets.paper import bad_start, init_range, loss_gradients
from advnets.paper.blocks import Setting, Shown


def show(setting: Setting) -> Shown:
    """The two pulls, training with either, and the logits that either way of writing bears."""
    told = [part.show(setting) for part in (loss_gradients, bad_start, init_range)]
    return Shown(
        blocks=tuple(block for one in told for block in one.blocks),
        checks=tuple(check for one in told for check in one.checks),
    )
