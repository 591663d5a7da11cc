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


def right(planes, features):
    weights, bias = planes
    return (
        ((features.features @ weights.T + bias).argmax(1) == features.labels).double().mean().item()
    )


def objective(planes, labeled, cost):
    """Return ½‖w‖² + ½(b / 10)² + C Σ max(0, 1 - y f)², summed over classes."""
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
def test_both_solvers_reach_the_minimum_of_scikit_learn(digits, cost, monkeypatch):
    train, _, test = digits
    reference = LinearSVC(C=cost, dual=False, intercept_scaling=module._INTERCEPT_SCALING, tol=1e-8)
    reference.fit(train.features.double().numpy(), train.labels.numpy())
    expected = torch.from_numpy(reference.coef_), torch.from_numpy(reference.intercept_)
    actual = linear_svm(train, cost)
    monkeypatch.setattr(module, "_MAX_BYTES", 0)
    large = linear_svm(train, cost)
    least = objective(expected, train, cost)
    assert objective(actual, train, cost) == pytest.approx(least, rel=1e-3)
    assert objective(large, train, cost) == pytest.approx(least, rel=1e-3)
    assert (
        abs(right(actual, test) - reference.score(test.features.numpy(), test.labels.numpy()))
        < 0.005
    )
    assert abs(right(large, test) - right(actual, test)) < 0.005


def test_the_minimum_does_not_depend_on_the_start(digits, monkeypatch):
    train, _, _ = digits
    monkeypatch.setattr(module, "_MAX_BYTES", 0)
    cold = linear_svm(train, 1e-2)
    warm = linear_svm(train, 1e-2, linear_svm(train, 1e-3))
    assert objective(warm, train, 1e-2) == pytest.approx(objective(cold, train, 1e-2), rel=1e-3)
    # Started at the minimum it stays there, so the start is used as given.
    monkeypatch.setattr(module, "_ITERATIONS", 1)
    cold_objective = objective(linear_svm(train, 1e-2, cold), train, 1e-2)
    assert cold_objective == pytest.approx(objective(cold, train, 1e-2), rel=1e-3)


@pytest.mark.parametrize(
    ("shares", "chosen", "number"),
    [
        ({1e-4: 0.5, 1e-3: 0.7, 1e-2: 0.6, 1e-1: 0.65, 1.0: 0.9}, 1e-3, 4),
        # A cost of equal accuracy is not worse: it resets the count.
        ({1e-4: 0.5, 1e-3: 0.7, 1e-2: 0.6, 1e-1: 0.7, 1.0: 0.6, 10.0: 0.9}, 10.0, 6),
    ],
)
def test_the_search_ends_after_two_worse_costs(digits, monkeypatch, shares, chosen, number):
    """Costs are tried from the least on, whatever their order."""
    tried = []

    def solve(labeled, cost, start):
        tried.append(cost)
        return torch.zeros(10, 64), torch.zeros(10)

    monkeypatch.setattr(module, "linear_svm", solve)
    monkeypatch.setattr(module, "_accuracy", lambda planes, features: shares[tried[-1]])
    assert module._select_cost(digits[0], digits[1], list(reversed(shares)))[0] == chosen
    assert tried == list(shares)[:number]


def test_of_costs_of_equal_accuracy_the_least_is_chosen(digits, monkeypatch):
    """The classifier is that of this cost."""
    shares = {1e-3: 0.6, 1e-2: 0.7, 1e-1: 0.7, 1.0: 0.7}

    def solve(labeled, cost, start):
        return torch.full((10, 64), cost), torch.zeros(10)

    monkeypatch.setattr(module, "linear_svm", solve)
    monkeypatch.setattr(
        module, "_accuracy", lambda planes, features: shares[round(planes[0][0, 0].item(), 6)]
    )
    cost, (weights, _) = module._select_cost(digits[0], digits[1], list(reversed(shares)))
    assert cost == 1e-2
    assert weights[0, 0].item() == pytest.approx(1e-2)


def test_the_standard_deviation_over_draws_is_unbiased(digits, monkeypatch):
    shares = iter([0.5, 0.7, 0.9])
    monkeypatch.setattr(module, "_select_cost", lambda labeled, valid, costs: (1.0, None))
    monkeypatch.setattr(module, "_accuracy", lambda planes, features: next(shares))
    result = probe(*digits, budget=20, draws=3)
    assert (result.accuracy, result.std) == pytest.approx((0.7, 0.2))


def test_more_labels_increase_the_accuracy(digits):
    budget_20, budget_200, unlimited = (
        probe(*digits, budget=budget, draws=4) for budget in (20, 200, None)
    )
    assert budget_20.accuracy < budget_200.accuracy < unlimited.accuracy
    assert unlimited.accuracy > 0.93
    assert (budget_20.labels, budget_20.draws, len(budget_20.costs)) == (20, 4, 4)
    assert budget_20.std > 0
    assert (unlimited.labels, unlimited.draws, unlimited.std) == (1000, 1, None)


def test_only_the_draw_is_random(digits):
    first, repeated, another_seed = (
        probe(*digits, budget=50, draws=2, seed=seed) for seed in (0, 0, 1)
    )
    assert first == repeated
    assert first.accuracy != another_seed.accuracy


