"""An audit of image files or of a dataset, before training."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from advnets.data.dataset import Dataset, Split
from advnets.data.image_folder.decode import ImageInfo, to_pil_image
from advnets.data.image_folder.duplicates import group_equal, group_near_duplicates
from advnets.data.image_folder.files import ImageFiles
from advnets.data.image_folder.splits import NO_CLASS, SPLITS, assign_splits, display_name
from advnets.data.image_folder.workers import (
    THUMBNAIL_SHAPE,
    InspectedImage,
    InspectImage,
    process_files,
    summarize_image,
)
from advnets.errors import DataError

_BLOCK = 1024


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    All counts are of images that can be read, except `unreadable_files` and `unsupported_files`.
    """

    name: str
    images: int
    formats: dict[str, int]
    color_modes: dict[str, int]
    resolutions: dict[str, int]
    """The number of images by width x height in pixels, the most frequent first."""
    aspect_ratios: dict[str, int]
    """The number of images by width / height: tall (under 0.9), square, wide (over 1.1)."""
    splits: dict[str, int]
    class_counts: dict[str, int]
    unreadable_files: dict[str, str]
    """The names of files that cannot be read, and the reasons."""
    skipped_files: dict[str, str]
    """The names of files that can be read and are not used, and the reasons."""
    unsupported_files: dict[str, int]
    """The number of files that are not images, by suffix."""
    exact_duplicates: list[list[str]]
    near_duplicates: list[list[str]]
    suggestion: Suggestion | None
    """The suggested flags of `advnets train`; None where there are no training images."""
    color_images: int
    cross_split_duplicates: int
    """The number of images that are duplicates across splits, before these are removed."""
    fixed_splits: bool
    """True for a dataset with fixed splits, in which duplicates are kept."""
    distinct_training_images: int
    """The number of different training images."""
    notes: tuple[str, ...]
    """Sentences on how ambiguous folder names were interpreted."""
    images_16_bit: int = 0
    """The number of images with more than 8 bits per channel."""
    value_range: tuple[float, float] | None = None
    """The smallest and the largest value in those images."""


def audit_files(
    files: ImageFiles, *, white_level: float | None = None, progress: bool | None = None
) -> Audit:
    """Decode every file once, on all cores, and summarize them.

    `white_level` is the value of 16-bit images that is white; `progress` shows a progress bar, by
    default on a terminal.
    """
    inspected: dict[int, InspectedImage] = {}
    unreadable = {file.name: file.reason for file in files.skipped_files}
    description = f"reading {files.name}"
    with closing(process_files(files, InspectImage(white_level), description, progress)) as results:
        for index, result in results:
            if isinstance(result, DataError):
                unreadable[display_name(files.keys[index])] = str(result)
            else:
                inspected[index] = result
    indices = sorted(inspected)
    keys = [files.keys[i] for i in indices]
    declared = files.declared_splits(indices)
    assignment = assign_splits(keys, declared, [inspected[i].digest for i in indices])
    return _summarize(
        files.name,
        [display_name(key) for key in keys],
        [inspected[i] for i in indices],
        splits=dict(zip(SPLITS, assignment.counts, strict=True)),
        classes=_class_counts(assignment.labels, declared.classes),
        unreadable=dict(sorted(unreadable.items())),
        skipped={
            display_name(keys[i]): reason for i, reason in sorted(assignment.excluded.items())
        },
        unsupported=dict(files.unsupported_files.most_common()),
        cross_split_duplicates=assignment.cross_split_duplicates,
        num_distinct=len(
            {inspected[indices[i]].digest for i in assignment.order[assignment.splits == 0]}
        ),
        notes=declared.notes,
    )


