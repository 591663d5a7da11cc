"""Processing of many image files on all cores."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any, Generic, NoReturn, TypeVar

import joblib
import numpy as np
from jaxtyping import UInt8
from joblib.externals.loky import ProcessPoolExecutor
from tqdm import tqdm

from advnets.data.image_folder.decode import Frame, ImageInfo, decode, decode_with_info
from advnets.data.image_folder.files import ImageFiles, Reader
from advnets.errors import DataError, StoppedBySignal

T = TypeVar("T")
_CHUNK = 128
_MIN_FILES, _MIN_BYTES = 2000, 32 << 20
"""The numbers of files and bytes above which worker processes are worth their start-up time."""
_PARENT_POLL_S = 0.5


def process_files(
    files: ImageFiles, task: ImageTask[T], description: str, progress: bool | None = None
) -> tuple[dict[int, T], dict[int, str]]:
    """Run a task on every file, on all cores if there are many.

    A progress bar headed `description` is shown, by default on a terminal. A signal or an error
    ends the worker processes at once.

    Returns:
        the results, and the reasons why other files could not be processed, both by index.

    Raises:
        DataError: a worker process was killed or crashed.
    """
    keys = files.keys
    large = len(keys) >= _MIN_FILES or files.num_bytes >= _MIN_BYTES
    chunks = [range(i, min(i + _CHUNK, len(keys))) for i in range(0, len(keys), _CHUNK)]
    num_workers = min(joblib.cpu_count(), len(chunks)) if large else 1
    results: dict[int, T] = {}
    reasons: dict[int, str] = {}
    with _raise_on_signals(), _progress_bar(description, len(keys), progress) as bar:
        if num_workers == 1:
            chunk_results = (
                _process_chunk(files.reader, task, chunk, [keys[i] for i in chunk])
                for chunk in chunks
            )
        else:
            chunk_results = _run_in_processes(files, task, chunks, num_workers)
        with closing(chunk_results):
            for chunk in chunk_results:
                for index, result in chunk:
                    if isinstance(result, DataError):
                        reasons[index] = str(result)
                    else:
                        results[index] = result
                bar.update(len(chunk))
    return results, reasons


def _run_in_processes(
    files: ImageFiles, task: ImageTask[T], chunks: Sequence[range], num_workers: int
) -> Generator[list[tuple[int, T | DataError]]]:
    """Run the task by chunks in `num_workers` processes, which are ended in any case."""
    setup: Any = (os.getpid(), files.reader, task)
    with _block_signals():
        executor = ProcessPoolExecutor(num_workers, initializer=_prepare_worker, initargs=setup)
    complete = False
    pending: set[Future[list[tuple[int, T | DataError]]]] = set()
    try:
        for chunk in chunks:
            # Submit no more chunks at once than the queue to the processes takes.
            if len(pending) == 2 * num_workers:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                yield from [future.result() for future in done]
            keys = [files.keys[i] for i in chunk]
            with _block_signals():
                pending.add(executor.submit(_process_chunk_in_worker, chunk, keys))
        yield from (future.result() for future in as_completed(pending))
        complete = True
    except BrokenProcessPool:
        raise DataError(
            f"a process that decodes {files.name} was killed, or an image crashed the decoder; "
            "free some memory, or find the image by using parts of the data"
        ) from None
    finally:
        executor.shutdown(wait=True, kill_workers=not complete)


@contextmanager
def _block_signals() -> Generator[None]:
    """Block SIGTERM and SIGHUP while processes may be started, which inherit the mask.

    A closed terminal sends them to all processes at once; only the parent handles them, by ending
    its workers.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_task: tuple[Reader, ImageTask[Any]] | None = None
"""The reader and the task of a worker process."""


def _prepare_worker(parent: int, reader: Reader, task: ImageTask[Any]) -> None:
    """Set up a worker process that ends when its parent ends, even if that is killed."""
    global _task
    _task = reader, task
    # Ctrl-C reaches all processes of a terminal; only the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":  # Windows breaks pipes to a process that has ended
        threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()


def _exit_with_parent(parent: int) -> NoReturn:
    # The parent ID of a process changes when its parent ends.
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    os._exit(1)


def _process_chunk_in_worker(indices: range, keys: Sequence[bytes]) -> list[tuple[int, Any]]:
    assert _task is not None
    return _process_chunk(*_task, indices, keys)


