"""Extractors from files give the features of their networks; other files are refused."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from advnets.errors import DataError, MissingExtraError, UsageError
from advnets.extractors import file
from advnets.extractors.base import UsesLibraries
from advnets.extractors.registry import load_extractor as load_untrusted
from advnets.models.classifiers import ConvClassifier

load_trusted = partial(load_untrusted, trust_code=True)


def draw(n: int, *shape: int) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


class Seen(nn.Module):
    """A network with the means of four maps as features."""

    def __init__(self, channels=1):
        super().__init__()
        torch.manual_seed(0)
        self.maps, self.norm = nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        return self.norm(self.maps(x)).mean((2, 3))


def exported(path, net, shape, **kinds):
    program = torch.export.export(net.eval(), (draw(2, *shape),), **kinds)
    torch.export.save(program, path)
    return str(path)


ANY = ({0: torch.export.Dim.DYNAMIC},)
FEW = ({0: torch.export.Dim("batch", min=1, max=7)},)


@pytest.mark.parametrize(
    ("dynamic_shapes", "minimum", "maximum"), [(ANY, 2, 500), (FEW, 1, 7), (None, 2, 2)]
)
def test_an_exported_program_gives_the_features_of_its_network(
    tmp_path, dynamic_shapes, minimum, maximum
):
    """For any number of images, whatever batch sizes it accepts."""
    net = Seen()
    path = exported(tmp_path / "seen.pt2", net, (1, 8, 8), dynamic_shapes=dynamic_shapes)
    loaded = load_trusted(path)
    assert (loaded.min_batch, loaded.max_batch) == (minimum, maximum)
    for n in (1, 2, 15):
        with torch.no_grad():
            torch.testing.assert_close(loaded.features(draw(n, 1, 8, 8)), net(draw(n, 1, 8, 8)))
    assert loaded.name == "seen.pt2"
    assert loaded.digest == hashlib.sha256((tmp_path / "seen.pt2").read_bytes()).hexdigest()
    with pytest.raises(DataError, match=r"extractor 'seen.pt2' expects images .*, got \(3, 8, 8\)"):
        loaded.features(draw(2, 3, 8, 8))


def test_a_program_may_accept_images_of_any_size(tmp_path):
    sides = torch.export.Dim.DYNAMIC
    path = exported(
        tmp_path / "any.pt2", Seen(3), (3, 9, 8), dynamic_shapes=({0: sides, 2: sides, 3: sides},)
    )
    assert load_trusted(path).shape == (3, None, None)
    assert load_trusted(path).features(draw(3, 3, 12, 10)).shape == (3, 4)
    with pytest.raises(
        DataError, match=r"expects images of shape \(3, any, any\), got .*; choose another"
    ):
        load_trusted(path).features(draw(3, 1, 12, 10))


class Odd(nn.Module):
    """A network that applies a function to images."""

    def __init__(self, of):
        super().__init__()
        self.of = of

    def forward(self, x):
        return self.of(x)


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (
            lambda x: x * 2,
            r"returned shape \(3, 1, 4, 4\) for 3 images; expected \(images, features",
        ),
        (lambda x: x.flatten(1).mean(0, keepdim=True), r"returned shape \(1, 16\) for 3 images"),
        (
            lambda x: (x.flatten(1) - 9).log(),
            "'odd.pt2' returned numbers that are not finite for pixels",
        ),
        (lambda x: (x.flatten(1), x.flatten(1)), r"odd.pt2 has 2 outputs \(.*expected one"),
        (lambda x: (x.flatten(1),), "returned a tuple; expected one tensor of real numbers"),
        (lambda x: x.flatten(1) + 1j, "returned complex numbers; expected one tensor of real num"),
        (lambda x: x.flatten(1)[:, :0], "returned no features; expected at least one"),
    ],
)
def test_a_program_without_rows_of_features_is_refused(tmp_path, of, message):
    path = exported(tmp_path / "odd.pt2", Odd(of), (1, 4, 4), dynamic_shapes=ANY)
    with pytest.raises(DataError, match=message):
        load_trusted(path).features(draw(3, 1, 4, 4))


def test_a_program_that_does_not_take_images_is_refused(tmp_path):
    path = exported(tmp_path / "rows.pt2", nn.Linear(4, 2), (4,), dynamic_shapes=ANY)
    with pytest.raises(DataError, match=r"the input of rows.pt2 is not images; expected fl"):
        load_trusted(path)


def field(number: int, content: bytes | str | int) -> bytes:
    """Return a field of a message, encoded by protocol buffers."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    head, rest = value & 127, value >> 7
    return bytes([head | 128]) + varint(rest) if rest else bytes([head])


