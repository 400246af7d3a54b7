"""The figures of the report; TensorBoard's panels show the same ones during the fit.

Each function takes plain arrays or parts of report.json and returns a `Figure` that nothing else holds on to.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shared.calibration import confidence_and_hit, reliability_bins
from shared.report import figure_style as style

_ANNOTATED_CLASSES = 20
"""Up to so many classes the confusion matrix carries its numbers; beyond, they could not be read."""

_HISTOGRAM_BINS = 20


def confusion_figure(counts: NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Confusion matrix twice: counts, and the share of each true class.

    Args:
        counts: (C, C) number of samples, rows are the true class, columns the predicted one.
        classes: C names.
    """
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = float(np.clip(1.6 + 0.62 * len(classes), 3.6, 9.0))
    figure = style.new_figure(2 * side, side)
    left, right = figure.subplots(1, 2, sharey=True)
    _heat_map(left, counts.astype(np.float64), [[f"{n:,}" for n in row] for row in counts], classes)
    _heat_map(right, shares, [[f"{100 * s:.0f}" for s in row] for row in shares], classes)
    style.dress(left, f"Samples (all: {counts.sum():,})", "predicted class", "true class", grid="none")
    style.dress(right, "Share of the true class, %", "predicted class", "", grid="none")
    return figure


def _heat_map(axes: Axes, values: NDArray[np.float64], texts: list[list[str]], classes: Sequence[str]) -> None:
    axes.imshow(values, cmap="Blues", vmin=0.0, vmax=max(float(values.max(initial=0.0)), 1e-12), aspect="auto")
    if len(classes) > _ANNOTATED_CLASSES:
        return
    names = [style.shorten(name, 22) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    for (row, column), value in np.ndenumerate(values):
        dark = value > 0.55 * values.max(initial=0.0)
        axes.text(
            column,
            row,
            texts[row][column],
            ha="center",
            va="center",
            fontsize=8.5,
            color="white" if dark else style.INK,
            fontweight="bold" if row == column else "normal",
        )


def reliability_figure(
    probs: NDArray[np.float64],
    target: NDArray[np.int64],
    *,
    before: NDArray[np.float64] | None = None,
    num_bins: int = 15,
) -> Figure:
    """Reliability diagram over equal-width bins of the confidence, and how many samples each bin holds.

    Args:
        probs: (N, C) probabilities of the final network.
        target: (N,) class codes.
        before: (N, C) probabilities before the calibration, drawn beside.
        num_bins: Number of bins between 0 and 1.
    """
    figure = style.new_figure(5.6, 5.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], color=style.GREY, linewidth=1, linestyle="--", label="means what it says")
    if before is not None:
        bins = reliability_bins(before, target, num_bins)
        top.plot(bins.confidence, bins.accuracy, "s-", color=style.ORANGE, ms=4, lw=1.2, label="before calibration")
    bins = reliability_bins(probs, target, num_bins)
    top.vlines(bins.confidence, bins.confidence, bins.accuracy, color=style.SKY, linewidth=4, alpha=0.7, label="gap")
    # The area of a point follows its samples: a far-off bin of two samples must not look like a far-off network.
    area = 8.0 + 110.0 * bins.count / bins.count.max()
    top.plot(bins.confidence, bins.accuracy, color=style.BLUE, lw=1.2)
    top.scatter(bins.confidence, bins.accuracy, s=area, color=style.BLUE, zorder=3, label="final (area: samples)")
    top.set(xlim=(0, 1), ylim=(0, 1.02))
    top.legend(fontsize=8, frameon=False, loc="lower right")
    bottom.bar(
        bins.edges[:-1],
        bins.count,
        width=1.0 / num_bins,
        align="edge",
        color=style.BLUE,
        edgecolor="white",
        linewidth=0.6,
    )
    style.dress(top, f"Reliability, {len(target):,} samples", "", "share of right answers")
    style.dress(bottom, "", "confidence (largest probability)", "samples", grid="y")
    return figure


def confidence_figure(probs: NDArray[np.float64], target: NDArray[np.int64]) -> Figure:
    """Histogram of the confidence of right and of wrong answers; wrong and confident is the region to look at.

    Args:
        probs: (N, C) probabilities.
        target: (N,) class codes.
    """
    confidence, right = confidence_and_hit(probs, target)
    hit = right > 0.0
    figure = style.new_figure(6.4, 3.6)
    axes = figure.subplots()
    edges = np.linspace(0.0, 1.0, _HISTOGRAM_BINS + 1)
    for label, chosen, colour, hatch in (("right", hit, style.BLUE, None), ("wrong", ~hit, style.VERMILION, "///")):
        values = confidence[chosen]
        mean = f", mean {values.mean():.2f}" if len(values) else ""
        axes.hist(
            values,
            bins=edges.tolist(),
            histtype="stepfilled",
            alpha=0.45,
            color=colour,
            edgecolor=colour,
            hatch=hatch,
            label=f"{label}: {len(values):,}{mean}",
        )
        if len(values):
            axes.axvline(float(values.mean()), color=colour, linewidth=1.6, linestyle="--")
    axes.set_xlim(0, 1)
    axes.legend(fontsize=8.5, frameon=False, loc="upper left")
    style.dress(axes, "Confidence of right and wrong answers", "confidence (largest probability)", "samples", grid="y")
    return figure


