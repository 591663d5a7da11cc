"""The commands of `advnets data`: list, fetch, audit and pack datasets."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg, subcommand

from advnets.config import Data, DataDir, ImagePreprocessing, ValidatedConfig, check_values
from advnets.errors import (
    DataError,
    MissingExtraError,
    UsageError,
    printable,
    printable_lines,
)
from advnets.files import shell_quote

if TYPE_CHECKING:
    from advnets.data.dataset import Dataset
    from advnets.data.image_folder.audit import Audit
_MAX_LINES = 10
"""The largest number of lines of a list in text; --json has all."""
_MAX_NAMES = 4
"""The largest number of names of a group of duplicates in text; --json has all."""


@dataclass(frozen=True)
class Fetch:
    """Download a dataset by name, verify its checksums and store it."""

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """Dataset that `advnets data list` marks with "fetch"."""
    data_dir: DataDir = None

    def execute(self) -> int:
        """Download and print the paths."""
        from advnets.data.datasets.fetch import fetch
        from advnets.data.spec import data_directory

        for path in fetch(self.name, data_directory(self.data_dir)):
            print(printable(str(path)))
        return 0


@dataclass(frozen=True)
class ListDatasets:
    """List the named datasets with their sizes or how to get them, and formats of your own data."""

    data_dir: DataDir = None

    def execute(self) -> int:
        """Open each and print its sizes."""
        from advnets.data import spec
        from advnets.data.huggingface.table import Hub
        from advnets.data.registry import file_formats, named_dataset, open_dataset

        for name in spec.DATASET_NAMES:
            named = named_dataset(name)
            options = spec.format_options(named.options)
            print(f"{name}{':' + options if options else ''}")
            print(f"    {named.description}")
            try:
                splits = open_dataset(Data(source=name, directory=self.data_dir))
            except (DataError, MissingExtraError) as error:
                print(f"    not available: {error}")
            else:
                print(f"    available: {_describe_sizes(splits)}")
        print(f"hf:NAME{':' + spec.format_options(Hub)}")
        print("    a dataset of the Hugging Face hub, such as hf:uoft-cs/cifar10")
        print("PATH")
        for file_format in file_formats():
            options = spec.format_options(file_format.options)
            print(f"    {file_format.description}{f', with options :{options}' if options else ''}")
        return 0


@dataclass(frozen=True)
class AuditData(ValidatedConfig):
    """Audit data: formats, resolutions, unreadable files, duplicates, and suggested flags."""

    path: Annotated[Positional[str], arg(metavar="PATH")]
    """Path of a folder, zip or file, or the name of a dataset or distribution."""
    data_dir: DataDir = None
    near_duplicates: bool = False
    """Find near-duplicates by the hashes of an autoencoder that is trained on the images, as in the
    DCGAN paper, in a minute or two. Without this flag, gradients of thumbnails are compared."""
    white_level: float | None = None
    """Value of 16-bit images that is white; None: 65,535."""
    follow_links: bool = False
    """Also read files that symbolic links in an image folder point to outside that folder."""
    json: bool = False
    """Print the audit as JSON, with every unreadable file and duplicate by name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "positive", lambda level: level > 0, "white_level")

    def execute(self) -> int:
        """Audit and print; return 1 if there are no training images, else 0."""
        from advnets.data.image_folder.audit import (
            audit_dataset,
            audit_files,
            group_names,
            near_duplicate_files,
            near_duplicate_rows,
        )
        from advnets.data.image_folder.files import ImageFiles
        from advnets.data.registry import find_source

        _warn_shadowed(self.path)
        opened = find_source(
            Data(source=self.path, directory=self.data_dir, follow_links=self.follow_links)
        )
        if not isinstance(opened, ImageFiles) and opened.distribution is not None:
            statistics = point_statistics(opened)
            print(json.dumps(statistics, indent=2) if self.json else format_points(statistics))
            return 0
        files = isinstance(opened, ImageFiles)
        audit = (
            audit_files(opened, white_level=self.white_level) if files else audit_dataset(opened)
        )
        if self.near_duplicates:
            groups = (
                group_names(opened, near_duplicate_files(opened))
                if files
                else near_duplicate_rows(opened)
            )
            audit = replace(audit, near_duplicates=groups)
        print(json.dumps(asdict(audit), indent=2) if self.json else format_audit(audit, self.path))
        return 0 if audit.suggestion else 1


