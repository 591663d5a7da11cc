"""How much of the classes a set of features tells: a linear classifier, and the nearest image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from advnets.errors import DataError, UsageError, require
from advnets.metrics.distance import nearest, scale_to_range
from advnets.metrics.validation import check_features

COSTS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""What C is chosen from."""
_MOST = 3 << 30
_NODE = 24
"""Bytes that scikit-learn's solver takes for a feature of an image, and how many it may."""
_ITERATIONS = 500
_ENOUGH = 2
"""Larger C in a row that are worse: none larger is tried."""


@dataclass(frozen=True)
class LabeledFeatures:
    """Features of images, and their classes 0, 1, …"""

    features: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]

    def part(self, which: Tensor) -> LabeledFeatures:
        """Some of them."""
        return LabeledFeatures(self.features[which], self.labels[which])

    def with_more(self, others: LabeledFeatures) -> LabeledFeatures:
        """These and the others."""
        features = torch.cat((self.features, others.features))
        return LabeledFeatures(features, torch.cat((self.labels, others.labels)))


@dataclass(frozen=True)
class ProbeResult:
    """How often a linear classifier of features is right, with all that it hangs on."""

    accuracy: float
    """Share of test images, mean over draws."""
    std: float | None
    """Standard deviation over draws; of one draw none."""
    labels: int
    """Images learned from: as many of each class, so that a budget is rounded up to that."""
    draws: int
    costs: tuple[float, ...]
    """C of each draw, chosen on validation images."""
    n_test: int
    mirrored: bool
    """Whether labeled images were learned turned left to right too."""


def probe(
    train: LabeledFeatures,
    valid: LabeledFeatures,
    test: LabeledFeatures,
    *,
    budget: int | None = None,
    draws: int = 10,
    seed: int = 0,
    costs: Sequence[float] = COSTS,
    mirrored: Float[Tensor, "n d"] | None = None,
) -> ProbeResult:
    """Accuracy of a regularized linear L2-SVM on features, trained on a budget of labels.

        min ½‖w‖² + C Σ max(0, 1 - y (w x + b))², one class against the others

    As many images of each class are drawn, several times; C is chosen on the validation images
    of each draw, from the least up to where two in a row are worse. All labels (None) are one draw.
    Features are brought to mean 0 and variance 1 by those of all training images, which takes no
    label. `mirrored` are features of the training images turned left to right: what was drawn is
    then learned in both forms, at half the C that the images alone have chosen.
    Source: Radford et al. 2015, section 5.

    Raises:
        UsageError: there are no draws, no labels or no costs.
        DataError: a class has fewer images than the budget asks for, or none; numbers of features
            and labels are unlike; features are not finite.
        MissingExtraError: scikit-learn is not installed.
    """
    if draws < 1 or not costs or (budget is not None and budget < 1):
        raise UsageError(
            f"{draws} draws of {budget} labels and {len(costs)} costs came; give at least one each"
        )
    if min(costs) <= 0:
        raise UsageError(f"costs are {', '.join(map(str, costs))}; give numbers above 0")
    sets = {"training": train, "validation": valid, "test": test}
    classes = max(_classes(name, some) for name, some in sets.items())
    alike = check_features(2, **{name: some.features for name, some in sets.items()})
    train, valid, test = (
        LabeledFeatures(features, some.labels)
        for features, some in zip(alike, sets.values(), strict=True)
    )
    if classes < 2:
        raise DataError("all labels are of class 0; give images of at least 2 classes")
    _check_present(train.labels, classes)
    shift, scale = train.features.mean(0), train.features.std(0)
    constant = (train.features == train.features[0]).all(0)
    scale = torch.where(constant, torch.ones_like(scale), scale)
    train, valid, test = (
        LabeledFeatures(_scaled(some.features, shift, scale), some.labels)
        for some in (train, valid, test)
    )
    turned = None
    if mirrored is not None:
        _, mirrored = check_features(2, training=train.features, mirrored=mirrored)
        if len(mirrored) != len(train.labels):
            raise DataError(
                f"{len(mirrored)} mirrored and {len(train.labels)} training images came; give "
                "each training image mirrored"
            )
        turned = LabeledFeatures(_scaled(mirrored, shift, scale), train.labels)
    right: list[float] = []
    chosen: list[float] = []
    learned = len(train.labels)
    for draw in range(1 if budget is None else draws):
        which = None if budget is None else _drawn(train.labels, budget, seed, draw)
        told = train if which is None else train.part(which)
        learned = len(told.labels)
        cost, planes = _chosen(told, valid, costs)
        if turned is not None:
            more = turned if which is None else turned.part(which)
            planes = linear_svm(told.with_more(more), cost / 2, planes)
        chosen.append(cost)
        right.append(_right(planes, test))
    return ProbeResult(
        accuracy=float(np.mean(right)),
        std=float(np.std(right, ddof=1)) if len(right) > 1 else None,
        labels=learned,
        draws=len(right),
        costs=tuple(chosen),
        n_test=len(test.labels),
        mirrored=turned is not None,
    )


