from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from advnets import config
from advnets.data.class_proportions import ClassProportions, class_indices
from advnets.data.dataset import ArraySplit, Dataset, renumber_labels
from advnets.data.normalization import fit_normalizer
from advnets.data.prepared import DatasetInfo, PreparedData
from advnets.errors import UnknownNameError, UsageError
from advnets.evaluation.comparison import ScoredRun, compare
from advnets.evaluation.context import EvaluationContext
from advnets.evaluation.registry import METRICS
from advnets.experiment.train import train
from advnets.experiment.trained_model import load
from advnets.extractors.builtin import Pixels
from advnets.models.layers import append_class
from advnets.report.score_text import score_lines
from advnets.rng import RNG
from advnets.sampling.sampler import BLOCK, ComputeSettings, draw_samples, latent_blocks

HERE = ComputeSettings(torch.device("cpu"))


def test_classes_are_drawn_in_the_proportions_of_the_training_images():
    proportions = ClassProportions.from_counts("data", [70, 0, 20, 10])
    assert proportions.probabilities.tolist() == pytest.approx([0.7, 0, 0.2, 0.1])
    labels = proportions.draw(RNG(0).uniform("class", 100_000))
    counts = torch.bincount(labels, minlength=4)
    assert counts.tolist() == pytest.approx([70_000, 0, 20_000, 10_000], abs=600)
    assert counts[1] == 0
    edges = torch.tensor([0.0, 0.6999, 0.7001, 0.8999, 0.9001, 1 - 2**-24])
    assert proportions.draw(edges).tolist() == [0, 0, 2, 2, 3, 3]


def test_uniform_proportions_exclude_classes_without_training_images():
    proportions = ClassProportions.from_counts("uniform", [70, 0, 20, 10])
    assert proportions.probabilities.tolist() == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3])
    assert proportions.draw(torch.tensor([0.0, 0.34, 0.99])).tolist() == [0, 2, 3]
    assert proportions.allocate(7).tolist() == [0, 2, 3, 0, 2, 3, 0]


def test_uniform_proportions_draw_the_same_classes_as_the_networks():
    """Samples of a seed stay bit-identical."""
    proportions = ClassProportions.from_counts("uniform", [3, 1, 4, 1, 5, 9, 2])
    z = RNG(5).normal("latent", 1000, 2)
    expected = append_class(z, 7, RNG(5), None)[:, 2:].argmax(1)
    assert torch.equal(proportions.draw(RNG(5).uniform("class", 1000)), expected)


@pytest.mark.parametrize("counts", [[9, 1], [5, 3, 2], [1, 1, 1], [997, 1, 2]])
def test_every_prefix_of_allocated_labels_is_in_proportion(counts):
    """For every prefix, each class count differs from its expectation by less than 1."""
    proportions = ClassProportions.from_counts("data", counts)
    labels = proportions.allocate(1000)
    assert len(labels) == 1000
    one_hot = torch.nn.functional.one_hot(labels, len(counts)).double().cumsum(0)
    due = torch.arange(1, 1001)[:, None] * proportions.probabilities
    assert (one_hot - due).abs().max() < 1
    assert torch.equal(proportions.allocate(137), labels[:137])


def test_proportions_without_training_images_are_refused():
    for counts in ([], [0, 0]):
        with pytest.raises(
            UsageError, match="class proportions need at least one training image, got none"
        ):
            ClassProportions.from_counts("data", counts)


class Oracle(nn.Module):
    """The generator of p_data(x | y): a uniformly random image of the class."""

    def __init__(self, images, labels, classes):
        super().__init__()
        self.classes, self.latent_dim = classes, 1 + classes
        self.of = [images[labels == number] for number in range(classes)]

    def latent(self, n, rng, labels=None):
        return append_class(rng.uniform("z", n, 1), self.classes, rng, labels)

    def forward(self, z, rng=None):
        labels = z[:, 1:].argmax(1).tolist()
        return torch.stack(
            [
                self.of[label][int(u * len(self.of[label]))]
                for u, label in zip(z[:, 0].tolist(), labels, strict=True)
            ]
        )


@pytest.fixture(scope="module")
def skewed():
    """Return nine dark images to one bright image, and a perfect generator of them."""

    def part(seed):
        draw = np.random.default_rng(seed)
        labels = np.repeat([0, 1], [1800, 200])[draw.permutation(2000)]
        levels = draw.normal(90, 20, (2000, 1, 2, 2)) + 90 * labels[:, None, None, None]
        return ArraySplit(levels.clip(0, 255).astype(np.uint8), labels)

    train, test = part(0), part(1)
    splits = Dataset("skewed", train, None, test, classes=("dark", "bright", "absent"))
    normalizer = fit_normalizer("unit", train)
    images = normalizer.to_model(torch.from_numpy(train.images))
    oracle = Oracle(images, torch.from_numpy(train.labels), 3)
    return oracle, PreparedData(splits, normalizer, DatasetInfo.from_dataset(splits, normalizer))