def per_class_figure(per_class: Mapping[str, Mapping[str, Any]]) -> Figure:
    """F1 of each class with its interval, and the number of test samples beside the name.

    Args:
        per_class: The part of report.json of that name.
    """
    figure = style.new_figure(6.4, 1.5 + 0.42 * len(per_class))
    axes = figure.subplots()
    for row, scores in enumerate(per_class.values()):
        value = scores["f1"]["value"]
        axes.barh(row, value or 0.0, height=0.62, color=style.SKY, alpha=0.55)
        style.draw_interval(axes, row, scores["f1"], style.BLUE)
    names = [f"{style.shorten(name, 26)}  (n = {scores['support']:,})" for name, scores in per_class.items()]
    style.name_rows(axes, names)
    axes.set_xlim(0, 1)
    measured = any(scores["f1"]["lo"] is not None for scores in per_class.values())
    style.dress(axes, "F1 by class" + (", 95 % interval by group" if measured else ""), "F1", "", grid="x")
    return figure


def curves_figure(rows: Sequence[Mapping[str, Any]], monitor: str, mode: str = "max") -> Figure:
    """Training and validation loss, and the monitored metric with its best epoch, over the epochs.

    Args:
        rows: Rows of metrics.csv or of a logger: `epoch` and metric keys; absent or empty cells are left out.
        monitor: Key of the monitored metric, e.g. "val/f1_macro".
        mode: "max" or "min": which end of the monitor is best.

    Raises:
        ValueError: If `mode` is neither "max" nor "min".
    """
    if mode not in ("max", "min"):
        raise ValueError(f"mode is {mode!r}; allowed are 'max' and 'min'")
    figure = style.new_figure(8.4, 3.3)
    left, right = figure.subplots(1, 2)
    for key, colour, marker in (("train/loss", style.BLUE, "o"), ("val/loss", style.VERMILION, "s")):
        epochs, values = _series(rows, key)
        if len(epochs):
            left.plot(epochs, values, marker=marker, ms=3, linewidth=1.4, color=colour, label=key)
    if left.lines:
        left.legend(fontsize=8, frameon=False)
    epochs, values = _series(rows, monitor)
    if len(epochs):
        right.plot(epochs, values, marker="o", ms=3, linewidth=1.4, color=style.GREEN)
        best = int(np.argmax(values) if mode == "max" else np.argmin(values))
        right.plot(epochs[best], values[best], "*", ms=12, color=style.VERMILION)
        right.set_title(f"best {values[best]:.3f} at epoch {epochs[best]:.0f}", fontsize=8.5, loc="right")
    for axes, title, y_label in ((left, "Loss", "loss"), (right, "Monitor", style.shorten(monitor, 40))):
        style.dress(axes, title, "epoch", y_label)
        style.whole_numbers(axes)
    return figure


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return epochs and finite values of one key; csv readers give text and empty cells, loggers give numbers."""
    pairs = [(row["epoch"], row.get(key)) for row in rows if row.get(key) not in (None, "")]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    table = table[np.isfinite(table[:, 1])]
    return table[:, 0], table[:, 1]


def audit_figure(audit: Sequence[Mapping[str, Any]], warn_above: float = 0.05) -> Figure:
    """AUROC of each feature alone against 0.5, the worst on top; past the line, the interval's lower end warns.

    Args:
        audit: The part of report.json of that name.
        warn_above: AUROC above 0.5 from which on the lower end of the interval warns.
    """
    rows = sorted(audit, key=lambda row: -(row["auroc"] if row["auroc"] is not None else -1.0))
    figure = style.new_figure(6.8, 1.7 + 0.36 * len(rows))
    axes = figure.subplots()
    axes.axvline(0.5, color=style.INK, linewidth=1, label="chance")
    axes.axvline(0.5 + warn_above, color=style.VERMILION, linewidth=1.2, linestyle="--", label="warn line")
    looks = {
        "shortcut": (style.VERMILION, "D"),
        "undecided": (style.ORANGE, "s"),
        "clear": (style.BLUE, "o"),
    }
    seen: set[str] = set()
    for position, row in enumerate(rows):
        colour, marker = looks[row["verdict"]]
        entry = {"value": row["auroc"], "lo": row["lo"], "hi": row["hi"]}
        label = None if row["verdict"] in seen else row["verdict"]
        style.draw_interval(axes, position, entry, colour, marker, label)
        seen.add(row["verdict"])
    style.name_rows(axes, [row["feature"] for row in rows])
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    style.dress(axes, "What each feature alone gives away", "AUROC given the kind, 95 % interval", "", grid="x")
    return figure
