"""What a training is told to learn from, as plain values for events and the console."""

from __future__ import annotations

from typing import Any

import numpy as np

from advnets import config
from advnets.data.dataset import Part, Splits, length
from advnets.data.variety import distinct_pictures, few_pictures


def data_summary(splits: Splits, game: config.GameConfig) -> dict[str, Any]:
    """Return counts of splits, of training classes and of unused files, and what to be warned of.

    `unlabeled` is the number of pictures without labels, and `uses_unlabeled` whether the game
    learns from them.
    """
    train, count = splits.train, length(splits.train)
    held_out = {"valid": splits.valid, "test": splits.test, "unlabeled": splits.unlabeled}
    warning = few_pictures(distinct_pictures(train), count or 0)
    return {
        "name": splits.name,
        "shape": list(splits.shape),
        "train": count,
        **{name: 0 if part is None else len(part) for name, part in held_out.items()},
        "uses_unlabeled": isinstance(game, config.SemiSupervisedGame) and game.unlabelled,
        "classes": _class_counts(train, splits.labelled()) if isinstance(train, Part) else {},
        "unused": dict(splits.unused),
        "notes": [*splits.notes, *([warning] if warning else [])],
    }


def _class_counts(train: Part, classes: tuple[str, ...]) -> dict[str, int]:
    if train.labels is None:
        return {}
    counts = np.bincount(train.labels, minlength=len(classes))
    return dict(zip(classes, counts.tolist(), strict=True))
