from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from advnets.errors import DataError, UsageError
from advnets.metrics import linear_probe as module
from advnets.metrics.linear_probe import LabeledFeatures, linear_svm, nearest_image_error, probe


@pytest.fixture(scope="module")
def digits():
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = torch.from_numpy(pixels[order]).float() / 16, torch.from_numpy(labels[order]).long()
    return [
        LabeledFeatures(x[part], y[part])
        for part in (slice(1000), slice(1000, 1400), slice(1400, None))
    ]


def right(planes, some):
    weights, bias = planes
    return ((some.features @ weights.T + bias).argmax(1) == some.labels).double().mean().item()


def objective(planes, labeled, cost):
    """½‖w‖² + ½(b / 10)² + C Σ max(0, 1 - y f)², summed over classes, written out."""
    weights, bias = (part.double() for part in planes)
    total = 0.0
    for number in range(10):
        y = torch.where(labeled.labels == number, 1.0, -1.0).double()
        margin = y * (labeled.features.double() @ weights[number] + bias[number])
        total += 0.5 * (
            weights[number].square().sum() + (bias[number] / module._INTERCEPT_SCALING) ** 2
        )
        total += cost * (1 - margin).clamp(min=0).square().sum()
    return float(total)


@pytest.mark.parametrize("cost", [1e-3, 1e-1, 1.0])
def test_both_solvers_come_to_the_minimum_that_scikit_learn_comes_to(digits, cost, monkeypatch):
    train, _, test = digits
    theirs = LinearSVC(C=cost, dual=False, intercept_scaling=module._INTERCEPT_SCALING, tol=1e-8)
    theirs.fit(train.features.double().numpy(), train.labels.numpy())
    wanted = torch.from_numpy(theirs.coef_), torch.from_numpy(theirs.intercept_)
    ours = linear_svm(train, cost)
    monkeypatch.setattr(module, "_MAX_BYTES", 0)
    large = linear_svm(train, cost)
    least = objective(wanted, train, cost)
    assert objective(ours, train, cost) == pytest.approx(least, rel=1e-3)
    assert objective(large, train, cost) == pytest.approx(least, rel=1e-3)
    assert abs(right(ours, test) - theirs.score(test.features.numpy(), test.labels.numpy())) < 0.005
    assert abs(right(large, test) - right(ours, test)) < 0.005


def test_a_start_from_another_cost_ends_at_the_same_minimum(digits, monkeypatch):
    train, _, _ = digits
    monkeypatch.setattr(module, "_MAX_BYTES", 0)
    cold = linear_svm(train, 1e-2)
    warm = linear_svm(train, 1e-2, linear_svm(train, 1e-3))
    assert objective(warm, train, 1e-2) == pytest.approx(objective(cold, train, 1e-2), rel=1e-3)
    # Begun at the minimum it stays there, which tells that a start is read as it was given.
    monkeypatch.setattr(module, "_ITERATIONS", 1)
    there = objective(linear_svm(train, 1e-2, cold), train, 1e-2)
    assert there == pytest.approx(objective(cold, train, 1e-2), rel=1e-3)


def test_no_cost_is_tried_past_two_that_are_worse(digits, monkeypatch):
    shares = {1e-4: 0.5, 1e-3: 0.7, 1e-2: 0.6, 1e-1: 0.65, 1.0: 0.9}
    tried = []

    def solve(labeled, cost, start):
        tried.append(cost)
        return torch.zeros(10, 64), torch.zeros(10)

    monkeypatch.setattr(module, "linear_svm", solve)
    monkeypatch.setattr(module, "_accuracy", lambda planes, some: shares[tried[-1]])
    cost, _ = module._select_cost(digits[0], digits[1], list(reversed(shares)))
    assert cost == 1e-3
    assert tried == [1e-4, 1e-3, 1e-2, 1e-1]


def test_a_cost_that_is_as_often_right_as_the_best_is_not_worse(digits, monkeypatch):
    """It ends the row of worse ones, so that larger costs are tried."""
    shares = {1e-4: 0.5, 1e-3: 0.7, 1e-2: 0.6, 1e-1: 0.7, 1.0: 0.6, 10.0: 0.9}
    tried = []

    def solve(labeled, cost, start):
        tried.append(cost)
        return torch.zeros(10, 64), torch.zeros(10)

    monkeypatch.setattr(module, "linear_svm", solve)
    monkeypatch.setattr(module, "_accuracy", lambda planes, some: shares[tried[-1]])
    assert module._select_cost(digits[0], digits[1], list(shares))[0] == 10.0
    assert tried == list(shares)


