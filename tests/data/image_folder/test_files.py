import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advnets.data.image_folder import files
from advnets.data.image_folder.files import list_folder, list_zip
from advnets.errors import DataError


def png(level: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), level).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(path: Path, contents: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_zip_returns_its_contents_by_name(tmp_path, method):
    """In the requested order, for every compression method."""
    contents = {f"d/{i}.png": png(i) for i in range(5)}
    entries = list_zip(zipped(tmp_path / "x.zip", contents, method))
    assert [key.decode() for key in entries.keys] == list(contents)
    reader = pickle.loads(pickle.dumps(entries.reader))
    assert list(reader.read(entries.keys[::-1])) == list(contents.values())[::-1]
    assert entries.name == "x"
    assert entries.num_bytes == sum(map(len, contents.values()))


def test_unsafe_names_in_a_zip_are_skipped(tmp_path):
    """Names that lead out of the archive, and nested archives, are named with their reasons."""
    contents = {
        "ok.png": png(),
        "../up.png": png(),
        "a/../../up.png": png(),
        "/etc/root.png": png(),
        "C:/windows.png": png(),
        "..\\up.png": png(),
        "inner.zip": b"PK",
        ".hidden.png": png(),
        "__MACOSX/._ok.png": b"junk",
        "a/.DS_Store": b"junk",
        "notes.txt": b"words",
        "empty/": b"",
    }
    entries = list_zip(zipped(tmp_path / "x.zip", contents))
    assert entries.keys == (b"etc/root.png", b"ok.png", b"windows.png")
    out = "has a name that leads out of the archive"
    assert {file.name: file.reason for file in entries.skipped_files} == {
        "../up.png": out,
        "a/../../up.png": out,
        "inner.zip": "is an archive within the archive; unpack it first",
    }
    assert entries.unsupported_files == {".txt": 1}


def test_broken_members_have_a_reason(tmp_path, monkeypatch):
    """A wrong checksum, an unknown method, encryption or a bomb."""
    path = zipped(tmp_path / "x.zip", {"a.png": png(), "b.png": png(1)}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    start = content.index(b"IHDR")
    content[start + 5] ^= 1
    path.write_bytes(content)
    entries = list_zip(path)
    first, second = entries.reader.read(entries.keys)
    assert "cannot be unpacked: Bad CRC-32" in str(first)
    assert second == png(1)

    locked = zipped(tmp_path / "locked.zip", {"a.png": png()})
    content = bytearray(locked.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    locked.write_bytes(content)
    assert [str(error) for error in list_zip(locked).reader.read([b"a.png"])] == ["is encrypted"]

    strange = zipped(tmp_path / "strange.zip", {"a.png": png()})
    content = bytearray(strange.read_bytes())
    for mark, offset in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        content[content.index(mark) + offset] = 77
    strange.write_bytes(content)
    [error] = list_zip(strange).reader.read([b"a.png"])
    assert "cannot be unpacked" in str(error)

    bomb = zipped(tmp_path / "bomb.zip", {"a.png": b"\0" * (1 << 21)})
    assert bomb.stat().st_size < 1 << 12
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 1 << 20)
    [error] = list_zip(bomb).reader.read([b"a.png"])
    assert str(error) == "unpacks to more than 1 MiB, a decompression bomb"


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all" * 100])
def test_a_file_that_is_not_a_zip_is_refused(tmp_path, content):
    """What is no zip is refused whole."""
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"x.zip is not a zip file that can be read"):
        list_zip(tmp_path / "x.zip")


def test_a_replaced_zip_is_reopened(tmp_path):
    """The archive stays open between reads, but not after its replacement."""
    path = zipped(tmp_path / "x.zip", {"a.png": png(1)})
    before = list_zip(path)
    assert list(before.reader.read(before.keys)) == [png(1)]
    zipped(path, {"a.png": png(2), "b.png": png(3)})
    after = list_zip(path)
    assert after.fingerprint != before.fingerprint
    assert list(after.reader.read(after.keys)) == [png(2), png(3)]


def test_the_fingerprint_of_a_folder_depends_on_every_file(tmp_path):
    """On names, sizes and modification times; it is stable if nothing changes."""
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "b.png").write_bytes(png())
    stamps = [list_folder(tmp_path).fingerprint, list_folder(tmp_path).fingerprint]
    assert stamps[0] == stamps[1]
    (tmp_path / "a.png").write_bytes(png() + b" ")
    stamps.append(list_folder(tmp_path).fingerprint)
    (tmp_path / "a.png").rename(tmp_path / "c.png")
    stamps.append(list_folder(tmp_path).fingerprint)
    (tmp_path / "b.png").touch()
    stamps.append(list_folder(tmp_path).fingerprint)
    assert len(set(stamps)) == 4


def test_a_file_larger_than_any_image_is_not_read(tmp_path, monkeypatch):
    """What no image takes is refused by its size alone."""
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(1 << 29)
    entries = list_folder(tmp_path)
    [error] = entries.reader.read(entries.keys)
    assert str(error) == "is 512 MiB large; expected at most 256 MiB"


