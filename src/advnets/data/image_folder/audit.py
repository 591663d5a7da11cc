"""An audit of image files or of a dataset, before training, and its search for duplicates.

Exact duplicates have equal digests. Near duplicates are found by thumbnails (dHash and correlation)
or by the codes of an autoencoder: Radford et al. 2015, section 4.1, a 3072-128-3072 denoising
autoencoder with rectifiers and dropout, trained on 32 x 32 center crops of the data; the bits
of a code are 1 for those of its 128 units that are active. In the paper duplicates have equal
codes; here some bits may differ, as they do for a re-encoded copy. Hashes and codes are compared
within bands, in time about proportional to the number of images.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8, UInt64
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from advnets.data.dataset import Dataset, Split
from advnets.data.image_folder.decode import Frame, ImageInfo, to_pil_image
from advnets.data.image_folder.files import ImageFiles
from advnets.data.image_folder.splits import (
    NO_CLASS,
    SPLITS,
    assign_splits,
    display_name,
    group_equal,
)
from advnets.data.image_folder.workers import (
    THUMBNAIL_SHAPE,
    DecodeImage,
    InspectedImage,
    InspectImage,
    process_files,
    summarize_image,
)

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
    inspected, reasons = process_files(
        files, InspectImage(white_level), f"reading {files.name}", progress
    )
    unreadable = {file.name: file.reason for file in files.skipped_files}
    unreadable |= {display_name(files.keys[i]): reason for i, reason in reasons.items()}
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
    exact_groups = group_equal(image.digest for image in images)
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


# Suggested flags.

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


# Duplicates.

_BITS = 64
_BANDS = 4
_MAX_HASH_DISTANCE = 16
"""The largest Hamming distance of two hashes of near duplicates; a band must be equal."""
_MAX_MEAN_DIFFERENCE = 10.0
"""The largest mean difference of two thumbnails of near duplicates, in levels of 255."""
_MIN_CORRELATION = 0.94
"""The smallest correlation of such thumbnails, needed to distinguish line drawings."""
_NEIGHBORS = 32
"""The number of neighbors, in sorted order, that each hash or code is compared with."""


def group_near_duplicates(thumbnails: UInt8[np.ndarray, "n 16 18"]) -> list[list[int]]:
    """Return the indices of near duplicates, grouped: images of another size, format or quality.

    Two images are near duplicates if a quarter of the 64 signs of their horizontal gradients
    (dHash) is equal and at most 16 differ, and their thumbnails differ by at most 10 of 255 levels
    on average and have a correlation of at least 0.94. Within an equal quarter each image is
    compared with the next 32 in order of hash and brightness, so that some pairs among very many
    similar images may be missed.
    """
    n = len(thumbnails)
    flat = thumbnails.reshape(n, thumbnails[0].size if n else 0)
    hashes, means = dhash(thumbnails), flat.mean(1) if n else np.empty(0)
    group = np.arange(n)
    for band in range(_BANDS):
        width = np.uint64(_BITS // _BANDS)
        key = (hashes >> (np.uint64(band) * width)) & ((np.uint64(1) << width) - np.uint64(1))
        order = np.lexsort((means, hashes, key))
        for shift in range(1, min(_NEIGHBORS, n - 1) + 1):
            first, second = order[:-shift], order[shift:]
            near = key[first] == key[second]
            near &= group[first] != group[second]
            near[near] = _are_near_duplicates(hashes, flat, first[near], second[near])
            group = merge_groups(group, first[near], second[near])
    return group_equal(group.tolist())


def dhash(thumbnails: UInt8[np.ndarray, "n 16 18"]) -> UInt64[np.ndarray, " n"]:
    """Return the signs of the horizontal gradients of 8 x 9 cells, one bit each (dHash)."""
    cells = thumbnails.reshape(-1, 8, 2, 9, 2).sum((2, 4), dtype=np.int64)
    bits = np.packbits((cells[:, :, 1:] > cells[:, :, :-1]).reshape(-1, _BITS), axis=1)
    return np.ascontiguousarray(bits).view(np.uint64).reshape(-1)


def _are_near_duplicates(
    hashes: np.ndarray, flat: np.ndarray, first: np.ndarray, second: np.ndarray
) -> Bool[np.ndarray, " pairs"]:
    is_similar = np.bitwise_count(hashes[first] ^ hashes[second]) <= _MAX_HASH_DISTANCE
    first_thumbnails, second_thumbnails = (
        flat[indices[is_similar]].astype(np.float32) for indices in (first, second)
    )
    near = np.abs(first_thumbnails - second_thumbnails).mean(1) <= _MAX_MEAN_DIFFERENCE
    for thumbnails in (first_thumbnails, second_thumbnails):
        thumbnails -= thumbnails.mean(1, keepdims=True)
    scale = np.linalg.norm(first_thumbnails, axis=1) * np.linalg.norm(second_thumbnails, axis=1)
    is_similar[is_similar] = near & (
        (first_thumbnails * second_thumbnails).sum(1) >= _MIN_CORRELATION * scale
    )
    return is_similar


def merge_groups(
    group: Int64[np.ndarray, " n"], first: np.ndarray, second: np.ndarray
) -> Int64[np.ndarray, " n"]:
    """Merge the groups of each pair of images (union-find); a group is its lowest index."""
    for a, b in zip(group[first].tolist(), group[second].tolist(), strict=True):
        low, high = sorted((_root(group, a), _root(group, b)))
        group[high] = low
    while (group != group[group]).any():
        group = group[group]
    return group


def _root(group: np.ndarray, number: int) -> int:
    while group[number] != number:
        number = int(group[number])
    return number


SIDE, UNITS = 32, 128
STEPS, BATCH, LEARNING_RATE, DROPOUT = 2000, 256, 1e-3, 0.2
_CODES_BLOCK = 4096
MAX_CODE_DISTANCE = 12
"""The largest distance of two codes of near duplicates, in bits. Re-encoded copies differ in 2 or
3 bits, different images in 25 or more."""
_FRAME = Frame(SIDE, SIDE)


def group_by_codes(images: UInt8[np.ndarray, "n 3 32 32"], seed: int = 0) -> list[list[int]]:
    """Return the indices of images whose codes differ in at most 12 bits, grouped.

    Only codes with an equal band of 16 bits are compared, each with the next 32, so that some pairs
    among very many similar images may be missed.
    """
    n = len(images)
    if n < 2:
        return []
    packed = np.packbits(autoencoder_codes(images, seed), axis=1)
    words = np.ascontiguousarray(packed).view(np.uint64)
    group = np.arange(n)
    for key in np.ascontiguousarray(packed).view(np.uint16).T:
        order = np.lexsort((words[:, 1], words[:, 0], key))
        for shift in range(1, min(_NEIGHBORS, n - 1) + 1):
            first, second = order[:-shift], order[shift:]
            near = (key[first] == key[second]) & (group[first] != group[second])
            first, second = first[near], second[near]
            is_similar = np.bitwise_count(words[first] ^ words[second]).sum(1) <= MAX_CODE_DISTANCE
            group = merge_groups(group, first[is_similar], second[is_similar])
    return group_equal(group.tolist())


def autoencoder_codes(
    images: UInt8[np.ndarray, "n 3 32 32"], seed: int = 0
) -> Bool[np.ndarray, "n 128"]:
    """Return the codes of images: which of the autoencoder's units are active."""
    values = torch.from_numpy(images.reshape(len(images), -1))
    mean = values.float().mean(0) / 255
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encode = _train_encoder(values, mean)
    with torch.no_grad():
        bits = [encode(block.float() / 255 - mean) > 0 for block in values.split(_CODES_BLOCK)]
    return torch.cat(bits).numpy()


