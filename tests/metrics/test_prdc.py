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
    """The definitions of both papers, over the whole matrix of distances."""

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
def test_all_four_are_as_defined(monkeypatch, k, n, m):
    real, fake = draw(n, 3, 0), draw(m, 3, 1, scale=0.7, shift=0.3)
    expected = by_definition(real.numpy(), fake.numpy(), k)
    found = prdc(real, fake, k)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected)
    assert found.neighbors == k
    # In blocks that cut through both sets, the same.
    blocks = distance.half_squared_distances
    monkeypatch.setattr(
        sys.modules["advnets.metrics.prdc"],
        "half_squared_distances",
        lambda x, y: blocks(x, y, 37, 23),
    )
    assert prdc(real, fake, k) == found


@pytest.mark.parametrize("k", [3, 5])
def test_the_prdc_package_computes_the_same(peer, k):
    real, fake = draw(300, 8, 0), draw(250, 8, 1, scale=0.8, shift=0.2)
    theirs = peer("prdc").compute_prdc(real.numpy(), fake.numpy(), k)
    found = prdc(real, fake, k)
    ours = {name: getattr(found, name) for name in theirs}
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_samples_of_one_mode_are_precise_and_recall_half():
    """p_data has two modes, p_g one of them: precision stays, recall and coverage are a half."""
    real = torch.cat((draw(500, 2, 0, 0.1), draw(500, 2, 1, 0.1, 10)))
    found = prdc(real, draw(1000, 2, 2, 0.1))
    assert found.precision > 0.9
    assert found.recall == pytest.approx(0.5, abs=0.05)
    assert found.coverage == pytest.approx(0.5, abs=0.05)


def test_noise_far_away_is_neither():
    found = prdc(draw(200, 2, 0), draw(200, 2, 1, 0.1, 100))
    assert (found.precision, found.recall, found.density, found.coverage) == (0, 0, 0, 0)


def test_the_nearest_neighbor_test_is_a_classifier_that_leaves_one_out():
    real, fake = draw(80, 2, 0), draw(80, 2, 1, 0.8, 0.4)
    pool, labels = torch.cat((real, fake)).numpy(), np.repeat([1, 0], 80)
    right = []
    for i in range(160):
        others = np.arange(160) != i
        classifier = KNeighborsClassifier(1).fit(pool[others], labels[others])
        right.append(classifier.predict(pool[i : i + 1])[0] == labels[i])
    found = nearest_neighbor_test(real, fake)
    assert found.accuracy_real == pytest.approx(np.mean(right[:80]))
    assert found.accuracy_fake == pytest.approx(np.mean(right[80:]))
    assert found.accuracy == pytest.approx(np.mean(right))
    assert found.n == 80


def test_two_sets_of_one_distribution_are_told_apart_half_the_time():
    found = nearest_neighbor_test(draw(2000, 2, 0), draw(2000, 2, 1))
    assert found.accuracy == pytest.approx(0.5, abs=0.03)
    apart = nearest_neighbor_test(draw(200, 2, 0), draw(200, 2, 1, shift=50))
    assert apart.accuracy == 1


def test_too_many_neighbors_and_unlike_sizes_are_refused():
    with pytest.raises(UsageError, match="5 neighbors were requested in sets of 5; give 1 to 4"):
        prdc(draw(5, 2, 0), draw(9, 2, 1))
    with pytest.raises(
        UsageError, match="expects equally many real and generated images, got 5 and 9"
    ):
        nearest_neighbor_test(draw(5, 2, 0), draw(9, 2, 1))


def numbers(found):
    return found.precision, found.recall, found.density, found.coverage


def test_tight_modes_far_apart_cost_no_accuracy():
    """A ring of modes a hundred times finer than it is wide, in float32."""
    real, fake = (
        torch.from_numpy(Ring().sample(3000, RNG(seed, purpose="x"))).float() for seed in (0, 1)
    )
    assert numbers(prdc(real, fake)) == numbers(prdc(real.double(), fake.double()))
    told = nearest_neighbor_test(real, fake)
    assert told == nearest_neighbor_test(real.double(), fake.double())
    assert told.accuracy == pytest.approx(0.5, abs=0.03)


