"""Access to the `datasets` library: imported on use, without its progress and error output."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from advnets.errors import AdvnetsError, DataError, require

_LAST_CRASHING_ARROW_VERSION = 24
_MAX_ERROR_CHARS = 300
"""The maximum number of characters of a library's error that are shown."""


def datasets_module() -> Any:
    """Import the `datasets` library; its progress bars are shown on a terminal only.

    Raises:
        MissingExtraError: it is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        datasets: Any = require("datasets", "hub")
        if "DATASETS_VERBOSITY" not in os.environ:
            datasets.logging.set_verbosity(datasets.logging.CRITICAL)
        if "HF_HUB_VERBOSITY" not in os.environ:  # it warns of dataset cards without metadata
            require("huggingface_hub.utils.logging", "hub").set_verbosity(logging.CRITICAL)
        # The library waits seconds after every epoch to avoid a crash that Arrow 25 has fixed.
        if (
            int(require("pyarrow", "hub").__version__.partition(".")[0])
            > _LAST_CRASHING_ARROW_VERSION
        ):
            datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
        if not sys.stderr.isatty():
            datasets.disable_progress_bars()
            require("huggingface_hub.utils", "hub").disable_progress_bars()
    # Ignore Pillow's warnings of odd metadata; broken pixels are errors. The filter stays, as
    # filters are shared by all threads and a stream is read in its own thread.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return datasets


@contextmanager
def convert_errors(
    subject: str, advice: str, diagnose: Callable[[], DataError | None] = lambda: None
) -> Generator[None]:
    """Convert errors in the block to DataErrors: `subject` cannot be read, the cause, `advice`.

    `diagnose` may return a more specific error.

    Raises:
        DataError: an error occurred that is not an AdvnetsError.
    """
    try:
        yield
    except AdvnetsError:
        raise
    except Exception as error:  # libraries raise many types for broken files and networks
        raise diagnose() or DataError(
            f"{subject} cannot be read ({describe_error(error)}); {advice}"
        ) from None


@contextmanager
def ignore_warnings() -> Generator[None]:
    """Ignore warnings in the block; not for threads, which share the filters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def describe_error(error: BaseException) -> str:
    """Return the type and text of an error, or of its first cause, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()).rstrip(".;")
    if len(text) > _MAX_ERROR_CHARS:
        text = f"{text[:_MAX_ERROR_CHARS]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