def _scaled(features: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    # In place, as there may be gigabytes of them.
    return features.sub(shift).div_(scale).float()


Planes = tuple[Float[Tensor, "classes d"], Float[Tensor, " classes"]]


def _chosen(
    told: LabeledFeatures, valid: LabeledFeatures, costs: Sequence[float]
) -> tuple[float, Planes]:
    """The best C on validation images, from the least up to where two in a row are worse."""
    tried: list[tuple[float, float, Planes]] = []
    best, worse, planes = 0.0, 0, None
    for cost in sorted(costs):
        planes = linear_svm(told, cost, planes)
        share = _right(planes, valid)
        tried.append((share, -cost, planes))
        best, worse = max(best, share), worse + 1 if share < best else 0
        if worse == _ENOUGH:
            break
    _, cost, planes = max(tried, key=lambda one: one[:2])
    return -cost, planes


def linear_svm(told: LabeledFeatures, cost: float, start: Planes | None = None) -> Planes:
    """A plane for each class against the others: scikit-learn's `LinearSVC`.

    Its solver keeps 24 bytes for each feature of each image; where that is too much, the same
    minimum is sought by SciPy's L-BFGS on the features as they are, from `start` on.
    """
    if told.features.numel() * _NODE > _MOST:
        return _by_lbfgs(told, cost, start)
    svm: Any = require("sklearn.svm", "digits")
    fit = svm.LinearSVC(
        C=cost, dual="auto", max_iter=10_000, intercept_scaling=_FREE, random_state=0
    )
    fit.fit(told.features.numpy(), told.labels.numpy())
    weights, bias = torch.from_numpy(fit.coef_).float(), torch.from_numpy(fit.intercept_).float()
    if len(weights) == 1:  # two classes have one plane
        weights, bias = torch.cat((-weights, weights)), torch.cat((-bias, bias))
    return weights, bias


_FREE = 10.0
"""scikit-learn shrinks the bias as it shrinks weights, the less the larger this is."""


def _by_lbfgs(told: LabeledFeatures, cost: float, start: Planes | None) -> Planes:
    optimize: Any = require("scipy.optimize", "digits")
    x, classes = told.features, int(told.labels.max()) + 1
    signs = 2.0 * F.one_hot(told.labels, classes).float() - 1
    d = x.shape[1]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        planes = torch.from_numpy(flat).float().view(classes, d + 1)
        weights, bias = planes[:, :d], planes[:, d] * _FREE
        short = (1 - signs * (x @ weights.T + bias)).clamp_(min=0)
        total = 0.5 * planes.double().square().sum() + cost * short.double().square().sum()
        back = -2 * cost * signs * short
        gradient = torch.cat((back.T @ x, back.sum(0)[:, None] * _FREE), 1) + planes
        return float(total), gradient.double().flatten().numpy()

    begin = np.zeros((classes, d + 1))
    if start is not None:
        begin[:, :d], begin[:, d] = start[0].numpy(), start[1].numpy() / _FREE
    found = optimize.minimize(
        loss, begin.flatten(), jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS}
    )
    planes = torch.from_numpy(found.x).float().view(classes, d + 1)
    return planes[:, :d], planes[:, d] * _FREE


def _right(planes: Planes, some: LabeledFeatures) -> float:
    weights, bias = planes
    verdict = (some.features @ weights.T + bias).argmax(1)
    return float((verdict == some.labels).double().mean())


def _drawn(labels: Int[Tensor, " n"], budget: int, seed: int, draw: int) -> Int[Tensor, " budget"]:
    """As many images of each class, at random."""
    classes = int(labels.max()) + 1
    each = math.ceil(budget / classes)
    rng = np.random.default_rng((seed, draw))
    parts: list[Tensor] = []
    for number in range(classes):
        of_class = (labels == number).nonzero().flatten()
        if len(of_class) < each:
            raise DataError(
                f"{budget:,} labels were asked for, {each:,} of each class, but class {number} has "
                f"{len(of_class):,}; ask for fewer"
            )
        parts.append(of_class[torch.from_numpy(rng.permutation(len(of_class))[:each])])
    return torch.cat(parts)


def nearest_image_error(known: LabeledFeatures, test: LabeledFeatures) -> float:
    """Share of test images that the nearest known image gives a wrong class.

    Source: Radford et al. 2015, appendix (“Evaluating DCGANs' capability to capture data
    distributions”): 1.48 to 6.28 % where the known images are conditional samples of MNIST.

    Raises:
        DataError: a set is empty, widths differ, numbers are not finite, or there are not as many
            labels as features.
    """
    for name, some in (("known", known), ("test", test)):
        _classes(name, some)
    points, others = scale_to_range(*check_features(1, test=test.features, known=known.features))
    _, which = nearest(points, others)
    return float((known.labels[which[:, 0]] != test.labels).double().mean())


def _classes(name: str, some: LabeledFeatures) -> int:
    """How many classes the labels speak of."""
    if len(some.labels) != len(some.features) or not len(some.labels):
        raise DataError(
            f"{len(some.features)} {name} images came with {len(some.labels)} labels; give one "
            "for each image, and an image or more"
        )
    least = int(some.labels.min())
    if least < 0:
        raise DataError(f"a {name} label is {least}; number the classes from 0 on")
    return int(some.labels.max()) + 1


def _check_present(labels: Int[Tensor, " n"], classes: int) -> None:
    absent = (torch.bincount(labels, minlength=classes) == 0).nonzero().flatten().tolist()
    if absent:
        raise DataError(
            f"class {absent[0]} has no training image, so that nothing can be learned of it; "
            "give a set whose classes all have some"
        )
