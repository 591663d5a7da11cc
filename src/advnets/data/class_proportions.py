"""The proportions in which the classes of conditional samples are drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, cast

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from advnets.errors import UnknownNameError, UsageError

ProportionKind = Literal["data", "uniform"]
"""The proportions of the training images ("data"), or equal ones for all classes ("uniform")."""


@dataclass(frozen=True, eq=False)
class ClassProportions:
    """Probabilities, summing to 1, with which the classes of conditional samples are drawn."""

    kind: ProportionKind
    probabilities: Float64[Tensor, " classes"]

    @classmethod
    def from_counts(cls, kind: ProportionKind, counts: Sequence[int]) -> ClassProportions:
        """Return the proportions of classes from the number of training images of each.

        A class without training images has probability 0.

        Raises:
            UsageError: no class has a training image.
        """
        frequency = torch.tensor(counts, dtype=torch.float64)
        if not len(frequency) or not frequency.sum():
            raise UsageError(
                "class proportions need at least one training image, got none; pass the number of "
                "training images of each class"
            )
        if kind == "uniform":
            frequency = (frequency > 0).double()
        return cls(kind, frequency / frequency.sum())

    @property
    def present(self) -> Int[Tensor, " present"]:
        """Return the indices of the classes that have training images."""
        return self.probabilities.nonzero().flatten()

    def draw(self, uniform: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Return one class index for each of n uniform random numbers in [0, 1)."""
        present = self.present
        uniform = uniform.cpu()
        if self.kind == "uniform":
            return present[(uniform * len(present)).long()]
        cumulative = self.probabilities[present].cumsum(0)
        position = torch.searchsorted(cumulative, uniform.double(), right=True)
        # Rounding may leave the last cumulative probability slightly below 1.
        return present[position.clamp_max(len(present) - 1)]

    def allocate(self, n: int) -> Int[Tensor, " n"]:
        """Return n class indices of which every prefix has these proportions, up to rounding.

        The k-th sample of class c (k = 0, 1, …) is placed at (k + 1/2) / p_c, and samples are
        sorted by place; classes of equal probability therefore alternate. The counts are those of
        Sainte-Laguë's apportionment method.
        """
        present = self.present
        probabilities = self.probabilities[present]
        counts = (n * probabilities).ceil().long() + 1
        labels = present.repeat_interleave(counts)
        number = torch.cat([torch.arange(int(count)) for count in counts])
        sort_key = (number + 0.5) / probabilities.repeat_interleave(counts)
        return labels[sort_key.argsort(stable=True)[:n]]


Label = Annotated[
    str | Sequence[str] | None, "set label_index to give classes by their numbers, from 0"
]
"""The name of a class, or one for each sample."""
LabelIndex = int | Sequence[int] | Tensor | None
"""The index of a class, or one for each sample."""
Labels = Tensor | ClassProportions
"""Labels of conditional samples: one class index per sample, or proportions to draw them from."""


def check_labels(labels: Tensor, n: int, num_classes: int) -> None:
    """Check that labels are one class index for each of n samples.

    Raises:
        UsageError: `labels` is not an integer tensor of shape (n,), or an index is out of range.
    """
    integral = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.shape != (n,) or not integral:
        raise UsageError(
            f"class indices must be integers of shape ({n},), one per sample, got {labels.dtype} "
            f"of shape {tuple(labels.shape)}; pass one class index per sample"
        )
    if n and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        wrong = next(int(index) for index in labels if not 0 <= int(index) < num_classes)
        raise UsageError(
            f"class indices must be 0 to {num_classes - 1}, got {wrong}; pass indices of existing "
            "classes"
        )


def class_indices(
    classes: Sequence[str],
    counts: Sequence[int],
    n: int,
    label: object = None,
    label_index: object = None,
) -> Int[Tensor, " n"]:
    """Return n class indices from the name(s) or index (indices) of one class or of n.

    `counts` are the training images of each class; empty if unknown.

    Raises:
        UnknownNameError: there is no class of that name.
        UsageError: both `label` and `label_index` are set, one has a wrong type or length, or a
            class has no training images.
    """
    if label is not None and label_index is not None:
        raise UsageError("both a label and a label index were set; set only one of them")
    # Convert names or indices to a tensor of indices.
    if label is None:
        indices = _to_tensor(label_index)
        is_single = indices.ndim == 0
    else:
        is_single = isinstance(label, str)
        is_list = not is_single and isinstance(label, Iterable) and getattr(label, "ndim", 1) > 0
        names = list(cast(Iterable[object], label)) if is_list else [label]
        indices = torch.tensor([_name_to_index(name, classes) for name in names], dtype=torch.int64)
    # Repeat a single class for all samples, and check the result.
    indices = indices.reshape(-1).expand(n) if is_single else indices
    check_labels(indices, n, len(classes))
    untrained = [i for i in indices.unique().tolist() if counts and not counts[i]]
    if untrained:
        raise UsageError(
            f"class {classes[untrained[0]]!r} has no training images, so the generator has not "
            "learned it; choose another class"
        )
    return indices


def _to_tensor(label_index: object) -> Tensor:
    try:
        return torch.as_tensor(label_index)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(
            f"the label index must be one class index, or one per sample, got {label_index!r}; "
            "pass an integer or a list of integers"
        ) from None


def _name_to_index(name: object, classes: Sequence[str]) -> int:
    if not isinstance(name, str):
        raise UsageError(
            f"a label must be the name of a class, got {name!r}; pass a name such as "
            f"label={classes[0]!r}, or an index such as label_index=0"
        )
    return class_index(name, classes)


def class_index(name: str, classes: Sequence[str]) -> int:
    """Return the index of the class of that name.

    Raises:
        UnknownNameError: there is no such class.
    """
    if name not in classes:
        raise UnknownNameError("class", name, classes)
    return list(classes).index(name)