def _process_chunk(
    reader: Reader, task: ImageTask[T], indices: range, keys: Sequence[bytes]
) -> list[tuple[int, T | DataError]]:
    results: list[tuple[int, T | DataError]] = []
    with warnings.catch_warnings():
        # Ignore Pillow's warnings of odd metadata; broken pixels are errors.
        warnings.simplefilter("ignore")
        for index, content in zip(indices, reader.read(keys), strict=True):
            try:
                if isinstance(content, DataError):
                    raise content
                results.append((index, task.run(index, content)))
            except DataError as error:
                results.append((index, error))
    return results


@contextmanager
def _raise_on_signals() -> Generator[None]:
    """Raise SIGTERM and SIGHUP as StoppedBySignal if they are unhandled, so that clean-up runs."""

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        raise StoppedBySignal(number)

    names = ("SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # signal handlers can be set in the main thread only
    unhandled = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in unhandled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in unhandled:
            signal.signal(number, signal.SIG_DFL)


def _progress_bar(description: str, total: int, progress: bool | None) -> tqdm[NoReturn]:
    return tqdm(
        desc=description,
        total=total,
        unit=" images",
        unit_scale=True,
        file=sys.stderr,
        disable=None if progress is None else not progress,
    )


THUMBNAIL_SHAPE = (16, 18)
"""The height and width of grayscale thumbnails, values 0 to 255, that images are compared by."""
_MIN_COLOR_DIFFERENCE = 12
"""The difference between color channels, in levels of 255, from which an image is in color."""


class ImageTask(Generic[T]):
    """A task that processes the content of each file; it is pickled and sent to the processes."""

    def run(self, index: int, content: bytes) -> T:
        """Process one file.

        Raises:
            DataError: its content is broken; the message is the reason alone.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class DecodeIntoArray(ImageTask[bytes]):
    """A task that decodes each image into its row of images.npy."""

    frame: Frame
    images: Path
    rows: np.ndarray

    def run(self, index: int, content: bytes) -> bytes:
        """Write the image and return the digest of its file."""
        _mapped(self.images)[self.rows[index]] = decode(content, self.frame)
        return content_digest(content)


@lru_cache(maxsize=1)
def _mapped(images: Path) -> np.ndarray:
    return np.load(images, mmap_mode="r+")


@dataclass(frozen=True)
class DecodedImage:
    """The location of a decoded image: file, offset in bytes, height and width in pixels.

    `digest` is that of the file it was decoded from.
    """

    file: str
    offset: int
    height: int
    width: int
    digest: bytes


@dataclass(frozen=True)
class DecodeIntoFile(ImageTask[DecodedImage]):
    """A task that decodes each image and appends it to a file of the worker process."""

    frame: Frame
    folder: Path

    def run(self, index: int, content: bytes) -> DecodedImage:  # noqa: ARG002 - images are appended
        """Write the image and return its location."""
        image = decode(content, self.frame)
        with (self.folder / f"{os.getpid()}.part").open("ab") as file:
            start = file.tell()
            file.write(image.tobytes())
        _, height, width = image.shape
        return DecodedImage(Path(file.name).name, start, height, width, content_digest(content))


@dataclass(frozen=True)
class InspectedImage:
    """The properties, digest, thumbnail and colorfulness of an image, for an audit."""

    info: ImageInfo
    digest: bytes
    thumbnail: bytes
    is_color: bool


@dataclass(frozen=True)
class InspectImage(ImageTask[InspectedImage]):
    """A task that inspects each image; `white_level` is the white of 16-bit images."""

    white_level: float | None = None

    def run(self, index: int, content: bytes) -> InspectedImage:  # noqa: ARG002 - any image
        """Return the properties of the image."""
        info, image = decode_with_info(
            content, Frame(*THUMBNAIL_SHAPE, white_level=self.white_level)
        )
        return summarize_image(info, content_digest(content), image)


@dataclass(frozen=True)
class DecodeImage(ImageTask[bytes]):
    """A task that decodes each image to the frame and returns its bytes."""

    frame: Frame

    def run(self, index: int, content: bytes) -> bytes:  # noqa: ARG002 - any image
        """Return the bytes of the image, (channels, height, width)."""
        return decode(content, self.frame).tobytes()


def content_digest(content: bytes) -> bytes:
    """Return the BLAKE2b digest, 16 bytes, used to find duplicates."""
    return hashlib.blake2b(content, digest_size=16).digest()


def summarize_image(
    info: ImageInfo, digest: bytes, image: UInt8[np.ndarray, "channels 16 18"]
) -> InspectedImage:
    """Return the summary, for an audit, of an image that was resized to a thumbnail."""
    color_difference = np.ptp(image.astype(np.int16), axis=0).max()
    thumbnail = image.mean(0).round().astype(np.uint8)
    return InspectedImage(
        info, digest, thumbnail.tobytes(), bool(color_difference > _MIN_COLOR_DIFFERENCE)
    )