def onnx_model(weights: torch.Tensor, *sizes: int | str, outputs: int = 1) -> bytes:
    """Return an ONNX file of y = flatten(x) @ weights in float32 (type 1)."""
    dims = b"".join(field(1, field(2 if isinstance(n, str) else 1, n)) for n in sizes)
    graph_input = field(1, "x") + field(2, field(1, field(1, 1) + field(2, dims)))
    matrix_dims = field(1, field(2, "n")) + field(1, field(2, "features"))
    kind = field(2, field(1, field(1, 1) + field(2, matrix_dims)))
    outputs_info = [field(1, name) + kind for name in ("y", "rows")]
    values = struct.pack(f"<{weights.numel()}f", *weights.flatten().tolist())
    matrix = b"".join(field(1, n) for n in weights.shape) + field(2, 1) + field(8, "w")
    nodes = [
        field(1, "x") + field(2, "rows") + field(4, "Flatten"),
        field(1, "rows") + field(1, "w") + field(2, "y") + field(4, "MatMul"),
    ]
    graph = b"".join(
        (
            *(field(1, node) for node in nodes),
            field(2, "graph"),
            field(5, matrix + field(9, values)),
            field(11, graph_input),
            *(field(12, output) for output in outputs_info[:outputs]),
        )
    )
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))


@pytest.mark.parametrize("count", ["n", 2])
def test_an_onnx_model_gives_the_features_of_its_network(tmp_path, count):
    pytest.importorskip("onnxruntime")
    weights = draw(32, 5)
    (tmp_path / "seen.onnx").write_bytes(onnx_model(weights, count, 2, 4, 4))
    loaded = load_trusted(str(tmp_path / "seen.onnx"))
    for n in (1, 3, 501):
        images = draw(n, 2, 4, 4)
        torch.testing.assert_close(loaded.features(images), images.flatten(1) @ weights)
    assert loaded.digest == hashlib.sha256((tmp_path / "seen.onnx").read_bytes()).hexdigest()
    with pytest.raises(
        DataError, match=r"extractor 'seen.onnx' expects images of shape \(2, 4, 4\)"
    ):
        loaded.features(draw(2, 1, 4, 4))


