import math
import sys

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from advnets.data.synthetic.mixtures import Ring
from advnets.errors import UsageError
from advnets.metrics import distance
from advnets.metrics.prdc import nearest_neighbor_test, prdc
from advnets.rng import RNG


def draw(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) * scale + shift


def by_definition(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, ...]:
    """Return the definitions of both papers, from the full matrix of distances."""

    def radii(points):
        return NearestNeighbors(n_neighbors=k + 1).fit(points).kneighbors(points)[0][:, k]

    between = np.linalg.norm(real[:, None] - fake[None], axis=2)
    in_real, in_fake = between < radii(real)[:, None], between < radii(fake)[None]
    return (
        in_real.any(0).mean(),
        in_fake.any(1).mean(),
        in_real.sum() / (k * len(fake)),
        in_real.any(1).mean(),
    )


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("n", "m"), [(120, 90), (60, 200)])
def test_all_four_values_equal_their_definitions(monkeypatch, k, n, m):
    real, fake = draw(n, 3, 0), draw(m, 3, 1, scale=0.7, shift=0.3)
    expected = by_definition(real.numpy(), fake.numpy(), k)
    result = prdc(real, fake, k)
    assert (result.precision, result.recall, result.density, result.coverage) == pytest.approx(
        expected
    )
    assert result.neighbors == k
    # Blocks that divide both sets give the same.
    blocks = distance.half_squared_distances
    monkeypatch.setattr(
        sys.modules["advnets.metrics.prdc"],
        "half_squared_distances",
        lambda x, y: blocks(x, y, 37, 23),
    )
    assert prdc(real, fake, k) == result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("fast", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("center", "scale"), [(0, 1), (3, 1), (0, 1e-3)])
def test_fast_products_change_nothing(center, scale, fast, dtype, monkeypatch):
    """Counts by products in bfloat16 and float32 are those in float64, on any CPU."""
    module = sys.modules["advnets.metrics.prdc"]
    real, fake = draw(1100, 100, 0).to(dtype), draw(1200, 100, 1, 0.95).to(dtype)
    real[:300] *= scale
    fake[:300] = fake[:300] * scale + center
    fake[-50:] = real[-50:]
    monkeypatch.setattr(module, "_fast_dtypes", lambda _: ())
    expected = prdc(real, fake)
    monkeypatch.setattr(module, "_fast_dtypes", lambda _: (fast,))
    if scale == 1 or fast == torch.float32:
        monkeypatch.setattr(module, "nearest_others", lambda *_: pytest.fail("all in float64"))
    assert prdc(real, fake) == expected
    assert 0.05 < expected.precision < 1


@pytest.mark.parametrize("k", [3, 5])
def test_all_four_values_equal_those_of_the_prdc_package(peer, k):
    real, fake = draw(300, 8, 0), draw(250, 8, 1, scale=0.8, shift=0.2)
    reference = peer("prdc").compute_prdc(real.numpy(), fake.numpy(), k)
    result = prdc(real, fake, k)
    actual = {name: getattr(result, name) for name in reference}
    assert actual == pytest.approx(reference, rel=1e-6)


def test_samples_of_one_of_two_modes_have_recall_one_half():
    """Precision stays 1; coverage is 1/2, too."""
    real = torch.cat((draw(500, 2, 0, 0.1), draw(500, 2, 1, 0.1, 10)))
    result = prdc(real, draw(1000, 2, 2, 0.1))
    assert result.precision > 0.9
    assert result.recall == pytest.approx(0.5, abs=0.05)
    assert result.coverage == pytest.approx(0.5, abs=0.05)


def test_distant_noise_has_precision_and_recall_0():
    result = prdc(draw(200, 2, 0), draw(200, 2, 1, 0.1, 100))
    assert (result.precision, result.recall, result.density, result.coverage) == (0, 0, 0, 0)


def test_the_nearest_neighbor_test_is_leave_one_out_classification():
    real, fake = draw(80, 2, 0), draw(80, 2, 1, 0.8, 0.4)
    pool, labels = torch.cat((real, fake)).numpy(), np.repeat([1, 0], 80)
    right = []
    for i in range(160):
        others = np.arange(160) != i
        classifier = KNeighborsClassifier(1).fit(pool[others], labels[others])
        right.append(classifier.predict(pool[i : i + 1])[0] == labels[i])
    result = nearest_neighbor_test(real, fake)
    assert result.accuracy_real == pytest.approx(np.mean(right[:80]))
    assert result.accuracy_fake == pytest.approx(np.mean(right[80:]))
    assert result.accuracy == pytest.approx(np.mean(right))
    assert result.n == 80


def test_two_sets_of_one_distribution_have_accuracy_one_half():
    result = nearest_neighbor_test(draw(2000, 2, 0), draw(2000, 2, 1))
    assert result.accuracy == pytest.approx(0.5, abs=0.03)
    separated = nearest_neighbor_test(draw(200, 2, 0), draw(200, 2, 1, shift=50))
    assert separated.accuracy == 1


def test_too_many_neighbors_and_different_sizes_are_refused():
    with pytest.raises(UsageError, match="5 neighbors were requested in sets of 5; give 1 to 4"):
        prdc(draw(5, 2, 0), draw(9, 2, 1))
    with pytest.raises(
        UsageError, match="expects equally many real and generated images, got 5 and 9"
    ):
        nearest_neighbor_test(draw(5, 2, 0), draw(9, 2, 1))


def numbers(returned):
    return returned.precision, returned.recall, returned.density, returned.coverage


