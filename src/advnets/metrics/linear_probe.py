"""Classification by features: a linear SVM, and a nearest-neighbor classifier."""

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
"""The values from which C is selected."""
_MAX_BYTES = 3 << 30
"""The largest memory that scikit-learn's solver may use."""
_BYTES_PER_FEATURE = 24
"""Bytes that scikit-learn's solver uses for each feature of each image."""
_ITERATIONS = 500
_PATIENCE = 2
"""The search for C stops after this many larger values in a row that are worse."""


@dataclass(frozen=True)
class LabeledFeatures:
    """Features of images, and their classes 0, 1, …"""

    features: Float[Tensor, "n d"]
    labels: Int[Tensor, " n"]

    def subset(self, which: Tensor) -> LabeledFeatures:
        """Return the rows at these indices."""
        return LabeledFeatures(self.features[which], self.labels[which])

    def concatenate(self, others: LabeledFeatures) -> LabeledFeatures:
        """Return the rows of both."""
        features = torch.cat((self.features, others.features))
        return LabeledFeatures(features, torch.cat((self.labels, others.labels)))


@dataclass(frozen=True)
class ProbeResult:
    """The accuracy of a linear classifier of features, with the settings it depends on."""

    accuracy: float
    """Fraction of test images that are classified correctly, mean over draws."""
    std: float | None
    """Standard deviation over draws; None for a single draw."""
    labels: int
    """Number of training images: equally many of each class, so a budget is rounded up to that."""
    draws: int
    costs: tuple[float, ...]
    """C of each draw, selected on validation images."""
    n_test: int
    mirrored: bool
    """Whether the classifier was also trained on horizontal mirror images."""


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
    """Return the accuracy of a regularized linear L2-SVM on features, trained on few labels.

        min ½‖w‖² + C Σ max(0, 1 - y (w x + b))², one class against the others

    `draws` times, equally many images of each class are drawn, `budget` in all, and C is selected
    on the validation images, in increasing order until two values in a row are worse. A budget of
    None is all labels, in one draw. Features are standardized by the mean and standard deviation
    over all training images, which needs no labels. `mirrored` are the features of the
    horizontally mirrored training images: the final classifier is then trained on both forms of
    the drawn images, with half the selected C.
    Source: Radford et al. 2015, section 5.

    Raises:
        UsageError: there are no draws, no labels or no costs.
        DataError: a class has fewer images than the budget requires, or none; the numbers of
            features and labels differ; or features are not finite.
        MissingExtraError: scikit-learn is not installed.
    """
    if draws < 1 or not costs or (budget is not None and budget < 1):
        raise UsageError(
            f"expected at least one draw, label and cost, got {draws} draws of {budget} labels and "
            f"{len(costs)} costs"
        )
    if min(costs) <= 0:
        raise UsageError(f"costs are {', '.join(map(str, costs))}; expected numbers above 0")
    sets = {"training": train, "validation": valid, "test": test}
    classes = max(_classes(name, part) for name, part in sets.items())
    matrices = check_features(2, **{name: part.features for name, part in sets.items()})
    train, valid, test = (
        LabeledFeatures(features, part.labels)
        for features, part in zip(matrices, sets.values(), strict=True)
    )
    if classes < 2:
        raise DataError("all labels are class 0; give images of at least 2 classes")
    _check_present(train.labels, classes)
    shift, scale = train.features.mean(0), train.features.std(0)
    constant = (train.features == train.features[0]).all(0)
    scale = torch.where(constant, torch.ones_like(scale), scale)
    train, valid, test = (
        LabeledFeatures(_scaled(part.features, shift, scale), part.labels)
        for part in (train, valid, test)
    )
    mirrored_train = None
    if mirrored is not None:
        _, mirrored = check_features(2, training=train.features, mirrored=mirrored)
        if len(mirrored) != len(train.labels):
            raise DataError(
                f"expected the mirror image of each of the {len(train.labels)} training images, "
                f"got {len(mirrored)} images"
            )
        mirrored_train = LabeledFeatures(_scaled(mirrored, shift, scale), train.labels)
    accuracies: list[float] = []
    selected_costs: list[float] = []
    num_labels = len(train.labels)
    for draw in range(1 if budget is None else draws):
        which = None if budget is None else _draw_labels(train.labels, budget, seed, draw)
        labeled = train if which is None else train.subset(which)
        num_labels = len(labeled.labels)
        cost, planes = _select_cost(labeled, valid, costs)
        if mirrored_train is not None:
            mirrored_labeled = mirrored_train if which is None else mirrored_train.subset(which)
            planes = linear_svm(labeled.concatenate(mirrored_labeled), cost / 2, planes)
        selected_costs.append(cost)
        accuracies.append(_accuracy(planes, test))
    return ProbeResult(
        accuracy=float(np.mean(accuracies)),
        std=float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else None,
        labels=num_labels,
        draws=len(accuracies),
        costs=tuple(selected_costs),
        n_test=len(test.labels),
        mirrored=mirrored_train is not None,
    )


