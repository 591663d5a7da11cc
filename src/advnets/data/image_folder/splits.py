"""Splits and classes of image files: as a dataset declares them, and as they are assigned.

A dataset declares splits and classes by the names of its folders (or, in a table, by a column).
The final assignment also holds out validation and test images where none are declared, keeps
duplicates of held-out images out of training, and fixes the order of the images.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int64

from advnets.errors import printable

SPLITS = ("train", "valid", "test", "unlabeled")
ASSIGNMENT_VERSION = 3
"""The version of the assignment rules; cached packs of another version are rebuilt."""
_TRAIN, _VALID, _TEST, _UNLABELED = range(len(SPLITS))
_MIN_IMAGES_TO_HOLD_OUT = 50
"""The number of training images from which a tenth each is held out for validation and test."""

NO_CLASS = -1
"""The label of a file without a class in a dataset where other files have one."""
FolderPath = tuple[str, ...]
"""The names of the folders that lead to a file, in NFC, outermost first."""

_SPELLINGS = {
    "train": "train|training",
    "valid": "valid|val|validation|dev|devel|development",
    "test": "test|testing",
    "unlabeled": "unlabell?ed|unsup|unsupervised|no[ _-]?labels?",
}
_NOUNS = "set|dataset|data|split|images?|imgs?|pictures|photos|files"
_SPLIT_NAMES = {
    split: re.compile(
        rf"(?:(?:{_NOUNS})[ _.-]?)?(?:{spelling})"
        rf"(?:[ _.-]?(?:{_NOUNS}))?(?:[ _.-]?\d{{1,4}})?(?:[ _-]?(?-i:(?P<domain>[AB])))?",
        re.IGNORECASE,
    )
    for split, spelling in _SPELLINGS.items()
}
"""Patterns of names such as Train, val2017, test_images, training-set, and trainA (a domain)."""
_SEPARATORS = re.compile(r"([ _.()\[\]-]+)")
_SPLIT_WORDS = {
    split: re.compile(rf"(?:{spelling})\d{{0,4}}", re.IGNORECASE)
    for split, spelling in _SPELLINGS.items()
}
"""Patterns of the words in names such as seg_train, cars_test and DIV2K_valid_HR."""
_HELD_OUT = ("valid", "test")
_NOT_IN_SPLIT = "is outside the folders of the splits; move it into one of them to use it"
_NOT_IN_CLASS = "is in no class folder, unlike other files of its split; move it into one to use it"


@dataclass(frozen=True)
class DeclaredSplits:
    """The split and the class of each file as the dataset declares them.

    `splits` has "" where none is declared, `labels` has NO_CLASS where a file has no class and is
    None where no training file has one. `excluded` maps indices of files that are not used to the
    reasons. `notes` are sentences for the user about how the folders were interpreted.
    """

    splits: tuple[str, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...]
    excluded: Mapping[int, str] = field(default_factory=dict[int, str])
    notes: tuple[str, ...] = ()

    def subset(self, indices: Sequence[int]) -> DeclaredSplits:
        """Return the declared splits of some of the files, in the order of `indices`."""
        new = {index: i for i, index in enumerate(indices)}
        return replace(
            self,
            splits=tuple([self.splits[index] for index in indices]),
            labels=self.labels and tuple([self.labels[index] for index in indices]),
            excluded={new[i]: reason for i, reason in self.excluded.items() if i in new},
        )


@dataclass(frozen=True, eq=False)
class SplitAssignment:
    """The order of the images in a pack, as indices of files, and the split of each.

    `labels` are the classes in that order (NO_CLASS for none), or None where no image has one.
    `excluded` maps the indices of images in no split to the reasons. `cross_split_duplicates`
    counts the duplicates that would be in another split than their originals if duplicates were
    not treated.
    """

    order: Int64[np.ndarray, " used"]
    splits: Int64[np.ndarray, " used"]
    labels: Int64[np.ndarray, " used"] | None
    excluded: dict[int, str]
    cross_split_duplicates: int

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of images in each split."""
        return tuple(np.bincount(self.splits, minlength=len(SPLITS)).tolist())