def audit_dataset(dataset: Dataset) -> Audit:
    """Summarize a dataset of arrays, such as MNIST."""
    all_splits = (dataset.train, dataset.valid, dataset.test, dataset.unlabeled)
    named_splits = dict(zip(SPLITS, all_splits, strict=True))
    array_splits = {name: split for name, split in named_splits.items() if isinstance(split, Split)}
    names: list[str] = []
    inspected: list[InspectedImage] = []
    contents: dict[str, set[bytes]] = {}
    cross_split_duplicates = 0
    for name, split in array_splits.items():
        first = len(inspected)
        for start in range(0, len(split), _BLOCK):
            rows = split.read(slice(start, start + _BLOCK))
            names += [f"{name}/{start + i}" for i in range(len(rows))]
            inspected += [_inspect_array(row, split.white_level) for row in rows]
        digests = [image.digest for image in inspected[first:]]
        # The unlabeled images may contain the training images.
        others = [contents[other] for other in contents if (other, name) != ("train", "unlabeled")]
        cross_split_duplicates += sum(
            any(digest in other for other in others) for digest in digests
        )
        contents[name] = set(digests)
    labels = [split.labels for split in array_splits.values()]
    known = [array for array in labels if array is not None]
    return _summarize(
        dataset.name,
        names,
        inspected,
        splits={name: len(split) for name, split in array_splits.items()},
        classes=_class_counts(np.concatenate(known), dataset.classes) if known else {},
        unreadable={file.name: file.reason for file in dataset.skipped_files},
        skipped=None,
        unsupported=dict(dataset.unsupported_files),
        cross_split_duplicates=cross_split_duplicates,
        num_distinct=len(contents["train"]) if "train" in contents else 0,
        notes=dataset.notes,
    )


def _inspect_array(row: np.ndarray, white_level: int) -> InspectedImage:
    channels, height, width = row.shape
    gray, image = channels == 1, to_pil_image(row, white_level)
    small = np.asarray(
        image.resize((THUMBNAIL_SHAPE[1], THUMBNAIL_SHAPE[0]), Image.Resampling.LANCZOS)
    )
    info = ImageInfo("array", "L" if gray else "RGB", width, height)
    digest = hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).digest()
    return summarize_image(info, digest, small[None] if gray else small.transpose(2, 0, 1))


