"""Datasets from objects in memory: arrays, tensors, torch Datasets, lists of images or paths."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float64, Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import Dataset as TorchDataset

from advnets.config import Data
from advnets.data.dataset import ArraySplit, Dataset
from advnets.data.huggingface.library import describe_error
from advnets.data.image_folder.decode import Frame, decode
from advnets.data.image_folder.files import MAX_FILE_BYTES
from advnets.data.image_folder.splits import DeclaredSplits, assign_splits
from advnets.errors import AdvnetsError, DataError, UsageError
from advnets.files import read_regular_file

_BLOCK = 1024
_PNG_MODES = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")
_ACCEPTED = (
    "an array or tensor of images, a torch Dataset, a Hugging Face dataset, or a list of paths or "
    "PIL images"
)
_ITEM = "an array, tensor, PIL image or path, or in a torch Dataset a pair of one and its label"
_GRAY_MODES = ("1", "L", "LA", "I", "I;16", "F")
Pixels = UInt8[np.ndarray, "n channels height width"]


def open_in_memory(images: object, labels: object, data: Data) -> Dataset:
    """Return images in memory as a dataset; with 50 or more, it has validation and test splits.

    The validation and test splits have a tenth of the images each. Arrays have shape (N, H, W),
    (N, C, H, W) or (N, H, W, C), C = 1 or 3, and are uint8, or floats from 0 to 1, which are
    rounded to 256 levels; they are not resized. Arrays of shape (N, 1) or (N, 2) are points: all
    splits are drawn from their kernel density estimate, as for a file of points. Files and PIL
    images are resized and converted as `data` says. The items of a torch Dataset are images, or
    pairs of an image and a label; an iterable one is streamed. `labels` are integers or names, one
    for each image.

    Raises:
        UsageError: the object is of another type, or images or labels have an invalid shape or
            range.
        DataError: a file is not an image that can be read.
    """
    if isinstance(images, IterableDataset):
        from advnets.data.iterable import open_iterable

        return open_iterable(cast(Iterable[Any], images), labels, data)
    if data.stream:
        raise UsageError("stream applies to files, and the images are in memory; leave it out")
    if _are_points(images):
        from advnets.data.synthetic.kde import open_points

        if labels is not None:
            raise UsageError("labels was given, and data are points; leave it out")
        return open_points(_points_array(images))
    name, pixels, own_labels = _read_images(images, data)
    values = own_labels if labels is None else labels
    labeled = None if values is None else read_labels(values, len(pixels))
    dataset = assign_to_splits(name, pixels, labeled)

    # Note that PIL images were resized or converted.
    first = None if is_array(images) else split_pair(cast(Any, images)[0])[0]
    if isinstance(first, Image.Image):
        shape = (1 if first.mode in _GRAY_MODES else 3, first.height, first.width)
        if shape != pixels.shape[1:]:
            own, read = (" x ".join(map(str, numbers)) for numbers in (shape, pixels.shape[1:]))
            note = f"PIL images, the first of {own}, are read as {read}; set size, width, channels"
            dataset = replace(dataset, notes=(note,))
    return dataset


def as_dataset(images: object, labels: object, data: Data) -> Dataset:
    """Return a Python object as a dataset, with the preprocessing of a data config.

    Raises:
        UsageError, DataError, MissingExtraError: as for `open_dataset`.
    """
    if isinstance(images, Dataset):
        if labels is not None:
            raise UsageError("labels was given, and the dataset has its own; leave it out")
        return images
    from advnets.data.registry import open_dataset

    options = {field.name: getattr(data, field.name) for field in fields(data)}
    return open_dataset(images, labels, **options)


def is_array(images: object) -> bool:
    """Return whether images in memory are arrays or tensors, which are not resized."""
    return isinstance(images, np.ndarray | Tensor)


def is_labeled_array(pair: Sequence[Any]) -> bool:
    """Return whether a pair is an array of images and their labels."""
    return len(pair) == 2 and is_array(pair[0]) and pair[0].ndim > 2 and np.ndim(pair[1]) == 1


def open_images(images: object, data: Data, name: str) -> ArraySplit:
    """Return all images or points in memory, in order and without labels.

    They are read as `open_in_memory` reads them. `name` is the name of the argument, for messages.

    Raises:
        UsageError, DataError: as for `open_in_memory`.
    """
    if _are_points(images):
        points = _points_array(images).astype(np.float32)
        return ArraySplit(points[:, :, None, None], white_level=1)
    return ArraySplit(_read_images(images, data, name)[1])


def _are_points(images: object) -> bool:
    """Return whether an object is an array or tensor of shape (N, 1) or (N, 2)."""
    if isinstance(images, Tensor) and (images.layout != torch.strided or images.is_meta):
        return False
    if not isinstance(images, np.ndarray | Tensor):
        return False
    return images.ndim == 2 and images.shape[1] in (1, 2)


def _points_array(points: object) -> Float64[np.ndarray, "n dims"]:
    """Return an array or tensor of points as float64.

    Raises:
        UsageError: there are none, or they are not finite numbers.
    """
    if isinstance(points, Tensor):
        points = points.detach().cpu().double().numpy()
    array = cast(np.ndarray, points)
    if not len(array) or array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise UsageError(
            f"the points have shape {array.shape} and values of type {array.dtype}; expected one "
            "or more rows of finite numbers"
        )
    return array.astype(np.float64)


def array_to_pixels(array: np.ndarray, name: str, *, channels_last: bool) -> Pixels:
    """Return an array of images as uint8 of shape (N, C, H, W), converted a block at a time.

    If both the second and the last axis may be channels, `channels_last` decides.

    Raises:
        UsageError: its shape, type or range is invalid.
    """
    shape = array.shape
    first, last = (array.ndim == 4 and shape[axis] in (1, 3) for axis in (1, 3))
    if not len(shape) or not math.prod(shape) or not (array.ndim == 3 or first or last):
        raise UsageError(
            f"{name} has shape {shape}; expected (N, height, width), or 1 or 3 channels as "
            "(N, channels, height, width) or (N, height, width, channels)"
        )
    if array.ndim == 3:
        array = array[:, None]
    elif last and (channels_last or not first):
        array = array.transpose(0, 3, 1, 2)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise UsageError(
            f"{name} has values of type {array.dtype}; expected uint8, or floats from 0 to 1"
        )
    pixels = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), _BLOCK):
        block = array[start : start + _BLOCK].astype(np.float32)
        low, high = float(block.min()), float(block.max())
        if math.isnan(low):
            raise UsageError(f"{name} has values that are NaN; replace them or leave them out")
        if low < 0 or high > 1:
            raise UsageError(
                f"{name} has values from {low:g} to {high:g}; expected uint8, or floats from 0 "
                "(black) to 1 (white)"
            )
        pixels[start : start + _BLOCK] = np.rint(block * 255)
    return pixels


def _read_images(
    images: object, data: Data, name: str = "data"
) -> tuple[str, Pixels, list[object] | None]:
    """Return the kind of the object, the pixels of its images, and its labels if it has any."""
    if isinstance(images, np.ndarray):
        return "array", array_to_pixels(images, "the array", channels_last=True), None
    if isinstance(images, Tensor):
        array = _tensor_to_array(images, "the tensor")
        return "tensor", array_to_pixels(array, "the tensor", channels_last=False), None
    kind = type(images).__name__
    if isinstance(images, DataLoader):
        raise UsageError(f"{name} is a {kind}, which makes batches; give its dataset, .dataset")
    if isinstance(images, TorchDataset) and not isinstance(images, Sized | Iterable):
        raise UsageError(
            f"{name} is a {kind}, a torch Dataset without __len__; define __len__, or derive it "
            "from IterableDataset"
        )
    if isinstance(images, str | bytes | Path) or not isinstance(images, Sized | Iterable):
        raise UsageError(f"{name} is of type {kind}; give {_ACCEPTED}")
    if isinstance(images, tuple) and is_labeled_array(images):
        advice = "give data=X and labels=y" if name == "data" else "give the images alone"
        raise UsageError(f"{name} is a tuple of images and labels; {advice}")
    if not isinstance(images, Sized) or not hasattr(images, "__getitem__"):
        raise UsageError(f"{name} is a {kind}, which has no length or no order; give {_ACCEPTED}")
    if not len(images):
        raise UsageError(f"{name} has no images; give at least one")
    kind = "images" if isinstance(images, list | tuple) else "dataset"
    return kind, *_read_items(images, data, pairs=kind == "dataset")


def _read_items(items: Any, data: Data, *, pairs: bool) -> tuple[Pixels, list[object] | None]:
    """Return the pixels of the items of a sequence, and their labels if items are pairs."""
    if data.crop == "random":
        raise UsageError("crop is random, which applies to folders of images; give another crop")
    frame = Frame.from_config(data)
    pixels: np.ndarray | None = None
    labels: list[object] = []
    for index in range(len(items)):
        item, label = split_pair(_item(items, index)) if pairs else (items[index], None)
        if label is not None:
            labels.append(label)
        image = decode_item(item, f"image {index}", frame)
        if pixels is None:
            pixels = np.empty((len(items), *image.shape), np.uint8)
        if image.shape != pixels.shape[1:]:
            raise UsageError(
                f"image {index} has shape {image.shape} and image 0 {pixels.shape[1:]}; give "
                "arrays of one shape, or PIL images, which are resized"
            )
        pixels[index] = image
    assert pixels is not None  # there is an item
    if labels and len(labels) < len(items):
        raise UsageError("only some items are pairs of an image and a label; give labels")
    return pixels, labels or None


def _item(items: Any, index: int) -> object:
    """Return an item of a dataset of the user.

    Raises:
        DataError: its code raises an exception.
    """
    try:
        return items[index]
    except (AdvnetsError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"{type(items).__name__} raised an exception at item {index:,} "
            f"({describe_error(error)}); correct it"
        ) from error


def _tensor_to_array(tensor: Tensor, name: str) -> np.ndarray:
    """Return a tensor as an array, floats as float32, as numpy lacks bfloat16."""
    if tensor.layout != torch.strided or tensor.is_meta:
        kind = "meta tensor" if tensor.is_meta else "sparse tensor"
        raise UsageError(f"{name} is a {kind}, without pixels for each place; give a dense tensor")
    tensor = tensor.detach().cpu()
    return tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()


def split_pair(item: object) -> tuple[Any, Any]:
    """Return the image and the label of an item, which is a pair, or an image without label."""
    if not isinstance(item, tuple | list):
        return item, None
    image, label = cast(Sequence[Any], item)[:2]
    return image, label.item() if isinstance(label, Tensor | np.generic) else label


def decode_item(item: object, name: str, frame: Frame) -> UInt8[np.ndarray, "c h w"]:
    """Return the pixels of an image; a file or PIL image is brought to the frame.

    Raises:
        UsageError: it is no image, or of another shape, type or range.
        DataError: a file is not an image that can be read.
    """
    if isinstance(item, Tensor):
        item, channels_last = _tensor_to_array(item, name), False
    else:
        channels_last = True
    if isinstance(item, np.ndarray):
        return array_to_pixels(item[None], name, channels_last=channels_last)[0]
    if isinstance(item, str | os.PathLike):
        path = Path(item)
        try:
            return decode(read_regular_file(path, MAX_FILE_BYTES), frame)
        except (OSError, DataError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{name}, {path}, cannot be used: {reason}; leave it out") from None
    if isinstance(item, Image.Image):
        content = io.BytesIO()
        saved = item if item.mode in _PNG_MODES else item.convert("RGB")
        saved.save(content, "PNG", exif=item.getexif(), compress_level=0)
        try:
            return decode(content.getvalue(), frame)
        except DataError as error:
            raise DataError(f"{name} {error}; leave it out") from None
    raise UsageError(f"{name} is of type {type(item).__name__}; give {_ITEM}")


def read_labels(values: object, n: int) -> tuple[Int64[np.ndarray, " n"], tuple[str, ...]]:
    """Return the class index of each image, and the names of the classes in sorted order.

    Raises:
        UsageError: they are neither integers nor names, or there is not one for each image.
    """
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.dtype == object and all(isinstance(value, str) for value in array.flat):
        array = array.astype(np.str_)  # as of a table of pandas
    if array.ndim != 1 or array.dtype.kind not in "iuU":
        raise UsageError(
            f"labels has shape {array.shape} and values of type {array.dtype}; expected an integer "
            "or a name for each image"
        )
    if len(array) != n:
        raise UsageError(f"labels has {len(array):,} values for {n:,} images; give one for each")
    names, indices = np.unique(array, return_inverse=True)
    return indices.astype(np.int64), tuple(map(str, names))


def assign_to_splits(
    name: str, pixels: Pixels, labeled: tuple[Int64[np.ndarray, " n"], tuple[str, ...]] | None
) -> Dataset:
    """Assign images to splits as the files of a folder are, with their indices as file names."""
    labels, classes = labeled or (None, ())
    keys = [f"{index:012d}".encode() for index in range(len(pixels))]
    listed = None if labels is None else tuple(labels.tolist())
    declared = DeclaredSplits(("",) * len(pixels), listed, classes)
    assignment = assign_splits(keys, declared, list(_digests(pixels)))
    ends = np.cumsum((0, *assignment.counts))
    train, valid, test, _ = (
        _make_split(pixels, labels, assignment.order[start:stop]) for start, stop in pairwise(ends)
    )
    assert train is not None  # as images are held out only where others remain
    return Dataset(name=name, train=train, valid=valid, test=test, classes=classes)


def _make_split(
    pixels: Pixels, labels: Int64[np.ndarray, " n"] | None, rows: Int64[np.ndarray, " k"]
) -> ArraySplit | None:
    if not len(rows):
        return None
    images = np.ascontiguousarray(pixels[rows])
    return ArraySplit(images, None if labels is None else labels[rows])


def _digests(pixels: Pixels) -> Iterator[bytes]:
    for image in pixels:
        yield hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
