"""The `datasets` library: imported when it is used, kept quiet, its errors in one sentence."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from advnets.errors import AdvnetsError, DataError, require

_CRASHING_ARROW = 24
_MAX_ERROR_CHARS = 300
"""Characters of a foreign error that are passed on."""


def datasets_module() -> Any:
    """The `datasets` module, drawing bars on a terminal only and leaving the telling to us.

    Raises:
        MissingExtraError: it is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        datasets: Any = require("datasets", "hub")
        if "DATASETS_VERBOSITY" not in os.environ:
            datasets.logging.set_verbosity(datasets.logging.CRITICAL)
        # It waits for seconds after every pass, as Arrow could crash the process up to version 24.
        if int(require("pyarrow", "hub").__version__.partition(".")[0]) > _CRASHING_ARROW:
            datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0
        if not sys.stderr.isatty():
            datasets.disable_progress_bars()
            require("huggingface_hub.utils", "hub").disable_progress_bars()
    # Of odd metadata that do not touch the pixels; what does is an error. For good, as the filters
    # are those of all threads, and a stream is read in one of its own.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return datasets


@contextmanager
def errors_as_data_errors(
    subject: str, advice: str, diagnose: Callable[[], DataError | None] = lambda: None
) -> Generator[None]:
    """Bring what goes wrong within to one sentence: what was asked, what failed, what to do.

    `fault` may find a better one.

    Raises:
        DataError: anything went wrong but what we raise ourselves.
    """
    try:
        yield
    except AdvnetsError:
        raise
    except Exception as error:  # whatever a library makes of strangers' bytes and of the net
        raise diagnose() or DataError(
            f"{subject} cannot be read ({describe_error(error)}); {advice}"
        ) from None


@contextmanager
def warnings_ignored() -> Generator[None]:
    """Keep warnings of the library from the user; not for threads, which share the filters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def describe_error(error: BaseException) -> str:
    """An error's kind and text, on one line; of one that another caused, that other's."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()).rstrip(".;")
    if len(text) > _MAX_ERROR_CHARS:
        text = f"{text[:_MAX_ERROR_CHARS]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
