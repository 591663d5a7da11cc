"""Batches of a stream: what comes one after the other, brought into a row one can return to."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from advnets.data.batch_transform import BatchTransform
from advnets.data.dataset import StreamingSplit, tensor
from advnets.errors import DataError
from advnets.protocols import Batch

_Rows = tuple[np.ndarray, np.ndarray | None]


class StreamingLoader:
    """The endless row of batches of a stream, one pass after the other.

    A batch is a pure function of seed and index, as for images at hand; but to return to an index
    the stream is read from the beginning of the pass, undecoded. The next batch is decoded while
    one is trained on.

    Raises:
        DataError: a pass holds no image for this rank.
    """

    def __init__(self, stream: StreamingSplit, feed: BatchTransform) -> None:
        self._stream = stream
        self._feed = feed
        self._rows = feed.rows.stop - feed.rows.start
        self._count: int | None = None
        self._next = -1  # no index: nothing is begun
        self._last: tuple[int, Batch] | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="advnets-stream")
        self._ahead: tuple[int, Future[_Rows]] | None = None

    def batch_at(self, index: int) -> Batch:
        """The batch of that index (the first is 0), in the nets' range."""
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        images, labels = self._fetched(index)
        self._ahead = index + 1, self._worker.submit(self._read, index + 1)
        rng = self._feed.rng_at(index)
        pixels = tensor(images).to(self._feed.device)
        batch = self._feed.batch(pixels, None if labels is None else tensor(labels), rng)
        self._last = index, batch
        return batch

    def epoch_at(self, index: int) -> float:
        """Passes made before the batch of that index; 0 where the stream's length is not known.

        What a process has read so far must not count: it differs by rank, and after a resume.
        """
        length = self._stream.length
        return index * self._feed.batch_size / length if length else 0.0

    def _fetched(self, index: int) -> _Rows:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == index:
            return ahead[1].result()
        # What was read ahead for another index is not wanted, nor an error on the way to it.
        return self._worker.submit(self._read, index).result()

    def _read(self, index: int) -> _Rows:
        going_on, self._next = index == self._next, -1  # after an error nothing is gone on with
        if not going_on:
            self._seek(index * self._rows)
        rows = [self._row() for _ in range(self._rows)]
        self._next = index + 1
        labels = [label for _, label in rows if label is not None]
        images = np.stack([image for image, _ in rows])
        return images, np.array(labels, np.int64) if len(labels) == len(rows) else None

    def _seek(self, position: int) -> None:
        """Go to a position of this rank's row of images."""
        if position == 0:
            self._begin(0, 0)
            return
        if self._count is None:
            self._count = self._stream.count(self._feed.rank, self._feed.world)
        self._begin(*divmod(position, max(self._count, 1)))

    def _begin(self, epoch: int, skip: int) -> None:
        feed = self._feed
        self._epoch = epoch
        self._position = skip
        self._left = self._stream.epochs(feed.seed, epoch, skip, feed.rank, feed.world)

    def _row(self) -> tuple[np.ndarray, int | None]:
        for row in self._left:
            self._position += 1
            return row
        if self._position == 0:
            raise DataError(
                f"rank {self._feed.rank} of {self._feed.world} has no image to read; "
                f"use fewer processes, or more shards"
            )
        self._count = self._position
        self._begin(self._epoch + 1, 0)
        return self._row()