def test_of_costs_that_are_as_often_right_the_least_is_chosen(digits, monkeypatch):
    """Planes are those of that cost."""
    shares = {1e-3: 0.6, 1e-2: 0.7, 1e-1: 0.7, 1.0: 0.7}

    def solve(labeled, cost, start):
        return torch.full((10, 64), cost), torch.zeros(10)

    monkeypatch.setattr(module, "linear_svm", solve)
    monkeypatch.setattr(
        module, "_accuracy", lambda planes, some: shares[round(planes[0][0, 0].item(), 6)]
    )
    cost, (weights, _) = module._select_cost(digits[0], digits[1], list(reversed(shares)))
    assert cost == 1e-2
    assert weights[0, 0].item() == pytest.approx(1e-2)


def test_the_deviation_over_draws_is_by_one_less_than_their_number(digits, monkeypatch):
    shares = iter([0.5, 0.7, 0.9])
    monkeypatch.setattr(module, "_select_cost", lambda labeled, valid, costs: (1.0, None))
    monkeypatch.setattr(module, "_accuracy", lambda planes, some: next(shares))
    found = probe(*digits, budget=20, draws=3)
    assert (found.accuracy, found.std) == pytest.approx((0.7, 0.2))


def test_more_labels_tell_more(digits):
    few, some, all_of_them = (probe(*digits, budget=budget, draws=4) for budget in (20, 200, None))
    assert few.accuracy < some.accuracy < all_of_them.accuracy
    assert all_of_them.accuracy > 0.93
    assert (few.labels, few.draws, len(few.costs)) == (20, 4, 4)
    assert few.std > 0
    assert (all_of_them.labels, all_of_them.draws, all_of_them.std) == (1000, 1, None)


def test_only_the_draw_is_random(digits):
    first, again, other = (probe(*digits, budget=50, draws=2, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.accuracy != other.accuracy


def test_as_many_of_each_class_are_drawn():
    labels = torch.tensor([0] * 90 + [1] * 10)
    drawn = module._draw_labels(labels, 10, seed=0, draw=0)
    assert torch.bincount(labels[drawn]).tolist() == [5, 5]
    drawn = module._draw_labels(labels, 20, seed=0, draw=0)  # all that class 1 has
    assert torch.bincount(labels[drawn]).tolist() == [10, 10]
    with pytest.raises(DataError, match="40 labels were requested, 20 of each class, but class 1 "):
        module._draw_labels(labels, 40, seed=0, draw=0)


def test_features_without_meaning_tell_nothing(digits):
    train, valid, test = (
        LabeledFeatures(
            torch.randn(len(s.labels), 20, generator=torch.Generator().manual_seed(i)), s.labels
        )
        for i, s in enumerate(digits)
    )
    assert probe(train, valid, test, budget=100, draws=5).accuracy == pytest.approx(0.1, abs=0.04)


def test_the_test_set_chooses_nothing(digits):
    """C is the same whatever the test set is."""
    train, valid, test = digits
    wrong = LabeledFeatures(test.features, (test.labels + 1) % 10)
    one, other = (probe(train, valid, some, budget=100, draws=3) for some in (test, wrong))
    assert one.costs == other.costs
    assert other.accuracy < 0.2


def test_the_nearest_known_image_as_scikit_learn_has_it(digits):
    train, _, test = digits
    theirs = KNeighborsClassifier(1).fit(train.features.numpy(), train.labels.numpy())
    wanted = 1 - theirs.score(test.features.numpy(), test.labels.numpy())
    assert nearest_image_error(train, test) == pytest.approx(wanted, abs=1e-9)


def test_features_that_are_not_finite_are_refused(digits):
    train, valid, test = digits
    broken = LabeledFeatures(test.features.clone(), test.labels)
    broken.features[0, 0] = torch.nan
    with pytest.raises(DataError, match="finite"):
        probe(train, valid, broken, budget=20)


def test_mirrored_images_are_learned_too():
    """As LinearSVC on both forms at half the C that was chosen; no other planes are as often right.

    On so many test rows the planes at C, those of one form, and those of the test's own scale
    differ in how often they are right.
    """
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(20_200, 12)), rng.integers(0, 3, 20_200)
    x[np.arange(20_200), y] += 1.5
    turned = x[:100] + 0.7 * rng.normal(size=(100, 12))
    sets = [
        LabeledFeatures(torch.from_numpy(x[part]).float(), torch.from_numpy(y[part]))
        for part in (slice(100), slice(100, 200), slice(200, None))
    ]
    mirrored = torch.from_numpy(turned).float()
    found = probe(*sets, costs=(0.02,), mirrored=mirrored)
    assert found.mirrored
    assert not probe(*sets, costs=(0.02,)).mirrored
    shift, scale = sets[0].features.mean(0), sets[0].features.std(0)

    def accuracy(cost, *forms):
        both = (torch.cat(forms) - shift) / scale
        svm = LinearSVC(C=cost, intercept_scaling=10.0, max_iter=10_000, random_state=0)
        svm.fit(both.numpy(), np.concatenate([y[:100]] * len(forms)))
        return svm.score(((sets[2].features - shift) / scale).numpy(), y[200:])

    right = accuracy(0.01, sets[0].features, mirrored)
    wrong = [
        accuracy(0.02, sets[0].features, mirrored),
        accuracy(0.005, sets[0].features, mirrored),
        accuracy(0.02, sets[0].features),
        accuracy(0.02, sets[0].features, sets[0].features),
        accuracy(0.01, mirrored),
    ]
    assert found.accuracy == pytest.approx(right, abs=1e-4)
    assert min(abs(other - right) for other in wrong) > 3e-4, (right, wrong)


def small(labels):
    features = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(len(labels)))
    return LabeledFeatures(features, torch.tensor(labels))


