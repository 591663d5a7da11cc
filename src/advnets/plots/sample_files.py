"""Samples as files, written block by block: a grid, an array, or a folder of PNG files.

No more than a block of samples is held at once, however many are drawn.
"""

from __future__ import annotations

import mimetypes
import re
import shutil
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from advnets.errors import UsageError, WriteError
from advnets.files import check_output, created_folder, write_atomically
from advnets.plots.image_grid import GridLayout, to_bytes, to_image

Blocks = Iterable[Float[Tensor, "_ channels height width"]]
OutputFormat = Literal["grid", "array", "folder"]

_MIME_TYPES = mimetypes.MimeTypes()
"""Python's own table of endings: the system's has .1, .2 and such, which name versions as well."""
_NUMBERED = re.compile(r"\d{5,}\.png")
_IGNORED_FILES = ("thumbs.db", "desktop.ini")
"""Files that file managers leave in folders; hidden ones (.DS_Store) are passed over as well."""
_STAGING_PREFIX = ".samples."
_STALE_SECONDS = 3600
_MAX_COMPRESSION = 20
"""Largest compression ratio of samples that are not all alike."""


def output_format(out: Path) -> OutputFormat:
    """Return what samples are written as, by the ending of a name.

    Raises:
        UsageError: the ending is that of another file format.
    """
    ending = out.suffix.lower()
    if ending in (".png", ".npz"):
        return "grid" if ending == ".png" else "array"
    if ending == ".npy" or _MIME_TYPES.guess_type(f"x{ending}", strict=False)[0] is not None:
        raise UsageError(f"{out} ends in {out.suffix}; give a name in .png, .npz, or of a folder")
    return "folder"


def check_samples_output(out: Path, *, overwrite: bool = False) -> OutputFormat:
    """Check a place for samples before any is drawn, and return what they are written as there.

    A folder must be empty, or with `overwrite` hold nothing but numbered PNG files (00000.png, …).

    Raises:
        UsageError: samples cannot be written there.
    """
    form = output_format(out)
    check_output(out, folder=form == "folder")
    if form == "folder" and out.is_dir():
        _check_folder(out, overwrite=overwrite)
    return form


