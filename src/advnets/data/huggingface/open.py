"""A Hugging Face data set opened: packed like own images, or streamed.

What lies on this machine is unpacked below advnets' cache, in the folder datasets; what comes by a
name of the hub lies in the library's own cache, where other programs find it too.
"""

from __future__ import annotations

import glob
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from advnets.config import Data
from advnets.data.dataset import ArraySplit, Dataset
from advnets.data.huggingface.columns import Columns, Hub, find_columns, select_columns
from advnets.data.huggingface.library import (
    datasets_module,
    errors_as_data_errors,
    warnings_ignored,
)
from advnets.data.huggingface.shards import (
    count_rows,
    find_broken_shard,
    find_shards,
    fingerprint,
    is_hub_path,
    is_saved,
    shard_format,
    size_fingerprint,
)
from advnets.data.huggingface.stream import HubStream
from advnets.data.huggingface.table import collect_rows
from advnets.data.image_folder.decode import Frame
from advnets.data.image_folder.files import ImageFiles
from advnets.data.image_folder.pack import to_dataset
from advnets.data.image_folder.splits import split_of
from advnets.data.spec import cache_directory
from advnets.errors import DataError, UnknownNameError, UsageError, printable

__all__ = ["Hub", "find_hub_name", "find_hub_path", "is_hub_path", "open_huggingface_dataset"]

MAX_HELD_OUT = 10_000
"""Images of a streamed set's validation and test splits that are kept."""
_NUM_SHARDS = 64
"""Into which a table is cut that is streamed; their order is part of the shuffle."""
_ADVICE = "see that its files are whole and all of one layout"
_Split = tuple[str, str, Any]
"""A split's own name, ours ("" where it is yet to be dealt), and its rows."""


@dataclass(frozen=True)
class _HubDataset:
    """A set, found at a place: its splits, their rows where known, its files on this machine."""

    name: str
    location: str
    splits: Mapping[str, Any]
    rows: Mapping[str, int] = field(default_factory=dict[str, int])
    files: tuple[Path, ...] = ()
    root: Path = Path()
    roots: tuple[Path, ...] | None = None
    """Folders in which files lie that rows may name; None: a program made the set, and says."""


def find_hub_path(path: Path, options: Hub, data: Data) -> Dataset | ImageFiles:
    """Find a Parquet or tar file, a folder of such, or one of `save_to_disk`.

    Which split a shard belongs to is told by its name or folder, as the library has it.

    Raises:
        DataError: a file is broken, or there is no column of images; the message names it.
        UsageError: an option does not fit, or names what is not there.
        MissingExtraError: the library is not installed.
    """
    if options.revision or (options.config and (path.is_file() or is_saved(path))):
        asked = f"revision={options.revision}" if options.revision else f"config={options.config}"
        raise UsageError(f"{path} has nothing that {asked} could choose; leave it out")
    if is_saved(path):
        with (
            errors_as_data_errors(str(path), "save the set again with save_to_disk"),
            warnings_ignored(),
        ):
            splits = _by_name(datasets_module().load_from_disk(str(path)))
        files = tuple(sorted(path.rglob("*.arrow")))
        name, place = path.resolve().name, str(path.resolve())
        return _select_splits(
            _HubDataset(name, place, splits, {}, files, path, _roots(path)), options, data
        )
    return _select_splits(_open_shards(path, options, data.stream), options, data)


def find_hub_name(name: str, options: Hub, data: Data) -> Dataset | ImageFiles:
    """Find a set by its name on the Hugging Face hub, such as uoft-cs/cifar10.

    Raises:
        DataError: it cannot be reached or read, or has no column of images.
        UsageError: an option names what is not there.
        MissingExtraError: the library is not installed.
    """
    advice = (
        "see that name, config and revision are right and that the hub can be reached, or give a "
        "folder with its Parquet files"
    )
    datasets, location = datasets_module(), f"hf:{name}"
    with errors_as_data_errors(location, advice), warnings_ignored():
        builder = datasets.load_dataset_builder(
            name, options.config or None, revision=options.revision or None
        )
        declared = builder.info.splits or {}
        rows = {split: int(declared[split].num_examples) for split in declared}
        splits = _load_splits(builder, data.stream)
    return _select_splits(_HubDataset(name, location, splits, rows, roots=_roots()), options, data)


def open_huggingface_dataset(dataset: Any, data: Data, options: Hub | None = None) -> Dataset:
    """Open a set that a program already has: one of the library's, or a dict of such by split.

    Raises:
        DataError: it has no column of images, or no rows.
        UsageError: it is no set of the library's, or can be streamed only.
    """
    datasets = datasets_module()
    splits = _by_name(dataset)
    for split in splits.values():
        if not isinstance(split, datasets.Dataset | datasets.IterableDataset):
            raise UsageError(
                f"a {type(split).__name__} came as a data set; give a datasets.Dataset, an "
                f"IterableDataset, or a dict of such by split"
            )
        if isinstance(split, datasets.IterableDataset) and not data.stream:
            raise UsageError("an IterableDataset cannot be packed; say stream=True to stream it")
    info = next(iter(splits.values())).info if splits else None
    name = str(getattr(info, "dataset_name", None) or "dataset")
    return to_dataset(
        _select_splits(_HubDataset(name, f"the set {name}", splits), options or Hub(), data), data
    )


