"""The mirrors and files of named datasets, as published by their authors.

MD5s are those published with the datasets; they detect damage, but not malicious changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from advnets.data.datasets import cifar, mnist, svhn
from advnets.data.datasets.formats.limits import MIB


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name there, its local name, and its maximal size in bytes."""

    name: str
    file: str
    max_bytes: int


@dataclass(frozen=True)
class File:
    """A file to download: its name on the mirrors, and its MD5.

    `decompressed` means that the MD5 is that of the gzipped file's content. Of an archive, only the
    members are kept.
    """

    name: str
    md5: str
    decompressed: bool = False
    members: tuple[Member, ...] = ()


@dataclass(frozen=True)
class RemoteDataset:
    """The files of a dataset, the base URLs of its mirrors, and the folder for the files."""

    folder: str
    mirrors: tuple[str, ...]
    files: tuple[File, ...]


_MAX_NAMES_BYTES = 1 << 16
"""The maximal size of a file of class names."""


def _members(folder: str, sizes: Mapping[str, int]) -> tuple[Member, ...]:
    """Return members that keep their names, including the folder."""
    return tuple(Member(f"{folder}/{name}", f"{folder}/{name}", n) for name, n in sizes.items())


def _emnist_members() -> tuple[Member, ...]:
    sizes = {
        f"emnist-{split}-{part}-{content}-ubyte.gz": mebibytes * MIB
        for split in ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")
        for part in ("train", "test")
        for content, mebibytes in (("images-idx3", 512), ("labels-idx1", 8))
    }
    return tuple(Member(f"gzip/{name}", name, n) for name, n in sizes.items())


def _files(md5s: Mapping[str, str]) -> tuple[File, ...]:
    return tuple(File(name, md5) for name, md5 in md5s.items())


_TORONTO = ("https://www.cs.toronto.edu/~kriz/",)
_STANFORD = ("http://ufldl.stanford.edu/housenumbers/",)
_BATCH_BYTES = 10_000 * 3073

REMOTES: dict[str, RemoteDataset] = {
    "mnist": RemoteDataset(
        "mnist",
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        tuple(File(f"{name}.gz", md5, decompressed=True) for name, md5 in mnist.MD5.items()),
    ),
    "fashion-mnist": RemoteDataset(
        "fashion-mnist",
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        _files(mnist.FASHION_MD5),
    ),
    "kmnist": RemoteDataset(
        "kmnist",
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        _files(mnist.KMNIST_MD5),
    ),
    "emnist": RemoteDataset(
        "emnist",
        (
            "https://biometrics.nist.gov/cs_links/EMNIST/",
            "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
        ),
        (File("gzip.zip", "58c8d27c78d21e728a6bc7b3cc06412e", members=_emnist_members()),),
    ),
    "cifar10": RemoteDataset(
        "cifar10",
        _TORONTO,
        (
            File(
                cifar.VERSIONS_10[0].archive,
                "c32a1d4ab5d03f1284b67883e8d87530",
                members=_members(
                    cifar.VERSIONS_10[0].folder,
                    dict.fromkeys(
                        (*cifar.VERSIONS_10[0].train, cifar.VERSIONS_10[0].test), _BATCH_BYTES
                    )
                    | {"batches.meta.txt": _MAX_NAMES_BYTES},
                ),
            ),
        ),
    ),
    "cifar100": RemoteDataset(
        "cifar100",
        _TORONTO,
        (
            File(
                cifar.VERSIONS_100[0].archive,
                "03b5dce01913d631647c71ecec9e9cb8",
                members=_members(
                    cifar.VERSIONS_100[0].folder,
                    {
                        "train.bin": 50_000 * 3074,
                        "test.bin": 10_000 * 3074,
                        "fine_label_names.txt": _MAX_NAMES_BYTES,
                        "coarse_label_names.txt": _MAX_NAMES_BYTES,
                    },
                ),
            ),
        ),
    ),
    "svhn": RemoteDataset(
        "svhn",
        _STANFORD,
        (
            File(svhn.TRAIN, "e26dedcc434d2e4c54c9b2d4a06d8373"),
            File(svhn.TEST, "eb5a983be6a315427106f1b164d9cef3"),
        ),
    ),
    "svhn-extra": RemoteDataset(
        "svhn", _STANFORD, (File(svhn.EXTRA, "a93ce644f1a588dc4d68dda5feec44a7"),)
    ),
}
"""The datasets that `advnets data fetch` can download, by name."""
