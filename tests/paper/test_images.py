"""Tests of Table 1 and Figures 2 and 3, on trainings of a few steps."""

from dataclasses import replace

import pytest
import torch

from advnets.errors import StoppedError
from advnets.metrics.distance import nearest
from advnets.paper import trainings
from advnets.paper.blocks import FigureBlock, Table, Text
from advnets.paper.sections import figure2, figure3, table1


@pytest.fixture
def context(context, monkeypatch, tmp_path):
    """Return a context without data, two seeds, and a few training steps on digits."""
    real = trainings.digits_config

    def short(seed):
        run = real(seed)
        run = replace(run, intervals=replace(run.intervals, eval_every=2))
        return run.with_stage(replace(run.stage, steps=4))

    monkeypatch.setattr(trainings, "digits_config", short)
    monkeypatch.setattr(figure2, "large_configs", lambda context: {})
    return replace(context, seeds=2, data_dir=str(tmp_path / "data"))


def tables(section):
    return [block for block in section.blocks if isinstance(block, Table)]


def test_table_1_has_every_seed_weights_and_epoch(context):
    section = table1.build(context)
    actual, comparison, features, published = tables(section)
    assert [row[:2] for row in actual.rows[:4]] == [("digits-0", "last")] * 2 + [
        ("digits-0", "ema")
    ] * 2
    assert len(actual.rows) == 2 * 4 + 4
    by_choice = [row for row in actual.rows if row[0] == "mean of 2"]
    assert [row[1:3] for row in by_choice] == [
        ("last", "best by validation"),
        ("last", "last"),
        ("ema", "best by validation"),
        ("ema", "last"),
    ]
    means = [float(row[3].split()[0]) for row in actual.rows if row[1:2] == ("last",)]
    lasts = [means[1], means[3]]  # of each seed: best, last
    assert float(by_choice[1][3].split()[0]) == pytest.approx(sum(lasts) / 2, abs=0.11)
    assert [row[0] for row in comparison.rows] == [
        "1,197 real training images",
        "300 centers of k-means",
    ]
    assert [row[0] for row in features.rows] == [
        "digits, last weights",
        "digits, ema weights",
        "real training images",
    ]
    assert published.rows[-1][1:] == ("225 ± 2", "2057 ± 26")
    (image,) = [block for block in section.blocks if isinstance(block, FigureBlock)]
    assert (context.folder / image.file).stat().st_size > 0


def test_a_run_is_trained_once_for_all_sections(context):
    first = trainings.reference_run(context)
    checkpoint = first.run.newest_checkpoint()
    before = checkpoint.stat().st_mtime_ns
    repeated = trainings.reference_run(context)
    assert (repeated.step, checkpoint.stat().st_mtime_ns) == (4, before)


def test_a_stopped_training_stops_the_section(context, monkeypatch):
    from advnets.experiment.train import TrainResult
    from advnets.paper import blocks

    ending = TrainResult(context.runs_dir / "x", complete=False, signal=2, step=3)
    monkeypatch.setattr(blocks, "train", lambda *a, **k: ending)
    with pytest.raises(StoppedError, match="stopped at step 3"):
        trainings.reference_run(context)


def test_figure_2_shows_samples_and_the_nearest_training_images(context):
    section = figure2.build(context)
    (image,) = [block for block in section.blocks if isinstance(block, FigureBlock)]
    assert (context.folder / image.file).exists()
    (row,) = tables(section)[0].rows
    assert row[0] == "digits-0"
    assert row[2] == "0.3"
    assert len(section.checks) == 1


def test_figure_2_reports_missing_data(context, monkeypatch):
    real = trainings.large_configs(context)
    monkeypatch.setattr(figure2, "large_configs", lambda context: real)
    section = figure2.build(context)
    run_command = [block.text for block in section.blocks if isinstance(block, Text)]
    assert "faces-quick is not shown: TFD_48x48.mat is missing from" in run_command[1]
    assert run_command[1].endswith("or pass the path of your own file with `--faces`")
    assert [text.split("-quick")[0] for text in run_command[1:]] == ["faces", "cifar", "cifar-conv"]
    assert section.missing_sources == ("faces", "cifar")


class TestCopies:
    def test_training_images_are_copies_of_themselves(self):
        train = torch.rand(400, 30)
        assert figure2.nearest_stats(train[:50], train).copies == 1.0

    def test_independent_samples_are_not_copies(self):
        train, new = torch.rand(400, 30), torch.rand(50, 30)
        assert figure2.nearest_stats(new, train).copies == 0.0

    def test_noisy_copies_are_counted(self):
        train = torch.rand(400, 30)
        mixed = torch.cat((train[:20] + 0.01 * torch.randn(20, 30), torch.rand(40, 30)))
        memory = figure2.nearest_stats(mixed, train)
        assert memory.copies == pytest.approx(1 / 3)
        assert memory.median == pytest.approx(float(nearest(mixed, train)[0].median()))

    def test_spread_of_a_normal_and_of_one_image(self):
        train = torch.rand(400, 30)
        samples = 2 * torch.randn(3000, 30)
        assert figure2.nearest_stats(samples, train).spread == pytest.approx(2 * 30**0.5, rel=0.02)
        assert figure2.nearest_stats(train[:1].expand(60, 30), train).spread < 1e-5


def test_interpolations_begin_and_end_at_their_ends(context):
    """At t = 0 and t = 1 the image is G of the first and the last z."""
    trained = trainings.reference_run(context)
    lines = figure3.interpolate(trained, lines=3, steps=5)
    assert lines.shape == (3, 5, 1, 8, 8)
    torch.testing.assert_close(lines[:, [0, -1]], figure3.interpolate(trained, 3, 2))
    figure = figure3.build(context)
    assert (context.folder / figure.blocks[1].file).exists()


def test_quick_scale_divides_hidden_sizes(context):
    for run in trainings.large_configs(context).values():
        for stage in run.stages:
            assert stage.steps is not None
            assert stage.steps <= trainings.QUICK_STEPS
    wide = trainings.large_configs(replace(context, full=True))
    assert [run.preset for run in wide.values()] == ["paper-tfd", "paper-cifar", "paper-cifar-conv"]
    assert wide["cifar"].stage.generator.hidden_sizes == (8000, 8000)
    narrow = trainings.large_configs(context)["cifar-quick"].stage
    assert (narrow.generator.hidden_sizes, narrow.discriminator.hidden_sizes) == (
        (1000, 1000),
        (200, 200),
    )
