import math
from dataclasses import replace

import pytest
import torch
from scipy import stats

from advnets.rng import RNG

NOISE = RNG(seed=3, step=5, purpose="stage0")


def test_a_draw_is_a_function_of_its_key():
    assert torch.equal(NOISE.normal("z", 10, 4), NOISE.normal("z", 10, 4))


@pytest.mark.parametrize(
    "rng", [replace(NOISE, seed=4), NOISE.at_step(6), NOISE.fold_in("generator"), NOISE.attempt(1)]
)
def test_another_seed_or_step_gives_other_numbers(rng):
    numbers, others = NOISE.uniform("z", 100, 10), rng.uniform("z", 100, 10)
    correlation = torch.corrcoef(torch.stack((numbers.flatten(), others.flatten())))[0, 1]
    assert abs(correlation) < 4 / math.sqrt(1000)


def test_another_purpose_gives_other_numbers():
    assert not torch.equal(NOISE.uniform("z", 10, 4), NOISE.uniform("mask", 10, 4))


def test_attempt_0_is_the_original_generator():
    assert NOISE.attempt(2).attempt(0) == NOISE


@pytest.mark.parametrize("world", [2, 3, 6])
@pytest.mark.parametrize("sizes", [(18, 18, 18), (12, 6, 24)])
def test_ranks_draw_the_rows_of_their_share(world, sizes):
    """The draws of all ranks together are those of one process, for streams of any sizes."""
    streams = ("labeled", "real", "fake")
    whole = NOISE.split_streams(*streams, sizes=sizes).uniform("x", sum(sizes), 3)
    parts = [
        replace(NOISE, rank=rank)
        .split_streams(*streams, sizes=[size // world for size in sizes])
        .uniform("x", sum(sizes) // world, 3)
        for rank in range(world)
    ]
    rows = [size // world for size in sizes]
    of_streams = zip(*(part.split(rows) for part in parts), strict=True)
    assert torch.equal(torch.cat([torch.cat(chunks) for chunks in of_streams]), whole)


def test_ranks_seed_torch_differently():
    """A module that uses torch's own random numbers draws others for the rows of each rank."""
    seeds = {replace(NOISE, rank=rank).torch_seed("module") for rank in range(4)}
    assert len(seeds) == 4 and NOISE.torch_seed("module") in seeds


@pytest.mark.parametrize("first", [1, 3, 7])
def test_a_process_with_some_rows_draws_the_numbers_of_all_rows(first):
    part = replace(NOISE, first_row=first)
    rest = 10 - first
    draws = (
        lambda rng, rows: rng.uniform("x", rows, 7),
        lambda rng, rows: rng.normal("x", rows, 7, 3),
        lambda rng, rows: rng.fast_normal("x", rows, 7, 3),
        lambda rng, rows: rng.dropout_mask("x", rows, 5, keep_prob=0.5),
        lambda rng, rows: rng.dropout_mask("x", rows, 5, keep_prob=0.8),
    )
    for draw in draws:
        assert torch.equal(draw(NOISE, 10)[first:], draw(part, rest))


def test_split_streams_draw_what_separate_batches_draw():
    both = NOISE.split_streams("real", "fake").dropout_mask("mask0", 8, 5, keep_prob=0.8)
    parts = [
        NOISE.split_streams(name).dropout_mask("mask0", 4, 5, keep_prob=0.8)
        for name in ("real", "fake")
    ]
    assert torch.equal(both, torch.cat(parts))
    assert not torch.equal(*parts)
    first, second = (
        NOISE.split_streams("real", "fake", sizes=(3, 1)).normal("x", 4, 5).split((3, 1))
    )
    assert torch.equal(first, NOISE.split_streams("real").normal("x", 3, 5))
    assert torch.equal(second, NOISE.split_streams("fake").normal("x", 1, 5))


def test_chosen_rows_are_those_of_all_streams():
    """In any order and repeated, of streams of equal or given sizes; other streams begin anew."""
    rows, streams = (5, 0, 7, 5), NOISE.split_streams("real", "fake")
    for rng, total in ((streams, 8), (NOISE.split_streams("real", "fake", sizes=(2, 6)), 8)):
        chosen = rng.take_rows(rows, total)
        for draw in (
            lambda rng, n: rng.uniform("x", n, 3),
            lambda rng, n: rng.fast_normal("x", n, 3),
            lambda rng, n: rng.dropout_mask("x", n, 5, keep_prob=0.5),
        ):
            assert torch.equal(draw(chosen, 4), draw(rng, total)[list(rows)])
    with pytest.raises(ValueError, match="5 rows cannot be split"):
        streams.take_rows(rows, 8).uniform("x", 5, 3)
    again = streams.take_rows(rows, 8).split_streams("real", "fake")
    assert torch.equal(again.normal("x", 8, 3), streams.normal("x", 8, 3))


def test_rows_that_do_not_divide_among_streams_are_refused():
    with pytest.raises(ValueError, match="9 rows cannot be split over 2 streams"):
        NOISE.split_streams("real", "fake").uniform("x", 9, 2)
    with pytest.raises(ValueError, match="4 rows cannot be split over 2 streams"):
        NOISE.split_streams("real", "fake", sizes=(3, 2)).uniform("x", 4, 2)
    with pytest.raises(ValueError, match="zip"):  # a size for each stream
        NOISE.split_streams("real", "fake", sizes=(4,)).uniform("x", 4, 2)


def test_uniform_is_uniform():
    numbers = NOISE.uniform("x", 1000, 100, low=-math.sqrt(3), high=math.sqrt(3)).flatten()
    law = stats.uniform(-math.sqrt(3), 2 * math.sqrt(3))
    assert stats.kstest(numbers.double().numpy(), law.cdf).pvalue > 1e-3


def test_fast_normal_is_normal_and_independent():
    x = NOISE.fast_normal("x", 2000, 51)
    assert stats.kstest(x.flatten().numpy(), "norm").pvalue > 0.01
    correlations = torch.corrcoef(torch.cat((x, x.square()), 1).T) - torch.eye(102)
    assert correlations.abs().max() < 5 / math.sqrt(2000)


def test_normal_is_normal():
    numbers = NOISE.normal("x", 1000, 100).flatten()
    assert stats.kstest(numbers.double().numpy(), stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize("keep", [0.5, 0.8, 0.3])
def test_dropout_masks_have_their_rate_and_are_independent(keep):
    mask = NOISE.dropout_mask("x", 1000, 1000, keep_prob=keep)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert mask.mean().item() == pytest.approx(keep, abs=4 * math.sqrt(keep * (1 - keep) / 1e6))
    assert mask.mean(0).std().item() == pytest.approx(math.sqrt(keep * (1 - keep) / 1e3), rel=0.1)


def test_a_permutation_holds_every_index_once():
    assert sorted(NOISE.permutation("order", 50)) == list(range(50))
