"""Classes of conditional samples: how often each is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from advnets.errors import UnknownNameError, UsageError

Kind = Literal["data", "equal"]
"""As frequent as in the training images, as G is trained; or each class as frequent."""


@dataclass(frozen=True, eq=False)
class ClassProportions:
    """The probabilities with which the classes of conditional samples are drawn, which sum to 1."""

    kind: Kind
    probabilities: Float64[Tensor, " classes"]

    @classmethod
    def of(cls, kind: Kind, counts: Sequence[int]) -> ClassProportions:
        """Return the shares of classes that have so many training images; 0 for one without any.

        Raises:
            UsageError: there is no training image.
        """
        frequency = torch.tensor(counts, dtype=torch.float64)
        if not len(frequency) or not frequency.sum():
            raise UsageError(
                "class shares of no training images were asked for; give how many images each "
                "class has"
            )
        if kind == "equal":
            frequency = (frequency > 0).double()
        return cls(kind, frequency / frequency.sum())

    @property
    def present(self) -> Int[Tensor, " present"]:
        """The indices of the classes that have a training image."""
        return self.probabilities.nonzero().flatten()

    def draw(self, uniform: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Return a class index for each of n uniform numbers in [0, 1)."""
        present = self.present
        uniform = uniform.cpu()
        if self.kind == "equal":
            return present[(uniform * len(present)).long()]
        edges = self.probabilities[present].cumsum(0)
        rank = torch.searchsorted(edges, uniform.double(), right=True)
        # Rounding may leave the last edge a little below 1.
        return present[rank.clamp_max(len(present) - 1)]

    def allocate(self, n: int) -> Int[Tensor, " n"]:
        """Return n class indices, the first ones of which, however many, are in these shares.

        Class c is due at (k + 1/2) / p_c for k = 0, 1, …: classes of equal shares come in turn.
        The counts of n are those of Sainte-Laguë's method of apportionment.
        """
        present = self.present
        shares = self.probabilities[present]
        turns = (n * shares).ceil().long() + 1
        labels = present.repeat_interleave(turns)
        number = torch.cat([torch.arange(int(count)) for count in turns])
        due = (number + 0.5) / shares.repeat_interleave(turns)
        return labels[due.argsort(stable=True)[:n]]


Labels = Tensor | ClassProportions
"""Classes of samples: the class index of each, or the frequencies with which they are drawn."""


def check_labels(labels: Tensor, n: int, classes: int) -> None:
    """Refuse labels that are not one class index for each of n samples.

    Raises:
        UsageError: there are more or fewer, or one is no index of a class.
    """
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.shape != (n,) or not whole:
        raise UsageError(
            f"class indices are {labels.dtype} of shape {tuple(labels.shape)}; expected one whole "
            f"number for each of the {n} samples"
        )
    if n and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UsageError(
            f"class indices are from {int(labels.min())} to {int(labels.max())}; expected 0 to "
            f"{classes - 1}"
        )


def class_indices(
    classes: Sequence[str],
    counts: Sequence[int],
    n: int,
    label: object = None,
    label_index: object = None,
) -> Int[Tensor, " n"]:
    """Return n class indices, given the name or the index of one class, or of n.

    Raises:
        UnknownNameError: no class has that name.
        UsageError: both names and indices are given, they are of another kind, not one or n, or of
            a class that has no training image.
    """
    if label is not None and label_index is not None:
        raise UsageError("a label and a label index were given; give one of them")
    if label is None:
        found = _as_tensor(label_index)
        one = found.ndim == 0
    else:
        one = isinstance(label, str)
        several = not one and isinstance(label, Iterable) and getattr(label, "ndim", 1) > 0
        names = list(cast(Iterable[object], label)) if several else [label]
        found = torch.tensor([_index(name, classes) for name in names], dtype=torch.int64)
    found = found.reshape(-1).expand(n) if one else found
    check_labels(found, n, len(classes))
    absent = [i for i in found.unique().tolist() if counts and not counts[i]]
    if absent:
        raise UsageError(
            f"class {classes[absent[0]]!r} has no training image, so that G has not learned it; "
            "give another class"
        )
    return found


def _as_tensor(label_index: object) -> Tensor:
    try:
        return torch.as_tensor(label_index)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(
            f"the label index is {label_index!r}; give the index of a class, or one for each sample"
        ) from None


def _index(name: object, classes: Sequence[str]) -> int:
    if not isinstance(name, str):
        raise UsageError(
            f"the label {name!r} is no name; give the name of a class, as label={classes[0]!r}, or "
            f"its index, as label_index=0 for {classes[0]!r}"
        )
    return class_index(name, classes)


def class_index(name: str, classes: Sequence[str]) -> int:
    """Return the index of the class of this name.

    Raises:
        UnknownNameError: no class has it.
    """
    if name not in classes:
        raise UnknownNameError("class", name, classes)
    return list(classes).index(name)
