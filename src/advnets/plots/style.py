"""The style of all figures: colors, axes, legends and the export to PNG."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from advnets.errors import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 200


@dataclass(frozen=True)
class Theme:
    """The colors of a figure; the hues are the colorblind-safe ones of Okabe and Ito (2008)."""

    background: str
    text: str
    rule: str
    real: str
    fake: str
    score: str
    fourth: str

    @property
    def hues(self) -> tuple[str, ...]:
        """The colors of curves other than those of data and samples, in order."""
        return self.real, self.fake, self.score, self.fourth


LIGHT = Theme(
    "#ffffff",
    "#1f2328",
    "#8c959f",
    real="#0072b2",
    fake="#d55e00",
    score="#007a5a",
    fourth="#a2559a",
)
DARK = Theme(
    "#16191d",
    "#e6e8ea",
    "#78828c",
    real="#56b4e9",
    fake="#e69f00",
    score="#2dbd92",
    fourth="#d79bc9",
)


def new_figure(width: float, height: float, theme: Theme = LIGHT) -> Figure:
    """Return an empty figure of a width and height in inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    module = require("matplotlib.figure", "report")
    _ignore_local_matplotlibrc()
    # Without pyplot there is no global state and no window, and any thread may draw.
    figure: Figure = module.Figure((width, height), dpi=_DPI, facecolor=theme.background)
    figure.set_layout_engine("constrained", h_pad=0.09)
    return figure


@cache
def _ignore_local_matplotlibrc() -> None:
    """Restore matplotlib's defaults if it has read a matplotlibrc of the working directory.

    The file may come with data from an untrusted source, and can for example enable TeX.
    """
    import matplotlib as mpl

    if Path(mpl.matplotlib_fname()).absolute() == Path("matplotlibrc").absolute():
        mpl.rcdefaults()


def png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    agg: Any = require("matplotlib.backends.backend_agg", "report")
    file = io.BytesIO()
    agg.FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def style_axes(axes: Axes, title: str, unit: str, theme: Theme = LIGHT, *, x: str = "") -> None:
    """Set the title, the y label and the x label of axes, and apply the theme."""
    axes.set_facecolor(theme.background)
    axes.set_title(title, loc="left", color=theme.text, fontsize=11, fontweight="bold")
    axes.set_ylabel(unit, color=theme.text)
    if x:
        axes.set_xlabel(x, color=theme.text)
    axes.tick_params(colors=theme.text, labelsize=9)
    axes.grid(visible=True, color=theme.rule, alpha=0.25, linewidth=0.6)
    axes.margins(x=0.02)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.rule)


def reference_line(axes: Axes, y: float, label: str, theme: Theme = LIGHT) -> None:
    """Draw a labeled dashed line at a height."""
    axes.axhline(y, color=theme.rule, linestyle="--", linewidth=1.2, label=label)


Corner = Literal["upper left", "upper right", "center left", "lower left"]


def legend(
    axes: Axes, theme: Theme = LIGHT, *, columns: int = 3, corner: Corner | None = None, **of: Any
) -> None:
    """Add a legend to the right of the title, or in a corner of the axes.

    `of` are `handles` and `labels` of curves in other axes; without, it is that of its own curves.
    """
    axes.legend(
        **of,
        loc=corner or "lower right",
        bbox_to_anchor=None if corner else (1.0, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=8.5,
        labelcolor=theme.text,
        borderaxespad=0.2,
        handlelength=1.8,
        columnspacing=1.1,
    )
