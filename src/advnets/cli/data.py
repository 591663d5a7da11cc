"""What one can ask of data at the command line: list, fetch, check, pack."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg, subcommand

from advnets.config import Data, ImagePreprocessing, ValidatedConfig
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
"""Lines of a list; --json has them all."""
_MAX_NAMES = 4
"""Names in a group of duplicates, likewise."""


@dataclass(frozen=True)
class Fetch:
    """Download a named set, verify it and put it in place."""

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """A set of `advnets data list` that says "fetch"."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where named sets lie; None: the environment variable ADVNETS_DATA, else the user's cache."""

    def execute(self) -> int:
        """Fetch and say where."""
        from advnets.data.datasets.fetch import fetch
        from advnets.data.spec import data_directory

        for path in fetch(self.name, data_directory(self.data_dir)):
            print(printable(str(path)))
        return 0


@dataclass(frozen=True)
class ListDatasets:
    """List the named sets, what each holds or how to get it, and the kinds of own data."""

    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where named sets lie; None: the environment variable ADVNETS_DATA, else the user's cache."""

    def execute(self) -> int:
        """Open each and say what it holds."""
        from advnets.data import spec
        from advnets.data.huggingface.columns import Hub
        from advnets.data.registry import FILE_FORMATS, NAMED_DATASETS, open_dataset

        for name, named in NAMED_DATASETS.items():
            told = spec.format_options(named.options)
            print(f"{name}{':' + told if told else ''}")
            print(f"    {named.description}")
            try:
                splits = open_dataset(Data(source=name, directory=self.data_dir))
            except (DataError, MissingExtraError) as error:
                print(f"    absent: {error}")
            else:
                print(f"    here: {_describe_sizes(splits)}")
        print(f"hf:NAME{':' + spec.format_options(Hub)}")
        print("    a set of the Hugging Face hub, such as hf:uoft-cs/cifar10")
        print("the path of")
        for kind in FILE_FORMATS:
            told = spec.format_options(kind.options)
            print(f"    {kind.description}{f', with options :{told}' if told else ''}")
        return 0


@dataclass(frozen=True)
class AuditData(ValidatedConfig):
    """Audit data before any training: what it is, which files are broken, which come twice."""

    path: Annotated[Positional[str], arg(metavar="PATH")]
    """A folder, zip or file, or the name of a set or distribution."""
    data_dir: Annotated[str | None, arg(metavar="DIR")] = None
    """Where named sets lie; None: the environment variable ADVNETS_DATA, else the user's cache."""
    near_duplicates: bool = False
    """Seek near duplicates by the codes of an autoencoder, as DCGAN's paper did; a minute or two.
    It is trained on the images. Without this their gradients are compared."""
    white_level: float | None = None
    """Value of 16-bit images that is white; None: 65,535."""
    follow_links: bool = False
    """Read also what symbolic links in a folder lead to outside of that folder."""
    json: bool = False
    """Print everything as JSON, every broken file and duplicate by its name."""

    def execute(self) -> int:
        """Audit and print; 1 when nothing can be trained."""
        from advnets.data.image_folder.audit import audit_dataset, audit_files
        from advnets.data.image_folder.duplicates import (
            group_names,
            near_duplicate_files,
            near_duplicate_rows,
        )
        from advnets.data.image_folder.files import ImageFiles
        from advnets.data.registry import find_source

        _warn_shadowed(self.path)
        found = find_source(
            Data(source=self.path, directory=self.data_dir, follow_links=self.follow_links)
        )
        if not isinstance(found, ImageFiles) and found.distribution is not None:
            facts = point_statistics(found)
            print(json.dumps(facts, indent=2) if self.json else format_points(facts))
            return 0
        files = isinstance(found, ImageFiles)
        audit = audit_files(found, white_level=self.white_level) if files else audit_dataset(found)
        if self.near_duplicates:
            near = (
                group_names(found, near_duplicate_files(found))
                if files
                else near_duplicate_rows(found)
            )
            audit = replace(audit, near_duplicates=near)
        print(json.dumps(asdict(audit), indent=2) if self.json else format_audit(audit, self.path))
        return 0 if audit.suggestion else 1


@dataclass(frozen=True)
class Pack:
    """Decode images once into a folder of bytes, which training maps into memory.

    `train` does this by itself, in the cache; a pack of one's own can be moved and given on.
    """

    path: Annotated[Positional[str], arg(metavar="PATH")]
    """A folder, zip or shards of images."""
    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """The folder of the pack, which must not be there yet."""
    framing: Annotated[ImagePreprocessing, arg(name="")] = field(default_factory=ImagePreprocessing)
    without_near_duplicates: bool = False
    """Of images that show nearly the same keep one, as `data check --near-duplicates` finds."""

    def execute(self) -> int:
        """Pack, and say how long it took."""
        from advnets.data.image_folder.decode import Frame
        from advnets.data.image_folder.files import ImageFiles
        from advnets.data.image_folder.pack import pack
        from advnets.data.image_folder.unsupported_files import describe_unsupported
        from advnets.data.registry import find_source
        from advnets.files import check_output

        check_output(self.out, "OUT", folder=True)
        _warn_shadowed(self.path)
        began = time.monotonic()
        found = find_source(Data(source=self.path, follow_links=self.framing.follow_links))
        if not isinstance(found, ImageFiles):
            raise UsageError(f"{self.path} is used as it is, without packing; name it in --data")
        if self.without_near_duplicates:
            from advnets.data.image_folder.duplicates import (
                near_duplicate_files,
                remove_duplicates,
            )

            every, found = found, remove_duplicates(found, near_duplicate_files(found))
            print(f"near duplicates left out: {len(every.keys) - len(found.keys):,}")
        splits = pack(found, Frame.from_config(self.framing), self.out)
        seconds = time.monotonic() - began
        for file in splits.skipped_files[:_MAX_LINES]:
            print(f"left out: {printable(f'{file.name} {file.reason}')}")
        if len(splits.skipped_files) > _MAX_LINES:
            print(f"left out: {len(splits.skipped_files) - _MAX_LINES:,} more")
        count = sum(_split_sizes(splits).values())
        size = sum(file.stat().st_size for file in self.out.iterdir())
        for line in (*describe_unsupported(splits.unsupported_files), *splits.notes):
            print(printable(line))
        print(f"{printable(str(self.out))}: {_describe_sizes(splits)}")
        print(f"{size / 2**20:,.0f} MiB in {seconds:.1f} s, {count / seconds:,.0f} images/s")
        return 0


