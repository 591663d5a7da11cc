"""The content of each view, computed independently from the run's networks."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from advnets.errors import DataError, UnknownNameError, UsageError
from advnets.metrics.frechet import frechet_distance
from advnets.plots.image_grid import grid
from advnets.sampling.sampler import grid_classes, read_images
from advnets.visualize.arithmetic import Arithmetic, Term, parse_sum
from advnets.visualize.figure import write_figure, write_movie
from advnets.visualize.guided_backprop import Activations, GuidedBackprop, guided_gradient
from advnets.visualize.interpolation import Interpolation, SlerpGrid
from advnets.visualize.samples import Neighbors, Samples, training_images
from advnets.visualize.timelapse import Timelapse
from advnets.visualize.window_dropout import Box, WindowDropout, read_boxes

TILE = 50  # 8 x 8 pixels, enlarged six times, and a gap of 2


def tile(image, row, column):
    """Return the pixels of one image of a grid."""
    pixels = np.asarray(image.convert("L"))
    return pixels[2 + row * TILE : 50 + row * TILE, 2 + column * TILE : 50 + column * TILE]


def enlarged(image):
    """Return the pixels of an image as in a grid."""
    return tile(grid(image[None]), 0, 0)


def test_samples_are_those_of_the_seed(run):
    figure = Samples(num_samples=10, seed=3).render(run)
    assert np.array_equal(tile(figure.image, 1, 2), enlarged(run.sample(10, seed=3)[6]))
    assert figure.record["num_samples"] == 10
    assert figure.record["step"] == 40


def test_samples_of_all_classes_have_a_column_for_each(conditional):
    figure = Samples(num_samples=30).render(conditional)
    assert figure.record["column_classes"] == list("0123456789")
    labels = torch.arange(30) % 10
    expected = conditional.sample(30, label_index=labels)
    assert np.array_equal(tile(figure.image, 2, 7), enlarged(expected[27]))


def test_fewer_columns_than_classes_show_some_classes_and_name_them(conditional):
    figure = Samples(num_samples=12, columns=4).render(conditional)
    assert figure.record["column_classes"] == ["0", "2", "5", "7"]
    expected = conditional.sample(12, label_index=torch.tensor([0, 2, 5, 7] * 3))
    assert np.array_equal(tile(figure.image, 1, 2), enlarged(expected[6]))


@pytest.mark.parametrize(
    ("classes", "columns", "labels"),
    [
        (3, None, [0, 1, 2]),
        (20, None, list(range(20))),
        (40, None, list(range(0, 40, 2))),
        (1000, None, list(range(0, 1000, 50))),
        (2, 5, [0, 1, 0, 1, 0]),
        (0, None, []),
    ],
)
def test_a_column_of_a_grid_shows_one_class(classes, columns, labels):
    assert grid_classes(classes, columns).tolist() == labels


def test_batch_statistics_are_those_of_the_samples(run):
    """The batch has 500 samples, the first are returned; running statistics are unchanged."""
    before = {name: value.clone() for name, value in run.generator.state_dict().items()}
    samples = run.sample(4, batch_statistics=True)
    z = run.latents(500)
    run.generator.train()
    try:
        with torch.no_grad():
            expected = run.normalizer.to_pixels(run.generator(z))[:4]
    finally:
        run.generator.eval()
        run.generator.load_state_dict(before)
    torch.testing.assert_close(samples, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(samples, run.sample(4), atol=1e-3)
    for name, value in run.generator.state_dict().items():
        assert torch.equal(value, before[name])


def test_interpolation_rows_begin_and_end_at_samples(run):
    figure = Interpolation(anchors=3, steps=5, seed=1).render(run)
    anchors = run.sample(3, seed=1)
    for row, (first, last) in enumerate(pairwise(anchors)):
        for column, image in ((0, first), (4, last)):
            off = tile(figure.image, row, column).astype(int) - enlarged(image)
            assert abs(off).max() <= 1
    assert len(figure.frames) == 3 * 4
    assert figure.record["step_distance"]["max"] > 0


def test_the_corners_of_a_slerp_grid_are_samples(run):
    figure = SlerpGrid(size=4).render(run)
    corners = run.sample(4)
    for number, (row, column) in enumerate([(0, 0), (0, 3), (3, 0), (3, 3)]):
        corner = tile(figure.image, row, column).astype(int)
        assert min(abs(corner - enlarged(image)).max() for image in corners) <= 1, number


def test_neighbors_are_the_nearest_of_all(run):
    figure = Neighbors(num_samples=3, neighbors=2).render(run)
    samples, train = run.sample(3).flatten(1).numpy(), training_images(run).flatten(1).numpy()
    for sample, entry in zip(samples, figure.record["samples"], strict=True):
        distances = np.linalg.norm(train - sample, axis=1)
        assert entry["training_images"] == np.argsort(distances)[:2].tolist()
        assert entry["distances"] == pytest.approx(np.sort(distances)[:2], abs=1e-3)
    neighbor = training_images(run)[figure.record["samples"][1]["training_images"][0]]
    assert np.array_equal(tile(figure.image, 1, 1), enlarged(neighbor))


def test_neighbors_in_the_feature_space_of_d(run):
    entries = (
        Neighbors(num_samples=3, neighbors=2, space="discriminator").render(run).record["samples"]
    )
    see = run.discriminator_extractor().features
    samples, train = see(run.sample(3)).numpy(), see(training_images(run)).numpy()
    for sample, result in zip(samples, entries, strict=True):
        assert result["training_images"][0] == np.linalg.norm(train - sample, axis=1).argmin()


def test_metrics_on_features_of_d(run):
    """The distance is that of D's features; the record has the hash of its weights."""
    result, _ = run.evaluate(("frechet",), extractor="discriminator")
    see = run.discriminator_extractor()
    test = run.open_data().dataset.test
    expected = frechet_distance(
        see.features(read_images(test, slice(None))), see.features(run.sample(result["n_fake"]))
    )
    assert result["value"] == pytest.approx(expected, rel=1e-6)
    assert (result["extractor"], result["extractor_sha256"]) == ("discriminator", see.digest)


