"""Figures of predicted curves: single samples, the error along the axis, predicted against true values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shared.curve_scores import CurveAxes
from shared.report import figure_style as style

EXAMPLES = ("smallest", "median", "largest")
_BINS = 80


def example_rows(prediction: NDArray[np.float64], target: NDArray[np.float64]) -> list[int]:
    """Positions of the samples with the smallest, the median and the largest squared error.

    Args:
        prediction: (N, C, L), N > 0.
        target: (N, C, L).
    """
    error = np.square(prediction - target).mean(axis=(1, 2))
    order = np.argsort(error, kind="stable")
    return [int(order[0]), int(order[len(order) // 2]), int(order[-1])]


def samples_figure(
    prediction: NDArray[np.float64],
    target: NDArray[np.float64],
    axes: CurveAxes,
    names: Sequence[str],
    pictures: NDArray[np.uint8] | None = None,
) -> Figure:
    """True (full) and predicted (dashed) curves of a few samples, one a row, one column a channel.

    Args:
        prediction: (K, C, L).
        target: (K, C, L).
        axes: What C and L are.
        names: What each sample stands for, K of them.
        pictures: (K, H, W) of the samples, drawn in front.
    """
    count, channels, _ = target.shape
    ahead = 0 if pictures is None else 1
    figure = style.new_figure(2.3 * (channels + ahead) + 0.6, 1.9 * count + 0.7)
    grid = figure.subplots(count, channels + ahead, squeeze=False)
    low, high = float(min(target.min(), prediction.min())), float(max(target.max(), prediction.max()))
    margin = 0.05 * (high - low or 1.0)
    unit = f" ({axes.unit})" if axes.unit else ""
    for k, name in enumerate(names):
        error = float(np.sqrt(np.square(prediction[k] - target[k]).mean()))
        if pictures is not None:
            _picture(grid[k, 0], pictures[k])
        for c, channel in enumerate(axes.channels):
            panel = grid[k, c + ahead]
            panel.plot(axes.values, target[k, c], color=style.INK, linewidth=1.5, label="true")
            panel.plot(axes.values, prediction[k, c], color=style.VERMILION, linewidth=1.5, ls="--", label="predicted")
            panel.set_ylim(low - margin, high + margin)
            last = k == count - 1
            style.dress(panel, channel if k == 0 else "", f"{axes.name}{unit}" if last else "", "")
        grid[k, 0].set_ylabel(f"{name} error\n(RMSE {error:.3g})", fontsize=8.5)
    grid[0, ahead].legend(fontsize=7.5, frameon=False)
    return figure


def _picture(panel: Axes, picture: NDArray[np.uint8]) -> None:
    panel.imshow(picture, cmap="Greys", vmin=0, interpolation="nearest")
    panel.set_xticks([])
    panel.set_yticks([])


def per_point_figure(per_point: Mapping[str, Any]) -> Figure:
    """RMSE along the axis of every row with its interval as a band.

    Args:
        per_point: The part of report.json of that name.
    """
    axis = per_point["axis"]
    figure = style.new_figure(6.8, 3.6)
    panel = figure.subplots()
    for place, (name, entries) in enumerate(per_point["rmse"].items()):
        colour = style.SERIES[place % len(style.SERIES)]
        value, lo, hi = (np.array([e[key] for e in entries], dtype=np.float64) for key in ("value", "lo", "hi"))
        panel.plot(axis["values"], value, color=colour, linewidth=1.6, label=name)
        panel.fill_between(axis["values"], lo, hi, color=colour, alpha=0.18, linewidth=0)
    panel.set_ylim(bottom=0)
    panel.legend(fontsize=8, frameon=False)
    unit = f" ({axis['unit']})" if axis["unit"] else ""
    style.dress(panel, f"Error along the {axis['name']}", f"{axis['name']}{unit}", "RMSE, 95 % interval by group")
    return figure


def agreement_figure(prediction: NDArray[np.float64], target: NDArray[np.float64], channels: Sequence[str]) -> Figure:
    """Predicted against true values as counts on a grid, one panel a channel.

    Args:
        prediction: (N, C, L).
        target: (N, C, L).
        channels: C names.
    """
    count = len(channels)
    figure = style.new_figure(2.6 * count + 0.8, 3.1)
    grid = figure.subplots(1, count, squeeze=False, sharex=True, sharey=True)[0]
    low, high = float(min(target.min(), prediction.min())), float(max(target.max(), prediction.max()))
    high = high if high > low else low + 1.0
    edges = np.linspace(low, high, _BINS + 1)
    for c, channel in enumerate(channels):
        counts, _, _ = np.histogram2d(target[:, c].ravel(), prediction[:, c].ravel(), bins=[edges, edges])
        shown = np.ma.masked_equal(counts.T, 0)
        grid[c].pcolormesh(edges, edges, shown, cmap="Blues", norm=LogNorm(vmin=1, vmax=max(float(counts.max()), 2.0)))
        grid[c].plot([low, high], [low, high], color=style.GREY, linewidth=1, ls="--")
        grid[c].set_aspect("equal")
        style.dress(grid[c], channel, "true", "predicted" if c == 0 else "")
    return figure