def check_disk_space(out: Path, size: int) -> None:
    """Refuse samples of `size` bytes that no compression brings onto the disk.

    Raises:
        UsageError: they would not fit.
    """
    folder = next(folder for folder in out.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(folder).free
    if size > _MAX_COMPRESSION * free:
        raise UsageError(
            f"so many samples are {size >> 20:,} MiB before compression, but {folder} has "
            f"{free >> 20:,} MiB left; give a smaller --num-samples"
        )


def save_grid_from_blocks(blocks: Blocks, layout: GridLayout, path: Path) -> None:
    """Write a grid as a PNG file, row by row, whole or not at all.

    Raises:
        WriteError: it cannot be written there.
    """

    def write(part: Path) -> None:
        with part.open("wb") as file:
            _write_png(
                file, layout.width, layout.height, layout.shape[0], layout.iterate_bands(blocks)
            )

    write_atomically(path, write)


def save_images_array(blocks: Blocks, n: int, shape: tuple[int, int, int], path: Path) -> None:
    """Write the array `images` of n images, bytes of shape (n, H, W, C), as an .npz file.

    Raises:
        WriteError: it cannot be written there.
    """
    channels, height, width = shape
    arrays = (to_bytes(block).permute(0, 2, 3, 1).numpy() for block in blocks)
    _save_array("images", (n, height, width, channels), np.dtype(np.uint8), arrays, path)


def save_points_array(blocks: Blocks, n: int, dims: int, path: Path) -> None:
    """Write the array `points` of n points, float32 of shape (n, dims), as an .npz file.

    Raises:
        WriteError: it cannot be written there.
    """
    arrays = (block.flatten(1).numpy() for block in blocks)
    _save_array("points", (n, dims), np.dtype(np.float32), arrays, path)


def save_images(blocks: Blocks, n: int, folder: Path, *, overwrite: bool = False) -> None:
    """Write each of n images, values in [0, 1], as a PNG of its own size: 00000.png, 00001.png, …

    The files appear together, after the last one is written. With `overwrite` they replace all
    numbered PNG files of the folder.

    Raises:
        UsageError: the images are none, as for `grid`; the folder is not empty.
        WriteError: the folder cannot be written.
    """
    digits = max(5, len(str(n - 1)))
    try:
        with created_folder(folder):
            _check_folder(folder, overwrite=overwrite)
            _remove_stale(folder)
            staging = Path(tempfile.mkdtemp(dir=folder, prefix=_STAGING_PREFIX, suffix=".part"))
            try:
                number = 0
                for block in blocks:
                    for pixels in to_bytes(block).permute(0, 2, 3, 1).contiguous().numpy():
                        to_image(pixels).save(staging / f"{number:0{digits}}.png")
                        number += 1
                _check_folder(folder, overwrite=overwrite)  # another process may have been here
                _replace(folder, _numbered(folder), sorted(staging.iterdir()))
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise WriteError(folder, error) from None


def _replace(folder: Path, old: list[Path], new: list[Path]) -> None:
    """Put new files into a folder in place of old ones; on an error the old ones stay.

    Raises:
        OSError: a file cannot be renamed.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=_STAGING_PREFIX, suffix=".part") as backup:
        moved: list[tuple[Path, Path]] = []
        pairs = [(file, Path(backup) / file.name) for file in old]
        pairs += [(file, folder / file.name) for file in new]
        try:
            for source, target in pairs:
                source.rename(target)
                moved.append((source, target))
        except BaseException:
            for source, target in reversed(moved):
                target.rename(source)
            raise


def _check_folder(folder: Path, *, overwrite: bool) -> None:
    numbered = _numbered(folder)
    others = sorted(
        path.name
        for path in folder.iterdir()
        if path not in numbered
        and not path.name.startswith(".")
        and path.name.lower() not in _IGNORED_FILES
    )
    if others:
        more = f" and {len(others) - 3:,} more" if len(others) > 3 else ""
        raise UsageError(
            f"{folder} holds {', '.join(others[:3])}{more}; samples go into a new or empty folder, "
            "and --overwrite replaces numbered PNG files (00000.png, …) alone: give another folder"
        )
    if numbered and not overwrite:
        raise UsageError(
            f"{folder} holds {len(numbered):,} numbered PNG files ({numbered[0].name}, …); give "
            "another folder, or --overwrite to replace all of these"
        )


def _remove_stale(folder: Path) -> None:
    """Remove what killed processes left; what changed in the last hour may be in use."""
    for staging in folder.glob(f"{_STAGING_PREFIX}*.part"):
        if time.time() - staging.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(staging, ignore_errors=True)


def _numbered(folder: Path) -> list[Path]:
    """The PNG files of a folder that samples were written to, in order."""
    return sorted(
        path for path in folder.iterdir() if _NUMBERED.fullmatch(path.name) and path.is_file()
    )


def _save_array(
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    arrays: Iterable[np.ndarray],
    path: Path,
) -> None:
    """Write what `numpy.savez_compressed` writes of one array, some rows at a time."""
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }

    def write(part: Path) -> None:
        with (
            zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open(f"{name}.npy", "w", force_zip64=True) as file,
        ):
            np.lib.format.write_array_header_1_0(file, header)
            for array in arrays:
                file.write(np.ascontiguousarray(array, dtype).tobytes())

    write_atomically(path, write)


def _write_png(
    file: BinaryIO,
    width: int,
    height: int,
    channels: int,
    bands: Iterable[UInt8[np.ndarray, "lines width channels"]],
) -> None:
    """Write a PNG file of 8 bits a channel, gray (1) or RGB (3), some lines at a time.

    Pillow encodes an image only as a whole, at 4 bytes a pixel.
    Source: ISO/IEC 15948, sections 5 (chunks), 9 (filter 2, Up) and 11.2.2 (IHDR).
    """

    def chunk(kind: bytes, data: bytes) -> None:
        file.write(struct.pack(">I", len(data)) + kind + data)
        file.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))

    file.write(b"\x89PNG\r\n\x1a\n")
    chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0))
    compress = zlib.compressobj()
    above = np.zeros((1, width * channels), np.uint8)
    for band in bands:
        lines = np.concatenate((above, band.reshape(len(band), -1)))
        filtered = np.full((len(band), 1 + width * channels), 2, np.uint8)
        # Filter Up: each byte less the one above it, modulo 256.
        np.subtract(lines[1:], lines[:-1], out=filtered[:, 1:])
        above = lines[-1:]
        if data := compress.compress(filtered.tobytes()):
            chunk(b"IDAT", data)
    chunk(b"IDAT", compress.flush())
    chunk(b"IEND", b"")
