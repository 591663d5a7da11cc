"""Named sets brought from their mirrors: `advnets data fetch`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from filelock import FileLock
from tqdm import tqdm

from advnets.data import mnist
from advnets.data.download import MirrorFault, download
from advnets.data.idx import find_idx, unpacked_md5
from advnets.errors import DataError, DownloadError, UnknownNameError
from advnets.files import put_in_place


@dataclass(frozen=True)
class _Remote:
    """Files, by name, with the MD5 of their unpacked content; and where their .gz lie."""

    files: Mapping[str, str]
    mirrors: tuple[str, ...]


_REMOTES = {
    "mnist": _Remote(
        mnist.MD5,
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    )
}


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
    if name not in _REMOTES:
        raise UnknownNameError("set to fetch", name, _REMOTES)
    remote = _REMOTES[name]
    chosen = remote.mirrors if mirrors is None else mirrors
    folder = directory / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".fetch.lock"):
            return [
                _present(folder, file, md5) or _bring(folder, file, md5, chosen, progress)
                for file, md5 in remote.files.items()
            ]
    except OSError as error:
        raise DataError(
            f"{error.filename or folder} cannot be written ({error.strerror}); "
            f"make room there or give another directory"
        ) from None


def _present(folder: Path, file: str, md5: str) -> Path | None:
    path = find_idx(folder, file)
    return path if path is not None and _is_right(path, md5) else None


def _bring(
    folder: Path, file: str, md5: str, mirrors: Sequence[str], progress: bool | None
) -> Path:
    final, part = folder / f"{file}.gz", folder / f"{file}.gz.part"
    faults: list[str] = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{final.name}"
        try:
            _from_mirror(url, part, md5, progress)
        except MirrorFault as fault:
            faults.append(f"{mirror}: {fault}")
        else:
            put_in_place(part, final)
            return final
    raise DownloadError(
        f"{final.name} came from no mirror ({'; '.join(faults)}); try again later, or put the "
        f"file by hand in {folder}"
    )


def _from_mirror(url: str, part: Path, md5: str, progress: bool | None) -> None:
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
        if _is_right(part, md5):
            return
        part.unlink()
    raise MirrorFault("sent another content than the original's")


def _is_right(path: Path, md5: str) -> bool:
    try:
        return unpacked_md5(path) == md5
    except DataError:
        return False
