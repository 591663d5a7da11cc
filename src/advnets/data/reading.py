"""Files opened to be read."""

from __future__ import annotations

import io
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from advnets.errors import DataError
from advnets.files import open_regular_file


@contextmanager
def opened(path: Path) -> Generator[io.BufferedIOBase]:
    """Open a file, whose faults of reading are DataErrors.

    Raises:
        DataError: the file is absent, cannot be read, or is not a regular file.
    """
    try:
        with open_regular_file(path) as file:
            yield file
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); see that the file is there and yours"
        ) from None
