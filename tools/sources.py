"""Write the table of docs/sources.md: each data source, a command run on it, and its output.

    ADVNETS_DATA=folder/of/data/sets python tools/sources.py

Files that may not be redistributed, or that are not on this machine, are generated in their
formats from images of other datasets; the table says so.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

REAL = Path(os.environ["ADVNETS_DATA"])
PAGE = Path(__file__).parent.parent / "docs" / "sources.md"
BEGIN, END = "<!-- table: tools/sources.py -->", "<!-- end of table -->"
KEPT = ("resolutions", "splits", "unreadable files", "mean", "std", "mean log density")
"""Prefixes of the output lines in the table, besides the first line."""


@dataclass(frozen=True)
class Row:
    """A data source: its description, its argument, and a note on how its file was made."""

    about: str
    source: str
    note: str = ""


ROWS = [
    Row("scikit-learn's digits", "digits"),
    Row("MNIST", "mnist"),
    Row("any IDX pair, by its folder", "idx", "MNIST's files, given by path"),
    Row("Stacked MNIST, 1,000 modes", "stacked-mnist:n=128000"),
    Row("CIFAR-10, binary", "cifar-binary", "made of CIFAR-10 (JPEG)"),
    Row("CIFAR-10, Python pickles", "cifar-python", "made of CIFAR-10 (JPEG)"),
    Row("CIFAR-100, Python pickles", "cifar100-python", "CIFAR-10 (JPEG), numbered 0 to 99"),
    Row("SVHN `.mat`", "street", "made of CIFAR-10 (JPEG)"),
    Row("TFD's layout, `.mat`, fold 2", "faces.mat:fold=2", "Olivetti faces, not TFD"),
    Row("a zip of images", "faces.zip", "Olivetti faces"),
    Row("a folder, flat", "faces", "the same, unpacked, and a text file named .png"),
    Row("a zip by split and class", "cifar10-jpg.zip", "CIFAR-10 (JPEG)"),
    Row("a pack", "faces-pack", "made by `advnets data pack faces faces-pack --size 48`"),
    Row("Parquet", "faces.parquet", "Olivetti faces"),
    Row("WebDataset shards", "shards", "Olivetti faces in two tars"),
    Row("a saved Hugging Face dataset", "saved", "Olivetti faces"),
    Row("a normal distribution", "gaussian:dims=2,rho=0.5"),
    Row("a mixture", "mixture:means=-2/3,sds=0.5/1,weights=0.3/0.7"),
    Row("a uniform box", "uniform:dims=2"),
    Row("a ring of n", "ring:modes=8"),
    Row("a grid of n x n", "grid:side=5"),
    Row("a spiral", "spiral"),
    Row("two moons", "moons"),
    Row("a pinwheel", "pinwheel"),
    Row("drawn points, CSV", "points.csv:sd=0.05", "a heart, 200 points"),
    Row("drawn points, npy", "points.npy", "the same"),
]
NOT_RUN = [
    ("Fashion-MNIST", "fashion-mnist", "`advnets data fetch fashion-mnist`"),
    ("Kuzushiji-MNIST", "kmnist", "`advnets data fetch kmnist`"),
    ("EMNIST", "emnist:split=letters", "`advnets data fetch emnist`"),
    ("CIFAR-10, CIFAR-100, SVHN by name", "cifar10", "`advnets data fetch cifar10`"),
    ("TFD, 96x96", "tfd:size=96,fold=1", "TFD_96x96.mat by hand"),
    ("the Hugging Face hub", "hf:uoft-cs/cifar10", "a connection"),
    ("a stream of either", "--data shards --stream", "`train` only"),
]


def make(folder: Path) -> None:
    """Write every file of the table into a folder."""
    (folder / "idx").mkdir()
    for path in (REAL / "mnist").iterdir():
        (folder / "idx" / path.name).symlink_to(path)
    (folder / "faces.mat").symlink_to(REAL / "faces" / "olivetti-tfd-layout-48.mat")
    (folder / "faces.zip").symlink_to(REAL / "faces" / "olivetti-64.zip")
    (folder / "cifar10-jpg.zip").symlink_to(REAL / "cifar10" / "cifar10-jpg.zip")
    with zipfile.ZipFile(folder / "faces.zip") as archive:
        archive.extractall(folder / "faces")
    make_cifar(folder)
    make_shards(folder, sorted((folder / "faces").glob("*.png")))
    (folder / "faces" / "notes.png").write_text("these are words")
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    heart = np.stack(
        [
            16 * np.sin(turn) ** 3,
            13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn),
        ],
        axis=1,
    )
    np.savetxt(
        folder / "points.csv", heart / 16, fmt="%.5f", delimiter=",", header="x,y", comments=""
    )
    np.save(folder / "points.npy", heart / 16)
    run(folder, "data", "pack", "faces", "faces-pack", "--size", "48")


def make_cifar(folder: Path) -> None:
    """Write CIFAR-10 (JPEG) in the formats of CIFAR and SVHN."""
    from scipy.io import savemat

    with zipfile.ZipFile(folder / "cifar10-jpg.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        classes = sorted({name.split("/")[1] for name in names})
        rng = np.random.default_rng(0)
        parts = {}
        for split in ("train", "test"):
            own = rng.permutation([name for name in names if name.startswith(split)]).tolist()
            pixels = [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in own]
            labels = np.array([classes.index(name.split("/")[1]) for name in own], np.uint8)
            parts[split] = np.stack(pixels).transpose(0, 3, 1, 2).reshape(len(own), -1), labels
    folders = {name: folder / name for name in ("cifar-binary", "cifar-python", "cifar100-python")}
    for place in (*folders.values(), folder / "street"):
        place.mkdir()
    batches = [
        (f"data_batch_{i + 1}", "train", slice(i * 10_000, (i + 1) * 10_000)) for i in range(5)
    ]
    for name, split, which in (*batches, ("test_batch", "test", slice(None))):
        pixels, labels = (array[which] for array in parts[split])
        records = np.concatenate([labels[:, None], pixels], axis=1)
        (folders["cifar-binary"] / f"{name}.bin").write_bytes(records.tobytes())
        record = {b"data": pixels, b"labels": labels.tolist()}
        (folders["cifar-python"] / name).write_bytes(pickle.dumps(record, protocol=2))
    meta = {b"fine_label_names": [f"class {i}".encode() for i in range(100)]}
    meta[b"coarse_label_names"] = [f"kind {i}".encode() for i in range(20)]
    (folders["cifar100-python"] / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    for split in ("train", "test"):
        pixels, labels = parts[split]
        fine = [i % 100 for i in range(len(labels))]
        record = {b"data": pixels, b"fine_labels": fine, b"coarse_labels": [i // 5 for i in fine]}
        (folders["cifar100-python"] / split).write_bytes(pickle.dumps(record, protocol=2))
        images = pixels.reshape(-1, 3, 32, 32).transpose(2, 3, 1, 0)
        digits = np.where(labels == 0, 10, labels)[:, None]
        savemat(
            folder / "street" / f"{split}_32x32.mat",
            {"X": images, "y": digits},
            do_compression=True,
        )


def make_shards(folder: Path, images: list[Path]) -> None:
    """Write the same images as Parquet, as tar shards and as a saved Hugging Face dataset."""
    import datasets

    files = {"image": [{"bytes": path.read_bytes(), "path": path.name} for path in images]}
    table = datasets.Dataset.from_dict(files, datasets.Features(image=datasets.Image()))
    table.to_parquet(str(folder / "faces.parquet"))
    table.save_to_disk(str(folder / "saved"))
    (folder / "shards").mkdir()
    for i in range(2):
        with tarfile.open(folder / "shards" / f"train-{i:05}.tar", "w") as archive:
            for path in images[i::2]:
                archive.add(path, path.name)


def run(folder: Path, *arguments: str) -> str:
    """Run a command in a folder and return its output."""
    command = [Path(sys.executable).parent / "advnets", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"advnets {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def table(folder: Path) -> str:
    """Run every command and return the table."""
    lines = ["| source | command | printed (some lines) |", "|---|---|---|"]
    for row in ROWS:
        first, *more = [
            line.strip() for line in run(folder, "data", "audit", row.source).splitlines()
        ]
        kept = [first, *(line for line in more if line.startswith(KEPT))]
        text = "<br>".join(re.sub(r"\s{2,}", " ", line).replace("|", "\\|") for line in kept)
        about = f"{row.about} ({row.note})" if row.note else row.about
        lines.append(f"| {about} | `advnets data audit {row.source}` | {text} |")
        print(lines[-1], flush=True)
    lines += [
        "",
        "Not run for this page, since the files or the network are not available on the machine "
        "that wrote it:",
        "",
    ]
    lines += ["| source | name | needs |", "|---|---|---|"]
    lines += [f"| {about} | `{source}` | {needs} |" for about, source, needs in NOT_RUN]
    return "\n".join(lines)


def main() -> None:
    """Make the files, run the commands and write the page."""
    folder = Path(tempfile.mkdtemp())
    os.environ["ADVNETS_CACHE"] = str(folder / "cache")
    try:
        make(folder)
        page = PAGE.read_text("utf-8")
        before, _, rest = page.partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{table(folder)}\n{END}{after}", "utf-8")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
