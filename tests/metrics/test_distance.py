import pytest
import torch

from advnets.errors import UsageError
from advnets.metrics.distance import half_squared_distances, nearest, nearest_others, rounding_error


def squared_distance_matrix(x: torch.Tensor, y: torch.Tensor, **block: int) -> torch.Tensor:
    result = torch.full((len(x), len(y)), torch.nan, dtype=x.dtype)
    for rows, columns, values in half_squared_distances(x, y, **block):
        result[rows, columns] = values
    return result


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 7), (100, 2), (100, 100)])
def test_blocks_tile_the_matrix(rows, columns):
    """Blocks of any size cover every pair, with -½‖x - y‖² as by torch.cdist."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10, 4, generator=generator, dtype=torch.float64)
    y = torch.randn(13, 4, generator=generator, dtype=torch.float64)
    expected = -0.5 * torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(squared_distance_matrix(x, y, rows=rows, columns=columns), expected)


def test_an_offset_costs_no_accuracy():
    """Points 100 away from the origin have float32 distances as good as points around it."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 30, generator=generator).mul(64).round() / 64  # exact when shifted
    torch.testing.assert_close(
        squared_distance_matrix(x + 100, x + 100),
        squared_distance_matrix(x, x),
        rtol=1e-6,
        atol=2e-4,
    )


def precisions() -> tuple[str, str]:
    backends = torch.backends
    return backends.cuda.matmul.fp32_precision, backends.mkldnn.matmul.fp32_precision  # pyright: ignore


def test_products_run_in_full_float32_and_settings_are_restored(monkeypatch):
    """Between blocks and after the last the caller's settings hold.

    A caller may stop after one block, so nothing may wait for the last.
    """
    multiply, during = torch.addmm, []

    def spy(*args):
        during.append(precisions())
        return multiply(*args)

    monkeypatch.setattr(torch, "addmm", spy)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        lowered = precisions()
        next(half_squared_distances(torch.zeros(4, 2), torch.zeros(4, 2), rows=2))
        assert during == [("ieee", "ieee")]
        assert precisions() == lowered != during[0]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_nearest_neighbors_equal_those_of_all_pairs():
    """Compared with all distances, sorted, over several blocks; a point is its own nearest one."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1500, 7, generator=generator)
    y = torch.cat((torch.randn(2100, 7, generator=generator), x[:3]))
    distances, which = nearest(x, y, 4)
    exact, order = torch.cdist(x.double(), y.double()).sort(dim=1)
    torch.testing.assert_close(distances.double(), exact[:, :4], atol=2e-3, rtol=1e-4)
    assert (which == order[:, :4]).float().mean() > 0.999
    assert which[:3, 0].tolist() == [2100, 2101, 2102]


@pytest.mark.parametrize("count", [0, 6])
def test_more_neighbors_than_points_are_refused(count):
    with pytest.raises(UsageError, match="among 5; request 1 to 5"):
        nearest(torch.zeros(2, 3), torch.zeros(5, 3), count)


def test_nearest_others_exclude_the_point_itself():
    """Compared with all distances, sorted, over several blocks, with a repeated point."""
    x = torch.randn(2100, 7, generator=torch.Generator().manual_seed(0))
    x = torch.cat((x, x[:3]))
    distances = nearest_others(x, 3)
    exact = torch.cdist(x.double(), x.double()).fill_diagonal_(torch.inf).sort(dim=1)[0]
    torch.testing.assert_close(distances.double(), exact[:, :3], atol=2e-3, rtol=1e-4)
    assert distances[:3, 0].max() < 2e-3
    assert (distances[:, 0] > 2e-3).sum() == len(x) - 6


@pytest.mark.parametrize("count", [0, 5])
def test_more_neighbors_than_other_points_are_refused(count):
    with pytest.raises(UsageError, match="among 4 others; request 1 to 4"):
        nearest_others(torch.zeros(5, 3), count)


def test_distances_unresolved_in_float32_are_recomputed():
    """Two tight groups far apart, with a point that occurs three times: errors below 1e-5."""
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(1100, 6, generator=generator) / 100 + far for far in (-30, 30)])
    x = torch.cat((x, x[:1], x[:1]))
    exact = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    others = exact.clone().fill_diagonal_(torch.inf).sort(dim=1)[0]
    torch.testing.assert_close(nearest_others(x, 3), others[:, :3], atol=1e-5, rtol=1e-5)
    result, which = nearest(x[:50], x, 4)
    torch.testing.assert_close(result, exact[:50].sort(dim=1)[0][:, :4], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(exact[:50].gather(1, which), result, atol=1e-5, rtol=1e-5)


def test_a_few_unresolved_rows_are_detected():
    x = torch.randn(3000, 5, generator=torch.Generator().manual_seed(0))
    x[7], x[2222], x[9] = x[8], x[8], 100 + x[10] / 1000
    x[11] = 100 + x[12] / 1000
    exact = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    others = exact.fill_diagonal_(torch.inf).sort(dim=1)[0]
    for count in (1, 2):
        result = nearest_others(x, count)[:, -1]
        torch.testing.assert_close(result, others[:, count - 1], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_errors_include_both_squared_norms(dtype):
    """Also for a point at the center, whose own norm is 0."""
    x = torch.tensor([[1.0, 2.0], [4.0, 6.0]], dtype=dtype)
    center = torch.tensor([1.0, 2.0], dtype=dtype)
    result = rounding_error(x, center, torch.tensor([3.0, 2.0], dtype=torch.float64))
    assert result.tolist() == pytest.approx([torch.finfo(dtype).eps * n for n in (9, 25 + 4)])