@dataclass(frozen=True)
class Pack:
    """Decode images once into a folder of arrays, which training maps into memory.

    `advnets train` does this itself, in its cache; a pack of your own can be moved and shared.
    """

    path: Annotated[Positional[str], arg(metavar="PATH")]
    """Path of a folder, a zip or shards of images."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """Folder to create for the pack; it must not exist."""
    framing: Annotated[ImagePreprocessing, arg(name="")] = field(default_factory=ImagePreprocessing)
    without_near_duplicates: bool = False
    """Keep one image of each group of near-duplicates that `data audit --near-duplicates` finds."""

    def execute(self) -> int:
        """Pack and print the sizes and the duration."""
        from advnets.data.image_folder.decode import Frame
        from advnets.data.image_folder.files import ImageFiles, describe_unsupported
        from advnets.data.image_folder.pack import pack
        from advnets.data.registry import find_source
        from advnets.files import check_output

        check_output(self.out, "OUT", folder=True)
        _warn_shadowed(self.path)
        start = time.monotonic()
        opened = find_source(Data(source=self.path, follow_links=self.framing.follow_links))
        if not isinstance(opened, ImageFiles):
            raise UsageError(f"{self.path} needs no packing; give it to --data as it is")
        if self.without_near_duplicates:
            from advnets.data.image_folder.audit import (
                near_duplicate_files,
                remove_duplicates,
            )

            all_files, opened = opened, remove_duplicates(opened, near_duplicate_files(opened))
            print(f"near-duplicates skipped: {len(all_files.keys) - len(opened.keys):,}")
        splits = pack(opened, Frame.from_config(self.framing), self.out)
        seconds = time.monotonic() - start
        for file in splits.skipped_files[:_MAX_LINES]:
            print(f"skipped: {printable(f'{file.name} {file.reason}')}")
        if len(splits.skipped_files) > _MAX_LINES:
            print(f"skipped: {len(splits.skipped_files) - _MAX_LINES:,} more")
        count = sum(_split_sizes(splits).values())
        size = sum(file.stat().st_size for file in self.out.iterdir())
        for line in (*describe_unsupported(splits.unsupported_files), *splits.notes):
            print(printable(line))
        print(f"{printable(str(self.out))}: {_describe_sizes(splits)}")
        print(f"{size / 2**20:,.0f} MiB in {seconds:.1f} s, {count / seconds:,.0f} images/s")
        return 0


@dataclass(frozen=True)
class DataCommand:
    """List, download, audit and pack datasets."""

    command: Annotated[
        Annotated[Fetch, subcommand("fetch", prefix_name=False)]
        | Annotated[ListDatasets, subcommand("list", prefix_name=False)]
        | Annotated[AuditData, subcommand("audit", prefix_name=False)]
        | Annotated[Pack, subcommand("pack", prefix_name=False)],
        arg(name=""),
    ]

    def execute(self) -> int:
        """Run the command."""
        return self.command.execute()


def _warn_shadowed(source: str) -> None:
    """Warn if a file or folder has the same name as the dataset that is opened."""
    from advnets.data import spec

    if spec.is_dataset_name(source) and (warning := spec.shadowing_warning(source)) is not None:
        print(f"advnets: {warning}", file=sys.stderr)


def format_audit(audit: Audit, path: str) -> str:
    """Format an audit as text; `path` is what was audited, for the suggested command."""
    from advnets.data.dataset import few_images_warning
    from advnets.data.image_folder.files import count_by_format, format_counts

    images, others = count_by_format(audit.unsupported_files)
    lines = [f"{audit.name}: {audit.images:,} readable images"]
    for title, counts in (
        ("formats", audit.formats),
        ("color modes", audit.color_modes),
        ("resolutions", audit.resolutions),
        ("aspect ratios", audit.aspect_ratios),
        ("splits", audit.splits),
        ("classes", audit.class_counts),
        ("unsupported formats", images),
        ("unsupported files", others),
    ):
        if counts:
            lines.append(f"  {title:<20}{format_counts(counts)}")
    if audit.images:
        lines.append(f"  {'color images':<20}{audit.color_images:,}")
    if audit.value_range is not None:
        low, high = audit.value_range
        lines.append(
            f"  {'16-bit images':<20}{audit.images_16_bit:,} with values {low:g} to {high:g}; "
            "white is 65535, or the value of --white-level"
        )
    files = [f"{name} {reason}" for name, reason in audit.unreadable_files.items()]
    lines += [f"  {note}" for note in audit.notes]
    lines += _format_list("unreadable files", files)
    lines += _format_list(
        "skipped files", [f"{name} {reason}" for name, reason in audit.skipped_files.items()]
    )
    if audit.cross_split_duplicates:
        note = "the splits are fixed" if audit.fixed_splits else "each is assigned to one split"
        lines.append(f"  duplicates across splits: {audit.cross_split_duplicates:,}; {note}")
    for title, groups in (
        ("exact duplicates", audit.exact_duplicates),
        ("near-duplicates", audit.near_duplicates),
    ):
        lines += _format_list(title, [_format_group(group) for group in groups])
    if warning := few_images_warning(audit.distinct_training_images, audit.splits.get("train", 0)):
        lines.append(warning)
    if audit.suggestion is None:
        lines.append("there are no images to train on")
    else:
        lines += [
            f"suggested flags: {audit.suggestion.reason}",
            f"  advnets train {_as_preset_argument(path)} {audit.suggestion.flags()}",
        ]
    return printable_lines("\n".join(lines))


def _as_preset_argument(source: str) -> str:
    """Return a source as a command-line argument that is not mistaken for a preset."""
    from advnets import presets
    from advnets.data import spec

    is_preset = source in presets.PRESETS and not spec.is_dataset_name(source)
    return shell_quote(f"./{source}" if is_preset else source)


def point_statistics(dataset: Dataset) -> dict[str, Any]:
    """Return statistics of a distribution of points.

    They are the sizes of its splits, the number of modes, the mean, standard deviation, minimum and
    maximum of the training points, and the mean log density of the test points in nats.
    """
    from advnets.data.dataset import Split

    train, test, distribution = dataset.train, dataset.test, dataset.distribution
    assert isinstance(train, Split) and test is not None and distribution is not None
    points = train.read(slice(None))[:, :, 0, 0]
    densities = distribution.log_density(test.read(slice(None))[:, :, 0, 0])
    return {
        "name": dataset.name,
        "dims": distribution.dims,
        "points": _split_sizes(dataset),
        "modes": max(len(dataset.classes), 1),
        "mean": points.mean(0).tolist(),
        "std": points.std(0).tolist(),
        "min": points.min(0).tolist(),
        "max": points.max(0).tolist(),
        "test_log_density": float(densities.mean()),
    }


def format_points(statistics: Mapping[str, Any]) -> str:
    """Format the statistics of points as text."""
    counts = ", ".join(f"{count:,} {name}" for name, count in statistics["points"].items())
    space = "on a line" if statistics["dims"] == 1 else "in a plane"
    lines = [
        f"{statistics['name']}: points {space}: {counts}",
        f"  {'modes':<20}{statistics['modes']}",
    ]
    for title in ("mean", "std", "min", "max"):
        lines.append(f"  {title:<20}{', '.join(f'{value:.4g}' for value in statistics[title])}")
    lines.append(f"  mean log density of test points: {statistics['test_log_density']:.4f} nats")
    return printable_lines("\n".join(lines))


def _format_list(title: str, lines: Iterable[str]) -> list[str]:
    items = list(lines)
    if not items:
        return []
    more = (
        [f"    and {len(items) - _MAX_LINES:,} more (--json has all)"]
        if len(items) > _MAX_LINES
        else []
    )
    return [f"  {title}: {len(items):,}", *(f"    {line}" for line in items[:_MAX_LINES]), *more]


def _format_group(names: Sequence[str]) -> str:
    more = [f"{len(names) - _MAX_NAMES} more"] if len(names) > _MAX_NAMES else []
    return " = ".join([*names[:_MAX_NAMES], *more])


def _split_sizes(splits: Dataset) -> dict[str, int]:
    from advnets.data.dataset import num_train_images

    parts: dict[str, Any] = {
        "training": splits.train,
        "validation": splits.valid,
        "test": splits.test,
        "unlabeled": splits.unlabeled,
    }
    return {name: num_train_images(part) or 0 for name, part in parts.items() if part is not None}


def _describe_sizes(splits: Dataset) -> str:
    from advnets.cli.console import shape_text

    counts = ", ".join(f"{count:,} {name}" for name, count in _split_sizes(splits).items())
    shape = shape_text(splits.shape, points=splits.distribution is not None)
    return f"{shape}; {counts}"