def scored(skewed, kind, metric="frechet", num=2000):
    oracle, data = skewed
    proportions = None if kind is None else data.info.class_proportions(kind)
    subject = EvaluationContext(
        {"generator": oracle},
        data,
        0,
        7,
        "last",
        HERE,
        Pixels(),
        class_proportions=proportions,
        num_samples=num,
    )
    return METRICS[metric].records(subject)


def test_a_perfect_generator_of_unbalanced_classes_scores_as_real_images(skewed):
    """Uniform proportions put its Fréchet distance far above that of real images."""
    _, data = skewed
    assert data.info.class_counts == (1800, 200, 0)
    generated, real = scored(skewed, "data")
    equal, same = scored(skewed, "uniform")
    assert [record["class_proportions"] for record in (generated, real)] == ["data", None]
    assert [record["class_proportions"] for record in (equal, same)] == ["uniform", None]
    assert real["value"] == same["value"]
    assert generated["value"] == pytest.approx(real["value"], abs=0.01)
    assert equal["value"] > real["value"] + 0.05
    assert "last, uniform class proportions" in score_lines([equal, real])


def test_runs_with_different_class_proportions_share_no_column(skewed):
    """Samples of an unconditional model have the data's proportions and compare with those."""

    def run(path, kind, seed=0):
        records = [{**record, "interval": {}} for record in scored(skewed, kind)]
        for record in records:
            record["class_proportions"] = kind if record["samples"] == "generator" else None
        info = {"name": "skewed", "digest": "0" * 32}
        return ScoredRun(path, {"preset": path, "seed": seed}, info, records)

    with pytest.raises(
        UsageError,
        match=r"scores by frechet of a and b differ in class proportions \(data and uniform\) and",
    ):
        compare([run("a", "data"), run("b", "uniform")])
    separate = compare([run("a", "data"), run("b", "uniform")], separate_columns=True)
    assert [column["name"] for column in separate["columns"]] == [
        "frechet (class proportions data)",
        "frechet (class proportions uniform)",
    ]
    assert all(separate["references"][0]["cells"])  # real images, in either column
    plain = run("c", "data")
    plain.records[0]["class_proportions"] = None
    assert len(compare([run("a", "data"), plain])["columns"]) == 1


def test_scores_draw_only_classes_with_training_images(skewed):
    """Of 100 samples 90 are of class 0, and none is of the class without training images."""
    oracle, data = skewed
    requested_labels: list[torch.Tensor] = []

    class Watching(Oracle):
        def latent(self, n, rng, labels=None):
            requested_labels.append(labels)
            return super().latent(n, rng, labels)

    watching = Watching(torch.cat(oracle.of[:2]), torch.tensor([0] * 1800 + [1] * 200), 3)
    scored((watching, data), "data", "1nn-classifier")
    labels = torch.cat(requested_labels)
    assert torch.bincount(labels[:100], minlength=3).tolist() == [90, 10, 0]


def test_a_conditional_generator_never_draws_classes_on_its_own(skewed):
    oracle, data = skewed
    with pytest.raises(UsageError, match="a generator of 3 classes needs labels, got none"):
        draw_samples(oracle, data.normalizer, 4, 0, HERE)


@pytest.mark.parametrize(
    "labels",
    [torch.tensor(2), torch.tensor([2, 1]), torch.arange(5), torch.tensor([0, 1, 2, 3]),
     torch.tensor([0, 1, 2, -1]), torch.rand(4), torch.ones(4, dtype=torch.bool)],
)  # fmt: skip
def test_labels_that_are_not_a_class_index_for_each_sample_are_refused(skewed, labels):
    oracle, data = skewed
    with pytest.raises(UsageError, match="class indices must be"):
        draw_samples(oracle, data.normalizer, 4, 0, HERE, labels)


def test_samples_of_many_blocks_have_the_requested_labels():
    oracle = Oracle(torch.zeros(4, 1, 1, 1), torch.arange(4), 4)
    labels = torch.arange(BLOCK + 9) % 4
    z = torch.cat(list(latent_blocks(oracle, len(labels), 0, HERE.device, labels.int())))
    assert torch.equal(z[: len(labels), 1:].argmax(1), labels)


CLASSES, COUNTS = ("1", "10", "2", "cat"), (5, 5, 5, 0)


def test_labels_are_class_names_and_label_indices_are_positions():
    """The class "2" has index 2 here, unlike in the order 1, 2, 3."""
    assert class_indices(CLASSES, COUNTS, 3, "2").tolist() == [2, 2, 2]
    assert class_indices(CLASSES, COUNTS, 3, None, 1).tolist() == [1, 1, 1]
    assert class_indices(CLASSES, COUNTS, 2, ["10", "1"]).tolist() == [1, 0]
    for indices in ([1, 0], torch.tensor([1, 0])):
        assert class_indices(CLASSES, COUNTS, 2, None, indices).tolist() == [1, 0]
    chosen = class_indices(CLASSES, COUNTS, 1, ["2"])
    assert chosen.tolist() == [2]


