import numpy as np
import pytest
import torch
from scipy.spatial import geometric_slerp
from torch.nn import functional as F

from advnets.visualize.interpolation import interpolate, lerp, slerp

T = torch.linspace(0, 1, 7)


def test_slerp_equals_that_of_scipy_on_the_unit_sphere():
    a, b = (F.normalize(torch.randn(3, 5, dtype=torch.float64), dim=1) for _ in range(2))
    actual = slerp(a, b, T.double())
    for own, start, end in zip(actual, a, b, strict=True):
        reference = geometric_slerp(start.numpy(), end.numpy(), T.double().numpy())
        np.testing.assert_allclose(own.numpy(), reference, atol=1e-5)


@pytest.mark.parametrize("path", [lerp, slerp])
def test_paths_begin_at_a_and_end_at_b(path):
    a, b = torch.randn(2, 4, 6)
    z = path(a, b, T)
    assert z.shape == (4, 7, 6)
    torch.testing.assert_close(z[:, 0], a)
    torch.testing.assert_close(z[:, -1], b, atol=1e-5, rtol=1e-5)


def test_slerp_keeps_the_norm():
    a, b = torch.randn(2, 1, 400)
    lengths = slerp(a, b, T).norm(dim=-1)
    assert lengths.min() > 0.95 * min(a.norm(), b.norm())
    assert lerp(a, b, T).norm(dim=-1).min() < 0.8 * min(a.norm(), b.norm())


def test_slerp_of_parallel_vectors_is_linear():
    a = torch.randn(1, 5)
    for b in (a, 2 * a, -a):
        torch.testing.assert_close(slerp(a, b, T), lerp(a, b, T))


def test_a_class_is_interpolated_linearly():
    a, b = torch.randn(2, 1, 5)
    a[:, 3:], b[:, 3:] = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    path = interpolate("spherical", a, b, T, classes=2)
    torch.testing.assert_close(path[0, :, 4], T)
    torch.testing.assert_close(path[0, :, 3], 1 - T)
    torch.testing.assert_close(path[..., :3], slerp(a[:, :3], b[:, :3], T))
