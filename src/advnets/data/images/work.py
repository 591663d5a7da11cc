"""Many picture files at once, on all cores."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor
from tqdm import tqdm

from advnets.data.images.files import Collection, Reader
from advnets.data.images.jobs import Job
from advnets.errors import DataError

T = TypeVar("T")
_CHUNK = 128
_ENOUGH_FILES, _ENOUGH_BYTES = 2000, 32 << 20
"""From here on more processes gain more than it takes to start them."""


def all_files(
    collection: Collection, job: Job[T], what: str, progress: bool | None = None
) -> Iterator[tuple[int, T | DataError]]:
    """Do a job with every file, in no order: its number, and what came of it or why nothing did.

    A bar headed `what` is shown, by default where there is a terminal.
    """
    keys = collection.keys
    large = len(keys) >= _ENOUGH_FILES or collection.size >= _ENOUGH_BYTES
    chunks = [range(i, min(i + _CHUNK, len(keys))) for i in range(0, len(keys), _CHUNK)]
    run: Callable[..., Any] = joblib.delayed(_chunk)
    pool: Any = joblib.Parallel  # whose own annotations are not right
    jobs = min(joblib.cpu_count(), len(chunks)) if large else 1
    try:
        with (
            pool(n_jobs=jobs, return_as="generator_unordered", batch_size=1) as parallel,
            _bar(what, len(keys), progress) as bar,
        ):
            for done in parallel(
                run(collection.reader, job, chunk, [keys[i] for i in chunk]) for chunk in chunks
            ):
                yield from done
                bar.update(len(done))
    finally:
        if jobs > 1:  # they would be kept for a next time, and their memory with them
            get_reusable_executor().shutdown(wait=True)


def _chunk(
    reader: Reader, job: Job[T], numbers: Sequence[int], keys: Sequence[bytes]
) -> list[tuple[int, T | DataError]]:
    results: list[tuple[int, T | DataError]] = []
    with warnings.catch_warnings():
        # Pillow warns of odd metadata that do not touch the pixels; what does is an error.
        warnings.simplefilter("ignore")
        for number, content in zip(numbers, reader.read(keys), strict=True):
            try:
                if isinstance(content, DataError):
                    raise content
                results.append((number, job.do(number, content)))
            except DataError as error:
                results.append((number, error))
    return results


def _bar(what: str, total: int, progress: bool | None) -> tqdm[NoReturn]:
    return tqdm(
        desc=what,
        total=total,
        unit=" pictures",
        unit_scale=True,
        file=sys.stderr,
        disable=None if progress is None else not progress,
    )
