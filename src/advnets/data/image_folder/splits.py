"""Which split an image belongs to, and in what order a split is kept."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int64

from advnets.errors import printable

SPLITS = ("train", "valid", "test", "unlabeled")
ASSIGNMENT_VERSION = 3
"""The version of how images are placed and dealt: a pack made by another one is made anew."""
_TRAIN, _VALID, _TEST, _UNLABELED = range(len(SPLITS))
_MIN_IMAGES_TO_HOLD_OUT = 50
"""Images of which a tenth each may be spared for validation and test."""


@dataclass(frozen=True, eq=False)
class SplitAssignment:
    """The order in which images are kept, by their numbers, and the split of each in it.

    `labels` are the classes in that order, -1 for none, or None where no image has one.
    `left_out` has the reasons, by number, why some are in no split. `crossing` counts the copies
    that would lie in another split than their originals if each were dealt by itself.
    """

    order: Int64[np.ndarray, " kept"]
    splits: Int64[np.ndarray, " kept"]
    labels: Int64[np.ndarray, " kept"] | None
    excluded: dict[int, str]
    cross_split_duplicates: int

    @property
    def counts(self) -> tuple[int, ...]:
        """Return the number of images in each split."""
        return tuple(np.bincount(self.splits, minlength=len(SPLITS)).tolist())


def assign_splits(
    keys: Sequence[bytes], declared: DeclaredSplits, digests: Sequence[bytes] = ()
) -> SplitAssignment:
    """Deal images to splits, given their names, their placing and digests of their contents.

    Within a split they lie in the order of a hash of their names: as good as shuffled, and a
    image stays where it is as the set grows. Where no validation or test split is named and the
    training images are 50 or more, those whose hash ends in 8 or 9 (about a tenth each) become
    it. Copies are dealt by the first of their names; where they are in several named splits, test
    keeps its own, then validation, and the others are left out.
    """
    excluded = dict(declared.excluded)
    split_index = np.array([SPLITS.index(split or "train") for split in declared.splits], np.int64)
    hashes = np.array([_name_hash(key) for key in keys], np.uint64)
    duplicates = _duplicate_groups(keys, digests, excluded)
    cross_split_duplicates = 0
    for group in duplicates:
        for first in [i for split in (_TEST, _VALID) for i in group if split_index[i] == split][:1]:
            reason = f"is a copy of {display_name(keys[first])}, which is held out"
            others = {i: reason for i in group if split_index[i] != split_index[first]}
            excluded |= others
            cross_split_duplicates += len(others)
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
    order = np.lexsort((hashes, split_index))
    order = order[included[order]]
    labels = None if declared.labels is None else np.array(declared.labels, np.int64)[order]
    return SplitAssignment(order, split_index[order], labels, excluded, cross_split_duplicates)


def _duplicate_groups(
    keys: Sequence[bytes], digests: Sequence[bytes], excluded: dict[int, str]
) -> list[list[int]]:
    """Group the numbers of images of equal content, each group in the order of their names."""
    groups: dict[bytes, list[int]] = {}
    for number, content in enumerate(digests):
        if number not in excluded:
            groups.setdefault(content, []).append(number)
    return [sorted(group, key=keys.__getitem__) for group in groups.values() if len(group) > 1]


def _name_hash(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")


NO_CLASS = -1
"""The label of a file without a class, beside others that have one."""
FolderPath = tuple[str, ...]
"""The names of the folders that lead to a file, in NFC, outermost first."""

_SPELLINGS = {
    "train": "train|training",
    "valid": "valid|val|validation|dev|devel|development",
    "test": "test|testing",
    "unlabeled": "unlabell?ed|unsup|unsupervised|no[ _-]?labels?",
}
_NOUNS = "set|dataset|data|split|images?|imgs?|images|photos|files"
_SPLIT_NAMES = {
    split: re.compile(
        rf"(?:(?:{_NOUNS})[ _.-]?)?(?:{spelling})"
        rf"(?:[ _.-]?(?:{_NOUNS}))?(?:[ _.-]?\d{{1,4}})?(?:[ _-]?(?-i:(?P<domain>[AB])))?",
        re.IGNORECASE,
    )
    for split, spelling in _SPELLINGS.items()
}
"""Names such as Train, val2017, test_images, training-set and, of two domains, trainA."""
_SEPARATORS = re.compile(r"([ _.()\[\]-]+)")
_SPLIT_WORDS = {
    split: re.compile(rf"(?:{spelling})\d{{0,4}}", re.IGNORECASE)
    for split, spelling in _SPELLINGS.items()
}
"""Words of names such as seg_train, cars_test and DIV2K_valid_HR."""
_HELD_OUT = ("valid", "test")
_NOT_IN_SPLIT = "lies outside the folders of the splits; move it into one of them to use it"
_NOT_IN_CLASS = "lies in no folder of a class, as others do; move it into one to use it"


@dataclass(frozen=True)
class DeclaredSplits:
    """The split ("" where none is named) and the class (NO_CLASS for none) of each file.

    `labels` is None where no training file has a class. `outside` has the reasons, by the numbers
    of files, why some are not used; `notes` are sentences about how the folders were read.
    """

    splits: tuple[str, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...]
    excluded: Mapping[int, str] = field(default_factory=dict[int, str])
    notes: tuple[str, ...] = ()

    def subset(self, indices: Sequence[int]) -> DeclaredSplits:
        """Return the placing of some of the files."""
        new = {number: i for i, number in enumerate(indices)}
        return replace(
            self,
            splits=tuple([self.splits[number] for number in indices]),
            labels=self.labels and tuple([self.labels[number] for number in indices]),
            outside={new[i]: why for i, why in self.excluded.items() if i in new},
        )


@dataclass(frozen=True)
class _SplitPath:
    """The split of a folder (None for none), and the folders above and below that of the split."""

    split: str | None
    above: FolderPath
    below: FolderPath


def splits_from_folders(keys: Sequence[bytes]) -> DeclaredSplits:
    """Read splits and classes from names such as train/cat/1.png, cat/1.png or 1.png.

    A folder named after a split (train, val, test, unlabeled, and other spellings of them) is that
    split at any depth, as is one with that word in its name (seg_train) beside a folder of another
    split (seg_test); without one for training, files outside the others are. Classes are the
    folders in which the training files lie, below the split or above it, where at least two thirds
    of the files lie in two folders or more; a single folder around them is seen through.
    Validation and test files have classes where at least half of them lie in the folders of the
    training classes. Files that do not follow where the others do are in `outside`.
    """
    folders = [_folder_of(key) for key in keys]
    counts = Counter(folders)
    named = _find_split_folders(counts)
    train_classes = _drop_false_splits(named, counts)
    split_paths = {folder: _split_path(folder, named) for folder in counts}
    known = {place.split for place in split_paths.values()}
    default_split = None if "train" in known else ""  # the split of files outside of all splits
    splits = {
        folder: default_split if place.split is None else place.split
        for folder, place in split_paths.items()
    }
    classes, note = _infer_classes(counts, split_paths, splits)
    numbers = {name: i for i, name in enumerate(sorted(set(classes.values()), key=_encode_name))}
    labeled = {splits[folder] for folder in classes}
    excluded: dict[int, str] = {}
    for i, folder in enumerate(folders):
        if splits[folder] is None:
            excluded[i] = _NOT_IN_SPLIT
        elif splits[folder] in labeled and folder not in classes:
            excluded[i] = _NOT_IN_CLASS
    labels = [numbers[classes[folder]] if folder in classes else NO_CLASS for folder in folders]
    notes = [
        f"the folder {_display('/'.join(one))} is read as a class" for one in sorted(train_classes)
    ]
    return DeclaredSplits(
        tuple([splits[folder] or "" for folder in folders]),
        tuple(labels) if numbers else None,
        tuple([_display(name) for name in numbers]),
        excluded,
        tuple(notes + note),
    )


def split_of(name: str) -> str | None:
    """Return the split that a folder or part of that name holds: one of four, or None."""
    found = _parse_split_name(name)
    return None if found is None else found[0]


def _parse_split_name(name: str) -> tuple[str, FolderPath] | None:
    """Return the split of a name, and the domain in it (the A of trainA) as a folder."""
    for split, pattern in _SPLIT_NAMES.items():
        if match := pattern.fullmatch(name):
            return split, (match["domain"],) if match["domain"] else ()
    return None


def _find_split_folders(counts: Collection[FolderPath]) -> dict[FolderPath, tuple[str, FolderPath]]:
    """Return the split, and the domain as a folder, of each folder whose name holds a split.

    One word of a longer name counts where a folder beside it has another split in the same place
    (seg_train and seg_test), or where all folders beside it are of splits (my_train and test).
    """
    named: dict[FolderPath, tuple[str, FolderPath]] = {}
    for parent, names in _subfolders(counts).items():
        plain = {name: found for name in names if (found := _parse_split_name(name))}
        longer = {
            name: found for name in names - plain.keys() if (found := _parse_split_word(name))
        }
        named |= {(*parent, name): found for name, found in plain.items()}
        for name, (split, place) in longer.items():
            beside = {other for other, its_place in longer.values() if its_place == place}
            if len(plain) + len(longer) == len(names):
                beside |= {other for other, _ in plain.values()}
            if beside - {split}:
                # Names such as cat_train, cat_test, dog_train and dog_test have their classes.
                of_class = len({place for _, place in longer.values()}) > 1 and not plain
                around = "".join(place).strip(" _.-()[]")
                named[*parent, name] = split, (around,) if of_class and around else ()
    return named


def _parse_split_word(name: str) -> tuple[str, FolderPath] | None:
    """Return the split that one word of a name holds, and the words around it."""
    words = _SEPARATORS.split(name)
    found = [
        (split, (*words[:i], "", *words[i + 1 :]))
        for i, word in enumerate(words)
        for split, pattern in _SPLIT_WORDS.items()
        if pattern.fullmatch(word)
    ]
    return found[0] if len(found) == 1 else None


def _subfolders(folders: Collection[FolderPath]) -> dict[FolderPath, set[str]]:
    """Return the names of the folders within each folder."""
    inner: dict[FolderPath, set[str]] = defaultdict(set)
    for folder in folders:
        for i in range(len(folder)):
            inner[folder[:i]].add(folder[i])
    return inner


def _split_path(
    folder: FolderPath, named: Mapping[FolderPath, tuple[str, FolderPath]]
) -> _SplitPath:
    """Find the outermost folder of a split; within training, an unlabeled part is one of its own.

    Training, validation and test come before unlabeled, wherever they stand.
    """
    found = [(i, *named[folder[: i + 1]]) for i in range(len(folder)) if folder[: i + 1] in named]
    if not found:
        return _SplitPath(None, (), folder)
    i, split, domain = next((one for one in found if one[1] != "unlabeled"), found[0])
    if split == "train" and any(other == "unlabeled" for _, other, _ in found):
        split = "unlabeled"
    return _SplitPath(split, folder[:i], (*domain, *folder[i + 1 :]))


def _drop_false_splits(
    named: dict[FolderPath, tuple[str, FolderPath]], counts: Mapping[FolderPath, int]
) -> set[FolderPath]:
    """Leave out folders that have the name of a split and are none; return those that are classes.

    A folder that holds nothing but folders of two splits or more is around others. A class (the
    vehicle) is called train, holds files alone, is beside others that are in no split, and there
    are no fewer files outside of all splits.
    """
    subfolders = _subfolders(counts)

    def within(folder: FolderPath) -> set[str | None]:
        return {named.get((*folder, name), (None, ()))[0] for name in subfolders[folder]}

    containers = {
        folder
        for folder in named
        if folder in subfolders
        and folder not in counts
        and len(kinds := within(folder)) > 1
        and None not in kinds
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
        and within(folder[:-1]) <= {"train", None}
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
    """Return the class of each folder that has one, and a sentence where there might be some."""

    def of(names: Collection[str]) -> list[FolderPath]:
        return [folder for folder in counts if splits[folder] in names]

    def below(folders: Sequence[FolderPath], known: Collection[str] = ()) -> dict[FolderPath, str]:
        return _class_folders(
            {one: (split_paths[one].below, counts[one]) for one in folders}, known
        )

    def above(folders: Sequence[FolderPath], known: Collection[str] = ()) -> dict[FolderPath, str]:
        return _class_folders(
            {one: (split_paths[one].above, counts[one]) for one in folders}, known
        )

    training = of(("train", ""))
    above_classes, below_classes = above(training), below(training)
    classes = (
        below_classes
        if not above_classes or _classes_repeat(above_classes, below_classes)
        else above_classes
    )
    known = set(classes.values())
    notes: list[str] = []
    for split in _HELD_OUT if known else ():
        held_out = of((split,))
        total = sum(counts[one] for one in held_out)
        candidates = (below(held_out, known), above(held_out, known))
        fitting = [
            found
            for found in candidates
            if total <= 2 * sum(counts[one] for one in held_out if found.get(one) in known)
        ]
        if fitting:
            classes |= fitting[0]
        elif (
            others := {split_paths[one].below[0] for one in held_out if split_paths[one].below}
            - known
        ):
            notes.append(
                f"the {split} images have no classes, as most of them lie in folders that are not "
                f"classes of the training images ({', '.join(map(_display, sorted(others)[:3]))})"
            )
    if classes or len({split_paths[one].below[:1] for one in training} - {()}) < 2:
        return classes, notes
    num_outside = sum(counts[one] for one in training if not split_paths[one].below)
    total = sum(counts[one] for one in training)
    return {}, [
        f"no classes are read, as {num_outside:,} of {total:,} training files lie in no folder of their "
        f"own; move them into folders of classes to have labels"
    ]


def _classes_repeat(above: Mapping[FolderPath, str], below: Mapping[FolderPath, str]) -> bool:
    """Say whether the folders below a split are the classes, where there are some above it too.

    They are where those above it, such as sources, have two or more each, and share two or more;
    folders above it, such as cat/train/images, are the classes otherwise.
    """
    pairs = {(above[folder], below[folder]) for folder in above.keys() & below.keys()}
    counts = Counter(name for _, name in pairs)
    shared = sum(n > 1 for n in counts.values())
    return shared > 1 and len(pairs) >= 2 * len(set(above.values()))


def _class_folders(
    folders: Mapping[FolderPath, tuple[FolderPath, int]], known: Collection[str]
) -> dict[FolderPath, str]:
    """Return the class of each of some folders, given its relevant part and its number of files.

    Empty where more than a third of the files lie beside the folders of classes, or where there
    are fewer than two of these and none is known.
    """
    remaining = {key: rest for key, (rest, _) in folders.items()}
    while True:
        inside: Counter[str] = Counter()
        for key, rest in remaining.items():
            if rest:
                inside[rest[0]] += folders[key][1]
        num_outside = sum(folders[key][1] for key, rest in remaining.items() if not rest)
        if not inside or 2 * num_outside > inside.total():
            return {}
        if len(inside) > 1 or not inside.keys().isdisjoint(known):
            return {key: rest[0] for key, rest in remaining.items() if rest}
        remaining = {key: rest[1:] for key, rest in remaining.items() if rest}


def _folder_of(key: bytes) -> FolderPath:
    text = key.decode("utf-8", "surrogateescape")
    return tuple(unicodedata.normalize("NFC", text).split("/")[:-1])


def _encode_name(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _display(name: str) -> str:
    return _encode_name(name).decode("utf-8", "backslashreplace")


def display_name(key: bytes) -> str:
    """Return a file's name as one line of printable text; not all names are Unicode."""
    return printable(key.decode("utf-8", "backslashreplace"))