def assign_splits(
    keys: Sequence[bytes], declared: DeclaredSplits, digests: Sequence[bytes] = ()
) -> SplitAssignment:
    """Assign images to splits, given their names, declared splits and digests of their contents.

    Within a split the images are ordered by a hash of their names, which is as good as shuffled and
    leaves images in place as the data grow. Where no validation or test split is declared and there
    are at least 50 training images, those whose hash ends in 8 or 9 (about a tenth each) become it.
    Duplicates are assigned together, by the first of their names; if they are in several declared
    splits, the one in test is kept, else that in validation, and the others are excluded.
    """
    excluded = dict(declared.excluded)
    split_index = np.array([SPLITS.index(split or "train") for split in declared.splits], np.int64)
    hashes = np.array([_name_hash(key) for key in keys], np.uint64)
    candidates = [i for i in range(len(digests)) if i not in excluded]
    duplicates = [
        sorted((candidates[i] for i in group), key=keys.__getitem__)
        for group in group_equal(digests[i] for i in candidates)
    ]

    # Exclude duplicates of images that are declared as test or validation images.
    cross_split_duplicates = 0
    for group in duplicates:
        held_out = [i for split in (_TEST, _VALID) for i in group if split_index[i] == split]
        for first in held_out[:1]:
            reason = f"is a copy of {display_name(keys[first])}, which is held out"
            others = {i: reason for i in group if split_index[i] != split_index[first]}
            excluded |= others
            cross_split_duplicates += len(others)

    # Hold out a tenth each of the training images where validation or test images are missing.
    included = np.array([i not in excluded for i in range(len(keys))], bool)
    training = included & (split_index == _TRAIN)
    if training.sum() >= _MIN_IMAGES_TO_HOLD_OUT:
        by_name, by_content = hashes % np.uint64(10), hashes % np.uint64(10)
        for group in duplicates:
            by_content[group] = by_content[group[0]]
        split_by_name = split_index.copy()
        for split, digit in ((_VALID, 8), (_TEST, 9)):
            if not (included & (split_index == split)).any():
                split_by_name[training & (by_name == digit)] = split
                split_index[training & (by_content == digit)] = split
        cross_split_duplicates += int((split_by_name != split_index).sum())

    # Order the images by split, then by the hash of their names.
    order = np.lexsort((hashes, split_index))
    order = order[included[order]]
    labels = None if declared.labels is None else np.array(declared.labels, np.int64)[order]
    return SplitAssignment(order, split_index[order], labels, excluded, cross_split_duplicates)


