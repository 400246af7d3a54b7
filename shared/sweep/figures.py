"""Pictures of a sweep: score against rate with the loss curves of a stage; score against each swept key."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared.sweep.scoring import Direction, measured, ranked, was_stopped
from shared.sweep.states import PointView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_KEYS = 6
"""Panels in a picture of many keys; the rest is said to be missing."""
MAX_NAMES = 12
WIDE = 20.0
"""Scores or losses that span more than this factor are drawn in log space."""
ROOM = 1.3
"""Factor between the outermost rates and the frame."""
FAINT = "#B8B8B8"


def stage_figure(
    points: Sequence[PointView], stage: int, key: str, direction: Direction = "min", score_name: str = "score"
) -> "Figure":
    """A stage of a sweep over rates: left the scores, right the validation loss of each rate over the epochs.

    Args:
        points: That count; those of later stages are left out.
        stage: Coloured by rate, earlier ones grey.
        key: Of the rate.
        direction: Of the score.
        score_name: For the axis.
    """
    from shared.report.figure_style import dress, new_figure, shorten, whole_numbers

    seen = sorted((point for point in points if point.stage <= stage), key=lambda point: float(point.values[key]))
    figure = new_figure(11.0, 4.2)
    left, right = figure.subplots(1, 2)
    colours = _colours([point for point in seen if point.stage == stage], key)
    _draw_scores(left, seen, key, colours, direction)
    _draw_losses(right, seen, key, colours)
    better = "smaller" if direction == "min" else "larger"
    dress(
        left,
        f"Stage {stage}: scores ({better} is better; one seed, no interval)",
        shorten(key, 60),
        shorten(score_name, 60),
    )
    whole_numbers(right)
    dress(right, f"Validation loss in stage {stage} (grey: earlier stages)", "epoch", "validation loss")
    return figure


def _colours(points: Sequence[PointView], key: str) -> dict[str, Any]:
    """Point id -> colour, from dark for the smallest rate to light for the largest; the palest end is left out."""
    from matplotlib import colormaps

    spread = max(len(points) - 1, 1)
    return {point.id: colormaps["viridis"](0.88 * place / spread) for place, point in enumerate(points)}


def _draw_scores(
    axes: "Axes", points: Sequence[PointView], key: str, colours: Mapping[str, Any], direction: Direction
) -> None:
    from shared.report.figure_style import VERMILION

    for point in points:
        score, mine = measured(point), point.id in colours
        if score is None:
            continue
        face = "white" if was_stopped(point) else colours.get(point.id, FAINT)
        axes.plot(
            [point.values[key]], [score], marker="o", ms=7.5 if mine else 5, color=colours.get(point.id, FAINT),
            mfc=face, ls="none", zorder=3 if mine else 2,
        )  # fmt: skip
    scored = [point for point in points if measured(point) is not None and not was_stopped(point)]
    axes.plot([p.values[key] for p in scored], [measured(p) or 0.0 for p in scored], color=FAINT, lw=1.0, zorder=1)
    order = ranked(points, direction)
    if order:
        best, score = order[0], measured(order[0])
        label = f"best so far: {best.values[key]:g} (score {score:.4g})"
        axes.plot(
            [best.values[key]], [score or 0.0], marker="D", ms=12, color=VERMILION, mfc="none", mew=1.8, ls="none",
            zorder=4, label=label,
        )  # fmt: skip
    axes.set_xscale("log")
    if points:
        axes.set_xlim(float(points[0].values[key]) / ROOM, float(points[-1].values[key]) * ROOM)
    _stretch(axes, [score for point in points if (score := measured(point)) is not None])
    _mark_failed(axes, points, key)
    _legend(axes, points)


def _mark_failed(axes: "Axes", points: Sequence[PointView], key: str) -> None:
    """Crosses on the lower edge: these rates have no score."""
    from shared.report.figure_style import INK

    failed = [point.values[key] for point in points if point.state == "failed"]
    axes.margins(y=0.12)  # room for the crosses below the lowest score
    if failed:
        axes.plot(
            failed, [0.03] * len(failed), "x", color=INK, ms=7, mew=1.6, transform=axes.get_xaxis_transform(),
            label=f"failed: {len(failed)}", zorder=4,
        )  # fmt: skip


def _legend(axes: "Axes", points: Sequence[PointView]) -> None:
    from shared.report.figure_style import GREY

    if any(was_stopped(point) for point in points):
        axes.plot([], [], "o", color=GREY, mfc="white", ls="none", label="hollow: stopped early")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, framealpha=0.9, markerscale=0.7)


def _draw_losses(axes: "Axes", points: Sequence[PointView], key: str, colours: Mapping[str, Any]) -> None:
    losses: list[float] = []
    for point in sorted(points, key=lambda point: point.id in colours):
        epochs = (point.outcome or {}).get("epochs") or []
        shown = [(epoch["epoch"] + 1, epoch["val_loss"]) for epoch in epochs if _finite(epoch.get("val_loss"))]
        if not shown:
            continue
        mine = point.id in colours
        losses += [loss for _, loss in shown]
        axes.plot(
            *zip(*shown, strict=True), "o-", color=colours.get(point.id, FAINT), ms=3.5 if mine else 1.5,
            lw=1.6 if mine else 0.9, zorder=3 if mine else 1, label=f"{point.values[key]:g}" if mine else None,
        )  # fmt: skip
    _stretch(axes, losses)
    low, high = axes.get_xlim()
    if high - low < 1:  # a single epoch
        axes.set_xlim(low - 0.5, high + 0.5)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, title="rate", title_fontsize=8, framealpha=0.9)
    else:
        axes.text(0.5, 0.5, "no loss curves in this stage", transform=axes.transAxes, ha="center", fontsize=9)


def keys_figure(points: Sequence[PointView], direction: Direction = "min", score_name: str = "score") -> "Figure":
    """Score against each swept key, one panel a key: all points, the mean of each value, the best marked."""
    from shared.report.figure_style import dress, new_figure, shorten

    score_name = shorten(score_name, 60)
    keys = [key for key in dict.fromkeys(key for point in points for key in point.values) if _varies(points, key)]
    shown = keys[:MAX_KEYS] or [""]
    columns = min(len(shown), 3)
    rows = math.ceil(len(shown) / columns)
    figure = new_figure(max(5.2, 4.2 * columns), 3.6 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    better = "smaller" if direction == "min" else "larger"
    more = f"; {len(keys) - MAX_KEYS} more keys are not drawn" if len(keys) > MAX_KEYS else ""
    figure.suptitle(f"{score_name} ({better} is better; one seed a point, no interval{more})", fontsize=10.5)
    for place, key in enumerate(shown):
        axes = panels.flat[place]
        _draw_key(axes, points, key, direction)
        dress(axes, shorten(key, 40), "", score_name if place % columns == 0 else "", grid="y")
    for axes in list(panels.flat)[len(shown) :]:
        axes.set_visible(False)
    _stretch(panels.flat[0], [score for point in points if (score := measured(point)) is not None])
    _legend(panels.flat[0], points)
    return figure


def _draw_key(axes: "Axes", points: Sequence[PointView], key: str, direction: Direction) -> None:
    from shared.report.figure_style import BLUE, VERMILION

    there = [point for point in points if key in point.values or not key]
    place = _scale(axes, [point.values.get(key, "all") for point in there])
    at = {point.id: place[_name(point.values.get(key, "all"))] for point in there}
    for stopped, face in ((False, BLUE), (True, "white")):  # one call for all: thousands of points are drawn at once
        shown = [(at[p.id], score) for p in there if was_stopped(p) == stopped and (score := measured(p)) is not None]
        if shown:
            axes.plot(*zip(*shown, strict=True), "o", color=BLUE, mfc=face, ms=5.5, alpha=0.65, zorder=2)
    _draw_means(axes, there, at)
    order = ranked(there, direction)
    if order:
        score = measured(order[0])
        axes.plot(
            [at[order[0].id]], [score or 0.0], "D", color=VERMILION, mfc="none", mew=1.8, ms=11, ls="none", zorder=4,
            label=f"best: {score:.4g}",
        )  # fmt: skip
    _mark_failed(axes, [_moved(point, at[point.id]) for point in there], "at")


def _draw_means(axes: "Axes", points: Sequence[PointView], at: Mapping[str, float]) -> None:
    """A line through the means, where values have more than one point that went to its end."""
    from shared.report.figure_style import GREY

    scores: dict[float, list[float]] = {}
    for point in points:
        score = measured(point)
        if score is not None and not was_stopped(point):
            scores.setdefault(at[point.id], []).append(score)
    if len(scores) > 1 and min(map(len, scores.values())) > 1:
        means = [(place, sum(found) / len(found)) for place, found in sorted(scores.items())]
        axes.plot(*zip(*means, strict=True), "-", color=GREY, lw=1.4, zorder=1, label="mean over the other keys")


def _scale(axes: "Axes", values: Sequence[Any]) -> dict[str, float]:
    """Where each value stands on the x axis, which becomes one of numbers, of their logarithms, or of names."""
    from shared.report.figure_style import shorten

    if values and all(_finite(value) for value in values):
        if min(values) > 0 and max(values) / min(values) >= WIDE:
            axes.set_xscale("log")
        elif len(set(values)) <= MAX_NAMES // 2:
            axes.set_xticks(sorted(set(values)))
        axes.margins(x=0.08)
        return {_name(value): float(value) for value in values}
    names = list(dict.fromkeys(_name(value) for value in values))
    step = math.ceil(len(names) / MAX_NAMES) or 1
    ticks = range(0, len(names), step)
    turned = sum(len(names[tick]) for tick in ticks) > 30
    labels = [shorten(names[tick], 24) for tick in ticks]
    axes.set_xticks(list(ticks), labels, rotation=25 if turned else 0, ha="right" if turned else "center")
    axes.set_xlim(-0.6, max(len(names) - 0.4, 0.6))
    return {name: float(place) for place, name in enumerate(names)}


def _moved(point: PointView, place: float) -> PointView:
    from dataclasses import replace

    return replace(point, values={"at": place})


def _stretch(axes: "Axes", numbers: Sequence[float]) -> None:
    """A logarithmic y axis where one number would press the others flat."""
    if numbers and min(numbers) > 0 and max(numbers) / min(numbers) > WIDE:
        axes.set_yscale("log")


def _varies(points: Sequence[PointView], key: str) -> bool:
    return len({_name(point.values.get(key)) for point in points}) > 1


def _name(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