def _open_shards(path: Path, options: Hub, stream: bool) -> _HubDataset:
    """The set that shards are, its files looked at before the library sees them."""
    datasets, root = datasets_module(), path if path.is_dir() else path.parent
    files = find_shards(path) if path.is_dir() else (path,)
    kind = shard_format(files, root)
    rows = {file.resolve(): count_rows(file) for file in files}
    if not any(count is None or count for count in rows.values()):
        raise DataError(f"{path} holds no rows; give a set with at least one image")
    cache = str(cache_directory() / "datasets")
    with (
        errors_as_data_errors(str(path), _ADVICE, partial(find_broken_shard, files)),
        warnings_ignored(),
    ):
        if path.is_dir():
            if glob.has_magic(str(path.resolve())):
                raise UsageError(
                    f"{path} has one of the characters * ? [ in its path, which the library takes "
                    f"for a pattern; rename the folder"
                )
            builder = datasets.load_dataset_builder(
                str(path), options.config or None, cache_dir=cache
            )
        else:
            pattern = glob.escape(str(path.resolve()))
            builder = datasets.load_dataset_builder(kind, data_files=pattern, cache_dir=cache)
        splits = _load_splits(builder, stream)
    lengths: dict[str, int] = {}
    for split, members in dict(builder.config.data_files or {}).items():
        counts = [rows.get(Path(member).resolve()) for member in members]
        if None not in counts:
            lengths[str(split)] = sum(count or 0 for count in counts)
    name = path.resolve().name if path.is_dir() else path.stem
    return _HubDataset(name, str(path.resolve()), splits, lengths, files, root, _roots(root))


def _roots(*own: Path) -> tuple[Path, ...]:
    """Return a set's own folders and those into which the library unpacks archives."""
    config = datasets_module().config
    caches = (config.HF_CACHE_HOME, config.HF_DATASETS_CACHE, cache_directory())
    return (*own, *map(Path, caches))


def _load_splits(builder: Any, stream: bool) -> dict[str, Any]:
    if stream:
        return _by_name(builder.as_streaming_dataset())
    builder.download_and_prepare()
    return _by_name(builder.as_dataset())


def _by_name(dataset: Any) -> dict[str, Any]:
    if isinstance(dataset, dict):
        return {str(name): split for name, split in dataset.items()}
    return {"train": dataset}


def _select_splits(source: _HubDataset, options: Hub, data: Data) -> Dataset | ImageFiles:
    datasets_module()  # before warnings are hushed, as what it silences is to stay silent
    splits = _choose_splits(source.splits, options.split, source.location)
    frame = Frame.from_config(data)
    train = next(split for _, our, split in splits if our in ("", "train"))
    diagnose = partial(find_broken_shard, source.files)
    roots = None if data.follow_links else source.roots
    followed = " follow_links" if data.follow_links else ""
    with errors_as_data_errors(source.location, _ADVICE, diagnose), warnings_ignored():
        # The names of a stream's classes would be known at its end alone.
        text = not data.stream
        columns = find_columns(train, options, frame, source.location, text=text, roots=roots)
        selected = [
            (name, our, select_columns(split, columns, source.location))
            for name, our, split in splits
        ]
        if data.stream:
            return _open_stream(source, selected, columns, frame, f"{options}{followed}")
        fingerprint_text = "".join(str(split._fingerprint) for _, _, split in splits)
        if source.files:  # of which the fingerprint need not tell what is in them
            fingerprint_text = fingerprint(source.files, source.root)
        return collect_rows(
            *(
                selected,
                columns,
                source.name,
                source.location,
                f"{fingerprint_text} {options}{followed}",
            ),
            label_requested=bool(options.label),
        )


def _open_stream(
    source: _HubDataset, splits: Sequence[_Split], columns: Columns, frame: Frame, options_text: str
) -> Dataset:
    """The training split as a stream; of the others, the first images in memory."""
    held_out: dict[str, ArraySplit] = {}
    train: HubStream | None = None
    for name, our, dataset in splits:
        length = source.rows.get(name)
        fingerprint_text = (
            size_fingerprint(source.files, source.root) if source.files else source.name
        )
        if hasattr(dataset, "to_iterable_dataset"):  # a table, whose rows are all at hand
            length = len(dataset)
            dataset = dataset.to_iterable_dataset(num_shards=max(1, min(length, _NUM_SHARDS)))
        stream = HubStream(
            *(
                dataset,
                columns,
                frame,
                source.location,
                f"{fingerprint_text} {name} {options_text}",
                length,
            ),
            diagnose=partial(find_broken_shard, source.files),
        )
        if our in ("", "train"):
            train = train or stream
        elif our == "unlabeled":
            logging.getLogger("advnets").warning(
                "%s: the split %s is not used, as a stream has no unlabeled part", source.name, name
            )
        elif our not in held_out and length != 0:
            held_out[our] = stream.head(MAX_HELD_OUT)
    assert train is not None  # as _chosen has it
    train.head(1)  # a stream without an image is refused here and not in the middle of a run
    return Dataset(
        name=source.name,
        train=train,
        valid=held_out.get("valid"),
        test=held_out.get("test"),
        classes=columns.classes,
    )


def _choose_splits(splits: Mapping[str, Any], requested: str, name: str) -> list[_Split]:
    """The splits that are used. One alone is dealt; of several one must be for training.

    Raises:
        UnknownNameError: the split that is asked for is not there.
        DataError: none is for training.
    """
    if requested and requested not in splits:
        raise UnknownNameError(f"split of {name}", requested, splits)
    if requested or len(splits) == 1:
        name = requested or next(iter(splits))
        return [(name, "", splits[name])]
    roles = {name: split_of(name) for name in splits}
    if "train" not in roles.values():
        raise DataError(
            f"{name} has no split for training, only {', '.join(splits) or 'none at all'}; "
            f"name one with split=NAME"
        )
    if others := [name for name, our in roles.items() if our is None]:
        logging.getLogger("advnets").warning(
            "%s: the splits %s are neither for training, validation nor test, and are left out; "
            "to train on one, name it with split=NAME",
            *(printable(name), printable(", ".join(others))),
        )
    return [(name, our, splits[name]) for name, our in roles.items() if our is not None]
