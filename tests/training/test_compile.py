"""Compiled and recorded steps give the results of eager ones."""

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
    "finite differences": (
        MLP,
        MAXOUT,
        config.GANGame(
            updates="simultaneous",
            penalty="finite-difference",
            r1=1.0,
            r1_final=0.1,
            r2=0.1,
            augment_prob=0.9,
            pac=2,
        ),
    ),
    "schedules": (MLP, MAXOUT, config.GANGame(r1=1.0, r1_final=0.1, augment_prob=0.9)),
    "packs": (MLP, MAXOUT, config.GANGame(objective="wasserstein", gp_weight=10.0, pac=2)),
    "convolutions": (
        config.DCGANGenerator(latent_dim=8, base_channels=4, kernel_size=4),
        config.DCGANDiscriminator(base_channels=4, kernel_size=4),
        config.GANGame(),
    ),
    "labels": (
        config.DCGANGenerator(latent_dim=8, base_channels=4, kernel_size=4),
        config.DCGANDiscriminator(base_channels=4, kernel_size=4, projection=True),
        config.ConditionalGame(updates="simultaneous", r1=0.1),
    ),
    "labels of fully connected nets": (MLP, MAXOUT, config.ConditionalGame()),
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


def record_by_rerunning(function):
    """Record a function without a CUDA device: a replay runs it again, into the same tensors."""
    results = [result.clone() for result in function()]

    def replay():
        for place, result in zip(results, function(), strict=True):
            place.copy_(result)

    return results, replay


STEP_FUNCTIONS = {
    "traced": compile.compile_step,
    "captured": lambda: compile.capture_step(record_by_rerunning),
}


@pytest.fixture
def traced_only(monkeypatch):
    """Run the traced program without torch.compile, which takes half a minute."""
    monkeypatch.setattr(torch, "compile", lambda program: program)


def make_state(pair, precision="float32", device="cpu"):
    generator, discriminator, game = PAIRS[pair]
    start = presets.get_preset("digits")
    stage = replace(
        start.stage, generator=generator, discriminator=discriminator, game=game, schedule_steps=3
    )
    run = replace(start.with_stage(stage), data=replace(start.data, batch_size=20))
    data = open_data(run.data)
    run = setup.resolve_config(run, data.info, config.Runtime(device, precision, 1))
    return setup.make_train_state(run, data, 0, torch.device(device))


def tensors(state):
    return {
        f"{name}/{key}": value.clone()
        for name, player in state.players.items()
        for key, value in player.state_dict().items()
    }


@pytest.mark.parametrize("compiled", STEP_FUNCTIONS)
@pytest.mark.parametrize("pair", PAIRS)
def test_compiled_steps_equal_eager_steps(pair, compiled, traced_only):
    """Weights, batch statistics, optimizer states and metrics of four steps, to the bit."""
    eager, second = make_state(pair), make_state(pair)
    second.compute_gradients = STEP_FUNCTIONS[compiled]()
    for _ in range(4):
        eager_step, compiled_step = train_step(eager), train_step(second)
        assert {k: v.item() for k, v in eager_step.metrics.items()} == {
            k: v.item() for k, v in compiled_step.metrics.items()
        }
    a, b = tensors(eager), tensors(second)
    assert all(torch.equal(a[name], b[name]) for name in a)
    for name, optimizer in eager.optimizers.items():
        for key, values in optimizer.state.items():
            for x, y in zip(values, second.optimizers[name].state[key], strict=True):
                assert torch.equal(x, y)


def test_compiled_steps_equal_eager_steps_in_bfloat16(traced_only):
    eager, compiled = make_state("alternating", "bfloat16"), make_state("alternating", "bfloat16")
    compiled.compute_gradients = compile.compile_step()
    for _ in range(3):
        train_step(eager)
        train_step(compiled)
    a, b = tensors(eager), tensors(compiled)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_after_a_roll_back_a_compiled_step_draws_the_numbers_of_the_new_attempt(traced_only):
    """Random inputs come from the current generator, not from the one at compilation."""
    eager, compiled = make_state("alternating"), make_state("alternating")
    compiled.compute_gradients = compile.compile_step()
    for state in (eager, compiled):
        train_step(state)
        state.rng = state.rng.attempt(1)
        train_step(state)
    a, b = tensors(eager), tensors(compiled)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_recorded_draws_can_be_replayed_at_any_step():
    rng = RNG(3, purpose="stage0").fold_in("discriminator").fold_in("0")
    recorder = RecordingRNG.from_rng(rng)

    def draw(source):
        inner = source.fold_in("bottom")
        return [
            source.normal("latent", 4, 3),
            inner.split_streams("real", "fake").dropout_mask("mask", 4, 5, keep_prob=0.8),
            source.uniform("latent", 2, 2, low=-1.0, high=1.0),
        ]

    recorded = draw(recorder)
    for actual, plain in zip(recorded, draw(rng), strict=True):
        assert torch.equal(actual, plain)
    later = rng.at_step(7)
    replayed = [draw.replay(later) for draw in recorder.draws]
    for actual, plain in zip(replayed, draw(later), strict=True):
        assert torch.equal(actual, plain)
    for actual, plain in zip(draw(ReplayRNG(0, values=iter(replayed))), replayed, strict=True):
        assert actual is plain


@pytest.mark.parametrize(
    ("chosen", "game", "message"),
    [
        ({"compile": True, "cuda_graph": True}, {}, "compile and cuda_graph are both set"),
        ({"compile": True}, {"reuse_fakes": True}, "turn reuse_fakes off"),
        ({"cuda_graph": True}, {}, "cuda_graph is set on cpu; set device to cuda"),
    ],
)
def test_unsupported_options_are_refused(chosen, game, message):
    with pytest.raises(UsageError, match=message):
        setup.gradient_function(
            config.Runtime("cpu", **chosen), config.Stage(game=config.GANGame(**game))
        )


def test_the_default_step_function_is_eager():
    assert setup.gradient_function(config.Runtime("cpu"), config.Stage()) is compute_gradients


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # import of the compiler
@pytest.mark.parametrize("pair", PAIRS)
def test_with_torch_compile_the_weights_are_the_same_up_to_rounding(pair):
    """The real compiler fuses operations, which changes rounding."""
    eager, compiled = make_state(pair), make_state(pair)
    compiled.compute_gradients = compile.compile_step()
    for _ in range(10):
        train_step(eager)
        train_step(compiled)
    a, b = tensors(eager), tensors(compiled)
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.cuda
@pytest.mark.parametrize("pair", PAIRS)
def test_cuda_graph_steps_equal_eager_steps(pair):
    results = []
    for take in (compute_gradients, compile.capture_step(compile.record_cuda_graph)):
        state = make_state(pair, device="cuda")
        state.compute_gradients = take
        for _ in range(4):
            train_step(state)
        results.append(tensors(state))
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-3, atol=1e-4)
