import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from advnets.errors import UsageError
from advnets.metrics import distance
from advnets.metrics.manifold import nearest_neighbour_test, prdc


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
    assert found.neighbours == k
    # In blocks that cut through both sets, the same.
    blocks = distance.half_squared_distances
    monkeypatch.setattr(
        "advnets.metrics.manifold.half_squared_distances", lambda x, y: blocks(x, y, 37, 23)
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


def test_the_nearest_neighbour_test_is_a_classifier_that_leaves_one_out():
    real, fake = draw(80, 2, 0), draw(80, 2, 1, 0.8, 0.4)
    pool, labels = torch.cat((real, fake)).numpy(), np.repeat([1, 0], 80)
    right = []
    for i in range(160):
        others = np.arange(160) != i
        classifier = KNeighborsClassifier(1).fit(pool[others], labels[others])
        right.append(classifier.predict(pool[i : i + 1])[0] == labels[i])
    found = nearest_neighbour_test(real, fake)
    assert found.of_real == pytest.approx(np.mean(right[:80]))
    assert found.of_fake == pytest.approx(np.mean(right[80:]))
    assert found.accuracy == pytest.approx(np.mean(right))
    assert found.n == 80


def test_two_sets_of_one_distribution_are_told_apart_half_the_time():
    found = nearest_neighbour_test(draw(2000, 2, 0), draw(2000, 2, 1))
    assert found.accuracy == pytest.approx(0.5, abs=0.03)
    apart = nearest_neighbour_test(draw(200, 2, 0), draw(200, 2, 1, shift=50))
    assert apart.accuracy == 1


def test_too_many_neighbours_and_unlike_sizes_are_refused():
    with pytest.raises(UsageError, match="5 neighbours were asked for in sets of 5; give 1 to 4"):
        prdc(draw(5, 2, 0), draw(9, 2, 1))
    with pytest.raises(UsageError, match="5 real and 9 generated pictures came"):
        nearest_neighbour_test(draw(5, 2, 0), draw(9, 2, 1))
