"""The figure of the sweet spots: the curves that the analyses saw, their votes, and the epoch chosen for each group."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from shared.report import figure_style as style

_LOOKS = {
    "overfit": (style.BLUE, "o", "over-fit penalty"),
    "balance": (style.ORANGE, "s", "loss - 0.5 accuracy"),
    "stable": (style.GREEN, "D", "lowest variance"),
    "own_loss": (style.VERMILION, "^", "own loss"),
    "plateau": (style.PURPLE, "v", "plateau"),
}


def sweet_spots_figure(sweet_spots: Mapping[str, Any]) -> Figure:
    """Losses over the snapshots, and below them a strip for each module group with its votes and its choice.

    Args:
        sweet_spots: Content of sweet_spots.json, chosen or declined.
    """
    groups = list(sweet_spots["epochs"])
    heights = [2.6] + [0.85] * len(groups)
    figure = style.new_figure(8.6, 0.9 + sum(heights))
    axes = np.atleast_1d(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
    top, strips = axes[0], axes[1:]
    _draw_losses(top, sweet_spots)
    for strip, group in zip(strips, groups, strict=True):
        _draw_strip(strip, sweet_spots, group)
    if groups:
        figure.legend(handles=_legend(sweet_spots), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    axes[-1].set_xlabel("epoch", fontsize=9)
    length = max(sweet_spots["num_epochs"], 1)
    axes[-1].set_xlim(-0.02 * length - 0.5, 1.02 * length - 0.5)
    style.whole_numbers(axes[-1])
    return figure


def _draw_losses(axes: Axes, sweet_spots: Mapping[str, Any]) -> None:
    """Loss on val and train; a vertical line where a group was chosen."""
    if sweet_spots["decision"] == "chosen":
        title = f"Sweet spots: {sweet_spots['reason']}"
    else:
        title = f"Sweet spots: declined, {sweet_spots['reason']}"
    for name, colour, marker in (("loss", style.INK, "o"), ("train_loss", style.GREY, ".")):
        key = sweet_spots["keys"][name]
        epochs, values = _curve(sweet_spots["snapshots"], key)
        if np.isfinite(values).any():
            axes.plot(epochs, values, color=colour, marker=marker, markersize=3.5, linewidth=1.3, label=key)
    for epoch in sorted(set(sweet_spots["epochs"].values())):
        axes.axvline(epoch, color=style.INK, linewidth=0.9, linestyle=":", zorder=0)
    if axes.lines and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False, loc="upper right")
    style.dress(axes, style.shorten(title, 100), "", "loss")


def _draw_strip(axes: Axes, sweet_spots: Mapping[str, Any], group: str) -> None:
    """One group: its own loss where logged, the votes, the chosen epoch and what is as good within the noise."""
    chosen, choice = sweet_spots["epochs"][group], sweet_spots["choices"][group]
    epochs, values = _curve(sweet_spots["snapshots"], f"val/group/{group}/loss")
    finite = values[np.isfinite(values)]
    if len(finite):
        low, extent = finite.min(), np.ptp(finite) or 1.0
        axes.plot(epochs, 0.08 + 0.84 * (values - low) / extent, color=style.GREY, linewidth=1.0, zorder=1)
    if choice["span"] is not None:
        axes.axvspan(choice["span"][0] - 0.25, choice["span"][1] + 0.25, color=style.SKY, alpha=0.25, linewidth=0)
    axes.axvline(chosen, color=style.INK, linewidth=1.6, zorder=2)
    for vote, height in zip(sweet_spots["votes"][group], (0.9, 0.7, 0.5, 0.3, 0.1), strict=True):
        if vote["epoch"] is not None:
            colour, marker, _ = _LOOKS[vote["analysis"]]
            decides = vote["analysis"] == choice["deciding"]
            axes.plot(
                vote["epoch"], height, marker=marker, color=colour, markersize=8 if decides else 5.5, zorder=3,
                markeredgecolor=style.INK if decides else colour, markeredgewidth=1.3, linestyle="none",
            )  # fmt: skip
    words = f"{group}: epoch {chosen} ({choice['agreement']} of {choice['voted']} analyses near it)"
    style.dress(axes, style.shorten(words, 90), "", "", grid="x")
    axes.title.set_fontsize(9)
    axes.set_ylim(-0.05, 1.05)
    axes.set_yticks([])


def _legend(sweet_spots: Mapping[str, Any]) -> list[Line2D]:
    """One entry for each analysis that votes anywhere, and for the lines."""
    voting = {
        vote["analysis"] for votes in sweet_spots["votes"].values() for vote in votes if vote["epoch"] is not None
    }
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=6, label=label)
        for analysis, (colour, marker, label) in _LOOKS.items()
        if analysis in voting
    ]
    handles.append(Line2D([], [], color=style.INK, linewidth=1.6, label="chosen (its analysis is framed)"))
    if any(choice["span"] is not None for choice in sweet_spots["choices"].values()):
        handles.append(Line2D([], [], color=style.SKY, alpha=0.4, linewidth=7, label="as good within one error"))
    handles.append(Line2D([], [], color=style.GREY, linewidth=1.0, label="own loss, scaled, where logged"))
    return handles


def _curve(snapshots: Sequence[Mapping[str, Any]], key: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Epochs and values of one metric, NaN where it is null or absent: the line is then broken."""
    values = [row["metrics"].get(key) for row in snapshots]
    return (
        np.array([row["epoch"] for row in snapshots], dtype=np.int64),
        np.array([np.nan if value is None else value for value in values], dtype=np.float64),
    )
