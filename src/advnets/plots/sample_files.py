"""Files of samples, written block by block: a grid, an array, or a folder of PNG files.

At most one block of samples is in memory at a time.
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
"""Python's own table of suffixes; the system's has .1, .2 and so on, which can be versions."""
_NUMBERED = re.compile(r"\d{5,}\.png")
_IGNORED_FILES = ("thumbs.db", "desktop.ini")
"""Files that file managers create in folders; hidden files such as .DS_Store are ignored too."""
_STAGING_PREFIX = ".samples."
_STALE_SECONDS = 3600
_MAX_COMPRESSION = 20
"""The maximum compression ratio of samples that differ."""


def output_format(out: Path) -> OutputFormat:
    """Return the format in which samples are written, by the suffix of a path.

    Raises:
        UsageError: the suffix is that of another file format.
    """
    ending = out.suffix.lower()
    if ending in (".png", ".npz"):
        return "grid" if ending == ".png" else "array"
    if ending == ".npy" or _MIME_TYPES.guess_type(f"x{ending}", strict=False)[0] is not None:
        raise UsageError(
            f"{out} ends in {out.suffix}; give a name that ends in .png or .npz, or a folder"
        )
    return "folder"


def check_samples_output(out: Path, *, overwrite: bool = False) -> OutputFormat:
    """Check that samples can be written to a path, before they are drawn; return their format.

    A folder must be empty, or with `overwrite` have only numbered PNG files (00000.png, …).

    Raises:
        UsageError: samples cannot be written to the path.
    """
    form = output_format(out)
    check_output(out, folder=form == "folder")
    if form == "folder" and out.is_dir():
        _check_folder(out, overwrite=overwrite)
    return form


def check_disk_space(out: Path, size: int) -> None:
    """Check that samples of `size` bytes can fit on the disk after compression.

    Raises:
        UsageError: the disk has too little free space.
    """
    folder = next(folder for folder in out.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(folder).free
    if size > _MAX_COMPRESSION * free:
        raise UsageError(
            f"the samples have {size >> 20:,} MiB before compression, but {folder} has "
            f"{free >> 20:,} MiB free; give a smaller --num-samples"
        )


def save_grid_from_blocks(blocks: Blocks, layout: GridLayout, path: Path) -> None:
    """Write a grid as a PNG file, row by row and atomically.

    Raises:
        WriteError: the file cannot be written.
    """

    def write(part: Path) -> None:
        with part.open("wb") as file:
            _write_png(
                file, layout.width, layout.height, layout.shape[0], layout.iterate_bands(blocks)
            )

    write_atomically(path, write)


def save_images_array(blocks: Blocks, n: int, shape: tuple[int, int, int], path: Path) -> None:
    """Write n images as an .npz file with the array `images`, uint8 of shape (n, H, W, C).

    Raises:
        WriteError: the file cannot be written.
    """
    channels, height, width = shape
    arrays = (to_bytes(block).permute(0, 2, 3, 1).numpy() for block in blocks)
    _save_array("images", (n, height, width, channels), np.dtype(np.uint8), arrays, path)


def save_points_array(blocks: Blocks, n: int, dims: int, path: Path) -> None:
    """Write n points as an .npz file with the array `points`, float32 of shape (n, dims).

    Raises:
        WriteError: the file cannot be written.
    """
    arrays = (block.flatten(1).numpy() for block in blocks)
    _save_array("points", (n, dims), np.dtype(np.float32), arrays, path)


def save_images(blocks: Blocks, n: int, folder: Path, *, overwrite: bool = False) -> None:
    """Write n images in [0, 1] as PNG files of their own size: 00000.png, 00001.png, …

    The files appear in the folder together, after the last one is written. With `overwrite` they
    replace all numbered PNG files of the folder.

    Raises:
        UsageError: an image is invalid, as for `grid`, or the folder is not empty.
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
                _check_folder(folder, overwrite=overwrite)  # another process may have written to it
                _replace(folder, _numbered(folder), sorted(staging.iterdir()))
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise WriteError(folder, error) from None


def _replace(folder: Path, old: list[Path], new: list[Path]) -> None:
    """Move new files into a folder and old ones out of it; on an error, restore the old ones.

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
            f"{folder} has {', '.join(others[:3])}{more}; expected a new or empty folder, or with "
            "--overwrite one that has only numbered PNG files (00000.png, …): give another folder"
        )
    if numbered and not overwrite:
        raise UsageError(
            f"{folder} has {len(numbered):,} numbered PNG files ({numbered[0].name}, …); give "
            "another folder, or --overwrite to replace them all"
        )


def _remove_stale(folder: Path) -> None:
    """Remove files of terminated processes, but not those of the last hour, which may be in use."""
    for staging in folder.glob(f"{_STAGING_PREFIX}*.part"):
        if time.time() - staging.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(staging, ignore_errors=True)


def _numbered(folder: Path) -> list[Path]:
    """Return the numbered PNG files of a folder, in order."""
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
    """Write one array as `numpy.savez_compressed` does, some rows at a time."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}

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
    """Write a PNG file of 8 bits per channel, gray (1) or RGB (3), some lines at a time.

    Pillow encodes only complete images, with 4 bytes per pixel in memory.
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
        # Apply the filter Up: subtract the byte above from each byte, modulo 256.
        np.subtract(lines[1:], lines[:-1], out=filtered[:, 1:])
        above = lines[-1:]
        if data := compress.compress(filtered.tobytes()):
            chunk(b"IDAT", data)
    chunk(b"IDAT", compress.flush())
    chunk(b"IEND", b"")
