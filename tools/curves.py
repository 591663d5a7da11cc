"""Draw how presets went, from records: a panel for each preset, a curve for each seed.

    python tools/curves.py results/records docs/images/modern-curves.png modern-ring modern-grid

A curve is the score on the way (`--eval-every`), of the weight average where there is one; of
records that have none it is D(x), or D(x, G(z)) of pairs, which is 1/2 where D cannot tell. It is
drawn against the real examples that D has been shown. The records are those of
`advnets sweep`.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from advnets.cli.main import config_of
from advnets.cli.sweep import record_files
from advnets.evaluation.registry import METRICS
from advnets.plots.style import LIGHT, legend, new_figure, png, reference_line, style_axes
from advnets.plots.training_curves import SINGLE_SAMPLES, curve_spec, eval_metric

UNIT = SINGLE_SAMPLES.unit


@dataclass(frozen=True)
class Curve:
    """Of one seed."""

    title: str
    unit: str
    shown: list[float]
    """Real examples to D, by then."""
    values: list[float]


def curve_of(record: Mapping[str, Any]) -> Curve:
    """The score on the way of a record, or what D said of real images."""
    config = config_of(record["command"])
    looks = record["training_eval"]
    if not looks:
        events = record["curve"]
        shown = curve_spec(events) or SINGLE_SAMPLES
        (key, title), *_ = shown.probabilities.items()
        unit = UNIT
    else:
        drawn = METRICS[eval_metric(looks)].curve
        assert drawn is not None
        title, unit, key = drawn.title, drawn.unit, drawn.value
        kept = {look["weights"] for look in looks}
        weights = "ema" if "ema" in kept else "last"
        events = [look for look in looks if look["weights"] == weights]
    return Curve(
        f"{config.preset}: {title}",
        unit,
        [event["step"] * config.images_per_step for event in events],
        [event[key] for event in events],
    )


def seeds_of(records: Path, name: str) -> dict[int, Curve]:
    """Of every seed that has a record under this name."""
    return {
        seed: curve_of(json.loads(path.read_text("utf-8")))
        for seed, path in record_files(records, name).items()
    }


def drawn(panels: Sequence[Mapping[int, Curve]]) -> bytes:
    """A PNG of a panel for each preset."""
    figure = new_figure(5.6, 2.0 * len(panels))
    for axes, curves in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        first = next(iter(curves.values()))
        style_axes(axes, first.title, first.unit, x="real examples shown, millions")
        few, verdict = len(curves) <= len(LIGHT.hues), first.unit == UNIT
        for (seed, curve), hue in zip(curves.items(), LIGHT.hues * len(curves), strict=False):
            label = f"seed {seed}" if few else None
            x = [count / 1e6 for count in curve.shown]
            axes.plot(x, curve.values, "o-", color=hue, ms=2, lw=1.2, alpha=0.8, label=label)
        if verdict:
            reference_line(axes, 0.5, "1/2: cannot tell")
        if few or verdict:
            # Long titles leave no room beside them, and scores fall away from this corner.
            legend(axes, corner="upper right")
    return png(figure)


def packed(content: bytes) -> bytes:
    """The same in a palette, a quarter of its size: a repository keeps every version."""
    with Image.open(io.BytesIO(content)) as image:
        few = image.convert("RGB").quantize(64, dither=Image.Dither.NONE)
    file = io.BytesIO()
    few.save(file, "PNG", optimize=True)
    return file.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("records", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="+")
    asked = parser.parse_args(arguments)
    panels = [seeds_of(asked.records, name) for name in asked.names]
    asked.out.write_bytes(packed(drawn(panels)))


if __name__ == "__main__":
    main()
