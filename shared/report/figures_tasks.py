"""Figures of what a network of classes says beyond its classes: when to trust it, and its other numbers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from shared.report import figure_style as style


def risk_coverage_figure(part: Mapping[str, Any]) -> Figure:
    """Error rate against the share answered, with a band where every point has its interval.

    Args:
        part: The part `risk_coverage` of report.json.
    """
    points = sorted(part["curve"], key=lambda point: float(point["coverage"]))
    coverage = np.array([point["coverage"] for point in points], dtype=np.float64)
    value, low, high = (
        np.array([point["risk"][key] for point in points], dtype=np.float64) for key in ("value", "lo", "hi")
    )
    figure = style.new_figure(5.6, 3.8)
    axes = figure.subplots()
    if np.isfinite(low).any():
        axes.fill_between(coverage, low, high, color=style.SKY, alpha=0.35, linewidth=0, label="95 % interval by group")
    axes.plot(coverage, value, "o-", color=style.BLUE, ms=4, lw=1.4, label="final")
    for entry, look in zip(part["coverage_at_risk"], ("--", ":"), strict=False):
        axes.axhline(entry["risk"], color=style.GREY, linewidth=1, linestyle=look, label=f"{100 * entry['risk']:g} %")
    axes.set_xlim(0.0, 1.02)
    axes.set_ylim(bottom=0.0)
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    style.dress(axes, "Answering only the surest", "share of the samples answered", "error rate among them")
    return figure


def tasks_figure(tasks: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Spearman's correlation of every number of every head as final says it.

    Args:
        tasks: The part of report.json of that name.
    """
    rows = [
        (head, name, scores["spearman"])
        for head, part in tasks.items()
        for name, scores in part["per_number"].items()
    ]  # fmt: skip
    figure = style.new_figure(6.8, 1.6 + 0.32 * len(rows))
    axes = figure.subplots()
    axes.axvline(0.0, color=style.GREY, linewidth=1, linestyle=":")
    heads = list(tasks)
    for position, (head, _, entry) in enumerate(rows):
        place = heads.index(head) % len(style.SERIES)
        style.draw_interval(axes, position, entry, style.SERIES[place], style.MARKERS[place])
    style.name_rows(axes, [f"{head}: {name}" for head, name, _ in rows])
    style.dress(axes, "Predicted numbers, final", "Spearman, 95 % interval by group", "", grid="x")
    return figure
