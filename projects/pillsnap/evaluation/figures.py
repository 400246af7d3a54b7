"""The figures of a detailed evaluation; each takes parts of evaluation.json or plain arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shared.report import figure_style as style
from shared.report.evaluation import ALL

_BINS = 25


def accuracy_figure(scores: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Top-1 and top-5 of all photos and of each domain, with their intervals.

    Args:
        scores: Part -> n and `top1`, `top5` where there is one.
    """
    figure = style.new_figure(6.4, 1.4 + 0.5 * len(scores))
    axes = figure.subplots()
    shown = [top for top in ("top1", "top5") if all(top in part for part in scores.values())]
    for row, part in enumerate(scores.values()):
        for number, top in enumerate(shown):
            label = top.replace("top", "top-") if row == 0 else None
            place = row + 0.16 * (2 * number - len(shown) + 1)
            style.draw_interval(axes, place, part[top], style.SERIES[number], style.MARKERS[number], label)
    style.name_rows(axes, [f"{name}  (n = {part['n']:,})" for name, part in scores.items()])
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    style.dress(axes, "Test photos, 95 % interval by group", "share of right answers", "", grid="x")
    return figure


def stress_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Change of top-1 under every condition against the clean photos, with paired intervals, by domain.

    Args:
        rows: The part of evaluation.json of that name.
    """
    figure = style.new_figure(7.6, 1.5 + 0.27 * len(rows))
    axes = figure.subplots()
    axes.axvline(0.0, color=style.INK, linewidth=1)
    names = [name for name in rows[0]["parts"] if name != ALL] or [ALL]
    for place, row in enumerate(rows):
        for number, name in enumerate(names):
            height = place + 0.2 * (2 * number - len(names) + 1) / max(len(names) - 1, 1)
            change = row["parts"][name]["top1_change"]
            label = name if place == 0 else None
            style.draw_interval(axes, height, change, style.SERIES[number], style.MARKERS[number], label)
    for place in range(1, len(rows)):
        if rows[place]["kind"] != rows[place - 1]["kind"]:
            axes.axhline(place - 0.5, color="#D0D0D0", linewidth=0.7)
    style.name_rows(axes, [row["words"] for row in rows])
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    style.dress(axes, "Change of top-1 against the clean photos", "top-1 minus clean, 95 % interval by group", "", "x")
    return figure


def open_set_figure(
    known: NDArray[np.float64],
    unknown: NDArray[np.float64],
    threshold: float,
    curve: Mapping[str, Any],
    base_rate: float,
) -> Figure:
    """Probability of none of these for known and held-out classes, and risk against coverage.

    Args:
        known: (N,) probabilities of photos of the classes.
        unknown: (M,) probabilities of photos of held-out classes.
        threshold: Above it no answer is given.
        curve: `coverage` and `risk`.
        base_rate: Share of unknown photos that the curve is for.
    """
    figure = style.new_figure(9.6, 3.6)
    left, right = figure.subplots(1, 2)
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    for name, values, colour in (
        ("one of the classes", known, style.BLUE),
        ("held-out class", unknown, style.VERMILION),
    ):
        counts = np.histogram(values, edges)[0] / len(values)
        left.stairs(counts, edges, fill=True, alpha=0.4, color=colour, label=f"{name}, {len(values):,} photos")
    left.axvline(threshold, color=style.INK, linestyle="--", linewidth=1.2, label=f"threshold {threshold:.3f}")
    left.set_xlim(0, 1)
    left.legend(fontsize=8, frameon=False)
    right.plot(curve["coverage"], curve["risk"], color=style.BLUE, linewidth=1.6)
    right.set(xlim=(0, 1), ylim=(0, None))
    style.dress(left, "Probability of none of these", "probability", "share of photos", grid="y")
    title = f"Wrong answers, {100 * base_rate:g} % of photos unknown"
    style.dress(right, title, "share of photos answered", "share of answers that are wrong")
    return figure


def retrieval_figure(parts: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Recall and mean reciprocal rank of features and pixels, with chance as a line, for each domain of the fronts.

    Args:
        parts: The part of evaluation.json of that name.
    """
    figure = style.new_figure(5.2 * len(parts), 2.8)
    panels = np.atleast_1d(figure.subplots(1, len(parts)))
    metrics = ("recall@1", "recall@5", "mrr")
    for axes, (name, part) in zip(panels, parts.items(), strict=True):
        for row, metric in enumerate(metrics):
            for shift, source, colour, marker in (
                (-0.15, "features", style.BLUE, "o"),
                (0.15, "pixels", style.ORANGE, "s"),
            ):
                label = source if row == 0 else None
                style.draw_interval(axes, row + shift, part[source][metric], colour, marker, label)
            at = part["chance"][metric]
            axes.plot([at, at], [row - 0.35, row + 0.35], color=style.GREY, lw=2, label="chance" if row == 0 else None)
        style.name_rows(axes, list(metrics))
        axes.set_xlim(0, 1)
        axes.legend(fontsize=8, frameon=False)
        title = f"{name} fronts to {part['gallery']} {part['gallery_domain']} backs"
        style.dress(axes, title, "95 % interval by group", "", grid="x")
    return figure