def test_missing_and_unreadable_files_have_a_reason(tmp_path, monkeypatch):
    """A file that went away since it was found, or may not be read, is a reason."""
    reader = list_folder(tmp_path).reader
    [error] = reader.read([b"gone.png"])
    assert str(error) == "cannot be read: No such file or directory"

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "mine.png").write_bytes(png())
    monkeypatch.setattr("os.open", refuse)
    [error] = reader.read([b"mine.png"])
    assert str(error) == "cannot be read: Permission denied"


def test_images_without_a_suffix_are_found_by_content(tmp_path):
    """Text is not taken for an image."""
    (tmp_path / "image").write_bytes(png(np.uint8(3).item()))
    (tmp_path / "README").write_text("no image")
    entries = list_folder(tmp_path)
    assert entries.keys == (b"image",)
    assert entries.unsupported_files == {"": 1}


LAYOUT = ("train/cat/1.png", "train/dog/2.png", "train/caf\u00e9/3.png", "test/cat/4", "val/5.png")


def in_utf8(name: str) -> bytes:
    return name.encode()


@pytest.mark.parametrize(
    ("prefix", "encode", "flagged"),
    [
        ("", in_utf8, True),  # most programs
        ("", in_utf8, False),  # macOS
        ("", lambda name: name.encode("cp437"), False),  # MS-DOS
        ("", lambda name: name.replace("/", "\\").encode("cp437"), False),  # old Windows
        ("./", in_utf8, True),
        ("/home/me/set/", in_utf8, True),
        ("C:\\set\\", lambda name: name.replace("/", "\\").encode(), True),
        ("set//.//", in_utf8, False),
    ],
)
def test_a_zip_is_read_like_its_folder(tmp_path, prefix, encode, flagged):
    """Entries of folders, order, slashes, encodings and prefixes make no difference."""
    folder = tmp_path / "folder"
    for i, name in enumerate(LAYOUT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(i))
    members = {prefix + name: (folder / name).read_bytes() for name in reversed(LAYOUT)}
    members |= {f"{prefix}train/": b"", f"{prefix}train/cat/": b""}
    junk = {"__MACOSX/train/cat/._1.png": b"junk", f"{prefix}train/.DS_Store": b"junk"}
    entries = list_zip(raw_zip(tmp_path / "x.zip", members | junk, encode, flagged=flagged))
    expected = list_folder(folder)
    inner = prefix.replace("\\", "/").removeprefix("C:").replace("//.//", "/").lstrip("./")
    assert [key.decode().removeprefix(inner) for key in entries.keys] == [
        key.decode() for key in expected.keys
    ]
    every = range(len(LAYOUT))
    assert entries.declared_splits(every) == expected.declared_splits(every)
    assert list(entries.reader.read(entries.keys)) == list(expected.reader.read(expected.keys))
    assert (
        (entries.unsupported_files, entries.skipped_files)
        == (expected.unsupported_files, expected.skipped_files)
        == ({}, ())
    )


def raw_zip(path: Path, members: dict[str, bytes], encode, *, flagged: bool) -> Path:
    """Write a zip with names as given bytes, flagged as UTF-8 or not, which zipfile cannot do."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, content in enumerate(members.values()):
            archive.writestr(f"{number:02}".ljust(60, "x"), content)
    content = path.read_bytes()
    for number, name in enumerate(members):
        # An extra field after the name fills the length of the placeholder.
        raw = encode(name)
        for mark, flags, length in ((b"PK\x03\x04", 6, 26), (b"PK\x01\x02", 8, 28)):
            header = length + 4 if mark[2] == 3 else length + 18
            start = content.index(f"{number:02}".ljust(60, "x").encode()) - header
            assert content[start : start + 4] == mark
            fill = 60 - len(raw)
            content = b"".join(
                (
                    content[: start + flags],
                    (0x800 if flagged else 0).to_bytes(2, "little"),
                    content[start + flags + 2 : start + length],
                    len(raw).to_bytes(2, "little"),
                    fill.to_bytes(2, "little"),
                    content[start + length + 4 : start + header],
                    raw,
                    b"\xfe\xca" + (fill - 4).to_bytes(2, "little") + bytes(fill - 4),
                    content[start + header + 60 :],
                )
            )
    path.write_bytes(content)
    return path


def test_info_zip_names_and_repeated_names(tmp_path):
    """A matching Unicode extra field has precedence; of repeated names the last entry counts."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for raw, extra_of in (("a?.png", "a?.png"), ("b?.png", "other")):
            info = zipfile.ZipInfo(raw)
            name = f"{raw[0]}\u6c34.png".encode()
            value = b"\1" + zlib.crc32(extra_of.encode()).to_bytes(4, "little") + name
            info.extra = struct.pack("<HH", 0x7075, len(value)) + value
            archive.writestr(info, png(1))
        archive.writestr("c.png", png(2))
        archive.writestr("./c.png", png(3))
    entries = list_zip(path)
    assert [key.decode() for key in entries.keys] == ["a\u6c34.png", "b?.png", "c.png"]
    assert list(entries.reader.read([b"c.png"])) == [png(3)]


def test_links_in_a_zip_are_skipped_and_named(tmp_path):
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", png())
        archive.writestr(link, "a.png")
    entries = list_zip(tmp_path / "x.zip")
    assert entries.keys == (b"a.png",)
    assert [file.name for file in entries.skipped_files] == ["link.png"]
