"""Other ways to take a turn lead where the written one leads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from advnets import config, presets
from advnets.data.prepared import open_data
from advnets.errors import UsageError
from advnets.experiment import setup
from advnets.rng import RNG, RecordingRNG, ReplayRNG
from advnets.training import compile
from advnets.training.step import compute_gradients, train_step

MLP = config.MLPGenerator(
    latent_dim=8,
    hidden_sizes=(16, 16),
    batch_norm=True,
    dropout=(0.1, 0.5, 0.0),
    noise=(0.0, 0.1, 0.0),
)
MAXOUT = config.MaxoutDiscriminator(hidden_sizes=(12, 12), pieces=3, init_range=0.1)
PAIRS = {
    "alternating": (MLP, MAXOUT, config.GANGame()),
    "two steps of D": (MLP, MAXOUT, config.GANGame(k=2)),
    "simultaneous": (MLP, MAXOUT, config.GANGame(updates="simultaneous")),
    "penalties": (MLP, MAXOUT, config.GANGame(r1=0.1, r2=0.1)),
    "schedules": (MLP, MAXOUT, config.GANGame(r1=1.0, r1_final=0.1, augment_prob=0.9)),
    "packs": (MLP, MAXOUT, config.GANGame(objective="wasserstein", gp_weight=10.0, pac=2)),
    "convolutions": (
        config.DCGANGenerator(latent_dim=8, base_channels=4, kernel_size=4),
        config.DCGANDiscriminator(base_channels=4, kernel_size=4),
        config.GANGame(),
    ),
    "few labels": (
        MLP,
        config.SemiSupervisedConvDiscriminator(channels=(4, 8), strides=(2, 2)),
        config.SemiSupervisedGame(
            labels=20,
            labeled_batch=10,
            updates="simultaneous",
            augmentations=("translate", "affine"),
            consistency=1.0,
        ),
    ),
}


def again(function):
    """A recording without a device that records: the places are filled by doing it once more."""
    results = [result.clone() for result in function()]

    def replay():
        for place, result in zip(results, function(), strict=True):
            place.copy_(result)

    return results, replay


WAYS = {"traced": compile.compiled, "captured": lambda: compile.captured(again)}


@pytest.fixture
def traced_only(monkeypatch):
    """What is traced is run as it stands: the compiler itself takes half a minute."""
    monkeypatch.setattr(torch, "compile", lambda program: program)


def table(pair, precision="float32", device="cpu"):
    generator, discriminator, game = PAIRS[pair]
    start = presets.get_preset("digits")
    stage = replace(
        start.stage, generator=generator, discriminator=discriminator, game=game, schedule_steps=3
    )
    run = replace(start.with_stage(stage), data=replace(start.data, batch_size=20))
    data = open_data(run.data)
    run = setup.resolve_config(run, data.info, config.Runtime(device, precision, 1))
    return setup.make_train_state(run, data, 0, torch.device(device))


def state(played):
    return {
        f"{name}/{key}": value.clone()
        for name, player in played.players.items()
        for key, value in player.state_dict().items()
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pair", PAIRS)
def test_every_way_leads_where_the_written_turn_leads(pair, way, traced_only):
    """Four rounds: weights, batch statistics, momentum and what is observed, to the bit."""
    written, other = table(pair), table(pair)
    other.compute_gradients = WAYS[way]()
    for _ in range(4):
        one, two = train_step(written), train_step(other)
        assert {k: v.item() for k, v in one.metrics.items()} == {
            k: v.item() for k, v in two.metrics.items()
        }
    a, b = state(written), state(other)
    assert all(torch.equal(a[name], b[name]) for name in a)
    for name, mover in written.optimizers.items():
        for key, tensors in mover.state.items():
            for x, y in zip(tensors, other.optimizers[name].state[key], strict=True):
                assert torch.equal(x, y)


def test_in_bfloat16_too(traced_only):
    written, other = table("alternating", "bfloat16"), table("alternating", "bfloat16")
    other.compute_gradients = compile.compiled()
    for _ in range(3):
        train_step(written)
        train_step(other)
    a, b = state(written), state(other)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_after_a_roll_back_the_noise_is_the_other_tries(traced_only):
    """The numbers that are handed in follow the source, not the one it was prepared with."""
    written, other = table("alternating"), table("alternating")
    other.compute_gradients = compile.compiled()
    for played in (written, other):
        train_step(played)
        played.rng = played.rng.attempt(1)
        train_step(played)
    a, b = state(written), state(other)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_what_was_recorded_is_drawn_again_at_any_step():
    rng = RNG(3, purpose="stage0").fold_in("discriminator").fold_in("0")
    recorder = RecordingRNG.of(rng)

    def ask(source):
        inner = source.fold_in("bottom")
        return [
            source.normal("latent", 4, 3),
            inner.split_streams("real", "fake").dropout_mask("mask", 4, 5, keep_prob=0.8),
            source.uniform("latent", 2, 2, low=-1.0, high=1.0),
        ]

    asked = ask(recorder)
    for mine, plain in zip(asked, ask(rng), strict=True):
        assert torch.equal(mine, plain)
    later = rng.at_step(7)
    drawn = [draw.replay(later) for draw in recorder.draws]
    for mine, plain in zip(drawn, ask(later), strict=True):
        assert torch.equal(mine, plain)
    for mine, plain in zip(ask(ReplayRNG(0, values=iter(drawn))), drawn, strict=True):
        assert mine is plain


@pytest.mark.parametrize(
    ("chosen", "game", "message"),
    [
        ({"compile": True, "cuda_graph": True}, {}, "compile and cuda_graph are both set"),
        ({"compile": True}, {"reuse_fakes": True}, "give --game.no-reuse-fakes"),
        ({"cuda_graph": True}, {}, "cuda_graph is set on cpu; it needs --device cuda"),
    ],
)
def test_what_cannot_be_is_refused(chosen, game, message):
    with pytest.raises(UsageError, match=message):
        setup.gradient_function(config.Runtime("cpu", **chosen), config.GANGame(**game))


def test_without_a_wish_turns_are_taken_as_they_are_written():
    assert setup.gradient_function(config.Runtime("cpu"), config.GANGame()) is compute_gradients


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
def test_compiled_it_learns_the_same(pair):
    """With the real compiler, whose joined operations round a little otherwise."""
    written, other = table(pair), table(pair)
    other.compute_gradients = compile.compiled()
    for _ in range(10):
        train_step(written)
        train_step(other)
    a, b = state(written), state(other)
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("pair", PAIRS)
def test_a_cuda_graph_leads_where_the_written_turn_leads(pair):
    played = []
    for take in (compute_gradients, compile.captured(compile.record_cuda_graph)):
        laid = table(pair, device="cuda")
        laid.compute_gradients = take
        for _ in range(4):
            train_step(laid)
        played.append(state(laid))
    for name, value in played[0].items():
        torch.testing.assert_close(played[1][name], value, rtol=1e-3, atol=1e-4)
