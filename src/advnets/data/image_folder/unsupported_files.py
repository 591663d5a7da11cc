"""Kinds of files that are no images advnets reads, known by the endings of their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

_KINDS = {
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
    "film": ".avi .m4v .mkv .mov .mp4 .mpeg .mpg .webm .wmv",
}
_KIND_OF = {ending: kind for kind, endings in _KINDS.items() for ending in endings.split()}


def count_by_kind(endings: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Count files by kind, given their number by ending.

    Returns:
        the counts of kinds that hold images and would have to be converted, such as HEIC; and those
        of all other endings.
    """
    images, others = Counter[str](), Counter[str]()
    for ending, count in endings.items():
        if ending in _KIND_OF:
            images[_KIND_OF[ending]] += count
        else:
            others[ending or "without ending"] += count
    return _ranked(images), _ranked(others)


def _ranked(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0].casefold())))


def describe_unsupported(endings: Mapping[str, int]) -> list[str]:
    """Say in at most two lines which files are not used, given their number by ending."""
    images, others = count_by_kind(endings)
    lines: list[str] = []
    if images:
        lines.append(
            f"not used, as these kinds are not read: {format_counts(images)}; convert them to PNG or JPEG"
        )
    if others:
        lines.append(f"not used, as they are no images: {format_counts(others)}")
    return lines


def format_counts(counts: Mapping[str, int], max_names: int = 10) -> str:
    """Return names with their counts in one line, at most so many, the most frequent first."""
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:max_names]]
    more = [f"{len(counts) - max_names:,} more"] if len(counts) > max_names else []
    return ", ".join(shown + more)
