from __future__ import annotations

import random

import pytest

from advnets.data.datasets import download as module
from advnets.data.datasets.download import MirrorFault, download

CONTENT = random.Random(0).randbytes(200_000)


@pytest.fixture
def part(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STALL_S", 0.3)
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    return tmp_path / "x.part"


def bring(server, part, path="/x"):
    told: list[tuple[int, int | None]] = []
    download(server.url + path, part, lambda done, total: told.append((done, total)))
    return told


def test_whole_file(server, way, part):
    """A file comes whole, and its progress is told up to the end."""
    server.ways["/x"] = way(CONTENT)
    told = bring(server, part)
    assert part.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert told == sorted(told)


def test_length_unsaid(server, way, part):
    """A file whose length the server does not say comes whole."""
    server.ways["/x"] = way(CONTENT, says_length=False)
    assert bring(server, part)[-1] == (len(CONTENT), None)
    assert part.read_bytes() == CONTENT


def test_redirect_is_followed(server, way, part):
    """A redirect is followed, also when going on."""
    server.ways["/x"] = way(to=f"{server.url}/y")
    server.ways["/y"] = way(CONTENT)
    part.write_bytes(CONTENT[:50])
    bring(server, part)
    assert part.read_bytes() == CONTENT
    assert server.requests == [("/x", "bytes=50-"), ("/y", "bytes=50-")]


@pytest.mark.parametrize("how", ["cut_after", "stall_after"])
def test_cut_off_is_gone_on_with(server, way, part, how):
    """After a connection cut or silent, only what is missing is asked for."""
    server.ways["/x"] = way(CONTENT, **{how: 150_000}, then=way(CONTENT))
    bring(server, part)
    assert part.read_bytes() == CONTENT
    assert server.requests == [("/x", None), ("/x", "bytes=150000-")]


def test_earlier_part_is_gone_on_with(server, way, part):
    """What an interrupted process left is kept."""
    part.write_bytes(CONTENT[:100])
    server.ways["/x"] = way(CONTENT)
    assert bring(server, part)[-1] == (len(CONTENT), len(CONTENT))
    assert part.read_bytes() == CONTENT
    assert server.requests == [("/x", "bytes=100-")]


def test_server_without_ranges_begins_anew(server, way, part):
    """A server that ignores the range sends all: nothing is there twice."""
    part.write_bytes(CONTENT[:100])
    server.ways["/x"] = way(CONTENT, ranges=False)
    bring(server, part)
    assert part.read_bytes() == CONTENT


def test_part_that_is_whole(server, way, part):
    """Of a file that is there whole nothing more is asked for (416)."""
    part.write_bytes(CONTENT)
    server.ways["/x"] = way(CONTENT)
    bring(server, part)
    assert part.read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_part_that_is_too_long(server, way, part):
    """A part longer than the file is another file's (416), and thrown away."""
    part.write_bytes(CONTENT + b"more")
    server.ways["/x"] = way(CONTENT)
    bring(server, part)
    assert part.read_bytes() == CONTENT
    assert server.requests[-1] == ("/x", None)


@pytest.mark.parametrize("status", [404, 403, 500, 503])
def test_refusals_are_told_at_once(server, way, part, status):
    """A refusal is the reason, without another attempt."""
    server.ways["/x"] = way(status=status)
    with pytest.raises(MirrorFault, match=f"HTTP {status}"):
        bring(server, part)
    assert len(server.requests) == 1
    assert not part.exists()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"cut_after": 1000}, "sent 1,000 of 200,000 bytes"),
        ({"stall_after": 1000}, "silent for 0.3 s"),
    ],
)
def test_no_progress_ends(server, way, part, how, reason):
    """A server that sends the same few bytes again and again is given up."""
    server.ways["/x"] = way(CONTENT, ranges=False, **how)
    with pytest.raises(MirrorFault, match=reason):
        bring(server, part)
    assert len(server.requests) == 4


def test_slow_progress_does_not(server, way, part):
    """A server that is cut off many times, and each time sends more, is not given up."""
    last = way(CONTENT)
    for end in range(180_000, 0, -20_000):
        last = way(CONTENT, cut_after=end, then=last)
    server.ways["/x"] = last
    bring(server, part)
    assert part.read_bytes() == CONTENT
    assert len(server.requests) == 10


def test_no_server(part):
    """An address where nobody answers, or that is none, is told."""
    for url, reason in [
        ("http://127.0.0.1:9/x", "refused"),
        ("http://[::bad/x", "Invalid IPv6"),
        ("file:///etc/hostname", "no http address"),
    ]:
        with pytest.raises(MirrorFault, match=reason):
            download(url, part, lambda done, total: None)
    assert not part.exists()