def test_metrics_on_features_of_another_runs_d(run, residual):
    """Scores of several runs on the features of one D are comparable."""
    (extractor_score, _), (run_score, _) = (
        model.evaluate("frechet", extractor=str(residual.run.path)) for model in (run, residual)
    )
    stamp = ("D of run", residual.discriminator_extractor().digest)
    assert (extractor_score["extractor"], extractor_score["extractor_sha256"]) == stamp
    assert (run_score["extractor"], run_score["extractor_sha256"]) == stamp
    assert extractor_score["value"] != run_score["value"]


def test_sums_are_parsed():
    assert parse_sum("1,2 - 3 + class:cat,x.png") == (
        Term("+", ("1", "2")),
        Term("-", ("3",)),
        Term("+", ("class:cat", "x.png")),
    )
    assert parse_sum("- 3") == (Term("-", ("3",)),)


@pytest.mark.parametrize("text", ["", "1 2", "1 +", "+ + 1", "1,,2", "1 * 2"])
def test_invalid_sums_are_refused(text):
    with pytest.raises(UsageError, match="cannot be parsed; give one such as"):
        parse_sum(text)


def test_a_sum_is_that_of_mean_latents(run):
    figure = Arithmetic(expression="1,2 - 3 + 4", radius=0.0).render(run)
    z = run.latents(5)
    expected = z[1:3].mean(0) - z[3] + z[4]
    assert figure.record["result"] == pytest.approx(expected.tolist(), abs=1e-6)
    image = enlarged(run.decode(expected[None])[0])
    # With radius 0 all nine images, on the right and vertically centered, are the result.
    width, height = figure.image.size
    nine = figure.image.crop((width - 152, (height - 152) // 2, width, (height + 152) // 2))
    for number in range(9):
        assert abs(tile(nine, number // 3, number % 3).astype(int) - image).max() <= 1


def test_neighbors_of_a_sum_are_within_the_radius(run):
    near, far = (
        Arithmetic(expression="1", radius=radius).render(run).image for radius in (0.01, 0.5)
    )
    exact = np.asarray(
        Arithmetic(expression="1", radius=0.0).render(run).image.convert("L")
    ).astype(int)
    off = [
        abs(np.asarray(figure.convert("L")).astype(int) - exact).mean() for figure in (near, far)
    ]
    assert 0 < off[0] < off[1]


def test_a_class_is_drawn_or_estimated(run, conditional):
    record = Arithmetic(expression="class:3").render(conditional).record["result"]
    assert record[-10:] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]
    sample_record = Arithmetic(expression="class:1").render(run).record["result"]
    assert len(sample_record) == 8
    with pytest.raises(UnknownNameError, match="no class is called 'cat'"):
        Arithmetic(expression="class:cat").render(run)


def test_an_image_is_projected_to_z(run, tmp_path):
    """The error of a sample, which G can generate, is nearly 0."""
    sample = run.sample(3)[2]
    path = tmp_path / "sample.png"
    Image.fromarray((sample[0] * 255).round().byte().numpy()).save(path)
    mean = torch.tensor(Arithmetic(expression=str(path)).render(run).record["result"])
    result, another = run.decode(torch.stack((mean, run.latents(1)[0])))
    error, chance = ((image - sample).square().mean().sqrt() for image in (result, another))
    assert error < 0.03
    assert error < 0.3 * chance


def test_invalid_exemplars_are_refused(run, tmp_path):
    with pytest.raises(
        UsageError, match="exemplar 'elephant' is not valid; expected the number of"
    ):
        Arithmetic(expression="elephant").render(run)
    with pytest.raises(UsageError, match="or the path of an image"):
        Arithmetic(expression="/nowhere/face.png").render(run)
    (tmp_path / "face.png").write_text("no image")
    with pytest.raises(DataError, match=r"face.png is not an image .*; give an image file"):
        Arithmetic(expression=str(tmp_path / "face.png")).render(run)


def test_guided_backprop_shows_the_trained_and_the_initial_d(run):
    record = GuidedBackprop(features=2, top_k=3).render(run).record
    for name in ("trained", "initial"):
        assert len(record[name]) == 2
        assert all(len(entry["training_images"]) == 3 for entry in record[name])
    net, images = run.discriminator, training_images(run)
    with torch.no_grad():
        last = net.feature_maps(run.normalizer.from_unit_range(images))[-1].flatten(2).amax(2)
    for entry in record["trained"]:
        assert entry["training_images"][0] == int(last[:, entry["feature"]].argmax())


def test_a_residual_d_has_guided_backprop_and_no_activations(residual):
    """Its blocks are guided too: the gradient is not the plain one."""
    record = GuidedBackprop(features=2, top_k=3).render(residual).record
    assert all(len(entry["training_images"]) == 3 for entry in record["trained"])
    net = residual.discriminator
    images = residual.normalizer.from_unit_range(training_images(residual)[:3]).requires_grad_()
    numbers = torch.tensor([entry["feature"] for entry in record["trained"]] + [0])
    guided = guided_gradient(net, images, numbers)
    maps = net.feature_maps(images)[-1]
    (plain,) = torch.autograd.grad(maps[range(3), numbers].flatten(1).amax(1).sum(), images)
    assert not torch.allclose(guided, plain)
    with pytest.raises(UsageError, match="activations require a DCGAN generator"):
        Activations().render(residual)


def test_activations_of_all_layers(run):
    record = Activations(num_samples=2, maps=3).render(run).record
    assert record["generator"] == [[8, 4, 4]]
    assert record["discriminator"] == [[8, 4, 4]]


def test_a_d_without_convolutions_has_no_features(tiny, tmp_path, console):
    from advnets.experiment.train import train
    from advnets.experiment.trained_model import load

    train(tiny.with_stage(tiny.stage), tmp_path / "run", [console])
    for view in (GuidedBackprop(), Activations()):
        with pytest.raises(UsageError, match="give a run of a DCGAN preset"):
            view.render(load(tmp_path / "run"))


def test_a_packed_d_has_no_features_of_single_images(packed):
    for function in (GuidedBackprop().render, Activations().render, lambda m: m.evaluate("probe")):
        with pytest.raises(UsageError, match="this one takes 2 at once; give a run that was"):
            function(packed)


def test_boxes_are_read(tmp_path):
    file = tmp_path / "boxes.json"
    file.write_text('[{"sample": 3, "box": [0, 1, 4, 8]}]')
    assert read_boxes(file, 8, 8) == [Box(3, 0, 1, 4, 8)]
    for text in ("[]", "{", '[{"sample": 3}]', '[{"sample": 3, "box": [0, 1, 4]}]'):
        file.write_text(text)
        with pytest.raises(DataError, match=r"list of boxes|has no boxes"):
            read_boxes(file, 8, 8)
    file.write_text('[{"sample": 3, "box": [0, 1, 4, 9]}]')
    with pytest.raises(DataError, match="not empty, inside images of 8 x 8"):
        read_boxes(file, 8, 8)
    with pytest.raises(DataError, match="cannot be read as a list of boxes"):
        read_boxes(tmp_path / "none.json", 8, 8)


def test_a_movie_has_a_frame_for_each_grid(run, tmp_path):
    figure = Timelapse().render(run)
    assert figure.record["steps"] == [10, 20, 30, 40]
    assert len(figure.frames) == 4
    write_movie(figure.frames, tmp_path / "it.gif")
    with Image.open(tmp_path / "it.gif") as film:
        assert film.n_frames == 4
    av = pytest.importorskip("av")
    write_movie(figure.frames, tmp_path / "it.mp4")
    with av.open(str(tmp_path / "it.mp4")) as film:
        frames = [np.asarray(frame.to_image()) for frame in film.decode(video=0)]
    assert len(frames) == 4
    height, width = frames[0].shape[:2]
    for expected, frame in zip(frames, figure.frames, strict=True):
        exact = np.asarray(frame)[:height, :width]
        assert abs(expected.astype(int) - exact).mean() < 8  # what compression costs


def test_other_movies_are_refused(run, tmp_path):
    with pytest.raises(UsageError, match=r"ends in .avi; give a name that ends in .gif or .mp4"):
        write_movie(Timelapse().render(run).frames, tmp_path / "it.avi")


def test_a_figure_is_written_as_an_image_and_a_record(run, tmp_path):
    file, record = write_figure(Samples(num_samples=4).render(run), tmp_path / "deep" / "some.png")
    with Image.open(file) as image:
        assert image.size == (102, 102)
    assert json.loads(record.read_text())["view"] == "samples"


def window_dropout(folder, boxes, **options):
    """Return the view of these boxes, written to a file."""
    file = folder / "boxes.json"
    items = [{"sample": b.sample, "box": [b.left, b.top, b.right, b.bottom]} for b in boxes]
    file.write_text(json.dumps(items))
    return WindowDropout(boxes=file, **options)


def test_the_map_that_is_high_in_boxes_is_found_and_dropped(larger, tmp_path):
    """Map 0 is high inside the boxes, the others are 0: dropping it removes what it draws."""
    boxes = [Box(number, 4, 4, 12, 12) for number in range(4)]
    layer = larger.generator.layers[-2]
    inside = torch.zeros(1, 1, 4, 4)
    inside[..., 1:3, 1:3] = 1.0

    def draw(_, __, out):
        return torch.cat((out[:, :1] * 0 + inside, out[:, 1:] * 0), 1)

    handle = layer.register_forward_hook(draw)
    try:
        figure, half = (
            window_dropout(tmp_path, boxes, num_samples=3, strength=strength).render(larger)
            for strength in (1.0, 0.5)
        )
    finally:
        handle.remove()
    assert figure.record["dropped"] == [0]
    assert figure.record["num_maps"] == layer.norm.num_features
    assert figure.record["accuracy"] == 1.0
    before, after = (np.asarray(figure.image.convert("L"))[row : row + 48] for row in (2, 52))
    between = np.asarray(half.image.convert("L"))[52:100]
    assert 0 < abs(between.astype(int) - before).sum() < abs(after.astype(int) - before).sum()


def test_boxes_that_cover_all_positions_are_refused(larger, tmp_path):
    with pytest.raises(UsageError, match="the boxes cover all positions"):
        window_dropout(tmp_path, [Box(0, 0, 0, 16, 16)]).render(larger)


def test_window_dropout_requires_two_convolutions(run, tmp_path):
    with pytest.raises(UsageError, match="two or more convolutions"):
        window_dropout(tmp_path, [Box(0, 1, 1, 3, 3)]).render(run)