def test_samples_that_have_run_away_hide_nothing_of_the_others():
    real, fake = draw(400, 8, 0).float(), draw(400, 8, 1).float()
    fake[::2] += 1e4
    expected = by_definition(real.double().numpy(), fake.double().numpy(), 5)
    assert numbers(prdc(real, fake)) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_copies_tie_with_what_they_copy_and_lie_outside(peer, dtype):
    """Every distance between the sets is one within a set, some of them a radius.

    In float32 what is as near to the edge as rounding may be taken for a tie: here one of 3,000.
    """
    real = draw(600, 64, 0).to(dtype)
    fake = real[torch.randperm(600, generator=torch.Generator().manual_seed(1))]
    found = prdc(real, fake)
    few = 1e-3 if dtype == torch.float32 else 1e-12
    assert numbers(found) == pytest.approx((1, 1, 1, 1), abs=few)  # itself and four others, of five
    theirs = peer("prdc").compute_prdc(real.double().numpy(), fake.double().numpy(), 5)
    assert {name: getattr(found, name) for name in theirs} == pytest.approx(theirs, abs=few)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_balls_of_equal_images_hold_nothing(dtype):
    many = draw(20, 6, 0).repeat(20, 1).to(dtype)
    for seed in range(3):
        order = torch.randperm(400, generator=torch.Generator().manual_seed(seed))
        assert numbers(prdc(many, many[order])) == (0, 0, 0, 0)
    assert nearest_neighbor_test(many, many.flip(0)).accuracy == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_taken_in_float32(dtype):
    """Squares of a hundred numbers of 200 are more than float16 holds."""
    real, fake = (200 * draw(200, 100, seed).to(dtype) for seed in (0, 1))
    assert numbers(prdc(real, fake)) == numbers(prdc(real.float(), fake.float()))
    assert prdc(real, fake.double()) == prdc(real.double(), fake.double())
    assert nearest_neighbor_test(real, fake) == nearest_neighbor_test(real.float(), fake.float())


def clusters(n, seed):
    """Ten of them, far apart in many dimensions: products say little of what lies within one."""
    rng = RNG(seed)
    centers = 28 * RNG(0).normal("centres", 10, 64)
    which = (10 * rng.uniform("which", n)).long()
    return centers[which] + rng.normal("points", n, 64)


def test_what_float32_cannot_tell_is_told_in_float64(peer):
    """Neighbors are counted to the last one, though an edge lies within rounding of many."""
    real, fake = clusters(600, 1), clusters(600, 2)
    found = prdc(real, fake)
    assert numbers(found) == numbers(prdc(real.double(), fake.double()))
    theirs = peer("prdc").compute_prdc(real.double().numpy(), fake.double().numpy(), 5)
    assert {name: getattr(found, name) for name in theirs} == pytest.approx(theirs, rel=1e-9)
    exact = nearest_neighbor_test(real.double(), fake.double())
    assert nearest_neighbor_test(real, fake) == exact


def test_where_all_distances_tie_all_is_done_in_float64():
    """Numbers of a few bits: most pairs lie on an edge."""
    real, fake = (draw(300, 40, seed).sign().float() for seed in (0, 1))
    assert numbers(prdc(real, fake)) == numbers(prdc(real.double(), fake.double()))


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e-12, 1e12, 1e30])
def test_the_unit_of_features_changes_nothing(scale):
    real, fake = (draw(300, 8, seed).float() for seed in (0, 1))
    power = 2.0 ** round(math.log2(scale))
    assert prdc(power * real, power * fake) == prdc(real, fake)
    found = nearest_neighbor_test(power * real, power * fake)
    assert found == nearest_neighbor_test(real, fake)


def over_whole_numbers(real, fake, k):
    """The definitions, of points whose squared distances are exact."""

    def squares(x, y):
        return (x[:, None].long() - y[None].long()).square().sum(2)

    def reach(points):
        found = squares(points, points).fill_diagonal_(1 << 40)
        return found.sort(dim=1).values[:, k - 1]

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
def test_points_that_repeat_more_often_than_neighbors_are_counted(dims, swapped, dtype):
    """Balls of radius 0 hold nothing, however the radii of either set have been rounded.

    Seven copies of each point of either set: one set lies about 0, the other has most points far
    away, so that its radii are rounded about a center far from the points that both sets have.
    """
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        near = torch.randint(-2, 3, (12, dims), generator=generator)
        far = torch.randint(100, 900, (24, dims), generator=generator)
        single = torch.randint(-9, 10, (20, dims), generator=generator)
        sets = [torch.cat((near, far)).repeat(7, 1), torch.cat((near.repeat(7, 1), single))]
        if swapped:
            sets.reverse()
        found = prdc(*(points.to(dtype) for points in sets))
        assert numbers(found) == pytest.approx(over_whole_numbers(*sets, 5), abs=1e-12), seed
