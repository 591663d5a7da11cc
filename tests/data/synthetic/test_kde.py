"""A table of points as a source."""

from __future__ import annotations

import numpy as np
import pytest

from advnets.data import options
from advnets.data.synthetic import base
from advnets.data.synthetic.kde import PointsOptions, SmoothedPoints, is_points, open_points
from advnets.errors import DataError, UsageError

SOME = np.random.default_rng(0).normal(size=(100, 2))


def test_a_table_is_a_source(tmp_path):
    """All splits are drawn from the smoothed points; there are no labels."""
    path = tmp_path / "hand.csv"
    path.write_text("x,y\n" + "\n".join(f"{x},{y}" for x, y in SOME))
    splits = open_points(path, options.read("n=300,sd=0.2", PointsOptions, str(path)))
    assert splits.name == "hand"
    assert splits.shape == (2, 1, 1)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [
        300,
        10_000,
        10_000,
    ]
    assert splits.train.labels is None
    assert splits.classes == ()
    assert splits.distribution.sd == 0.2
    np.testing.assert_allclose(splits.valid.images[..., 0, 0].mean(0), SOME.mean(0), atol=0.1)
    assert open_points(path, PointsOptions(n=300, sd=0.2)).digest() == splits.digest()
    assert open_points(path, PointsOptions(n=300, sd=0.2, seed=1)).digest() != splits.digest()


def test_both_formats_are_one_source(tmp_path):
    """The same points, as text or as an array, of a line, are the same data."""
    np.save(tmp_path / "a.npy", SOME[:, 0])
    (tmp_path / "a.csv").write_text("\n".join(map(repr, SOME[:, 0].tolist())))
    chosen = PointsOptions(n=50)
    first, second = (open_points(tmp_path / f"a.{kind}", chosen) for kind in ("npy", "csv"))
    assert first.digest() == second.digest()
    assert first.shape == (1, 1, 1)


def test_what_is_a_table(tmp_path):
    """A file that ends in .csv or .npy is; a folder or another file is not."""
    for name in ("a.csv", "a.NPY", "a.txt", "csv"):
        (tmp_path / name).touch()
    (tmp_path / "folder.csv").mkdir()
    found = [path.name for path in sorted(tmp_path.iterdir()) if is_points(path)]
    assert found == ["a.NPY", "a.csv"]
    assert not is_points(tmp_path / "absent.csv")


def test_broken_tables_are_named(tmp_path):
    """What the file holds wrong is a DataError, what is asked wrong a UsageError with its name."""
    path = tmp_path / "a.csv"
    path.write_text("1\nx\n")
    with pytest.raises(DataError, match=r"a\.csv, line 2 holds 'x'"):
        open_points(path, PointsOptions())
    path.write_text("5\n5\n")
    with pytest.raises(UsageError, match=r"a\.csv: sd is 0, as the points .* such as sd=0.1"):
        open_points(path, PointsOptions())
    assert open_points(path, PointsOptions(sd=0.1, n=5)).distribution.sd == 0.1
    path.write_text("1000000\n1000001\n")
    with pytest.raises(UsageError, match=r"a\.csv: sd is 0.025, but points lie 1e\+06 from 0"):
        open_points(path, PointsOptions())


def test_options_that_cannot_be():
    """A negative width, no points to draw."""
    with pytest.raises(UsageError, match=r"sd is -1.0; it must be positive, or 0 to have it"):
        PointsOptions(sd=-1.0)
    with pytest.raises(UsageError, match="n is 0"):
        PointsOptions(n=0)
    shown = options.shown(PointsOptions)
    assert options.read(shown, PointsOptions, "a.csv") == PointsOptions()


@pytest.mark.parametrize(
    ("centres", "complaint"),
    [
        (np.zeros((0, 2)), r"shape \(0, 2\)"),
        (np.zeros((3, 3)), r"shape \(3, 3\)"),
        (np.array([[0.0], [np.nan]]), "not finite"),
    ],
)
def test_centres_that_cannot_be(centres, complaint):
    """From Python too, centres are finite points of one or two coordinates."""
    with pytest.raises(UsageError, match=complaint):
        SmoothedPoints(centres=centres, sd=1.0)


def test_many_points_are_summed_in_blocks(monkeypatch):
    """No more terms are held at once than a block has, or than one point needs."""
    held: list[int] = []
    summed = base.log_sum_exp
    monkeypatch.setattr(base, "log_sum_exp", lambda t: (held.append(t.size), summed(t))[1])
    for count in (10_000, 300_000):
        centres = np.linspace(-1, 1, count)[:, None]
        SmoothedPoints(centres=centres, sd=0.1).log_density(np.zeros((200, 1)))
    assert max(held[:-200]) <= base._BLOCK
    assert held[-200:] == [300_000] * 200