def test_classes_are_drawn_equally_often():
    labels = torch.tensor([0] * 90 + [1] * 10)
    indices = module._draw_labels(labels, 10, seed=0, draw=0)
    assert torch.bincount(labels[indices]).tolist() == [5, 5]
    indices = module._draw_labels(labels, 20, seed=0, draw=0)  # all images of class 1
    assert torch.bincount(labels[indices]).tolist() == [10, 10]
    with pytest.raises(DataError, match="40 labels were requested, 20 of each class, but class 1 "):
        module._draw_labels(labels, 40, seed=0, draw=0)


def test_random_features_have_chance_accuracy(digits):
    train, valid, test = (
        LabeledFeatures(
            torch.randn(len(s.labels), 20, generator=torch.Generator().manual_seed(i)), s.labels
        )
        for i, s in enumerate(digits)
    )
    assert probe(train, valid, test, budget=100, draws=5).accuracy == pytest.approx(0.1, abs=0.04)


def test_the_test_set_does_not_affect_the_choice(digits):
    """C does not depend on it."""
    train, valid, test = digits
    wrong = LabeledFeatures(test.features, (test.labels + 1) % 10)
    result, wrong_result = (
        probe(train, valid, test_set, budget=100, draws=3) for test_set in (test, wrong)
    )
    assert result.costs == wrong_result.costs
    assert wrong_result.accuracy < 0.2


def test_the_1nn_error_equals_that_of_scikit_learn(digits):
    train, _, test = digits
    reference = KNeighborsClassifier(1).fit(train.features.numpy(), train.labels.numpy())
    expected = 1 - reference.score(test.features.numpy(), test.labels.numpy())
    assert nearest_image_error(train, test) == pytest.approx(expected, abs=1e-9)


def test_features_that_are_not_finite_are_refused(digits):
    train, valid, test = digits
    broken = LabeledFeatures(test.features.clone(), test.labels)
    broken.features[0, 0] = torch.nan
    with pytest.raises(DataError, match="finite"):
        probe(train, valid, broken, budget=20)


def test_mirrored_images_are_training_data_too():
    """As LinearSVC on both forms at half of the chosen C.

    Other classifiers (at C, of one form, with the scale of the test set) have different accuracies
    on so many test rows.
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
    result = probe(*sets, costs=(0.02,), mirrored=mirrored)
    assert result.mirrored
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
    assert result.accuracy == pytest.approx(right, abs=1e-4)
    assert min(abs(wrong_accuracy - right) for wrong_accuracy in wrong) > 3e-4, (right, wrong)


def small(labels):
    features = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(len(labels)))
    return LabeledFeatures(features, torch.tensor(labels))


def test_a_class_without_a_training_image_is_refused():
    complete = small([0, 1, 2, 3] * 5)
    for broken in (small([0, 2, 3, 0] * 5), small([1, 2, 3] * 5)):
        absent = 1 if broken.labels.min() == 0 else 0
        with pytest.raises(DataError, match=f"class {absent} has no training image"):
            probe(broken, complete, complete)
    with pytest.raises(DataError, match="a test label is -1; expected class indices from 0 on"):
        probe(complete, complete, small([0, -1]))


def test_the_number_of_labels_is_that_of_the_drawn_images():
    """Five labels of four classes are two of each."""
    complete = small([0, 1, 2, 3] * 5)
    assert probe(complete, complete, complete, budget=5, draws=2).labels == 8


@pytest.mark.parametrize("options", [{"budget": 0}, {"draws": 0}, {"costs": ()}])
def test_invalid_options_are_refused(options):
    complete = small([0, 1] * 5)
    with pytest.raises(UsageError, match="expected at least one draw, label and cost"):
        probe(complete, complete, complete, **options)


def test_labels_and_features_that_do_not_match_are_refused():
    complete = small([0, 1] * 5)
    short = LabeledFeatures(complete.features, complete.labels)
    object.__setattr__(short, "labels", complete.labels[:3])  # past the types that tests check
    with pytest.raises(DataError, match="10 test images have 3 labels"):
        probe(complete, complete, short)
    with pytest.raises(DataError, match="mirror image of each of the 10 training images, got 4"):
        probe(complete, complete, complete, mirrored=complete.features[:4])
    with pytest.raises(DataError, match="10 known images have 3 labels"):
        nearest_image_error(short, complete)
    with pytest.raises(DataError, match="known features hold numbers that are not finite"):
        nearest_image_error(
            LabeledFeatures(complete.features * torch.nan, complete.labels), complete
        )
    with pytest.raises(DataError, match="known features have 2 columns and test ones 3"):
        nearest_image_error(LabeledFeatures(complete.features[:, :2], complete.labels), complete)


def test_features_of_any_dtype_are_accepted(digits):
    train, valid, test = (features.subset(torch.arange(200)) for features in digits)
    expected = probe(train, valid, test, budget=50, draws=1)
    halves = [
        LabeledFeatures(features.features.half(), features.labels)
        for features in (train, valid, test)
    ]
    assert probe(*halves, budget=50, draws=1) == expected
    mixed = LabeledFeatures(train.features.double(), train.labels)
    assert probe(mixed, valid, test, budget=50, draws=1).accuracy == expected.accuracy


def test_one_class_and_invalid_costs_are_refused():
    with pytest.raises(DataError, match="all labels are class 0; give images of at least 2"):
        probe(small([0] * 10), small([0] * 10), small([0] * 10))
    with pytest.raises(UsageError, match=r"costs are 0.0; expected numbers above 0"):
        probe(*[small([0, 1] * 5)] * 3, costs=(0.0,))