def test_a_class_without_a_training_image_is_named():
    whole = small([0, 1, 2, 3] * 5)
    for broken in (small([0, 2, 3, 0] * 5), small([1, 2, 3] * 5)):
        absent = 1 if broken.labels.min() == 0 else 0
        with pytest.raises(DataError, match=f"class {absent} has no training image"):
            probe(broken, whole, whole)
    with pytest.raises(DataError, match="a test label is -1; expected class indices from 0 on"):
        probe(whole, whole, small([0, -1]))


def test_labels_are_those_learned_from():
    """Five of four classes are two of each."""
    whole = small([0, 1, 2, 3] * 5)
    assert probe(whole, whole, whole, budget=5, draws=2).labels == 8


@pytest.mark.parametrize("asked", [{"budget": 0}, {"draws": 0}, {"costs": ()}])
def test_a_probe_of_nothing_is_refused(asked):
    whole = small([0, 1] * 5)
    with pytest.raises(UsageError, match="expected at least one draw, label and cost"):
        probe(whole, whole, whole, **asked)


def test_labels_and_features_that_do_not_belong_together_are_refused():
    whole = small([0, 1] * 5)
    short = LabeledFeatures(whole.features, whole.labels)
    object.__setattr__(short, "labels", whole.labels[:3])  # past the types that tests check
    with pytest.raises(DataError, match="10 test images have 3 labels"):
        probe(whole, whole, short)
    with pytest.raises(DataError, match="mirror image of each of the 10 training images, got 4"):
        probe(whole, whole, whole, mirrored=whole.features[:4])
    with pytest.raises(DataError, match="10 known images have 3 labels"):
        nearest_image_error(short, whole)
    with pytest.raises(DataError, match="known features hold numbers that are not finite"):
        nearest_image_error(LabeledFeatures(whole.features * torch.nan, whole.labels), whole)
    with pytest.raises(DataError, match="known features have 2 columns and test ones 3"):
        nearest_image_error(LabeledFeatures(whole.features[:, :2], whole.labels), whole)


def test_any_type_of_numbers_is_learned_from(digits):
    train, valid, test = (some.subset(torch.arange(200)) for some in digits)
    expected = probe(train, valid, test, budget=50, draws=1)
    halves = [LabeledFeatures(some.features.half(), some.labels) for some in (train, valid, test)]
    assert probe(*halves, budget=50, draws=1) == expected
    mixed = LabeledFeatures(train.features.double(), train.labels)
    assert probe(mixed, valid, test, budget=50, draws=1).accuracy == expected.accuracy


def test_one_class_and_costs_of_nothing_are_refused():
    with pytest.raises(DataError, match="all labels are class 0; give images of at least 2"):
        probe(small([0] * 10), small([0] * 10), small([0] * 10))
    with pytest.raises(UsageError, match=r"costs are 0.0; expected numbers above 0"):
        probe(*[small([0, 1] * 5)] * 3, costs=(0.0,))
