"""Curves of a run as figures whose files do not depend on when they are made."""

import io
import math
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from projects.redheart.ablation.pages import ablation_figure
from projects.redheart.paper.sources import Source
from shared.report.figure_style import (
    BLUE,
    MARKERS,
    SERIES,
    VERMILION,
    draw_interval,
    dress,
    name_rows,
    new_figure,
    whole_numbers,
)

GROUP_LOSS = "val/group/"


def figures_of(source: Source) -> dict[str, Figure]:
    """Name -> figure, for what the run has the numbers for."""
    found = {"rows": rows_figure(source)}
    if source.epochs:
        found["curves"] = curves_figure(source)
        groups = [key for key in source.epochs[0] if key.startswith(GROUP_LOSS)]
        if groups:
            found["groups"] = groups_figure(source, groups)
    if source.ablation is not None:
        found["ablation"] = ablation_figure(source.ablation)
    return found


def pdf_bytes(figure: Figure) -> bytes:
    """Render a figure as PDF without date, creator and version; text stays text (TrueType)."""
    stream = io.BytesIO()
    with rc_context({"pdf.fonttype": 42}):
        figure.savefig(stream, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return stream.getvalue()


def curves_figure(source: Source) -> Figure:
    """Loss on train and val, and the scores on val, over the epochs."""
    figure = new_figure(8.6, 3.4)
    left, right = figure.subplots(1, 2)
    for key, colour, name in (("train/loss", BLUE, "train"), ("val/loss", VERMILION, "val")):
        left.plot(*_curve(source.epochs, key), color=colour, lw=1.6, label=name)
    dress(left, "Loss", "epoch", "loss")
    for key, colour, name in (("val/accuracy", BLUE, "accuracy"), ("val/f1_macro", VERMILION, "macro-F1")):
        epochs, values = _curve(source.epochs, key)
        if values:
            right.plot(epochs, values, color=colour, lw=1.6, label=name)
    dress(right, "Emotion on val", "epoch", "score")
    for axes in (left, right):
        whole_numbers(axes)
        if axes.get_lines():
            axes.legend(fontsize=8)
    return figure


def groups_figure(source: Source, keys: list[str]) -> Figure:
    """Loss of each module group on val over the epochs."""
    figure = new_figure(6.2, 3.6)
    axes = figure.subplots()
    for number, key in enumerate(keys):
        name = key.removeprefix(GROUP_LOSS).removesuffix("/loss")
        marker = MARKERS[number // len(SERIES) % len(MARKERS)]
        colour = SERIES[number % len(SERIES)]
        axes.plot(*_curve(source.epochs, key), color=colour, marker=marker, ms=3, lw=1.2, label=name)
    whole_numbers(axes)
    dress(axes, "Loss of each module group on val", "epoch", "loss")
    axes.legend(fontsize=7.5)
    return figure


def rows_figure(source: Source) -> Figure:
    """Macro-F1 of every row on the test fold with its interval."""
    rows = [*source.report["models"], *source.report.get("baselines", [])]
    figure = new_figure(6.4, 0.9 + 0.32 * len(rows))
    axes = figure.subplots()
    for position, row in enumerate(rows):
        draw_interval(axes, position, row["metrics"]["f1_macro"], BLUE if row["name"] == "final" else SERIES[2])
    dress(axes, "Macro-F1 on the test fold", "macro-F1", "", grid="x")
    name_rows(axes, [row["name"] for row in rows])
    return figure


def _curve(epochs: list[dict[str, str]], key: str) -> tuple[list[int], list[float]]:
    """Epochs from 1 and finite values of a column; empty where the run did not log it."""
    points: list[tuple[int, float]] = []
    for row in epochs:
        text: Any = row.get(key)
        if text and math.isfinite(float(text)):
            points.append((int(row["epoch"]) + 1, float(text)))
    return [epoch for epoch, _ in points], [value for _, value in points]
