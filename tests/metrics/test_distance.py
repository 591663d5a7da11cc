import pytest
import torch

from advnets.errors import UsageError
from advnets.metrics.distance import half_squared_distances, nearest, nearest_others, rounding_error


def whole(x: torch.Tensor, y: torch.Tensor, **block: int) -> torch.Tensor:
    result = torch.full((len(x), len(y)), torch.nan, dtype=x.dtype)
    for rows, columns, values in half_squared_distances(x, y, **block):
        result[rows, columns] = values
    return result


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 7), (100, 2), (100, 100)])
def test_blocks_tile_the_matrix(rows, columns):
    """Blocks of any size cover every pair with -½‖x - y‖² as torch.cdist has it."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10, 4, generator=generator, dtype=torch.float64)
    y = torch.randn(13, 4, generator=generator, dtype=torch.float64)
    expected = -0.5 * torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
    torch.testing.assert_close(whole(x, y, rows=rows, columns=columns), expected)


def test_an_offset_costs_no_accuracy():
    """Points 100 away from the origin have float32 distances as good as points around it."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 30, generator=generator).mul(64).round() / 64  # exact when shifted
    torch.testing.assert_close(whole(x + 100, x + 100), whole(x, x), rtol=1e-6, atol=2e-4)


def precisions() -> tuple[str, str]:
    backends = torch.backends
    return backends.cuda.matmul.fp32_precision, backends.mkldnn.matmul.fp32_precision  # pyright: ignore


def test_lowered_products_are_lifted_and_lowered_again(monkeypatch):
    """Each product runs in full float32; between blocks, and when left, settings are the caller's.

    A receiver may stop after one block, so nothing may wait for the last.
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


def test_the_nearest_are_those_of_all_pairs():
    """Against every distance, sorted, over more points than a block holds; a point itself at 0."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1500, 7, generator=generator)
    y = torch.cat((torch.randn(2100, 7, generator=generator), x[:3]))
    distances, which = nearest(x, y, 4)
    exact, order = torch.cdist(x.double(), y.double()).sort(dim=1)
    torch.testing.assert_close(distances.double(), exact[:, :4], atol=2e-3, rtol=1e-4)
    assert (which == order[:, :4]).float().mean() > 0.999
    assert which[:3, 0].tolist() == [2100, 2101, 2102]


@pytest.mark.parametrize("count", [0, 6])
def test_more_neighbors_than_there_are_points_are_refused(count):
    with pytest.raises(UsageError, match="among 5; request 1 to 5"):
        nearest(torch.zeros(2, 3), torch.zeros(5, 3), count)


def test_the_nearest_others_leave_the_point_itself_out():
    """Against every distance, sorted, over more points than two blocks; a point that is twice."""
    x = torch.randn(2100, 7, generator=torch.Generator().manual_seed(0))
    x = torch.cat((x, x[:3]))
    distances = nearest_others(x, 3)
    exact = torch.cdist(x.double(), x.double()).fill_diagonal_(torch.inf).sort(dim=1)[0]
    torch.testing.assert_close(distances.double(), exact[:, :3], atol=2e-3, rtol=1e-4)
    assert distances[:3, 0].max() < 2e-3
    assert (distances[:, 0] > 2e-3).sum() == len(x) - 6


@pytest.mark.parametrize("count", [0, 5])
def test_more_others_than_there_are_are_refused(count):
    with pytest.raises(UsageError, match="among 4 others; request 1 to 4"):
        nearest_others(torch.zeros(5, 3), count)


def test_what_float32_does_not_resolve_is_taken_again():
    """Two tight groups far apart, a point that is there three times: distances to 1e-5."""
    generator = torch.Generator().manual_seed(0)
    x = torch.cat([torch.randn(1100, 6, generator=generator) / 100 + far for far in (-30, 30)])
    x = torch.cat((x, x[:1], x[:1]))
    exact = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    alone = exact.clone().fill_diagonal_(torch.inf).sort(dim=1)[0]
    torch.testing.assert_close(nearest_others(x, 3), alone[:, :3], atol=1e-5, rtol=1e-5)
    found, which = nearest(x[:50], x, 4)
    torch.testing.assert_close(found, exact[:50].sort(dim=1)[0][:, :4], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(exact[:50].gather(1, which), found, atol=1e-5, rtol=1e-5)


def test_a_few_rows_that_are_not_resolved_are_found_among_all():
    x = torch.randn(3000, 5, generator=torch.Generator().manual_seed(0))
    x[7], x[2222], x[9] = x[8], x[8], 100 + x[10] / 1000
    x[11] = 100 + x[12] / 1000
    exact = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist")
    alone = exact.fill_diagonal_(torch.inf).sort(dim=1)[0]
    for count in (1, 2):
        found = nearest_others(x, count)[:, -1]
        torch.testing.assert_close(found, alone[:, count - 1], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rounding_of_a_square_grows_with_both_squares_that_it_is_a_difference_of(dtype):
    """A point at the center has a square of 0, and that of its distance is rounded nevertheless."""
    x = torch.tensor([[1.0, 2.0], [4.0, 6.0]], dtype=dtype)
    center = torch.tensor([1.0, 2.0], dtype=dtype)
    found = rounding_error(x, center, torch.tensor([3.0, 2.0], dtype=torch.float64))
    assert found.tolist() == pytest.approx([torch.finfo(dtype).eps * n for n in (9, 25 + 4)])
