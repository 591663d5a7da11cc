"""Own images opened: packed when they are first used, mapped from the pack ever after."""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path

from advnets.config import ImagePreprocessing
from advnets.data.dataset import Dataset
from advnets.data.image_folder.decode import Frame
from advnets.data.image_folder.files import ImageFiles, list_folder, list_zip
from advnets.data.image_folder.pack import PACK_AGAIN, VERSION, open_pack
from advnets.data.image_folder.splits import ASSIGNMENT_VERSION
from advnets.data.spec import cache_directory
from advnets.errors import DataError
from advnets.files import file_lock


def is_image_source(path: Path) -> bool:
    """Whether a path is a folder or a zip."""
    return path.is_dir() or path.suffix.lower() == ".zip"


def find_images(path: Path, *, follow_links: bool = False) -> ImageFiles:
    """Find the image files of a folder or zip; nothing of them is read yet.

    `follow_links` reads also what symbolic links lead to outside of the folder.

    Raises:
        DataError: it is a zip that cannot be read.
    """
    return list_folder(path, follow_links=follow_links) if path.is_dir() else list_zip(path)


def to_dataset(source: Dataset | ImageFiles, framing: ImagePreprocessing) -> Dataset:
    """What was found, opened: files in the frame that `data` asks for, anything else as it is.

    Raises:
        DataError, UsageError, WriteError: as for `open_collection`; or the background is no color.
    """
    return (
        open_image_files(source, Frame.from_config(framing))
        if isinstance(source, ImageFiles)
        else source
    )


def open_image_files(files: ImageFiles, frame: Frame) -> Dataset:
    """Open files by way of the cache, where their pack lies under a key of all that made it.

    Raises:
        DataError: no file is an image that can be read.
        WriteError: the cache cannot be written.
    """
    what = (VERSION, ASSIGNMENT_VERSION, files.location, files.fingerprint, len(files.keys), frame)
    key = hashlib.blake2b(repr(what).encode(), digest_size=16).hexdigest()
    folder = cache_directory() / "packs"
    place = folder / key
    if place.exists():
        try:
            return open_pack(place, key)
        except DataError as error:
            message = str(error).removesuffix(PACK_AGAIN)
            logging.getLogger("advnets").warning("%sit is packed again now", message)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be made ({error.strerror}), where images are packed; "
            f"set ADVNETS_CACHE to a folder that is yours"
        ) from None
    with file_lock(folder / f"{key}.lock"):
        try:
            return open_pack(place, key)  # another process has been faster
        except DataError:
            from advnets.data.image_folder.pack import pack  # with what starts processes

            for remains in (place, *folder.glob(f".{key}.*.part")):
                shutil.rmtree(remains, ignore_errors=True)
        return pack(files, frame, place, identity=key)