def test_narrow_modes_far_apart_are_accurate():
    """A ring with modes a hundred times narrower than its radius, in float32."""
    real, fake = (
        torch.from_numpy(Ring().sample(3000, RNG(seed, purpose="x"))).float() for seed in (0, 1)
    )
    assert numbers(prdc(real, fake)) == numbers(prdc(real.double(), fake.double()))
    test = nearest_neighbor_test(real, fake)
    assert test == nearest_neighbor_test(real.double(), fake.double())
    assert test.accuracy == pytest.approx(0.5, abs=0.03)


def test_distant_outliers_do_not_change_the_values_of_the_others():
    real, fake = draw(400, 8, 0).float(), draw(400, 8, 1).float()
    fake[::2] += 1e4
    expected = by_definition(real.double().numpy(), fake.double().numpy(), 5)
    assert numbers(prdc(real, fake)) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_count_as_outside(peer, dtype):
    """For copies, distances between the sets equal those within a set, some of them a radius.

    In float32 a distance within rounding of the radius may count as a tie: one of 3,000 here.
    """
    real = draw(600, 64, 0).to(dtype)
    fake = real[torch.randperm(600, generator=torch.Generator().manual_seed(1))]
    result = prdc(real, fake)
    few = 1e-3 if dtype == torch.float32 else 1e-12
    assert numbers(result) == pytest.approx((1, 1, 1, 1), abs=few)  # itself and four other copies
    reference = peer("prdc").compute_prdc(real.double().numpy(), fake.double().numpy(), 5)
    assert {name: getattr(result, name) for name in reference} == pytest.approx(reference, abs=few)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_balls_of_radius_0_are_empty(dtype):
    many = draw(20, 6, 0).repeat(20, 1).to(dtype)
    for seed in range(3):
        order = torch.randperm(400, generator=torch.Generator().manual_seed(seed))
        assert numbers(prdc(many, many[order])) == (0, 0, 0, 0)
    assert nearest_neighbor_test(many, many.flip(0)).accuracy == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    """Squares of a hundred numbers of 200 exceed the range of float16."""
    real, fake = (200 * draw(200, 100, seed).to(dtype) for seed in (0, 1))
    assert numbers(prdc(real, fake)) == numbers(prdc(real.float(), fake.float()))
    assert prdc(real, fake.double()) == prdc(real.double(), fake.double())
    assert nearest_neighbor_test(real, fake) == nearest_neighbor_test(real.float(), fake.float())


def clusters(n, seed):
    """Return ten distant clusters in many dimensions, which float32 products do not resolve."""
    rng = RNG(seed)
    centers = 28 * RNG(0).normal("centres", 10, 64)
    which = (10 * rng.uniform("which", n)).long()
    return centers[which] + rng.normal("points", n, 64)


def test_comparisons_unresolved_in_float32_are_made_in_float64(peer):
    """Counts of neighbors are exact, though many radii are within rounding of a distance."""
    real, fake = clusters(600, 1), clusters(600, 2)
    result = prdc(real, fake)
    assert numbers(result) == numbers(prdc(real.double(), fake.double()))
    reference = peer("prdc").compute_prdc(real.double().numpy(), fake.double().numpy(), 5)
    assert {name: getattr(result, name) for name in reference} == pytest.approx(reference, rel=1e-9)
    exact = nearest_neighbor_test(real.double(), fake.double())
    assert nearest_neighbor_test(real, fake) == exact


def test_with_many_ties_all_is_computed_in_float64():
    """For numbers of a few bits most pairs are ties."""
    real, fake = (draw(300, 80, seed).sign().float() for seed in (0, 1))
    assert numbers(prdc(real, fake)) == numbers(prdc(real.double(), fake.double()))


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e-12, 1e12, 1e30])
def test_the_unit_of_features_changes_nothing(scale):
    real, fake = (draw(300, 8, seed).float() for seed in (0, 1))
    power = 2.0 ** round(math.log2(scale))
    assert prdc(power * real, power * fake) == prdc(real, fake)
    result = nearest_neighbor_test(power * real, power * fake)
    assert result == nearest_neighbor_test(real, fake)


def prdc_of_integers(real, fake, k):
    """Return the definitions, for points whose squared distances are exact integers."""

    def squares(x, y):
        return (x[:, None].long() - y[None].long()).square().sum(2)

    def reach(points):
        result = squares(points, points).fill_diagonal_(1 << 40)
        return result.sort(dim=1).values[:, k - 1]

    between = squares(real, fake)
    in_real, in_fake = between < reach(real)[:, None], between < reach(fake)[None]
    return (
        in_real.any(0).double().mean().item(),
        in_fake.any(1).double().mean().item(),
        in_real.sum().item() / (k * len(fake)),
        in_real.any(1).double().mean().item(),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("dims", [1, 2, 16])
def test_points_repeated_more_often_than_k_have_empty_balls(dims, swapped, dtype):
    """Balls of radius 0 are empty, however radii are rounded.

    There are seven copies of each point; one set is about 0, most points of the other are far away,
    so that its radii are rounded about a distant center.
    """
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        near = torch.randint(-2, 3, (12, dims), generator=generator)
        far = torch.randint(100, 900, (24, dims), generator=generator)
        single = torch.randint(-9, 10, (20, dims), generator=generator)
        sets = [torch.cat((near, far)).repeat(7, 1), torch.cat((near.repeat(7, 1), single))]
        if swapped:
            sets.reverse()
        result = prdc(*(points.to(dtype) for points in sets))
        assert numbers(result) == pytest.approx(prdc_of_integers(*sets, 5), abs=1e-12), seed