def _train_encoder(values: UInt8[Tensor, "n pixels"], mean: Float[Tensor, " pixels"]) -> nn.Linear:
    """Train a denoising autoencoder with dropout and return its encoder."""
    n, pixels = values.shape
    encode, decode = nn.Linear(pixels, UNITS), nn.Linear(UNITS, pixels)
    optimizer = torch.optim.Adam([*encode.parameters(), *decode.parameters()], lr=LEARNING_RATE)
    for _ in range(STEPS):
        x = values[torch.randint(n, (min(BATCH, n),))].float() / 255 - mean
        h = F.dropout(F.relu(encode(F.dropout(x, DROPOUT))), DROPOUT)
        loss = F.mse_loss(decode(h), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encode


def near_duplicate_files(files: ImageFiles, *, progress: bool | None = None) -> list[list[int]]:
    """Return the indices of near duplicates among files, grouped, by an autoencoder's codes."""
    decoded, _ = process_files(files, DecodeImage(_FRAME), f"reading {files.name}", progress)
    indices = sorted(decoded)
    images = np.frombuffer(bytearray().join([decoded[i] for i in indices]), np.uint8)
    groups = group_by_codes(images.reshape(-1, 3, SIDE, SIDE))
    return [[indices[i] for i in group] for group in groups]


def near_duplicate_rows(dataset: Dataset) -> list[list[str]]:
    """Return the near duplicates of a dataset of arrays, grouped, by names such as train/17."""
    names: list[str] = []
    images: list[np.ndarray] = []
    for name, split in (("train", dataset.train), ("valid", dataset.valid), ("test", dataset.test)):
        if not isinstance(split, Split):
            continue
        for start in range(0, len(split), _BLOCK):
            rows = split.read(slice(start, start + _BLOCK))
            names += [f"{name}/{start + i}" for i in range(len(rows))]
            images += [_resize_row(row, split.white_level) for row in rows]
    return [[names[i] for i in group] for group in group_by_codes(np.stack(images))]


def _resize_row(row: np.ndarray, white: int) -> np.ndarray:
    resized = to_pil_image(row, white).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(resized).transpose(2, 0, 1)


def group_names(files: ImageFiles, groups: list[list[int]]) -> list[list[str]]:
    """Return the names of grouped files."""
    return [[display_name(files.keys[number]) for number in group] for group in groups]


def remove_duplicates(files: ImageFiles, groups: list[list[int]]) -> ImageFiles:
    """Return the files without all but the first of each group of duplicates."""
    dropped = {number for group in groups for number in sorted(group)[1:]}
    kept = [number for number in range(len(files.keys)) if number not in dropped]
    declared = files.declared
    return replace(
        files,
        keys=tuple(files.keys[number] for number in kept),
        declared=declared and declared.subset(kept),
    )