@pytest.mark.parametrize(
    ("label", "index", "error"),
    [
        (2, None, "a label must be the name of a class, got 2; pass a name such as label='1'"),
        ([2, 2], None, "a label must be the name of a class, got 2"),
        (torch.tensor([0, 1]), None, "a label must be the name of a class, got tensor"),
        (torch.tensor(1), None, "a label must be the name of a class, got tensor"),
        ("2", 2, "both a label and a label index were set; set only one of them"),
        (["2"], None, r"class indices must be integers of shape \(2,\), one per sample"),
        (["2", "1", "2"], None, r"class indices must be integers of shape \(2,\), one per sample"),
        (
            None,
            torch.tensor([2]),
            r"must be integers of shape \(2,\), one per sample, got torch.int64 of shape \(1,\)",
        ),
        (None, 4, "class indices must be 0 to 3, got 4; pass"),
        (None, -1, "class indices must be 0 to 3, got -1; pass"),
        (None, 1.5, r"class indices must be integers .*, got torch.float32"),
        (None, "2", "the label index must be one class index, or one per sample, got '2'"),
        (None, True, r"class indices must be integers .*, got torch.bool"),
        ("cat", None, "class 'cat' has no training images, so the generator has not "),
        (None, [0, 3], "class 'cat' has no training images"),
    ],
)
def test_labels_that_are_not_one_class_per_sample_are_refused(label, index, error):
    with pytest.raises(UsageError, match=error):
        class_indices(CLASSES, COUNTS, 2, label, index)


def test_an_unknown_class_name_is_refused():
    with pytest.raises(UnknownNameError, match="no class is called '3'"):
        class_indices(CLASSES, COUNTS, 2, "3")


def test_unused_label_ids_are_not_classes():
    images = np.zeros((3, 1, 2, 2), np.uint8)
    train = ArraySplit(images, np.array([0, 200, 0]))
    test = ArraySplit(images, np.array([7, 200, 0]))
    (first, nothing, last), names = renumber_labels(train, None, test)
    assert names == ("0", "7", "200")
    assert nothing is None
    assert first.labels.tolist() == [0, 2, 0]
    assert last.labels.tolist() == [1, 2, 0]
    splits = Dataset("x", first, None, last, classes=names)
    assert splits.class_counts() == (2, 0, 1)
    (same, _), names = renumber_labels(ArraySplit(images, np.array([1, 0, 2])), None)
    assert names == ("0", "1", "2")
    assert same.labels.tolist() == [1, 0, 2]
    assert renumber_labels(ArraySplit(images), None)[1] == ()


def test_a_run_draws_classes_in_the_requested_proportions_and_records_them(
    tiny, tmp_path, console, run_command
):
    stage = replace(
        tiny.stage,
        generator=config.DCGANGenerator(latent_dim=4, base_channels=2),
        discriminator=config.DCGANDiscriminator(base_channels=2),
        game=config.ConditionalGame(),
        ema_half_life=0,
        steps=2,
    )
    data = replace(tiny.data, normalize="symmetric")
    out = tmp_path / "run"
    train(replace(tiny, data=data, stages=(stage,)), out, [console])
    trained = load(out)
    counts = torch.tensor(trained.info.class_counts)
    assert len(counts) == 10
    assert counts.sum() == trained.info.train
    labels = trained.latents(1000)[:, -10:].argmax(1)
    proportions = trained.info.class_proportions("data")
    uniform = [RNG(0, step=i, purpose="samples").uniform("class", BLOCK) for i in range(2)]
    assert torch.equal(labels, torch.cat([proportions.draw(uniforms) for uniforms in uniform]))
    equal = trained.latents(1000, class_proportions="uniform")[:, -10:].argmax(1)
    assert not torch.equal(labels, equal)
    with pytest.raises(UsageError, match="both a class and class_proportions 'uniform' were given"):
        trained.sample(3, label="1", class_proportions="uniform")
    # On the command line both are recorded, side by side.
    for kind in ("data", "uniform"):
        assert run_command("evaluate", out, "--metrics", "swd", "--class-proportions", kind)[0] == 0
    stored = [r["class_proportions"] for r in trained.run.scores() if r["samples"] == "generator"]
    assert stored == ["data", "uniform"]
    code, _, err = run_command(
        "evaluate", out, "--metrics", "classification-error", "--class-proportions", "uniform"
    )
    assert code == 2
    assert "--class-proportions is uniform, and the metric classification-error uses no" in err
    image = tmp_path / "a.png"
    assert run_command("sample", out, "--out", image, "--class-index", 3)[0] == 0
    by_index = image.read_bytes()
    image.unlink()
    assert run_command("sample", out, "--out", image, "--class", "3")[0] == 0
    assert image.read_bytes() == by_index
    assert run_command("sample", out, "--out", tmp_path / "b.png", "--class", "11")[0] == 2


def test_uniform_proportions_of_a_run_without_classes_are_refused(tiny, tmp_path, console):
    train(tiny.with_stage(replace(tiny.stage, steps=1)), tmp_path / "run", [console])
    trained = load(tmp_path / "run")
    for ask in (trained.sample, trained.latents):
        with pytest.raises(UsageError, match="class_proportions 'uniform' was given, but "):
            ask(3, class_proportions="uniform")
    with pytest.raises(UsageError, match="class_proportions 'uniform' was given"):
        trained.evaluate("swd", class_proportions="uniform")
