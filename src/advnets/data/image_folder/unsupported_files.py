"""Formats of files that are not read, recognized by their suffixes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

_FORMATS = {
    "HEIC": ".heic .heif .heics .heifs .hif",
    "camera RAW": (
        ".3fr .arw .bay .cap .cr2 .cr3 .crw .dcr .dcs .dng .erf .fff .gpr .iiq .k25 .kdc .mdc .mef "
        ".mos .mrw .nef .nrw .orf .pef .ptx .r3d .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f"
    ),
    "SVG": ".svg .svgz",
    "PDF": ".pdf",
    "Illustrator": ".ai",
    "Photoshop": ".psb",
    "GIMP": ".xcf",
    "Krita": ".kra",
    "Affinity": ".afphoto",
    "JPEG XL": ".jxl",
    "JPEG XR": ".jxr .wdp .hdp",
    "OpenEXR": ".exr",
    "Radiance": ".hdr",
    "DICOM": ".dcm .dicom",
    "NIfTI": ".nii",
    "DjVu": ".djvu .djv",
    "video": ".avi .m4v .mkv .mov .mp4 .mpeg .mpg .webm .wmv",
}
_FORMAT_OF = {suffix: name for name, suffixes in _FORMATS.items() for suffix in suffixes.split()}


def count_by_format(suffixes: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Count files by format, given their number by suffix.

    Returns:
        the counts of formats that hold images and would have to be converted, such as HEIC; and
        those of all other suffixes.
    """
    images, others = Counter[str](), Counter[str]()
    for suffix, count in suffixes.items():
        if suffix in _FORMAT_OF:
            images[_FORMAT_OF[suffix]] += count
        else:
            others[suffix or "without suffix"] += count
    return _sort_by_count(images), _sort_by_count(others)


def _sort_by_count(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0].casefold())))


def describe_unsupported(suffixes: Mapping[str, int]) -> list[str]:
    """Return at most two lines on unsupported files, given their number by suffix."""
    images, others = count_by_format(suffixes)
    lines: list[str] = []
    if images:
        lines.append(
            f"unsupported image formats: {format_counts(images)}; convert them to PNG or JPEG"
        )
    if others:
        lines.append(f"unsupported files: {format_counts(others)}")
    return lines


def format_counts(counts: Mapping[str, int], max_names: int = 10) -> str:
    """Return names with their counts in one line, at most `max_names`, the most frequent first."""
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:max_names]]
    more = [f"{len(counts) - max_names:,} more"] if len(counts) > max_names else []
    return ", ".join(shown + more)