def _summarize(
    name: str,
    names: Sequence[str],
    images: Sequence[InspectedImage],
    *,
    splits: dict[str, int],
    classes: dict[str, int],
    unreadable: dict[str, str],
    skipped: dict[str, str] | None,
    unsupported: dict[str, int],
    cross_split_duplicates: int,
    num_distinct: int,
    notes: tuple[str, ...],
) -> Audit:
    infos = [image.info for image in images]
    exact_groups = group_equal([image.digest for image in images])
    repeated = {index for group in exact_groups for index in group[1:]}
    unique = [i for i in range(len(images)) if i not in repeated]
    thumbnails = np.frombuffer(b"".join(images[i].thumbnail for i in unique), np.uint8)
    near_groups = group_near_duplicates(thumbnails.reshape(-1, *THUMBNAIL_SHAPE))
    num_color = sum(image.is_color for image in images)
    sizes = [(info.width, info.height) for info in infos]
    ranges = [info.value_range for info in infos if info.value_range is not None]
    value_range = (
        (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None
    )
    suggested = suggest_flags(sizes, num_color) if splits.get("train") else None
    if suggested and value_range:
        suggested = replace(suggested, white_level=likely_white_level(value_range[1]))
    return Audit(
        name=name,
        images=len(images),
        formats=_count(info.format for info in infos),
        color_modes=_count(info.mode for info in infos),
        resolutions=_count(f"{info.width} x {info.height}" for info in infos),
        aspect_ratios=_count(_aspect_ratio(info) for info in infos),
        splits={split: count for split, count in splits.items() if count},
        class_counts=classes,
        unreadable_files=unreadable,
        skipped_files=skipped or {},
        unsupported_files=unsupported,
        exact_duplicates=[[names[i] for i in group] for group in exact_groups],
        near_duplicates=[[names[unique[i]] for i in group] for group in near_groups],
        suggestion=suggested,
        color_images=num_color,
        cross_split_duplicates=cross_split_duplicates,
        fixed_splits=skipped is None,
        distinct_training_images=num_distinct,
        notes=notes,
        images_16_bit=len(ranges),
        value_range=value_range,
    )


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _aspect_ratio(info: ImageInfo) -> str:
    ratio = info.width / info.height
    return "tall" if ratio < 0.9 else "wide" if ratio > 1.1 else "square"


def _class_counts(labels: np.ndarray | None, classes: Sequence[str]) -> dict[str, int]:
    if labels is None:
        return {}
    counts = np.bincount(labels[labels != NO_CLASS], minlength=len(classes)).tolist()
    return {
        classes[i] if i < len(classes) else str(i): count for i, count in enumerate(counts) if count
    }


_SUGGESTED_SIZES = (16, 32, 64)
"""The sizes that are suggested, in pixels: larger ones take days on a CPU."""
_MAJORITY = 9, 10
"""The fraction of images, 9 in 10, that must agree."""
_ASPECT_TOLERANCE = 1.1
"""The factor up to which different aspect ratios count as the same."""
_MAX_CROP_ASPECT = 2.0
"""The aspect ratio above which a center crop would show less than half of an image."""
_SIZE_MULTIPLE = 8
"""Heights and widths are multiples of this, for models that halve them."""


@dataclass(frozen=True)
class Suggestion:
    """Suggested flags for `advnets train`, and the reason."""

    size: int
    width: int
    channels: Literal[1, 3]
    crop: Literal["center", "pad"]
    reason: str
    white_level: int | None = None

    def flags(self) -> str:
        """Return the flags as they are typed."""
        width = "" if self.width == self.size else f" --width {self.width}"
        white = "" if self.white_level is None else f" --white-level {self.white_level}"
        return f"--size {self.size}{width} --channels {self.channels} --crop {self.crop}{white}"


def likely_white_level(largest: float) -> int | None:
    """Return the white level of 16-bit values that use at most 15 bits, such as 4095, else None."""
    bits = int(largest).bit_length()
    return (1 << bits) - 1 if 0 < bits < 16 else None


def suggest_flags(sizes: Sequence[tuple[int, int]], num_color: int) -> Suggestion | None:
    """Suggest flags for images of these (width, height), of which `num_color` are in color.

    A single size of up to 64 pixels is kept. Otherwise the shorter side becomes the largest of 16,
    32 and 64 that 9 in 10 images have; where 9 in 10 have the same aspect ratio it is kept, in
    multiples of 8, else images become square, cropped at the center, or padded where half of them
    are more than twice as long as wide. Images become grayscale if at most 1 in 100 is in color.
    """
    if not sizes:
        return None
    channels = 1 if num_color * 100 <= len(sizes) else 3
    color = "grayscale" if channels == 1 else "in color"
    widths, heights = np.array(sizes).T
    if len(set(sizes)) == 1 and max(sizes[0]) <= max(_SUGGESTED_SIZES):
        width, height = sizes[0]
        reason = f"all are {width} x {height} and {color}"
        return Suggestion(height, width, channels, "center", reason)
    shorter = np.sort(np.minimum(widths, heights))
    common_side = int(shorter[len(shorter) // 10])
    size = max(
        (size for size in _SUGGESTED_SIZES if size <= common_side), default=min(_SUGGESTED_SIZES)
    )
    ratios = widths / heights
    median = float(np.median(ratios))
    similar = (ratios < median * _ASPECT_TOLERANCE) & (ratios > median / _ASPECT_TOLERANCE)
    reason = f"9 in 10 images are at least {common_side} pixels on their shorter side, {color}"
    if similar.sum() * _MAJORITY[1] >= len(sizes) * _MAJORITY[0]:
        long = max(
            _SIZE_MULTIPLE, round(size * max(median, 1 / median) / _SIZE_MULTIPLE) * _SIZE_MULTIPLE
        )
        height, width = (size, long) if median >= 1 else (long, size)
        return Suggestion(height, width, channels, "center", f"{reason}, of one aspect ratio")
    is_elongated = np.median(np.maximum(ratios, 1 / ratios)) > _MAX_CROP_ASPECT
    return Suggestion(
        size,
        size,
        channels,
        "pad" if is_elongated else "center",
        f"{reason}, of mixed aspect ratios",
    )
