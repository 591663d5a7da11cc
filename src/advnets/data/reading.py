"""Files opened to be read."""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from advnets.errors import DataError


@contextmanager
def opened(path: Path) -> Generator[io.BufferedIOBase]:
    """Open a file, whose faults of reading are DataErrors.

    Raises:
        DataError: the file is absent, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); see that the file is there and yours"
        ) from None
