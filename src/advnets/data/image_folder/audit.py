"""What lies in a folder, a zip or a set of images: an audit before any training."""

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
    """What was found; every count is of images that can be read, but `broken` and `others`."""

    name: str
    images: int
    formats: dict[str, int]
    color_modes: dict[str, int]
    resolutions: dict[str, int]
    """By width x height, the most frequent first."""
    aspect_ratios: dict[str, int]
    """Width to height: tall (under 0.9), square, wide (over 1.1)."""
    splits: dict[str, int]
    class_counts: dict[str, int]
    unreadable_files: dict[str, str]
    """Names and reasons."""
    skipped_files: dict[str, str]
    """Names of files that can be read and are not used, and reasons."""
    unsupported_files: dict[str, int]
    """Files that are no images, by ending."""
    exact_duplicates: list[list[str]]
    near_duplicates: list[list[str]]
    suggestion: Suggestion | None
    """None where nothing can be trained."""
    color_images: int
    cross_split_duplicates: int
    """Copies of images of another split, before files are dealt so that there are none."""
    fixed_splits: bool
    """Whether copies stay where they are, as the set is split already."""
    distinct_training_images: int
    """Training images, each of several equal ones counted once."""
    notes: tuple[str, ...]
    """How the folders were read, where they may be read in two ways."""
    images_16_bit: int = 0
    """Number of images with more than 8 bits a channel."""
    value_range: tuple[float, float] | None = None
    """The least and the largest value in those images."""


def audit_files(
    files: ImageFiles, *, white_level: float | None = None, progress: bool | None = None
) -> Audit:
    """Decode every file once, on all cores, and say what they are.

    `white_level` is the value of 16-bit images that is white; `progress` shows a bar, by default on
    a terminal.
    """
    found: dict[int, InspectedImage] = {}
    broken = {file.name: file.reason for file in files.skipped_files}
    text = f"reading {files.name}"
    with closing(process_files(files, InspectImage(white_level), text, progress)) as done:
        for number, result in done:
            if isinstance(result, DataError):
                broken[display_name(files.keys[number])] = str(result)
            else:
                found[number] = result
    numbers = sorted(found)
    keys = [files.keys[i] for i in numbers]
    placing = files.declared_splits(numbers)
    deal = assign_splits(keys, placing, [found[i].digest for i in numbers])
    return _summarize(
        files.name,
        [display_name(key) for key in keys],
        [found[i] for i in numbers],
        splits=dict(zip(SPLITS, deal.counts, strict=True)),
        classes=_class_counts(deal.labels, placing.classes),
        broken=dict(sorted(broken.items())),
        left_out={display_name(keys[i]): reason for i, reason in sorted(deal.excluded.items())},
        others=dict(files.unsupported_files.most_common()),
        crossing=deal.cross_split_duplicates,
        distinct=len({found[numbers[i]].digest for i in deal.order[deal.splits == 0]}),
        notes=placing.notes,
    )


def audit_dataset(dataset: Dataset) -> Audit:
    """The same for a set that is arrays already, such as MNIST's."""
    every = (dataset.train, dataset.valid, dataset.test, dataset.unlabeled)
    parts = dict(zip(SPLITS, every, strict=True))
    whole = {name: part for name, part in parts.items() if isinstance(part, Split)}
    names: list[str] = []
    found: list[InspectedImage] = []
    contents: dict[str, set[bytes]] = {}
    crossing = 0
    for name, part in whole.items():
        first = len(found)
        for start in range(0, len(part), _BLOCK):
            rows = part.read(slice(start, start + _BLOCK))
            names += [f"{name}/{start + i}" for i in range(len(rows))]
            found += [_inspect_array(row, part.white_level) for row in rows]
        own = [one.digest for one in found[first:]]
        # A training image may well come among the unlabeled ones too.
        others = [contents[one] for one in contents if (one, name) != ("train", "unlabeled")]
        crossing += sum(any(digest in other for other in others) for digest in own)
        contents[name] = set(own)
    labels = [part.labels for part in whole.values()]
    known = [each for each in labels if each is not None]
    return _summarize(
        dataset.name,
        names,
        found,
        splits={name: len(part) for name, part in whole.items()},
        classes=_class_counts(np.concatenate(known), dataset.classes) if known else {},
        broken={file.name: file.reason for file in dataset.skipped_files},
        left_out=None,
        others=dict(dataset.unsupported_files),
        crossing=crossing,
        distinct=len(contents["train"]) if "train" in contents else 0,
        notes=dataset.notes,
    )


def _inspect_array(row: np.ndarray, white: int) -> InspectedImage:
    channels, height, width = row.shape
    gray, image = channels == 1, to_pil_image(row, white)
    small = np.asarray(
        image.resize((THUMBNAIL_SHAPE[1], THUMBNAIL_SHAPE[0]), Image.Resampling.LANCZOS)
    )
    found = ImageInfo("array", "L" if gray else "RGB", width, height)
    digest = hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).digest()
    return summarize_image(found, digest, small[None] if gray else small.transpose(2, 0, 1))


