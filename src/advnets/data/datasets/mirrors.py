"""Where the named sets lie, and what is known of their files: facts of those who publish them.

MD5s are those published with the sets; they find out damage, and keep out nobody who means harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from advnets.data.datasets import cifar, mnist, svhn
from advnets.data.datasets.formats.limits import MIB


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name there, its name here, and the most bytes it may have."""

    name: str
    file: str
    most: int


@dataclass(frozen=True)
class File:
    """A file to bring: its name at the mirrors, and the MD5 of it or of what it unpacks to.

    Of an archive the members are kept and not the archive.
    """

    name: str
    md5: str
    unpacked: bool = False
    members: tuple[Member, ...] = ()


@dataclass(frozen=True)
class Remote:
    """A set's files, the addresses below which they lie, and the folder that they are put in."""

    folder: str
    mirrors: tuple[str, ...]
    files: tuple[File, ...]


_NAMES = 1 << 16  # the most bytes of a list of classes


def _same(folder: str, names: Mapping[str, int]) -> tuple[Member, ...]:
    """Members that keep their names, folder included."""
    return tuple(Member(f"{folder}/{name}", f"{folder}/{name}", n) for name, n in names.items())


def _emnist() -> tuple[Member, ...]:
    files = {
        f"emnist-{split}-{part}-{what}-ubyte.gz": most * MIB
        for split in ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")
        for part in ("train", "test")
        for what, most in (("images-idx3", 512), ("labels-idx1", 8))
    }
    return tuple(Member(f"gzip/{name}", name, most) for name, most in files.items())


def _plain(md5s: Mapping[str, str]) -> tuple[File, ...]:
    return tuple(File(name, md5) for name, md5 in md5s.items())


_TORONTO = ("https://www.cs.toronto.edu/~kriz/",)
_STANFORD = ("http://ufldl.stanford.edu/housenumbers/",)
_BATCH = 10_000 * 3073

REMOTES: dict[str, Remote] = {
    "mnist": Remote(
        "mnist",
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        tuple(File(f"{name}.gz", md5, unpacked=True) for name, md5 in mnist.MD5.items()),
    ),
    "fashion-mnist": Remote(
        "fashion-mnist",
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        _plain(mnist.FASHION_MD5),
    ),
    "kmnist": Remote(
        "kmnist",
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        _plain(mnist.KMNIST_MD5),
    ),
    "emnist": Remote(
        "emnist",
        (
            "https://biometrics.nist.gov/cs_links/EMNIST/",
            "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/",
        ),
        (File("gzip.zip", "58c8d27c78d21e728a6bc7b3cc06412e", members=_emnist()),),
    ),
    "cifar10": Remote(
        "cifar10",
        _TORONTO,
        (
            File(
                cifar.VERSIONS_10[0].archive,
                "c32a1d4ab5d03f1284b67883e8d87530",
                members=_same(
                    cifar.VERSIONS_10[0].folder,
                    dict.fromkeys((*cifar.VERSIONS_10[0].train, cifar.VERSIONS_10[0].test), _BATCH)
                    | {"batches.meta.txt": _NAMES},
                ),
            ),
        ),
    ),
    "cifar100": Remote(
        "cifar100",
        _TORONTO,
        (
            File(
                cifar.VERSIONS_100[0].archive,
                "03b5dce01913d631647c71ecec9e9cb8",
                members=_same(
                    cifar.VERSIONS_100[0].folder,
                    {
                        "train.bin": 50_000 * 3074,
                        "test.bin": 10_000 * 3074,
                        "fine_label_names.txt": _NAMES,
                        "coarse_label_names.txt": _NAMES,
                    },
                ),
            ),
        ),
    ),
    "svhn": Remote(
        "svhn",
        _STANFORD,
        (
            File(svhn.TRAIN, "e26dedcc434d2e4c54c9b2d4a06d8373"),
            File(svhn.TEST, "eb5a983be6a315427106f1b164d9cef3"),
        ),
    ),
    "svhn-extra": Remote(
        "svhn", _STANFORD, (File(svhn.EXTRA, "a93ce644f1a588dc4d68dda5feec44a7"),)
    ),
}
"""What `data fetch` knows, by name."""
