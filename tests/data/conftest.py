from __future__ import annotations

import gzip
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from advnets.data.dataset import ArraySplit


@pytest.fixture
def idx_bytes() -> Callable[[np.ndarray], bytes]:
    def encode(values: np.ndarray) -> bytes:
        header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
        return header + values.astype(np.uint8).tobytes()

    return encode


@pytest.fixture
def write_idx(idx_bytes) -> Callable[..., Path]:
    def write(path: Path, values: np.ndarray, packed: bool = False) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = idx_bytes(values)
        path.write_bytes(gzip.compress(content) if packed else content)
        return path

    return write


@pytest.fixture
def make_images() -> Callable[..., ArraySplit]:
    def make(n: int = 7, shape: tuple[int, int, int] = (3, 4, 5), white: int = 255) -> ArraySplit:
        rng = np.random.default_rng(0)
        images = rng.integers(0, white + 1, (n, *shape), dtype=np.uint8)
        return ArraySplit(images, np.arange(n, dtype=np.int64), white)

    return make


@dataclass
class Response:
    """The response of the server for one file."""

    content: bytes = b""
    status: int = 200
    ranges: bool = True
    cut_after: int | None = None  # bytes of the body, then the connection is closed
    stall_after: int | None = None  # bytes of the body, then silence
    to: str | None = None  # a redirect
    sends_length: bool = True
    then: Response | None = None  # the response to the next request


@dataclass
class Server:
    """A server with responses by path and a log of requests (path, range)."""

    url: str
    responses: dict[str, Response] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def response() -> type[Response]:
    return Response


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            range_header = self.headers.get("Range")
            state.requests.append((self.path, range_header))
            response = state.responses.get(self.path, Response(status=404))
            if response.then is not None:
                state.responses[self.path] = response.then
            self.close_connection = True
            if response.to is not None:
                self.send_response(302)
                self.send_header("Location", response.to)
                self.end_headers()
                return
            if response.status != 200:
                self.send_error(response.status)
                return
            start = int(range_header[len("bytes=") : -1]) if range_header and response.ranges else 0
            total = len(response.content)
            if start >= total > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if response.sends_length:
                self.send_header("Content-Length", str(total - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.end_headers()
            self.wfile.write(
                response.content[start : _min(response.cut_after, response.stall_after)]
            )
            self.wfile.flush()
            if response.stall_after is not None:
                state.closing.wait(10)

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    state.closing.set()
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def _min(*ends: int | None) -> int | None:
    return min((end for end in ends if end is not None), default=None)