def group_equal(digests: Iterable[Hashable]) -> list[list[int]]:
    """Return the indices of equal digests, grouped, where there are two or more."""
    groups: dict[Hashable, list[int]] = {}
    for index, digest in enumerate(digests):
        groups.setdefault(digest, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _name_hash(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")


@dataclass(frozen=True)
class _SplitPath:
    """The split of a folder (None for none), and the folders above and below the split's own."""

    split: str | None
    above: FolderPath
    below: FolderPath


def splits_from_folders(keys: Sequence[bytes]) -> DeclaredSplits:
    """Infer splits and classes from names such as train/cat/1.png, cat/1.png or 1.png.

    Splits: a folder named after a split (train, val, test, unlabeled, and other spellings of them)
    is that split at any depth, as is one with that word in its name (seg_train) next to a folder of
    another split (seg_test). Without a folder for training, files outside the others are for
    training.

    Classes: the folders of the training files, below the split or above it, where at least two
    thirds of the files are in two folders or more; a single folder around them is ignored.
    Validation and test files have classes where at least half of them are in the folders of the
    training classes. Files outside these folders are `excluded`.
    """
    # Find the folders of splits.
    folders = [_folder_of(key) for key in keys]
    counts = Counter(folders)
    named = _find_split_folders(counts)
    train_classes = _drop_false_splits(named, counts)
    split_paths = {folder: _split_path(folder, named) for folder in counts}
    known = {path.split for path in split_paths.values()}
    default_split = None if "train" in known else ""  # the split of files outside all splits
    splits = {
        folder: default_split if path.split is None else path.split
        for folder, path in split_paths.items()
    }

    # Number the classes in the order of their names.
    classes, note = _infer_classes(counts, split_paths, splits)
    numbers = {name: i for i, name in enumerate(sorted(set(classes.values()), key=_encode_name))}
    labels = [numbers[classes[folder]] if folder in classes else NO_CLASS for folder in folders]

    # Exclude files outside the folders of the splits or of the classes.
    labeled = {splits[folder] for folder in classes}
    excluded: dict[int, str] = {}
    for i, folder in enumerate(folders):
        if splits[folder] is None:
            excluded[i] = _NOT_IN_SPLIT
        elif splits[folder] in labeled and folder not in classes:
            excluded[i] = _NOT_IN_CLASS
    notes = [
        f"the folder {_display('/'.join(folder))} is read as a class"
        for folder in sorted(train_classes)
    ]
    return DeclaredSplits(
        tuple([splits[folder] or "" for folder in folders]),
        tuple(labels) if numbers else None,
        tuple([_display(name) for name in numbers]),
        excluded,
        tuple(notes + note),
    )


def split_of(name: str) -> str | None:
    """Return the split that a folder or a table of that name holds: one of four, or None."""
    parsed = _parse_split_name(name)
    return None if parsed is None else parsed[0]


def _parse_split_name(name: str) -> tuple[str, FolderPath] | None:
    """Return the split of a name, and the domain in it (the A of trainA) as a folder."""
    for split, pattern in _SPLIT_NAMES.items():
        if match := pattern.fullmatch(name):
            return split, (match["domain"],) if match["domain"] else ()
    return None


def _find_split_folders(counts: Collection[FolderPath]) -> dict[FolderPath, tuple[str, FolderPath]]:
    """Return the split, and the domain as a folder, of each folder that is named after a split.

    One word of a longer name counts where a sibling folder has another split at the same position
    (seg_train and seg_test), or where all siblings are folders of splits (my_train and test).
    """
    named: dict[FolderPath, tuple[str, FolderPath]] = {}
    for parent, names in _subfolders(counts).items():
        exact = {name: parsed for name in names if (parsed := _parse_split_name(name))}
        longer = {
            name: parsed for name in names - exact.keys() if (parsed := _parse_split_word(name))
        }
        named |= {(*parent, name): parsed for name, parsed in exact.items()}
        for name, (split, context) in longer.items():
            siblings = {
                other for other, other_context in longer.values() if other_context == context
            }
            if len(exact) + len(longer) == len(names):
                siblings |= {other for other, _ in exact.values()}
            if siblings - {split}:
                # Names such as cat_train, cat_test, dog_train and dog_test contain their classes.
                has_class = len({context for _, context in longer.values()}) > 1 and not exact
                rest = "".join(context).strip(" _.-()[]")
                named[*parent, name] = split, (rest,) if has_class and rest else ()
    return named


def _parse_split_word(name: str) -> tuple[str, FolderPath] | None:
    """Return the split that one word of a name holds, and the words around it."""
    words = _SEPARATORS.split(name)
    matches = [
        (split, (*words[:i], "", *words[i + 1 :]))
        for i, word in enumerate(words)
        for split, pattern in _SPLIT_WORDS.items()
        if pattern.fullmatch(word)
    ]
    return matches[0] if len(matches) == 1 else None


def _subfolders(folders: Collection[FolderPath]) -> dict[FolderPath, set[str]]:
    """Return the names of the folders within each folder."""
    subfolders: dict[FolderPath, set[str]] = defaultdict(set)
    for folder in folders:
        for i in range(len(folder)):
            subfolders[folder[:i]].add(folder[i])
    return subfolders


def _split_path(
    folder: FolderPath, named: Mapping[FolderPath, tuple[str, FolderPath]]
) -> _SplitPath:
    """Return the split of a folder by its outermost ancestor that is named after one.

    Training, validation and test take precedence over unlabeled at any depth; an unlabeled folder
    within the training split holds unlabeled images.
    """
    matches = [(i, *named[folder[: i + 1]]) for i in range(len(folder)) if folder[: i + 1] in named]
    if not matches:
        return _SplitPath(None, (), folder)
    i, split, domain = next((match for match in matches if match[1] != "unlabeled"), matches[0])
    if split == "train" and any(other == "unlabeled" for _, other, _ in matches):
        split = "unlabeled"
    return _SplitPath(split, folder[:i], (*domain, *folder[i + 1 :]))


def _drop_false_splits(
    named: dict[FolderPath, tuple[str, FolderPath]], counts: Mapping[FolderPath, int]
) -> set[FolderPath]:
    """Remove folders that are named like a split but are not one; return those that are classes.

    A folder that contains only folders of two or more splits is a container. A folder train is a
    class (the vehicle) if it contains only files, has siblings that are in no split, and at least
    as many files are outside all splits.
    """
    subfolders = _subfolders(counts)

    def splits_within(folder: FolderPath) -> set[str | None]:
        return {named.get((*folder, name), (None, ()))[0] for name in subfolders[folder]}

    containers = {
        folder
        for folder in named
        if folder in subfolders
        and folder not in counts
        and len(within := splits_within(folder)) > 1
        and None not in within
    }
    for folder in containers:
        del named[folder]
    num_unassigned = sum(
        n for folder, n in counts.items() if _split_path(folder, named).split is None
    )
    train_classes = {
        folder
        for folder, n in counts.items()
        if folder
        and folder[-1].casefold() == "train"
        and folder not in subfolders
        and num_unassigned >= n
        and (len(subfolders[folder[:-1]]) > 1 or folder[:-1] in counts)
        and splits_within(folder[:-1]) <= {"train", None}
        and _split_path(folder[:-1], named).split is None
    }
    for folder in train_classes:
        del named[folder]
    return train_classes


def _infer_classes(
    counts: Mapping[FolderPath, int],
    split_paths: Mapping[FolderPath, _SplitPath],
    splits: Mapping[FolderPath, str | None],
) -> tuple[dict[FolderPath, str], list[str]]:
    """Return the class of each folder that has one, and notes where classes are ambiguous."""

    def in_splits(names: Collection[str]) -> list[FolderPath]:
        return [folder for folder in counts if splits[folder] in names]

    def below(folders: Sequence[FolderPath], known: Collection[str] = ()) -> dict[FolderPath, str]:
        parts = {folder: (split_paths[folder].below, counts[folder]) for folder in folders}
        return _class_folders(parts, known)

    def above(folders: Sequence[FolderPath], known: Collection[str] = ()) -> dict[FolderPath, str]:
        parts = {folder: (split_paths[folder].above, counts[folder]) for folder in folders}
        return _class_folders(parts, known)

    # Classes of the training files.
    training = in_splits(("train", ""))
    above_classes, below_classes = above(training), below(training)
    use_below = not above_classes or _classes_repeat(above_classes, below_classes)
    classes = below_classes if use_below else above_classes
    known = set(classes.values())

    # Classes of validation and test files, where most are in the folders of the training classes.
    notes: list[str] = []
    for split in _HELD_OUT if known else ():
        held_out = in_splits((split,))
        total = sum(counts[folder] for folder in held_out)
        candidates = (below(held_out, known), above(held_out, known))
        fitting = [
            inferred
            for inferred in candidates
            if total
            <= 2 * sum(counts[folder] for folder in held_out if inferred.get(folder) in known)
        ]
        if fitting:
            classes |= fitting[0]
            continue
        others = {
            split_paths[folder].below[0] for folder in held_out if split_paths[folder].below
        } - known
        if others:
            notes.append(
                f"the {split} images have no classes, as most of them are in folders that are not "
                f"classes of the training images ({', '.join(map(_display, sorted(others)[:3]))})"
            )
    if classes or len({split_paths[folder].below[:1] for folder in training} - {()}) < 2:
        return classes, notes

    # Explain why several folders of training files are not classes.
    num_outside = sum(counts[folder] for folder in training if not split_paths[folder].below)
    total = sum(counts[folder] for folder in training)
    return {}, [
        f"no classes are read, as {num_outside:,} of {total:,} training files are in no folder of "
        f"their own; move them into class folders to have labels"
    ]


def _classes_repeat(above: Mapping[FolderPath, str], below: Mapping[FolderPath, str]) -> bool:
    """Return whether the classes are the folders below a split, where there are some above it too.

    This is so where each folder above it, such as a source, has on average two or more of them and
    two or more are shared; otherwise folders above it, such as cat/train/images, are the classes.
    """
    pairs = {(above[folder], below[folder]) for folder in above.keys() & below.keys()}
    counts = Counter(name for _, name in pairs)
    shared = sum(n > 1 for n in counts.values())
    return shared > 1 and len(pairs) >= 2 * len(set(above.values()))


def _class_folders(
    folders: Mapping[FolderPath, tuple[FolderPath, int]], known: Collection[str]
) -> dict[FolderPath, str]:
    """Return the class of each folder, given the part of its path that may hold it and its count.

    Empty where more than a third of the files are outside the class folders, or where there are
    fewer than two class folders and none is known.
    """
    remaining = {key: rest for key, (rest, _) in folders.items()}
    while True:
        counts: Counter[str] = Counter()
        for key, rest in remaining.items():
            if rest:
                counts[rest[0]] += folders[key][1]
        num_outside = sum(folders[key][1] for key, rest in remaining.items() if not rest)
        if not counts or 2 * num_outside > counts.total():
            return {}
        if len(counts) > 1 or not counts.keys().isdisjoint(known):
            return {key: rest[0] for key, rest in remaining.items() if rest}
        # Ignore a single folder around all others.
        remaining = {key: rest[1:] for key, rest in remaining.items() if rest}


def _folder_of(key: bytes) -> FolderPath:
    text = key.decode("utf-8", "surrogateescape")
    return tuple(unicodedata.normalize("NFC", text).split("/")[:-1])


def _encode_name(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _display(name: str) -> str:
    return _encode_name(name).decode("utf-8", "backslashreplace")


def display_name(key: bytes) -> str:
    """Return a file's name as one line of printable text; bytes that are not UTF-8 are escaped."""
    return printable(key.decode("utf-8", "backslashreplace"))
