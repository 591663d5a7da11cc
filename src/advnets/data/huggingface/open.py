"""Opening of Hugging Face datasets: packed like image files, or streamed.

Local files are unpacked below advnets' cache, in the folder datasets; datasets of the hub are
in the library's own cache, where other programs find them too.
"""

from __future__ import annotations

import glob
import logging
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from advnets.config import Data
from advnets.data.dataset import ArraySplit, Dataset
from advnets.data.huggingface.library import (
    convert_errors,
    datasets_module,
    describe_error,
    ignore_warnings,
)
from advnets.data.huggingface.stream import HubStream
from advnets.data.huggingface.table import Columns, Hub, collect_rows, find_columns, select_columns
from advnets.data.image_folder.decode import Frame, is_image_name
from advnets.data.image_folder.files import FileEntry, ImageFiles, fingerprint_of
from advnets.data.image_folder.pack import to_dataset
from advnets.data.image_folder.splits import split_of
from advnets.data.spec import cache_directory
from advnets.errors import DataError, UnknownNameError, UsageError, printable, require
from advnets.files import require_regular_file

MAX_HELD_OUT = 10_000
"""The largest number of validation and of test images of a stream that are kept in memory."""
_NUM_SHARDS = 64
"""The number of shards of a table that is streamed; shuffling permutes them."""
_ADVICE = "check that its files are complete and all of one layout"
_Split = tuple[str, str, Any]
"""The name of a split, its role ("" where it is to be assigned), and its rows."""


@dataclass(frozen=True)
class _HubDataset:
    """A dataset: its splits, their numbers of rows where known, and its local files."""

    name: str
    location: str
    splits: Mapping[str, Any]
    rows: Mapping[str, int] = field(default_factory=dict[str, int])
    files: tuple[Path, ...] = ()
    root: Path = Path()
    roots: tuple[Path, ...] | None = None
    """Folders that may contain the files that rows name; None: any, for datasets made in Python."""

    @property
    def from_python(self) -> bool:
        """Whether Python passed the dataset, which then has no options in its name."""
        return self.roots is None


def find_hub_path(path: Path, options: Hub, data: Data) -> Dataset | ImageFiles:
    """Find a Parquet or tar file, a folder of them, or a folder of `save_to_disk`.

    The library assigns shards to splits by their file or folder names.

    Raises:
        DataError: a file is broken, or there is no image column; the message names it.
        UsageError: an option does not apply, or names what does not exist.
        MissingExtraError: the library is not installed.
    """
    if options.revision or (options.config and (path.is_file() or is_saved_dataset(path))):
        name = "revision" if options.revision else "config"
        option = f"{name}={getattr(options, name)}"
        raise UsageError(f"{option} does not apply to {path}, which has no {name}s; remove it")
    if is_saved_dataset(path):
        with (
            convert_errors(str(path), "save the dataset again with save_to_disk"),
            ignore_warnings(),
        ):
            splits = _by_name(datasets_module().load_from_disk(str(path)))
        files = tuple(sorted(path.rglob("*.arrow")))
        name, location = path.resolve().name, str(path.resolve())
        return _select_splits(
            _HubDataset(name, location, splits, {}, files, path, _roots(path)), options, data
        )
    return _select_splits(_open_shards(path, options, data.stream), options, data)


def find_hub_name(name: str, options: Hub, data: Data) -> Dataset | ImageFiles:
    """Find a dataset of the Hugging Face hub by name, such as uoft-cs/cifar10.

    Raises:
        DataError: it cannot be downloaded or read, or has no image column.
        UsageError: an option names what does not exist.
        MissingExtraError: the library is not installed.
    """
    advice = (
        "check the name, config, revision and the connection to the hub, or give a folder with its "
        "Parquet files"
    )
    datasets, location = datasets_module(), f"hf:{name}"
    with convert_errors(location, advice), ignore_warnings():
        builder = datasets.load_dataset_builder(
            name, options.config or None, revision=options.revision or None
        )
        declared = builder.info.splits or {}
        rows = {split: int(declared[split].num_examples) for split in declared}
        splits = _load_splits(builder, data.stream)
    return _select_splits(_HubDataset(name, location, splits, rows, roots=_roots()), options, data)


