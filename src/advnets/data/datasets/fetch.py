"""Named sets brought from their mirrors: `advnets data fetch`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from advnets.data.datasets.archives import extract
from advnets.data.datasets.download import MirrorFault, download
from advnets.data.datasets.idx import find_idx, unpacked_md5
from advnets.data.datasets.limits import MIB
from advnets.data.datasets.mirrors import REMOTES, File
from advnets.errors import DataError, DownloadError, UnknownNameError
from advnets.files import file_lock, open_regular_file, put_in_place, write_json


def fetch(
    name: str,
    directory: Path,
    *,
    mirrors: Sequence[str] | None = None,
    progress: bool | None = None,
) -> list[Path]:
    """Bring the files of a named set to the folder `directory/name`, and give their paths.

    What is there and whole is left alone; what was begun is gone on with. A file takes its name
    only once its content is known to be right, so several processes may fetch at once. `progress`
    shows a bar, by default where there is a terminal.

    Raises:
        UnknownNameError: no set that can be fetched is called so.
        DownloadError: no mirror gave a file.
        DataError: the folder cannot be written.
    """
    if name not in REMOTES:
        raise UnknownNameError("set to fetch", name, REMOTES)
    remote = REMOTES[name]
    chosen = remote.mirrors if mirrors is None else mirrors
    folder = directory / remote.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / ".fetch.lock"):
            return [
                path
                for file in remote.files
                for path in _present(folder, file) or _bring(folder, file, chosen, progress)
            ]
    except OSError as error:
        raise DataError(
            f"{error.filename or folder} cannot be written ({error.strerror}); "
            f"make room there or give another directory"
        ) from None


def _present(folder: Path, file: File) -> list[Path]:
    """What stands for a file and is right, or nothing."""
    if file.members:
        return _recorded(folder, file)
    found = find_idx(folder, file.name.removesuffix(".gz")) if file.unpacked else folder / file.name
    return [found] if found is not None and _is_right(found, file) else []


def _bring(folder: Path, file: File, mirrors: Sequence[str], progress: bool | None) -> list[Path]:
    final, part = folder / file.name, folder / f"{file.name}.part"
    faults: list[str] = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{final.name}"
        try:
            _from_mirror(url, part, file, progress)
        except MirrorFault as fault:
            faults.append(f"{mirror}: {fault}")
        else:
            if file.members:
                return _unpacked(folder, file, part)
            put_in_place(part, final)
            return [final]
    raise DownloadError(
        f"{final.name} came from no mirror ({'; '.join(faults)}); try again later, or put the "
        f"file by hand in {folder}"
    )


def _unpacked(folder: Path, file: File, part: Path) -> list[Path]:
    """Take the members out of an archive, which is then let go."""
    paths = extract(part, file.members, folder)
    md5s = {member.file: _md5(path) for member, path in zip(file.members, paths, strict=True)}
    write_json(_record(folder, file), {"archive": file.md5, "files": md5s})
    part.unlink()
    return paths


def _record(folder: Path, file: File) -> Path:
    """Where the MD5s of an archive's members are kept, which nobody publishes."""
    return folder / f".{file.name}.json"


def _recorded(folder: Path, file: File) -> list[Path]:
    """The members that an earlier fetch took out, if all are as they were then."""
    try:
        record: Any = json.loads(_record(folder, file).read_text("utf-8"))
        md5s = record["files"] if record["archive"] == file.md5 else {}
        paths = [folder / member.file for member in file.members]
        right = all(
            md5s.get(member.file) == _md5(path)
            for member, path in zip(file.members, paths, strict=True)
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []
    return paths if right else []


def _from_mirror(url: str, part: Path, file: File, progress: bool | None) -> None:
    """Bring a file whose content is right to `part`; what has wrong content is not kept."""
    # Bytes of an earlier attempt may be another mirror's, whose gzip differs: then begin anew.
    for _ in ("going on", "anew") if part.exists() else ("anew",):
        with tqdm(
            desc=part.stem,
            unit="B",
            unit_scale=True,
            disable=None if progress is None else not progress,
        ) as bar:

            def seen(done: int, total: int | None, bar: tqdm[NoReturn] = bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            download(url, part, seen)
        if _is_right(part, file):
            return
        part.unlink()
    raise MirrorFault("sent another content than the original's")


def _is_right(path: Path, file: File) -> bool:
    try:
        return (unpacked_md5(path) if file.unpacked else _md5(path)) == file.md5
    except (DataError, FileNotFoundError):
        return False


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open_regular_file(path) as content:
        while chunk := content.read(MIB):
            digest.update(chunk)
    return digest.hexdigest()
