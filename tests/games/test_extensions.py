"""The extensions of section 7 as runs: labels they read, resuming, scores, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from advnets import config
from advnets.data.loader import labeled_subset
from advnets.data.prepared import open_data
from advnets.errors import AdvnetsError, UsageError
from advnets.experiment import setup
from advnets.experiment.train import train
from advnets.experiment.trained_model import load


def run_of(tiny, game, **stage):
    """Return the tiny run on 8x8 digits with another game."""
    return replace(tiny, stages=(replace(tiny.stage, game=game, **stage),))


SEMI = {"discriminator": config.SemiSupervisedDiscriminator(hidden_sizes=(32,)), "steps": 30}


def test_only_the_few_labels_are_read(tiny):
    run = run_of(tiny, config.SemiSupervisedGame(labels=20, label_seed=5), **SEMI)
    data = open_data(run.data)
    table = setup.make_train_state(run, data, 0, torch.device("cpu"))
    few = labeled_subset(data.dataset.train, 20, 5)
    assert few.labels.tolist() == sorted([*range(10)] * 2)
    labels = {row.tobytes(): label for row, label in zip(few.images, few.labels, strict=True)}
    for index in range(40):
        batch = table.loader.batch_at(index)
        assert batch.labels is None
        for row, label in zip(batch.labeled.images, batch.labeled.labels, strict=True):
            pixels = (row * few.white_level).round().numpy().astype(few.images.dtype)
            assert labels[pixels.tobytes()] == label
    another_seed = labeled_subset(data.dataset.train, 20, 6)
    assert not np.array_equal(another_seed.images, few.images)


def test_labeled_minibatches_have_their_own_size(tiny):
    run = run_of(tiny, config.SemiSupervisedGame(labels=20, labeled_batch=7), **SEMI)
    table = setup.make_train_state(run, open_data(run.data), 0, torch.device("cpu"))
    for index in range(3):
        batch = table.loader.batch_at(index)
        assert len(batch.images) == run.data.batch_size
        assert len(batch.labeled.images) == len(batch.labeled.labels) == 7


@pytest.mark.parametrize("unlabeled", [False, True])
def test_the_classification_error_of_d_is_evaluated(tiny, tmp_path, console, unlabeled):
    game = config.SemiSupervisedGame(labels=20, unlabeled_loss=unlabeled)
    train(run_of(tiny, game, **SEMI), tmp_path / "run", [console])
    trained = load(tmp_path / "run")
    (record,) = trained.evaluate(("classification-error",))
    test = open_data(trained.config.data).dataset.test
    d = trained.discriminator
    test_images = torch.from_numpy(test.images).float() / test.white_level
    wrong = d.class_logits(d.hidden(test_images)).argmax(1) != torch.from_numpy(test.labels)
    assert record["error"] == pytest.approx(wrong.double().mean().item())
    assert record["wrong"] == wrong.sum()
    assert record["weights"] == "ema"


EXTENSIONS = {
    "conditional": (config.ConditionalGame(), {}),
    "inference": (
        config.ALIGame(config.MLPEncoder(hidden_sizes=(16,), batch_norm=True)),
        {"discriminator": config.MLPDiscriminator(hidden_sizes=(16,))},
    ),
    "completion": (config.InpaintingGame(), {}),
    "semi": (config.SemiSupervisedGame(labels=20), SEMI),
    **{
        f"semi, convolutional, {norm} norm": (
            config.SemiSupervisedGame(labels=20, augmentations=("affine",), consistency=1.0),
            {
                "discriminator": config.SemiSupervisedConvDiscriminator((8, 8), (2, 2), norm),
                "generator": config.MLPGenerator(8, hidden_sizes=(16,), activations=("relu",)),
            },
        )
        for norm in ("batch", "weight")
    },
    "elbo": (
        config.VAEGame(config.MLPEncoder(hidden_sizes=(16,))),
        {
            "discriminator": config.NoDiscriminator(),
            "generator": config.MLPGenerator(4, "normal", (16,), ("relu",)),
        },
    ),
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_a_resumed_run_equals_an_uninterrupted_one(name, tiny, tmp_path, console):
    game, stage = EXTENSIONS[name]
    run = run_of(tiny, game, **{**stage, "steps": 14})
    train(run, tmp_path / "whole", [console])
    train(run_of(tiny, game, **{**stage, "steps": 7}), tmp_path / "cut", [console])
    train(run, tmp_path / "cut", [console], resume=True)
    for uninterrupted, resumed in zip(
        *(sorted((tmp_path / run / "checkpoints").glob("*14*")) for run in ("whole", "cut")),
        strict=True,
    ):
        assert uninterrupted.read_bytes() == resumed.read_bytes()


def test_reconstructions_are_evaluated(tiny, tmp_path, console):
    game, stage = EXTENSIONS["inference"]
    train(run_of(tiny, game, **{**stage, "steps": 20}), tmp_path / "run", [console])
    trained = load(tmp_path / "run")
    names = {r["samples"]: r for r in trained.evaluate(("reconstruction",))}
    splits = open_data(trained.config.data).dataset
    test_images, known = (
        torch.from_numpy(part.images).float() / part.white_level
        for part in (splits.test, splits.train)
    )
    reconstructed = trained.decode(trained.player("encoder")(test_images).mean)
    error = (reconstructed - test_images).square().mean().item()
    assert names["generator"]["error"] == pytest.approx(error, rel=1e-5)
    flat = (test_images - known.mean(0)).square().mean().item()
    assert names["mean training image"]["error"] == pytest.approx(flat, rel=1e-5)
    rows = {
        (r["samples"], r["labels"]) for r in trained.evaluate(("probe",), probe_labels=(20, 50))
    }
    assert rows == {(row, n) for row in ("E", "E, never trained", "pixels") for n in (20, 50)}
    unasked = {r["labels"] for r in trained.evaluate(("probe",))}
    assert unasked == {100, 1000}
    with pytest.raises(
        UsageError, match="probe_labels is 20 -1; expected numbers of labels, or 0 for all"
    ):
        trained.evaluate(("probe",), probe_labels=(20, -1))


def test_the_elbo_is_evaluated_on_test_images(tiny, tmp_path, console):
    """The bound of many z is at least the ELBO, on the same images."""
    game, stage = EXTENSIONS["elbo"]
    train(run_of(tiny, game, **{**stage, "steps": 60}), tmp_path / "run", [console])
    (record,) = load(tmp_path / "run").evaluate(("elbo",))
    assert record["elbo"] < record["iwae_bound"] < 0
    assert record["kl"] >= 0


def test_inpainting_is_evaluated(tiny, tmp_path, console):
    game, stage = EXTENSIONS["completion"]
    train(run_of(tiny, game, **{**stage, "steps": 20}), tmp_path / "run", [console])
    trained = load(tmp_path / "run")
    records = trained.evaluate(("inpainting",))
    kinds = {"upper half", "lower half", "left half", "right half", "box", "pixels"}
    assert {r["mask"] for r in records} == kinds
    assert all(r["error"] > 0 for r in records)
    sample_records = [r for r in records if r["samples"] == "generator"]
    assert all(r["diversity"] > 0 for r in sample_records)
    assert trained.sample(3).shape == (3, 1, 8, 8)  # with nothing known it is a plain generator


def test_an_encoder_is_trained_for_the_generator_of_another_run(tiny, tmp_path, console):
    train(tiny.with_stage(replace(tiny.stage, steps=5)), tmp_path / "first", [console])
    game = config.LatentRegressionGame(config.MLPEncoder(hidden_sizes=(16,)))
    with pytest.raises(UsageError, match=r"generator_run is not set; set generator_run to the dir"):
        train(run_of(tiny, game, steps=5), tmp_path / "none", [console])
    game = replace(game, generator_run=str(tmp_path / "first"))
    stage = {"generator": config.MLPGenerator(), "discriminator": config.NoDiscriminator()}
    train(run_of(tiny, game, steps=5, **stage), tmp_path / "after", [console])
    first, after = load(tmp_path / "first"), load(tmp_path / "after")
    assert torch.equal(first.sample(4), after.sample(4))
    with pytest.raises(
        UsageError, match="has no discriminator; the players of its game are generator and encoder"
    ):
        _ = after.discriminator


@pytest.mark.parametrize(
    ("game", "stage", "message"),
    [
        (EXTENSIONS["elbo"][0], {}, "set prior to normal"),
        (
            replace(EXTENSIONS["elbo"][0], encoder=config.MLPEncoder(deterministic=True)),
            EXTENSIONS["elbo"][1],
            "deterministic is set, but the ELBO needs",
        ),
        (
            EXTENSIONS["inference"][0],
            {"discriminator": config.DCGANDiscriminator()},
            "ALIGame got a convolutional discriminator",
        ),
        (
            EXTENSIONS["completion"][0],
            {"generator": config.DCGANGenerator()},
            "InpaintingGame got DCGANGenerator",
        ),
        (EXTENSIONS["semi"][0], {}, "SemiSupervisedGame got MaxoutDiscriminator"),
        (config.SemiSupervisedGame(labels=25), SEMI, "multiple of the 10 classes, got 25; use 30"),
        (
            config.SemiSupervisedGame(labels=9000),
            SEMI,
            "must have at least 900 labeled images, got 119",
        ),
        (
            config.GANGame(),
            {"discriminator": config.NoDiscriminator()},
            "the game got NoDiscriminator",
        ),
    ],
)
def test_unsuitable_networks_and_labels_are_refused(game, stage, message, tiny, tmp_path, console):
    with pytest.raises(AdvnetsError, match=message):
        train(run_of(tiny, game, **stage), tmp_path / "run", [console])
    with pytest.raises(UsageError, match="likelihood_std is 0"):
        config.VAEGame(likelihood_std=0.0)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("class-accuracy", "give a class-conditional run"),
        ("classification-error", "give a semi-supervised run"),
        ("reconstruction", "give a run of inference-mnist"),
        ("inpainting", "give a run of inpainting-mnist"),
        ("elbo", "give a run of vae-mnist"),
    ],
)
def test_unsuitable_metrics_are_refused(metric, message, tiny, tmp_path, console):
    train(tiny.with_stage(replace(tiny.stage, steps=1)), tmp_path / "run", [console])
    with pytest.raises(UsageError, match=message):
        load(tmp_path / "run").evaluate((metric,))