def open_huggingface_dataset(dataset: Any, data: Data, options: Hub | None = None) -> Dataset:
    """Open a dataset of the `datasets` library, or a dict of them by split.

    An `IterableDataset`, or a dict with one, is streamed.

    Raises:
        DataError: it has no image column, or no rows.
        UsageError: it is not a dataset of the library.
    """
    datasets = datasets_module()
    splits = _by_name(dataset)
    for name, split in splits.items():
        if not isinstance(split, datasets.Dataset | datasets.IterableDataset):
            what = f"data[{name!r}]" if isinstance(dataset, dict) else "data"
            raise UsageError(
                f"{what} is of type {type(split).__name__}; give a datasets.Dataset, an "
                "IterableDataset, or a dict of them by split"
            )
        if isinstance(split, datasets.IterableDataset):
            data = replace(data, stream=True)  # it cannot be packed
        splits[name] = _without_format(split)
    info = next(iter(splits.values())).info if splits else None
    name = str(getattr(info, "dataset_name", None) or "dataset")
    return to_dataset(
        _select_splits(_HubDataset(name, f"the dataset {name}", splits), options or Hub(), data),
        data,
    )


def _without_format(split: Any) -> Any:
    """Return a dataset whose rows are Python objects, not tensors; a transform is kept."""
    kind = getattr(getattr(split, "_formatting", None), "format_type", None)  # of a stream
    if hasattr(split, "format"):
        kind = split.format["type"]
    return split if kind in (None, "custom") else split.with_format(None)