def _summarize(
    name: str,
    names: Sequence[str],
    found: Sequence[InspectedImage],
    *,
    splits: dict[str, int],
    classes: dict[str, int],
    broken: dict[str, str],
    left_out: dict[str, str] | None,
    others: dict[str, int],
    crossing: int,
    distinct: int,
    notes: tuple[str, ...],
) -> Audit:
    looks = [one.info for one in found]
    exact = group_equal([one.digest for one in found])
    repeats = {number for group in exact for number in group[1:]}
    single = [i for i in range(len(found)) if i not in repeats]
    thumbs = np.frombuffer(b"".join(found[i].thumbnail for i in single), np.uint8)
    near = group_near_duplicates(thumbs.reshape(-1, *THUMBNAIL_SHAPE))
    colored = sum(one.is_color for one in found)
    sizes = [(one.width, one.height) for one in looks]
    deep = [one.value_range for one in looks if one.value_range is not None]
    levels = (min(low for low, _ in deep), max(high for _, high in deep)) if deep else None
    suggested = suggest_flags(sizes, colored) if splits.get("train") else None
    if suggested and levels:
        suggested = replace(suggested, white_level=likely_white_level(levels[1]))
    return Audit(
        name=name,
        images=len(found),
        formats=_count(one.format for one in looks),
        color_modes=_count(one.mode for one in looks),
        resolutions=_count(f"{one.width} x {one.height}" for one in looks),
        aspect_ratios=_count(_aspect_ratio(one) for one in looks),
        splits={split: count for split, count in splits.items() if count},
        class_counts=classes,
        unreadable_files=broken,
        skipped_files=left_out or {},
        unsupported_files=others,
        exact_duplicates=[[names[i] for i in group] for group in exact],
        near_duplicates=[[names[single[i]] for i in group] for group in near],
        suggestion=suggested,
        color_images=colored,
        cross_split_duplicates=crossing,
        fixed_splits=left_out is None,
        distinct_training_images=distinct,
        notes=notes,
        images_16_bit=len(deep),
        value_range=levels,
    )


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _aspect_ratio(one: ImageInfo) -> str:
    ratio = one.width / one.height
    return "tall" if ratio < 0.9 else "wide" if ratio > 1.1 else "square"


def _class_counts(labels: np.ndarray | None, classes: Sequence[str]) -> dict[str, int]:
    if labels is None:
        return {}
    counts = np.bincount(labels[labels != NO_CLASS], minlength=len(classes)).tolist()
    return {
        classes[i] if i < len(classes) else str(i): count for i, count in enumerate(counts) if count
    }


_SUGGESTED_SIZES = (16, 32, 64)
"""Sizes to begin with: larger ones take days on a processor."""
_MAJORITY = 9, 10
"""The share of images that "most" means."""
_ASPECT_TOLERANCE = 1.1
"""Aspect ratios that differ by less are taken for the same."""
_MAX_CROP_ASPECT = 2.0
"""Of an image this much longer than wide, a cut square shows less than half."""
_SIZE_MULTIPLE = 8
"""Heights and widths are multiples of this, for nets that halve them."""


@dataclass(frozen=True)
class Suggestion:
    """Flags for `advnets train`."""

    size: int
    width: int
    channels: Literal[1, 3]
    crop: Literal["center", "pad"]
    reason: str
    white_level: int | None = None

    def flags(self) -> str:
        """As one types them."""
        width = "" if self.width == self.size else f" --width {self.width}"
        white = "" if self.white_level is None else f" --white-level {self.white_level}"
        return f"--size {self.size}{width} --channels {self.channels} --crop {self.crop}{white}"


def likely_white_level(largest: float) -> int | None:
    """Return the white of 16-bit values that take 15 bits at most, such as 4095; None of others."""
    bits = int(largest).bit_length()
    return (1 << bits) - 1 if 0 < bits < 16 else None


def suggest_flags(sizes: Sequence[tuple[int, int]], colored: int) -> Suggestion | None:
    """What suits images of these widths and heights, of which so many are in color.

    One size of up to 64 is kept as it is. Of others the shorter side becomes the largest of 16, 32
    and 64 that nine in ten have; where nine in ten have the same shape it is kept, in multiples of
    8, else images become square, cut about the center, or fitted whole where half of them are
    more than twice as long as wide. Gray where one in a hundred at most is in color.
    """
    if not sizes:
        return None
    channels = 1 if colored * 100 <= len(sizes) else 3
    words = "gray" if channels == 1 else "in color"
    widths, heights = np.array(sizes).T
    if len(set(sizes)) == 1 and max(sizes[0]) <= max(_SUGGESTED_SIZES):
        width, height = sizes[0]
        why = f"all are {width} x {height} and {words}"
        return Suggestion(height, width, channels, "center", why)
    shorter = np.sort(np.minimum(widths, heights))
    nine_in_ten = int(shorter[len(shorter) // 10])
    size = max(
        (size for size in _SUGGESTED_SIZES if size <= nine_in_ten), default=min(_SUGGESTED_SIZES)
    )
    ratios = widths / heights
    usual = float(np.median(ratios))
    alike = (ratios < usual * _ASPECT_TOLERANCE) & (ratios > usual / _ASPECT_TOLERANCE)
    why = f"nine in ten are at least {nine_in_ten} on their shorter side, {words}"
    if alike.sum() * _MAJORITY[1] >= len(sizes) * _MAJORITY[0]:
        long = max(
            _SIZE_MULTIPLE, round(size * max(usual, 1 / usual) / _SIZE_MULTIPLE) * _SIZE_MULTIPLE
        )
        height, width = (size, long) if usual >= 1 else (long, size)
        return Suggestion(height, width, channels, "center", f"{why}, of one shape")
    long_ones = np.median(np.maximum(ratios, 1 / ratios)) > _MAX_CROP_ASPECT
    return Suggestion(
        size, size, channels, "pad" if long_ones else "center", f"{why}, of mixed shapes"
    )