def test_an_onnx_model_that_is_not_an_extractor_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "odd.onnx"
    for content, message in (
        (b"no model", r"odd.onnx cannot be opened \(.*\); give a file that an ONNX exporter wrote"),
        (onnx_model(draw(4, 2), "n", 4), "the input of odd.onnx is not images"),
        (onnx_model(draw(4, 2), "n", 1, 2, 2, outputs=2), r"odd.onnx has 2 outputs \(y, rows\)"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            load_trusted(str(path))


def test_onnx_needs_its_extra(tmp_path, monkeypatch):
    (tmp_path / "seen.onnx").write_bytes(b"")

    def missing(library, extra):
        raise MissingExtraError(library, extra)

    monkeypatch.setattr(file, "require", missing)
    with pytest.raises(MissingExtraError, match=r"onnxruntime is not installed; .*advnets\[onnx\]"):
        load_trusted(str(tmp_path / "seen.onnx"))


def save_classifier(path, net, **facts):
    """Save a classifier as tools/classifiers.py does."""
    facts = {"shape": net.shape, "classes": net.classes, "widths": net.widths, **facts}
    save_file(net.state_dict(), path, {"advnets": json.dumps(facts)})
    return str(path)


def test_saved_classifier_weights_give_the_features_of_the_classifier(tmp_path):
    net = ConvClassifier((3, 12, 10), 4, (6, 5)).eval()
    loaded = load_trusted(save_classifier(tmp_path / "own.safetensors", net))
    images = draw(7, 3, 12, 10)
    with torch.no_grad():
        torch.testing.assert_close(loaded.features(images), net.features(images))
        torch.testing.assert_close(loaded.logits(images), net(images))
    assert loaded.name == "own.safetensors"
    assert loaded.digest == hashlib.sha256((tmp_path / "own.safetensors").read_bytes()).hexdigest()
    with pytest.raises(
        DataError, match=r"extractor 'own.safetensors' expects images of shape \(3, 12"
    ):
        loaded.features(draw(2, 3, 32, 32))


def test_weights_of_other_models_are_refused(tmp_path):
    net = ConvClassifier((1, 8, 8), 2, (3,))
    path = tmp_path / "own.safetensors"
    save_classifier(path, net, widths=(4,))
    with pytest.raises(DataError, match=r"own.safetensors is not a classifier \(Error"):
        load_trusted(str(path))
    for wrong in ({"shape": (1, 8)}, {"shape": (1, "a", 8)}, {"classes": 0}, {"widths": (0,)}):
        save_classifier(path, net, **wrong)
        with pytest.raises(DataError, match=r"own.safetensors is not a classifier \("):
            load_trusted(str(path))
    save_file(net.state_dict(), path)
    with pytest.raises(DataError, match=r"\(its metadata have no __metadata__\); give a file"):
        load_trusted(str(path))
    path.write_bytes(b"no weights")
    with pytest.raises(DataError, match=r"is not a classifier \(.*header"):
        load_trusted(str(path))


def test_a_missing_file_or_one_of_another_type_is_refused(tmp_path):
    (tmp_path / "net.pt2").write_bytes(b"no program")
    with pytest.raises(DataError, match=r"net.pt2 cannot be opened \(.*that torch.export.save w"):
        load_trusted(str(tmp_path / "net.pt2"))
    with pytest.raises(DataError, match=r"no.onnx cannot be read \(No such file or directory\)"):
        load_trusted(str(tmp_path / "no.onnx"))
    with pytest.raises(
        UsageError,
        match=r"no extractor is called .*net.pth.; expected .*or the path of a file \(.pt2, .onnx",
    ):
        load_trusted(str(tmp_path / "net.pth"))


class Fickle(nn.Module):
    """Features that depend on the other images, as with batch norm in training, or on chance."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        rows = x.flatten(1)
        return rows - rows.mean(0) if self.by == "others" else rows + torch.rand_like(rows)


@pytest.mark.parametrize("by", ["others", "chance"])
def test_features_that_depend_on_other_images_or_chance_are_refused(tmp_path, by):
    path = exported(tmp_path / "fickle.pt2", Fickle(by), (1, 4, 4), dynamic_shapes=ANY)
    with pytest.raises(
        DataError, match="differ between two passes over the same images; export it after"
    ):
        load_trusted(path).features(draw(40, 1, 4, 4))


def test_features_too_large_for_distances_are_refused(tmp_path):
    path = exported(
        tmp_path / "huge.pt2", Odd(lambda x: x.flatten(1) * 1e20), (1, 4, 4), dynamic_shapes=ANY
    )
    with pytest.raises(DataError, match=r"returned numbers up to 1e\+20, whose distances overflow"):
        load_trusted(path).features(draw(3, 1, 4, 4))


def test_an_exception_of_a_program_is_not_an_internal_error(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "narrow.onnx").write_bytes(onnx_model(draw(16, 5), "n", "c", "h", "w"))
    with pytest.raises(DataError, match=r"'narrow.onnx' failed on 3 images of shape \(1, 5, 5\)"):
        load_trusted(str(tmp_path / "narrow.onnx")).features(draw(3, 1, 5, 5))


def test_a_broken_program_is_refused_in_one_sentence(tmp_path, caplog):
    """Without the trace of its reader."""
    intact = exported(tmp_path / "whole.pt2", Seen(), (1, 8, 8))
    (tmp_path / "cut.pt2").write_bytes((tmp_path / "whole.pt2").read_bytes()[:-400])
    assert load_trusted(intact)
    with pytest.raises(DataError, match=r"cut\.pt2 cannot be opened"):
        load_trusted(str(tmp_path / "cut.pt2"))
    assert not [entry for entry in caplog.records if entry.levelname in ("WARNING", "ERROR")]


def test_onnx_weights_in_separate_files_are_refused(tmp_path):
    """The hash of the file would not depend on them."""
    content = onnx_model(torch.eye(4), "n", 1, 2, 2)
    entry = field(1, "location") + field(2, "weights.data")
    (tmp_path / "net.onnx").write_bytes(content + field(8, field(13, entry)))
    with pytest.raises(DataError, match=r"keeps its weights in another file.*external_data=False"):
        load_trusted(str(tmp_path / "net.onnx"))


def test_records_have_the_version_of_the_library_that_ran_a_model(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    (tmp_path / "net.onnx").write_bytes(onnx_model(torch.eye(4), "n", 1, 2, 2))
    loaded = load_trusted(str(tmp_path / "net.onnx"))
    assert isinstance(loaded, UsesLibraries)
    assert loaded.libraries == {"onnxruntime": runtime.__version__}


def test_a_named_pipe_is_refused_without_waiting(tmp_path):
    pipe = tmp_path / "net.onnx"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match=r"a named pipe, not a regular file"):
        file.load_extractor_file(pipe)