def _open_shards(path: Path, options: Hub, stream: bool) -> _HubDataset:
    """Check shards and open them as a dataset."""
    datasets, root = datasets_module(), path if path.is_dir() else path.parent
    files = find_shards(path) if path.is_dir() else (path,)
    kind = shard_format(files, root)
    rows = {file.resolve(): count_rows(file) for file in files}
    if not any(count is None or count for count in rows.values()):
        raise DataError(f"{path} has no rows; give a dataset with at least one image")
    cache = str(cache_directory() / "datasets")
    with (
        convert_errors(str(path), _ADVICE, partial(find_broken_shard, files)),
        ignore_warnings(),
    ):
        if path.is_dir():
            if glob.has_magic(str(path.resolve())):
                raise UsageError(
                    f"{path} has one of the characters * ? [ in its path, which the library "
                    f"interprets as a pattern; rename the folder"
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


def _roots(*folders: Path) -> tuple[Path, ...]:
    """Return the folders of a dataset and those into which the library unpacks archives."""
    config = datasets_module().config
    caches = (config.HF_CACHE_HOME, config.HF_DATASETS_CACHE, cache_directory())
    return (*folders, *map(Path, caches))


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
    datasets_module()  # before warnings are ignored, as its own filters must stay
    splits = _choose_splits(source, options.split)
    frame = Frame.from_config(data)
    train = next(split for _, role, split in splits if role in ("", "train"))
    diagnose = partial(find_broken_shard, source.files)
    roots = None if data.follow_links else source.roots
    followed = " follow_links" if data.follow_links else ""
    with convert_errors(source.location, _ADVICE, diagnose), ignore_warnings():
        # The class names of a stream would be known only at its end.
        text = not data.stream
        columns = find_columns(
            train,
            options,
            frame,
            source.location,
            text=text,
            roots=roots,
            from_python=source.from_python,
        )
        selected = [
            (name, role, select_columns(split, columns, source.location))
            for name, role, split in splits
        ]
        if data.stream:
            return _open_stream(source, selected, columns, frame, f"{options}{followed}")
        fingerprint_text = "".join(str(split._fingerprint) for _, _, split in splits)
        if source.files:  # the library's fingerprint may not depend on their contents
            fingerprint_text = fingerprint(source.files, source.root)
        return collect_rows(
            selected,
            columns,
            source.name,
            source.location,
            f"{fingerprint_text} {options}{followed}",
            label_requested=bool(options.label),
        )


def _open_stream(
    source: _HubDataset, splits: Sequence[_Split], columns: Columns, frame: Frame, options_text: str
) -> Dataset:
    """Return the training split as a stream, and the first images of the other splits."""
    held_out: dict[str, ArraySplit] = {}
    train: HubStream | None = None
    for name, role, dataset in splits:
        length = source.rows.get(name)
        fingerprint_text = (
            size_fingerprint(source.files, source.root) if source.files else source.name
        )
        if hasattr(dataset, "to_iterable_dataset"):  # a table, whose length is known
            length = len(dataset)
            dataset = dataset.to_iterable_dataset(num_shards=max(1, min(length, _NUM_SHARDS)))
        stream = HubStream(
            source.location,
            length,
            dataset,
            columns,
            frame,
            f"{fingerprint_text} {name} {options_text}",
            diagnose=partial(find_broken_shard, source.files),
        )
        if role in ("", "train"):
            train = train or stream
        elif role == "unlabeled":
            logging.getLogger("advnets").warning(
                "%s: the split %s is not used, as a stream has no unlabeled split",
                source.name,
                name,
            )
        elif role not in held_out and length != 0:
            held_out[role] = stream.head(MAX_HELD_OUT)
    assert train is not None  # as _choose_splits guarantees
    train.head(1)  # fail here, not during training, if there is no image
    return Dataset(
        name=source.name,
        train=train,
        valid=held_out.get("valid"),
        test=held_out.get("test"),
        classes=columns.classes,
    )


def _choose_splits(dataset: _HubDataset, requested: str) -> list[_Split]:
    """Return the used splits: a single one to be assigned, or several with one for training.

    Raises:
        UnknownNameError: the requested split does not exist.
        DataError: there is no training split.
    """
    splits, source = dataset.splits, dataset.location
    if requested and requested not in splits:
        raise UnknownNameError(f"split of {source}", requested, splits)
    if requested or len(splits) == 1:
        name = requested or next(iter(splits))
        return [(name, "", splits[name])]
    roles = {name: split_of(name) for name in splits}
    if "train" not in roles.values():
        raise DataError(
            f"{source} has no training split, got {', '.join(splits) or 'no splits'}; "
            + ("give one split alone" if dataset.from_python else "name one with split=NAME")
        )
    if others := [name for name, role in roles.items() if role is None]:
        logging.getLogger("advnets").warning(
            "%s: the splits %s are not for training, validation or test, and are not used; "
            "to train on one, %s",
            printable(source),
            printable(", ".join(others)),
            "give it alone" if dataset.from_python else "name it with split=NAME",
        )
    return [(name, role, splits[name]) for name, role in roles.items() if role is not None]


# Shards: Parquet and tar files, listed, checked and fingerprinted.

_SUFFIXES = (".parquet", ".tar")
_TAR_BLOCK = 512
_COMPRESSED_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_READ_BYTES = 1 << 20


def is_hub_path(path: Path) -> bool:
    """Return whether a path is a Parquet or tar file, a folder of them, or one of `save_to_disk`.

    A folder that contains an image is a folder of images.
    """
    if path.is_file():
        return path.suffix.lower() in _SUFFIXES
    return path.is_dir() and (is_saved_dataset(path) or bool(find_shards(path)))


def is_saved_dataset(path: Path) -> bool:
    """Return whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` made the folder."""
    state = (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    return state or (path / "dataset_dict.json").is_file()


def find_shards(folder: Path) -> tuple[Path, ...]:
    """List the Parquet and tar files in a folder and below it; none where there is an image too."""
    shards: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = [name for name in names if not name.startswith(".")]
        if any(map(is_image_name, names)):
            return ()
        shards += [Path(root, name) for name in sorted(names) if _suffix(name) in _SUFFIXES]
    return tuple(shards)


def shard_format(files: Sequence[Path], source: Path) -> str:
    """Return the library's name for the format of shards, "parquet" or "webdataset".

    Raises:
        DataError: there are shards of both formats.
    """
    first: dict[str, Path] = {}
    for file in files:
        first.setdefault(_suffix(file.name), file)
    if len(first) > 1:
        parquet, tar = (first[suffix].relative_to(source) for suffix in _SUFFIXES)
        raise DataError(
            f"{source} holds Parquet and tar files ({parquet} and {tar}), but only one "
            f"format can be read at once; move the others to another folder"
        )
    return "parquet" if ".parquet" in first else "webdataset"


def count_rows(file: Path) -> int | None:
    """Check a shard; return the number of rows of a Parquet file, None for a tar.

    Raises:
        DataError: the file is truncated, or not what its name says.
    """
    try:
        require_regular_file(file)
        if _suffix(file.name) == ".parquet":
            return int(_parquet().read_metadata(file).num_rows)
        _check_tar_size(file)
    except DataError:
        raise
    except Exception as error:  # Arrow raises many types of errors
        raise DataError(_broken_shard_message(file, describe_error(error))) from None
    return None


def find_broken_shard(files: Iterable[Path]) -> DataError | None:
    """Read all shards and return the error of the first broken one, or None."""
    for file in files:
        try:
            _READERS.get(_suffix(file.name), lambda _: None)(file)
        except Exception as error:
            text = str(error) if isinstance(error, DataError) else describe_error(error)
            return DataError(_broken_shard_message(file, text))
    return None


def fingerprint(files: Iterable[Path], root: Path) -> str:
    """Return a BLAKE2b digest, in hex, of the names, sizes and times of change of files."""
    return fingerprint_of(_file_entries(files, root))


def size_fingerprint(files: Iterable[Path], root: Path) -> str:
    """Return a BLAKE2b digest, in hex, of names and sizes, which a copy of the files keeps."""
    return fingerprint_of((name, size, 0) for name, size, _ in _file_entries(files, root))


def _file_entries(files: Iterable[Path], root: Path) -> Iterator[FileEntry]:
    for file in files:
        status = file.stat()
        yield os.fsencode(os.path.relpath(file, root)), status.st_size, status.st_mtime_ns


def _parquet() -> Any:
    return require("pyarrow.parquet", "hub")


def _check_tar_size(file: Path) -> None:
    """Raise a DataError for a truncated tar, which sequential readers take for a complete one."""
    with file.open("rb") as content:
        compressed = content.read(6).startswith(_COMPRESSED_MAGIC)
    if not compressed and file.stat().st_size % _TAR_BLOCK:
        raise DataError(
            _broken_shard_message(
                file, f"its {file.stat().st_size:,} bytes are not a whole number of blocks"
            )
        )


def _read_parquet(file: Path) -> None:
    for _ in _parquet().ParquetFile(file).iter_batches():
        pass


def _read_tar(file: Path) -> None:
    members = 0
    with tarfile.open(file, "r|*") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            while content is not None and content.read(_READ_BYTES):
                pass
            members += content is not None
    if not members:
        raise DataError("it holds no files")


_READERS: dict[str, Callable[[Path], None]] = {".parquet": _read_parquet, ".tar": _read_tar}


def _broken_shard_message(file: Path, reason: str) -> str:
    kind = "Parquet file" if _suffix(file.name) == ".parquet" else "WebDataset tar"
    return f"{file} is not a {kind} that can be read ({reason}); copy or download it again"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - of a name, not of a path
