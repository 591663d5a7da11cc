"""Parquet and tar shards: listed, checked and fingerprinted."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from advnets.data.huggingface.library import describe_error
from advnets.data.image_folder.decode import is_image_name
from advnets.data.image_folder.files import FileEntry, fingerprint_of
from advnets.errors import DataError, require
from advnets.files import require_regular_file

_SUFFIXES = (".parquet", ".tar")
_TAR_BLOCK = 512
_COMPRESSED_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_READ_BYTES = 1 << 20


def is_hub_path(path: Path) -> bool:
    """Return whether a path is a Parquet or tar file, a folder of them, or one of `save_to_disk`.

    A folder that holds an image is a folder of images, whatever else it holds.
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
        DataError: they are of both formats.
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
