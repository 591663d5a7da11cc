"""Extractors from files: torch.export programs, ONNX models, classifiers of this package."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from advnets.errors import DataError, UsageError, require
from advnets.extractors.base import (
    BATCH_SIZE,
    Extractor,
    InputShape,
    check_pixels,
    extract_in_batches,
    shorten_error,
)
from advnets.extractors.builtin import parse_classifier
from advnets.files import read_regular_file

_FATAL = 4
_MAX_BYTES = 4 << 30
_EXTERNAL_DATA = b"\x0a\x08location"
"""The protocol buffer field of ONNX tensors whose data is in another file."""
_NUM_REPEATED, _TOLERANCE = 8, 1e-3
"""The number of images processed twice, and the largest relative difference of features."""


@dataclass(frozen=True)
class ExportedExtractor:
    """A network from a file; its input is float32 (n, channels, height, width) in [0, 1]."""

    name: str
    digest: str
    function: Callable[[Tensor], object]
    shape: InputShape
    min_batch: int = 1
    """The smallest batch size."""
    max_batch: int = BATCH_SIZE
    """The largest batch size."""
    libraries: Mapping[str, str] = field(default_factory=dict[str, str])
    """The versions of libraries other than torch that run it."""

    def features(
        self, pixels: Float[Tensor, "n channels height width"]
    ) -> Float[Tensor, "n features"]:
        """Return its output, one row for each image.

        Raises:
            DataError: it fails, or features of an image depend on the rest of its batch or are
                random, as those of a network that was exported in training mode.
        """
        pixels = check_pixels(self.name, pixels, self.shape)
        features = extract_in_batches(
            self.name, self._run, pixels, min_batch=self.min_batch, max_batch=self.max_batch
        )
        num_repeated = min(_NUM_REPEATED, len(pixels) // 2)
        if num_repeated:
            repeated = extract_in_batches(
                self.name,
                self._run,
                pixels[:num_repeated],
                min_batch=self.min_batch,
                max_batch=self.max_batch,
            )
            if (repeated - features[:num_repeated]).abs().max() > _TOLERANCE * features[
                :num_repeated
            ].abs().max():
                raise DataError(
                    f"features from extractor {self.name!r} differ between two passes over the "
                    "same images; export it after .eval()"
                )
        return features

    def _run(self, block: Tensor) -> Tensor:
        try:
            output = self.function(block)
        except Exception as error:  # a program can fail in any way
            raise DataError(
                f"extractor {self.name!r} failed on {len(block)} images of shape "
                f"{tuple(block.shape[1:])} ({shorten_error(error)}); give one for such images"
            ) from None
        if not isinstance(output, Tensor) or output.is_complex():
            what = "complex numbers" if isinstance(output, Tensor) else f"a {type(output).__name__}"
            raise DataError(
                f"extractor {self.name!r} returned {what}; expected one tensor of real numbers of "
                "shape (images, features)"
            )
        return output


def load_extractor_file(path: Path, *, trust_code: bool = False) -> Extractor:
    """Load an extractor from a .pt2, .onnx or .safetensors file.

    Opening a .pt2 file, which contains pickles, can run any code in it; `trust_code` allows this.

    Raises:
        UsageError: the file has another extension, or is a .pt2 file without `trust_code`.
        DataError: it is missing, broken, or does not map a batch of images to one tensor.
        MissingExtraError: it is an ONNX file and onnxruntime is not installed.
    """
    if path.suffix not in READERS:
        raise UsageError(
            f"the extractor {path} has an unknown extension; expected {', '.join(READERS)}"
        )
    if path.suffix == ".pt2" and not trust_code:
        raise UsageError(
            f"opening {path} can run any code in it; if you trust its author, add "
            "--trust-code, or give an .onnx or .safetensors file"
        )
    try:
        content = read_regular_file(path.expanduser(), _MAX_BYTES)
    except OSError as error:
        raise DataError(
            f"the extractor {path} cannot be read ({error.strerror}); give the path of a file"
        ) from None
    return READERS[path.suffix](path.name, content)


def _load_exported(name: str, content: bytes) -> Extractor:
    """Load a program that `torch.export.save` wrote."""
    log = logging.getLogger("torch.export")
    level = log.level
    log.setLevel(logging.CRITICAL)  # it logs the whole traceback
    try:
        program = torch.export.load(BytesIO(content))
    except Exception as error:  # a broken archive raises errors of any type
        raise _unreadable_error(name, error, "torch.export.save") from None
    finally:
        log.setLevel(level)
    (input_name,) = _check_single(name, "inputs", program.graph_signature.user_inputs)
    _check_single(name, "outputs", program.graph_signature.user_outputs)
    example = next(node.meta["val"] for node in program.graph.nodes if node.name == input_name)
    if not isinstance(example, Tensor) or example.ndim != 4 or example.dtype != torch.float32:
        raise _not_images_error(name)
    count, *shape = (_fixed_size(size) for size in example.shape)
    min_batch, max_batch = (count, count) if count else _batch_range(program, example.shape[0])
    function = cast(Callable[[Tensor], object], program.module())
    return ExportedExtractor(
        name, _sha256(content), function, cast(InputShape, tuple(shape)), min_batch, max_batch
    )


def _batch_range(program: torch.export.ExportedProgram, size: Any) -> tuple[int, int]:
    """Return the smallest and largest batch size of a program with a dynamic batch dimension."""
    bounds = program.range_constraints.get(size.node.expr)
    if bounds is None:
        return 1, BATCH_SIZE
    return max(int(bounds.lower), 1), BATCH_SIZE if bounds.upper > BATCH_SIZE else int(bounds.upper)


def _load_onnx(name: str, content: bytes) -> Extractor:
    """Load an ONNX model, run by onnxruntime on the CPU."""
    if _EXTERNAL_DATA in content:
        raise DataError(
            f"{name} keeps its weights in another file, which its SHA-256 does not cover; "
            "export it as one, by torch.onnx.export(…, external_data=False)"
        )
    runtime: Any = require("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = _FATAL  # errors are exceptions
    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has many classes of exceptions
        raise _unreadable_error(name, error, "an ONNX exporter") from None
    (input_info,) = _check_single(name, "inputs", session.get_inputs())
    _check_single(name, "outputs", session.get_outputs())
    if len(input_info.shape) != 4 or input_info.type != "tensor(float)":
        raise _not_images_error(name)
    count, *shape = (_fixed_size(size) for size in input_info.shape)

    def function(block: Tensor) -> Tensor:
        (row,) = session.run(None, {input_info.name: block.numpy()})
        return torch.from_numpy(row)

    min_batch, max_batch = (count, count) if count else (1, BATCH_SIZE)
    size, libraries = cast(InputShape, tuple(shape)), {"onnxruntime": runtime.__version__}
    return ExportedExtractor(
        name, _sha256(content), function, size, min_batch, max_batch, libraries
    )


READERS: dict[str, Callable[[str, bytes], Extractor]] = {
    ".pt2": _load_exported,
    ".onnx": _load_onnx,
    ".safetensors": parse_classifier,
}
"""Functions that load an extractor, by the extension of its file."""


def _fixed_size(size: object) -> int | None:
    """Return a dimension, or None if it is dynamic."""
    return size if isinstance(size, int) else None


def _check_single(name: str, what: str, entries: Any) -> Any:
    if len(entries) != 1:
        names = ", ".join(str(getattr(entry, "name", entry)) for entry in entries)
        raise DataError(f"{name} has {len(entries)} {what} ({names}); expected one")
    return entries


def _not_images_error(name: str) -> DataError:
    return DataError(
        f"the input of {name} is not images; expected float32 pixels in [0, 1] of shape "
        "(images, channels, height, width)"
    )


def _unreadable_error(name: str, error: Exception, writer: str) -> DataError:
    return DataError(
        f"{name} cannot be opened ({shorten_error(error)}); give a file that {writer} wrote"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
