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
from advnets.data.image_folder.decode import ImageInfo, image_of
from advnets.data.image_folder.duplicates import exact_groups, near_groups
from advnets.data.image_folder.files import ImageFiles, display_name
from advnets.data.image_folder.layout import NO_CLASS
from advnets.data.image_folder.splits import SPLITS, assign_splits
from advnets.data.image_folder.workers import THUMB, InspectedImage, InspectImage, all_files, seen
from advnets.errors import DataError

_BLOCK = 1024


@dataclass(frozen=True)
class Audit:
    """What was found; every count is of images that can be read, but `broken` and `others`."""

    name: str
    images: int
    formats: dict[str, int]
    modes: dict[str, int]
    sizes: dict[str, int]
    """By width x height, the most frequent first."""
    aspects: dict[str, int]
    """Width to height: tall (under 0.9), square, wide (over 1.1)."""
    splits: dict[str, int]
    classes: dict[str, int]
    broken: dict[str, str]
    """Names and reasons."""
    left_out: dict[str, str]
    """Names of files that can be read and are not used, and reasons."""
    others: dict[str, int]
    """Files that are no images, by ending."""
    exact_duplicates: list[list[str]]
    near_duplicates: list[list[str]]
    suggestion: Suggestion | None
    """None where nothing can be trained."""
    in_color: int
    copies_across_splits: int
    """Copies of images of another split, before files are dealt so that there are none."""
    fixed_splits: bool
    """Whether copies stay where they are, as the set is split already."""
    distinct_training: int
    """Training images, each of several equal ones counted once."""
    notes: tuple[str, ...]
    """How the folders were read, where they may be read in two ways."""
    deep_images: int = 0
    """Number of images with more than 8 bits a channel."""
    levels: tuple[float, float] | None = None
    """The least and the largest value in those images."""


def audit_files(
    collection: ImageFiles, *, white_level: float | None = None, progress: bool | None = None
) -> Audit:
    """Decode every file once, on all cores, and say what they are.

    `white_level` is the value of 16-bit images that is white; `progress` shows a bar, by default on
    a terminal.
    """
    found: dict[int, InspectedImage] = {}
    broken = {file.name: file.reason for file in collection.skipped_files}
    text = f"reading {collection.name}"
    with closing(all_files(collection, InspectImage(white_level), text, progress)) as done:
        for number, result in done:
            if isinstance(result, DataError):
                broken[display_name(collection.keys[number])] = str(result)
            else:
                found[number] = result
    numbers = sorted(found)
    keys = [collection.keys[i] for i in numbers]
    placing = collection.placing(numbers)
    deal = assign_splits(keys, placing, [found[i].digest for i in numbers])
    return _audit(
        collection.name,
        [display_name(key) for key in keys],
        [found[i] for i in numbers],
        splits=dict(zip(SPLITS, deal.counts, strict=True)),
        classes=_class_counts(deal.labels, placing.classes),
        broken=dict(sorted(broken.items())),
        left_out={display_name(keys[i]): reason for i, reason in sorted(deal.left_out.items())},
        others=dict(collection.unsupported_files.most_common()),
        crossing=deal.crossing,
        distinct=len({found[numbers[i]].digest for i in deal.order[deal.splits == 0]}),
        notes=placing.notes,
    )


def audit_splits(splits: Dataset) -> Audit:
    """The same for a set that is arrays already, such as MNIST's."""
    every = (splits.train, splits.valid, splits.test, splits.unlabeled)
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
            found += [_array_seen(row, part.white_level) for row in rows]
        own = [one.digest for one in found[first:]]
        # A training image may well come among the unlabeled ones too.
        others = [contents[one] for one in contents if (one, name) != ("train", "unlabeled")]
        crossing += sum(any(digest in other for other in others) for digest in own)
        contents[name] = set(own)
    labels = [part.labels for part in whole.values()]
    known = [each for each in labels if each is not None]
    return _audit(
        splits.name,
        names,
        found,
        splits={name: len(part) for name, part in whole.items()},
        classes=_class_counts(np.concatenate(known), splits.classes) if known else {},
        broken={file.name: file.reason for file in splits.skipped_files},
        left_out=None,
        others=dict(splits.unsupported_files),
        crossing=crossing,
        distinct=len(contents["train"]) if "train" in contents else 0,
        notes=splits.notes,
    )


