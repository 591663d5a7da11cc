"""One file from one mirror, going on where an earlier attempt was cut off."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

STALL_S = 30.0
"""Silence after which a connection is given up."""
PAUSE_S = 1.0
"""Between attempts at one mirror."""
_TRIES = 3  # without a byte gained
_CHUNK = 1 << 16
_RANGE = re.compile(r"bytes (?:(?P<start>\d+)-\d+|\*)/(?P<total>\d+|\*)")


class MirrorFault(Exception):  # noqa: N818 - a finding about a mirror, which a user never meets
    """Why a mirror did not give a file, in a few words."""


class _CutOff(Exception):  # noqa: N818
    """The body ended early; what came of it is kept."""


def download(url: str, part: Path, seen: Callable[[int, int | None], None]) -> None:
    """Bring the whole of `url` into `part`, going on from the bytes that are there already.

    `seen(done, total)` is told of every chunk; the total is None where the server does not say it.

    Raises:
        MirrorFault: the mirror does not give the file, or stops giving more of it.
        OSError: `part` cannot be written.
    """
    most, tries = _size(part), 0
    while True:
        try:
            _attempt(url, part, seen)
            return
        except _CutOff as fault:
            tries = 0 if _size(part) > most else tries + 1
            most = max(most, _size(part))
            if tries == _TRIES:
                raise MirrorFault(str(fault)) from None
            time.sleep(PAUSE_S)


def _attempt(url: str, part: Path, seen: Callable[[int, int | None], None]) -> None:
    if not url.startswith(("http://", "https://")):
        raise MirrorFault("is no http address")
    start = _size(part)
    headers = {"User-Agent": "advnets", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=STALL_S)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:
            # Nothing lies beyond what we have: either that is all, or it is another file's.
            if _range(error.headers.get("Content-Range"))[1] == start:
                return
            part.unlink()
            raise _CutOff("refuses to go on") from None
        raise MirrorFault(f"HTTP {error.code} {error.reason}") from None
    except (URLError, HTTPException, OSError, ValueError) as error:
        raise MirrorFault(_reason(error)) from None
    with response:
        done, total = 0, response.length
        if response.status == 206:
            begins, total = _range(response.headers.get("Content-Range"))
            if begins != start:
                part.unlink()
                raise _CutOff("sent another range than was asked for")
            done = start
        # A server that ignores the range sends the whole file: it is begun anew.
        with part.open("ab" if done else "wb") as file:
            for chunk in _body(response):
                file.write(chunk)
                done += len(chunk)
                seen(done, total)
    if total is not None and done < total:
        raise _CutOff(f"sent {done:,} of {total:,} bytes")


def _body(response: HTTPResponse) -> Iterator[bytes]:
    """The chunks of a body, whose every fault is a `_CutOff`: what came before it is kept."""
    while True:
        try:
            chunk = response.read1(_CHUNK)
        except (HTTPException, OSError) as error:
            raise _CutOff(_reason(error)) from None
        if not chunk:
            return
        yield chunk


def _range(header: str | None) -> tuple[int | None, int | None]:
    """The first byte and the total that a Content-Range header says."""
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None:
        return None, None
    start, total = found["start"], found["total"]
    return None if start is None else int(start), None if total == "*" else int(total)


def _reason(error: BaseException) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, TimeoutError):
        return f"silent for {STALL_S:g} s"
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