def _scaled(features: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    # In place, since features may take gigabytes.
    return features.sub(shift).div_(scale).float()


Planes = tuple[Float[Tensor, "classes d"], Float[Tensor, " classes"]]


def _select_cost(
    labeled: LabeledFeatures, valid: LabeledFeatures, costs: Sequence[float]
) -> tuple[float, Planes]:
    """Return the best C on validation images; stop once two larger values in a row are worse."""
    results: list[tuple[float, float, Planes]] = []
    best, num_worse, planes = 0.0, 0, None
    for cost in sorted(costs):
        planes = linear_svm(labeled, cost, planes)
        accuracy = _accuracy(planes, valid)
        results.append((accuracy, -cost, planes))
        best, num_worse = max(best, accuracy), num_worse + 1 if accuracy < best else 0
        if num_worse == _PATIENCE:
            break
    _, cost, planes = max(results, key=lambda entry: entry[:2])
    return -cost, planes


def linear_svm(labeled: LabeledFeatures, cost: float, start: Planes | None = None) -> Planes:
    """Return a hyperplane for each class against the others, by scikit-learn's `LinearSVC`.

    Its solver uses 24 bytes for each feature of each image; if that is too much memory, SciPy's
    L-BFGS minimizes the same loss without a copy of the features, starting at `start`.
    """
    if labeled.features.numel() * _BYTES_PER_FEATURE > _MAX_BYTES:
        return _by_lbfgs(labeled, cost, start)
    svm: Any = require("sklearn.svm", "digits")
    fit = svm.LinearSVC(
        C=cost, dual="auto", max_iter=10_000, intercept_scaling=_INTERCEPT_SCALING, random_state=0
    )
    fit.fit(labeled.features.numpy(), labeled.labels.numpy())
    weights, bias = torch.from_numpy(fit.coef_).float(), torch.from_numpy(fit.intercept_).float()
    if len(weights) == 1:  # two classes have one hyperplane
        weights, bias = torch.cat((-weights, weights)), torch.cat((-bias, bias))
    return weights, bias


_INTERCEPT_SCALING = 10.0
"""`intercept_scaling` of `LinearSVC`: the larger, the less the bias is regularized."""


def _by_lbfgs(labeled: LabeledFeatures, cost: float, start: Planes | None) -> Planes:
    optimize: Any = require("scipy.optimize", "digits")
    x, classes = labeled.features, int(labeled.labels.max()) + 1
    signs = 2.0 * F.one_hot(labeled.labels, classes).float() - 1
    d = x.shape[1]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        planes = torch.from_numpy(flat).float().view(classes, d + 1)
        weights, bias = planes[:, :d], planes[:, d] * _INTERCEPT_SCALING
        slack = (1 - signs * (x @ weights.T + bias)).clamp_(min=0)
        total = 0.5 * planes.double().square().sum() + cost * slack.double().square().sum()
        slope = -2 * cost * signs * slack
        gradient = torch.cat((slope.T @ x, slope.sum(0)[:, None] * _INTERCEPT_SCALING), 1) + planes
        return float(total), gradient.double().flatten().numpy()

    initial = np.zeros((classes, d + 1))
    if start is not None:
        initial[:, :d], initial[:, d] = start[0].numpy(), start[1].numpy() / _INTERCEPT_SCALING
    result = optimize.minimize(
        loss, initial.flatten(), jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS}
    )
    planes = torch.from_numpy(result.x).float().view(classes, d + 1)
    return planes[:, :d], planes[:, d] * _INTERCEPT_SCALING


def _accuracy(planes: Planes, part: LabeledFeatures) -> float:
    weights, bias = planes
    predicted = (part.features @ weights.T + bias).argmax(1)
    return float((predicted == part.labels).double().mean())


def _draw_labels(
    labels: Int[Tensor, " n"], budget: int, seed: int, draw: int
) -> Int[Tensor, " budget"]:
    """Return the indices of `budget` random images, equally many of each class."""
    classes = int(labels.max()) + 1
    per_class = math.ceil(budget / classes)
    rng = np.random.default_rng((seed, draw))
    parts: list[Tensor] = []
    for number in range(classes):
        indices = (labels == number).nonzero().flatten()
        if len(indices) < per_class:
            raise DataError(
                f"{budget:,} labels were requested, {per_class:,} of each class, but class "
                f"{number} has {len(indices):,}; request fewer"
            )
        parts.append(indices[torch.from_numpy(rng.permutation(len(indices))[:per_class])])
    return torch.cat(parts)


def nearest_image_error(known: LabeledFeatures, test: LabeledFeatures) -> float:
    """Return the test error of a 1-NN classifier, the fraction of test images it misclassifies.

    Source: Radford et al. 2015, appendix (“Evaluating DCGANs' capability to capture data
    distributions”): 1.48 to 6.28 % with conditional samples of MNIST as `known` images.

    Raises:
        DataError: a set is empty, widths differ, numbers are not finite, or the numbers of labels
            and features differ.
    """
    for name, part in (("known", known), ("test", test)):
        _classes(name, part)
    points, others = scale_to_range(*check_features(1, test=test.features, known=known.features))
    _, which = nearest(points, others)
    return float((known.labels[which[:, 0]] != test.labels).double().mean())


def _classes(name: str, part: LabeledFeatures) -> int:
    """Return the number of classes, by the largest label."""
    if len(part.labels) != len(part.features) or not len(part.labels):
        raise DataError(
            f"{len(part.features)} {name} images have {len(part.labels)} labels; expected at least "
            "one image, and one label for each"
        )
    smallest = int(part.labels.min())
    if smallest < 0:
        raise DataError(f"a {name} label is {smallest}; expected class indices from 0 on")
    return int(part.labels.max()) + 1


def _check_present(labels: Int[Tensor, " n"], classes: int) -> None:
    missing = (torch.bincount(labels, minlength=classes) == 0).nonzero().flatten().tolist()
    if missing:
        raise DataError(
            f"class {missing[0]} has no training image; give training images of every class"
        )