def _array_seen(row: np.ndarray, white: int) -> InspectedImage:
    channels, height, width = row.shape
    gray, image = channels == 1, image_of(row, white)
    small = np.asarray(image.resize((THUMB[1], THUMB[0]), Image.Resampling.LANCZOS))
    found = ImageInfo("array", "L" if gray else "RGB", width, height)
    digest = hashlib.blake2b(np.ascontiguousarray(row).data, digest_size=16).digest()
    return seen(found, digest, small[None] if gray else small.transpose(2, 0, 1))


def _audit(
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
    looks = [one.look for one in found]
    exact = exact_groups([one.digest for one in found])
    repeats = {number for group in exact for number in group[1:]}
    single = [i for i in range(len(found)) if i not in repeats]
    thumbs = np.frombuffer(b"".join(found[i].thumb for i in single), np.uint8)
    near = near_groups(thumbs.reshape(-1, *THUMB))
    colored = sum(one.colored for one in found)
    sizes = [(one.width, one.height) for one in looks]
    deep = [one.levels for one in looks if one.levels is not None]
    levels = (min(low for low, _ in deep), max(high for _, high in deep)) if deep else None
    suggested = suggestion(sizes, colored) if splits.get("train") else None
    if suggested and levels:
        suggested = replace(suggested, white_level=likely_white_level(levels[1]))
    return Audit(
        name=name,
        images=len(found),
        formats=_counted(one.format for one in looks),
        modes=_counted(one.mode for one in looks),
        sizes=_counted(f"{one.width} x {one.height}" for one in looks),
        aspects=_counted(_aspect(one) for one in looks),
        splits={split: count for split, count in splits.items() if count},
        classes=classes,
        broken=broken,
        left_out=left_out or {},
        others=others,
        exact_duplicates=[[names[i] for i in group] for group in exact],
        near_duplicates=[[names[single[i]] for i in group] for group in near],
        suggestion=suggested,
        in_color=colored,
        copies_across_splits=crossing,
        fixed_splits=left_out is None,
        distinct_training=distinct,
        notes=notes,
        deep_images=len(deep),
        levels=levels,
    )


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _aspect(one: ImageInfo) -> str:
    ratio = one.width / one.height
    return "tall" if ratio < 0.9 else "wide" if ratio > 1.1 else "square"


def _class_counts(labels: np.ndarray | None, classes: Sequence[str]) -> dict[str, int]:
    if labels is None:
        return {}
    counts = np.bincount(labels[labels != NO_CLASS], minlength=len(classes)).tolist()
    return {
        classes[i] if i < len(classes) else str(i): count for i, count in enumerate(counts) if count
    }


_SIZES = (16, 32, 64)
"""Sizes to begin with: larger ones take days on a processor."""
_MOST = 9, 10
"""The share of images that "most" means."""
_ALIKE = 1.1
"""Aspect ratios that differ by less are taken for the same."""
_LONG = 2.0
"""Of an image this much longer than wide, a cut square shows less than half."""
_STEP = 8
"""Heights and widths are multiples of this, for nets that halve them."""


@dataclass(frozen=True)
class Suggestion:
    """Flags for `advnets train`."""

    size: int
    width: int
    channels: Literal[1, 3]
    crop: Literal["center", "pad"]
    why: str
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


def suggestion(sizes: Sequence[tuple[int, int]], colored: int) -> Suggestion | None:
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
    if len(set(sizes)) == 1 and max(sizes[0]) <= max(_SIZES):
        width, height = sizes[0]
        why = f"all are {width} x {height} and {words}"
        return Suggestion(height, width, channels, "center", why)
    shorter = np.sort(np.minimum(widths, heights))
    nine_in_ten = int(shorter[len(shorter) // 10])
    size = max((size for size in _SIZES if size <= nine_in_ten), default=min(_SIZES))
    ratios = widths / heights
    usual = float(np.median(ratios))
    alike = (ratios < usual * _ALIKE) & (ratios > usual / _ALIKE)
    why = f"nine in ten are at least {nine_in_ten} on their shorter side, {words}"
    if alike.sum() * _MOST[1] >= len(sizes) * _MOST[0]:
        long = max(_STEP, round(size * max(usual, 1 / usual) / _STEP) * _STEP)
        height, width = (size, long) if usual >= 1 else (long, size)
        return Suggestion(height, width, channels, "center", f"{why}, of one shape")
    long_ones = np.median(np.maximum(ratios, 1 / ratios)) > _LONG
    return Suggestion(
        size, size, channels, "pad" if long_ones else "center", f"{why}, of mixed shapes"
    )
