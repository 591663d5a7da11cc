import gc
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ["HF_HUB_OFFLINE"] = "1"  # before the library is imported: tests have no network


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # After an incomplete epoch the garbage collector closes the library's files.
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"))


@pytest.fixture(autouse=True)
def huggingface_caches(tmp_path, monkeypatch) -> Iterator[Path]:
    """Set the library's caches to folders of the test."""
    cache = tmp_path.parent / f"{tmp_path.name}-cache"
    monkeypatch.setenv("ADVNETS_CACHE", str(cache))
    import datasets

    library_cache = tmp_path.parent / f"{tmp_path.name}-library"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", library_cache)
    gc.freeze()  # skip existing objects, which are many
    yield cache
    gc.collect()  # while the warning above is still filtered
    gc.unfreeze()


@pytest.fixture
def png() -> Callable[..., bytes]:
    """Return an encoder of images of one gray level, or of noise."""

    def encode(level: int | np.ndarray, size: tuple[int, int] = (8, 8)) -> bytes:
        content = io.BytesIO()
        if isinstance(level, int):
            Image.new("L", size, level).save(content, "PNG")
        else:
            Image.fromarray(level).save(content, "PNG")
        return content.getvalue()

    return encode


@pytest.fixture
def table(png) -> Callable[..., object]:
    """Return a builder of tables of images with the given levels, and labels level % 3."""

    def make(levels: Sequence[int | bytes | None], labels: bool = True):
        import datasets

        contents = [png(level) if isinstance(level, int) else level for level in levels]
        columns: dict[str, object] = {
            "text": [str(i) for i in range(len(levels))],
            "image": [None if content is None else {"bytes": content} for content in contents],
        }
        features: dict[str, object] = {"text": datasets.Value("string"), "image": datasets.Image()}
        if labels:
            columns["label"] = [
                level % 3 if isinstance(level, int) else i % 3 for i, level in enumerate(levels)
            ]
            features["label"] = datasets.ClassLabel(names=["a", "b", "c"])
        return datasets.Dataset.from_dict(columns, features=datasets.Features(features))

    return make


@pytest.fixture
def write_parquet(table) -> Callable[..., Path]:
    def write(path: Path, levels: Sequence[int | bytes | None], labels: bool = True) -> Path:
        import pyarrow.parquet as pq

        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(levels, labels).data.table, path, row_group_size=7)
        return path

    return write


@pytest.fixture
def write_tar(png) -> Callable[..., Path]:
    """Return a writer of tars with members by name; an integer is the level of an image."""

    def write(path: Path, members: dict[str, bytes | int] | Sequence[int]) -> Path:
        if not isinstance(members, dict):
            members = {
                name: content
                for level in members
                for name, content in (
                    (f"{level:03d}.png", level),
                    (f"{level:03d}.cls", str(level % 3).encode()),
                )
            }
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as archive:
            for name, content in members.items():
                encoded = png(content) if isinstance(content, int) else content
                info = tarfile.TarInfo(name)
                info.size = len(encoded)
                archive.addfile(info, io.BytesIO(encoded))
        return path

    return write


@pytest.fixture
def silent(capfd, recwarn) -> Iterator[None]:
    """Fail if anything is printed."""
    yield
    assert capfd.readouterr() == ("", "")