@dataclass(frozen=True)
class DataCommand:
    """Data sets: list, download, audit and pack them."""

    command: Annotated[
        Annotated[Fetch, subcommand("fetch", prefix_name=False)]
        | Annotated[ListDatasets, subcommand("list", prefix_name=False)]
        | Annotated[AuditData, subcommand("audit", prefix_name=False)]
        | Annotated[Pack, subcommand("pack", prefix_name=False)],
        arg(name=""),
    ]

    def execute(self) -> int:
        """Do it."""
        return self.command.execute()


def _warn_shadowed(source: str) -> None:
    """Say where a named set is opened although a file or folder is called so too."""
    from advnets.data import spec

    if spec.is_dataset_name(source) and (said := spec.shadowing_warning(source)) is not None:
        print(f"advnets: {said}", file=sys.stderr)


def format_audit(audit: Audit, path: str) -> str:
    """An audit as lines for a person."""
    from advnets.data.dataset import few_images_warning
    from advnets.data.image_folder.unsupported_files import count_by_format, format_counts

    images, others = count_by_format(audit.unsupported_files)
    lines = [f"{audit.name}: {audit.images:,} images that can be read"]
    for title, counts in (
        ("formats", audit.formats),
        ("modes", audit.color_modes),
        ("sizes", audit.resolutions),
        ("shapes", audit.aspect_ratios),
        ("splits", audit.splits),
        ("classes", audit.class_counts),
        ("not read", images),
        ("no images", others),
    ):
        if counts:
            lines.append(f"  {title:<12}{format_counts(counts)}")
    if audit.images:
        lines.append(f"  {'in color':<12}{audit.color_images:,}")
    if audit.value_range is not None:
        low, high = audit.value_range
        lines.append(
            f"  {'16 bits':<12}{audit.images_16_bit:,} images with levels {low:g} to {high:g} of "
            "65535; 65535 becomes white (255), or the value of --white-level"
        )
    files = [f"{name} {reason}" for name, reason in audit.unreadable_files.items()]
    lines += [f"  {note}" for note in audit.notes]
    lines += _format_list("broken", files)
    lines += _format_list(
        "left out", [f"{name} {reason}" for name, reason in audit.skipped_files.items()]
    )
    if audit.cross_split_duplicates:
        then = "as the splits are given" if audit.fixed_splits else "now each lies in one split"
        lines.append(
            f"  copies that cross between splits: {audit.cross_split_duplicates:,}, {then}"
        )
    for title, groups in (
        ("exact duplicates", audit.exact_duplicates),
        ("near duplicates", audit.near_duplicates),
    ):
        lines += _format_list(title, [_format_group(group) for group in groups])
    if warning := few_images_warning(audit.distinct_training_images, audit.splits.get("train", 0)):
        lines.append(warning)
    if audit.suggestion is None:
        lines.append("nothing here can be trained on")
    else:
        lines += [
            f"suggestion: {audit.suggestion.reason}",
            f"  advnets train {_as_preset_argument(path)} {audit.suggestion.flags()}",
        ]
    return printable_lines("\n".join(lines))


def _as_preset_argument(source: str) -> str:
    """Return a source as a word in the place of a preset, no preset's name among them."""
    from advnets import presets
    from advnets.data import spec

    taken = source in presets.PRESETS and not spec.is_dataset_name(source)
    return shell_quote(f"./{source}" if taken else source)


def point_statistics(dataset: Dataset) -> dict[str, Any]:
    """What points are: how many, of how many modes, where they lie, and how probable they are."""
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
        "sd": points.std(0).tolist(),
        "least": points.min(0).tolist(),
        "most": points.max(0).tolist(),
        "log_density_of_test": float(densities.mean()),
    }


def format_points(statistics: Mapping[str, Any]) -> str:
    """The facts of points as lines for a person."""
    counts = ", ".join(f"{count:,} {name}" for name, count in statistics["points"].items())
    shape = "a line" if statistics["dims"] == 1 else "a plane"
    lines = [
        f"{statistics['name']}: points of {shape}: {counts}",
        f"  modes       {statistics['modes']}",
    ]
    for title in ("mean", "sd", "least", "most"):
        lines.append(f"  {title:<12}{', '.join(f'{value:.4g}' for value in statistics[title])}")
    lines.append(
        f"  log density of test points, exact: {statistics['log_density_of_test']:.4f} nats"
    )
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
    counts = ", ".join(f"{count:,} {name}" for name, count in _split_sizes(splits).items())
    return f"{' x '.join(map(str, splits.shape))}; {counts}"
