"""One look for all figures: colours that colour-blind readers can tell apart, quiet axes, intervals drawn one way.

Only matplotlib's object API is used. pyplot keeps every figure in a process-wide list until it is closed, and a
training run draws panels for hours; a `Figure` of its own is freed like any other object.
"""

import io
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette, "Color Universal Design" (2008); yellow is left out: too faint on white.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
GREY, INK = "#8A8A8A", "#222222"
SERIES: tuple[str, ...] = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
MARKERS: tuple[str, ...] = ("o", "s", "D", "^", "v", "P")

_DPI = 130


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty white figure that lays its axes out by itself."""
    figure = Figure(figsize=(width_in, height_in), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, title: str, x_label: str, y_label: str, grid: str = "both") -> None:
    """Give the axes title and labels (with units), a light grid along `grid` ("x", "y", "both", "none"), no box."""
    axes.set_title(title, fontsize=10.5, loc="left", color=INK)
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.tick_params(labelsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    if grid in ("x", "y", "both"):
        axes.grid(axis=grid, color="#E3E3E3", linewidth=0.7)  # type: ignore[arg-type]


def whole_numbers(axes: Axes) -> None:
    """Put ticks of the x axis on whole numbers only, as for epochs."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def draw_interval(
    axes: Axes, position: float, estimate: Mapping[str, Any], colour: str, marker: str = "o", label: str | None = None
) -> None:
    """Draw one horizontal interval at height `position`.

    A full marker has its interval; a hollow marker has none; a value that is not defined is said in words.

    Args:
        axes: Where to draw; its x axis carries the value.
        position: Height on the y axis.
        estimate: `value`, `lo` and `hi`, as in an estimate of report.json.
        colour: Colour of marker and line.
        marker: Shape, so that rows differ without colour too.
        label: Entry in the legend.
    """
    value, lo, hi = estimate["value"], estimate["lo"], estimate["hi"]
    if value is None:
        axes.text(
            0.01, position, "not defined", transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=GREY
        )
        return
    if lo is None or hi is None:
        axes.plot([value], [position], marker=marker, color=colour, mfc="white", ms=6, ls="none", label=label)
        axes.annotate(
            "no interval",
            (value, position),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=GREY,
        )
        return
    axes.plot([lo, hi], [position, position], color=colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot([value], [position], marker=marker, color=colour, ms=6, ls="none", label=label)


def name_rows(axes: Axes, names: list[str]) -> None:
    """Label heights 0, 1, … with `names`, the first at the top."""
    axes.set_yticks(range(len(names)), [shorten(name, 34) for name in names])
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)


def shorten(name: str, limit: int) -> str:
    """Cut a name that would push the axes out of the figure, and make a dollar sign a plain character."""
    # Matplotlib reads text between two dollar signs as a formula and raises where it is none.
    cut = name if len(name) <= limit else f"{name[: limit - 1]}…"
    return cut.replace("$", r"\$")


def png_bytes(figure: Figure) -> bytes:
    """Render a figure as PNG; equal figures give equal bytes, since no date and no version is written into the file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()
