"""Figures that set rows beside one another: networks, baselines, and both on parts of the test fold."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from shared.report import figure_style as style
from shared.report.wording import METRIC_NAMES


def rows_figure(
    models: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]], metric: str = "f1_macro"
) -> Figure:
    """One metric of every network and baseline with its interval; the line marks the final network.

    Args:
        models: The part of report.json of that name.
        baselines: Likewise.
        metric: Key of the metric; rows without it are left out.
    """
    rows = [(row, style.BLUE, "o") for row in models if metric in row["metrics"]]
    rows += [(row, style.VERMILION, "s") for row in baselines if metric in row["metrics"]]
    figure = style.new_figure(6.8, 1.6 + 0.38 * len(rows))
    axes = figure.subplots()
    labelled: set[str] = set()
    for position, (row, colour, marker) in enumerate(rows):
        label = None if colour in labelled else ("network" if marker == "o" else "baseline")
        style.draw_interval(axes, position, row["metrics"][metric], colour, marker, label)
        labelled.add(colour)
        if row["name"] == "final" and row["metrics"][metric]["value"] is not None:
            axes.axvline(row["metrics"][metric]["value"], color=style.GREY, linewidth=1, linestyle=":")
    style.name_rows(axes, [row["name"] for row, _, _ in rows])
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    words = METRIC_NAMES.get(metric, metric)
    style.dress(axes, f"{words} on the test fold", f"{words}, 95 % interval by group", "", grid="x")
    return figure


def subsets_figure(
    per_group: Mapping[str, Mapping[str, Any]],
    names: Sequence[str],
    rows: Sequence[str] = ("final", "image_only"),
    metric: str = "f1_macro",
) -> Figure:
    """The same rows on several parts of the test fold: where a gain lives, and where it vanishes.

    Args:
        per_group: The part of report.json of that name.
        names: Keys of `per_group`, drawn from top to bottom.
        rows: Names of rows, at most six; those that a part lacks are left out.
        metric: "f1_macro" or "accuracy".
    """
    figure = style.new_figure(6.8, 1.6 + (0.25 + 0.17 * len(rows)) * len(names))
    axes = figure.subplots()
    gap = 0.6 / max(len(rows), 1)
    labelled: set[str] = set()
    for position, name in enumerate(names):
        for place, row in enumerate(rows):
            entry = per_group[name]["rows"].get(row, {}).get(metric)
            if entry is None:
                continue
            height = position + (place - (len(rows) - 1) / 2) * gap
            label = None if row in labelled else row
            style.draw_interval(axes, height, entry, style.SERIES[place], style.MARKERS[place], label)
            labelled.add(row)
    style.name_rows(axes, [f"{style.shorten(name, 22)}  (n = {per_group[name]['n']:,})" for name in names])
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    words = METRIC_NAMES.get(metric, metric)
    style.dress(axes, f"{words} on parts of the test fold", f"{words}, 95 % interval by group", "", grid="x")
    return figure
