import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from advnets.errors import DataError, UsageError
from advnets.metrics.modes import mode_coverage, relative_entropy


def draw(n: int, modes: int, seed: int) -> torch.Tensor:
    """Return random modes of decreasing frequency."""
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, modes + 1)
    return torch.from_numpy(rng.choice(modes, n, p=weights / weights.sum()))


def test_divergences_equal_those_of_the_proportions():
    labels, real = draw(500, 12, 0), draw(900, 12, 1)
    p, q = (np.bincount(values.numpy(), minlength=12) for values in (labels, real))
    result = mode_coverage(labels, 12, reference=real)
    assert result.kl_uniform == pytest.approx(entropy(p, np.ones(12)), rel=1e-12)
    assert result.kl_reference == pytest.approx(entropy(p, q), rel=1e-12)
    assert (result.modes_found, result.modes, result.n) == (int((p > 0).sum()), 12, 500)
    assert mode_coverage(labels, 12).kl_reference is None


def test_kl_is_log_modes_for_one_mode_and_0_for_uniform_modes():
    assert mode_coverage(torch.full((9,), 3), 1000).kl_uniform == pytest.approx(math.log(1000))
    even = mode_coverage(torch.arange(40) % 10, 10, reference=torch.arange(20) % 10)
    assert (even.modes_found, even.kl_uniform, even.kl_reference) == (10, 0, 0)


def test_zeros_are_exact():
    """A mode without samples adds nothing; one without real images makes it infinite."""
    only = torch.tensor([0, 0, 1])
    assert mode_coverage(only, 3, reference=torch.tensor([0, 1, 2])).kl_reference == pytest.approx(
        2 / 3 * math.log(2) + 0
    )
    assert mode_coverage(only, 3, reference=torch.tensor([0, 2])).kl_reference == math.inf
    nothing = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert relative_entropy(nothing, nothing) == 0


def test_a_perfect_generator_has_the_expected_minimum():
    """26,000 samples of 1,000 uniform modes: about 999 / 52,000 nats by chance."""
    rng = np.random.default_rng(0)
    result = mode_coverage(torch.from_numpy(rng.integers(0, 1000, 26_000)), 1000)
    assert result.modes_found == 1000
    assert result.kl_uniform == pytest.approx(999 / 52_000, rel=0.15)


def test_order_does_not_matter():
    labels, real = draw(200, 5, 0), draw(300, 5, 1)
    result = mode_coverage(labels, 5, reference=real)
    assert mode_coverage(labels.flip(0).int(), 5, reference=real.flip(0)) == result


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 3]), "modes of samples are 0 to 3; expected 0 to 2"),
        (torch.tensor([-1, 2]), "modes of samples are -1 to 2; expected 0 to 2"),
        (torch.zeros(0, dtype=torch.long), r"modes of samples are torch.int64 of shape \(0,\)"),
    ],
)
def test_labels_out_of_range_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        mode_coverage(labels, 3)
    with pytest.raises(DataError, match=message.replace("samples", "real images")):
        mode_coverage(torch.tensor([0, 1]), 3, reference=labels)


def test_zero_modes_are_refused():
    with pytest.raises(UsageError, match="the number of modes is 0"):
        mode_coverage(torch.tensor([0]), 0)


def test_standard_errors_equal_deviations_over_draws():
    rng = np.random.default_rng(0)
    p, q = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.2, 0.3, 0.4])
    reference = torch.from_numpy(np.repeat(np.arange(4), (1000 * q).astype(int)))
    results = [
        mode_coverage(torch.from_numpy(rng.choice(4, 2000, p=p)), 4, reference=reference)
        for _ in range(400)
    ]
    for name in ("kl_uniform", "kl_reference"):
        deviation = np.std([getattr(f, name) for f in results], ddof=1)
        assert np.mean([getattr(f, f"{name}_error") for f in results]) == pytest.approx(
            deviation, rel=0.1
        )


def test_an_infinite_divergence_has_no_standard_error():
    result = mode_coverage(torch.tensor([0, 1]), 2, reference=torch.tensor([0, 0]))
    assert math.isinf(result.kl_reference)
    assert result.kl_reference_error is None
