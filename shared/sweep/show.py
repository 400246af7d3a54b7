"""What an overview of a sweep looks like on a terminal: lines to read or to grep, and the view that `watch` redraws."""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

COLOURS = {"planned": "dim", "running": "blue", "done": "green", "failed": "red", "interrupted": "magenta"}
MIN_SETTLED = 4
"""Fewer gaps between settled points say nothing about the time left."""
STUDENT_T = {3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 8: 2.31, 10: 2.23, 15: 2.13, 20: 2.09, 30: 2.04, 60: 2.0}
"""Two-sided 95 % points of Student's t by degrees of freedom; the next lower entry serves for those between."""
MAX_SHOWN = 40
MAX_GAPS = 31


def lines(overview: Mapping[str, Any]) -> Iterator[str]:
    """The sweep as plain lines, none of them wrapped: head, counts, notes, then one line a point."""
    yield f"{overview['folder']}: {overview['sweeper']} over {', '.join(overview['keys']) or 'nothing yet'}"
    yield counted(overview)
    best = next((point for point in overview["points"] if point["id"] == overview["best"]), None)
    if best is not None:
        word = "highest" if overview["direction"] == "max" else "lowest"
        yield f"best: {settings(best['values'])} with score {shown(best['score'])} ({word}), point {best['number']}"
    for note in overview["notes"]:
        yield f"note: {note}"
    yield from _columns([_cells(point) for point in overview["points"]])


def counted(overview: Mapping[str, Any]) -> str:
    """`12 done, 2 running, ... of 25`, and what that amounts to."""
    counts = overview["counts"]
    parts = [f"{counts[state]} {state}" for state in ("planned", "running", "done", "failed", "interrupted")]
    total = "an unknown total" if overview["total"] is None else str(overview["total"])
    return f"{overview['state']}: {', '.join(parts)}; of {total}"


def nearest(path: str) -> str:
    """A path as seen from here where it is below, otherwise as it is."""
    found = Path(path)
    return str(found.relative_to(Path.cwd())) if found.is_relative_to(Path.cwd()) else path


def settings(values: Mapping[str, Any]) -> str:
    """Swept keys and their values in one line."""
    return " ".join(f"{key}={shown(value)}" for key, value in values.items())


def shown(value: Any) -> str:
    """A value as somebody would type it, floats with six digits at most."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min` or `2 d 5 h`."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def time_left(settled_at: Sequence[float], left: int | None) -> str:
    """When the rest will be settled, with an interval, from when points were seen to settle.

    The mean of the gaps between them times m; the interval is that of a sum of m gaps, for m points left, whose
    mean is known from `n` gaps only: t(.975, n - 1) * sd * sqrt(m + m^2 / n).

    Args:
        settled_at: Times in s at which points were settled, in order.
        left: Points not settled yet; None where the total is not known.
    """
    if left is None:
        return "the total is not known"
    if left == 0:
        return "nothing left"
    gaps = [later - earlier for earlier, later in itertools.pairwise(settled_at)]
    if len(gaps) < MIN_SETTLED:
        return f"too few points settled to tell ({len(gaps)} of {MIN_SETTLED})"
    mean = sum(gaps) / len(gaps)
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1))
    factor = STUDENT_T[max(key for key in STUDENT_T if key <= len(gaps) - 1)]
    half = factor * spread * math.sqrt(left + left**2 / len(gaps))
    middle = mean * left
    return f"about {duration(middle)} left ({duration(middle - half)} to {duration(middle + half)}, 95 %)"


def view(overview: Mapping[str, Any]) -> RenderableType:
    """What `watch` shows: counts, a bar, the time left, and the points that matter most now."""
    counts, total = overview["counts"], overview["total"]
    settled = overview["settled"]
    left = time_left(*remaining(overview))
    head = Text(f"{overview['folder']}  ", style="bold")
    head.append(overview["state"])
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=total or max(1, len(overview["points"])), completed=settled, width=40),
        Text(f"{settled} of {'?' if total is None else total} settled, {left}"),
    )
    tally = Text()
    for state, colour in COLOURS.items():
        tally.append(f"{counts[state]} {state}   ", style=colour)
    notes = [Text(f"note: {note}", style="yellow") for note in overview["notes"]]
    return Group(head, bar, tally, *notes, _table(overview))


def ranked(overview: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Points with a score that count, the best first."""
    return sorted((point for point in overview["points"] if point["rank"] is not None), key=lambda point: point["rank"])


def remaining(overview: Mapping[str, Any]) -> tuple[list[float], int | None]:
    """When points were settled, by the clocks of those who settled them, and how many are left.

    Returns:
        Times in s since 1970, in order, the newest `MAX_GAPS`; and the number, None where the total is not known.
    """
    ended = sorted(point["ended"] for point in overview["points"] if point["ended"] is not None and point["counts"])
    total = overview["total"]
    return ended[-MAX_GAPS:], None if total is None else max(0, total - overview["settled"])


def ranking(overview: Mapping[str, Any]) -> Iterator[str]:
    """The ranked table, best first; behind it how many points have no rank, and why."""
    rows = []
    for point in ranked(overview):
        stopped = "" if point["stopped_at"] is None else f"stopped early at epoch {point['stopped_at']}"
        place = [str(point["rank"]), shown(point["score"]), settings(point["values"]), f"stage {point['stage']}"]
        rows.append([*place, f"point {point['number']}", stopped])
    yield from _columns([["rank", "score", "values", "stage", "point", ""], *rows] if rows else [])
    without = [point for point in overview["points"] if point["rank"] is None]
    for point in without:
        reason = _said(point) or point["state"]
        yield f"not ranked: point {point['number']} {settings(point['values'])} ({reason})"


def _table(overview: Mapping[str, Any]) -> RenderableType:
    """Running and failed points and the best ones, in the order of their numbers, as many as fit a screen."""
    urgent = [point for point in overview["points"] if point["state"] in ("running", "failed", "interrupted")]
    best = ranked(overview)[: max(5, MAX_SHOWN - len(urgent))]
    chosen = {point["id"]: point for point in (*urgent, *best)}
    points = sorted(list(chosen.values())[:MAX_SHOWN], key=lambda point: point["number"])
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("point", "stage", "values", "state", "tries", "score", "where", "said"):
        table.add_column(title, overflow="fold" if title in ("values", "said") else "ellipsis")
    for point in points:
        style = "bold" if point["id"] == overview["best"] else COLOURS[point["state"]]
        score = "" if point["score"] is None else shown(point["score"])
        cells = [str(point["number"]), str(point["stage"]), settings(point["values"]), point["state"]]
        cells += [str(point["attempts"]), score, _lease(point["lease"]), _said(point)]
        table.add_row(*(Text(cell) for cell in cells), style=style)  # Text: what a file says is no markup
    return table


def _cells(point: Mapping[str, Any]) -> list[str]:
    tries = f"{point['attempts']} {'try' if point['attempts'] == 1 else 'tries'}"
    score = "-" if point["score"] is None else shown(point["score"])
    run = "" if point["run"] is None else f"run {nearest(point['run'])}"
    last = "; ".join(part for part in (_lease(point["lease"]), _said(point), run) if part)
    number, stage = str(point["number"]), f"stage {point['stage']}"
    return [number, stage, settings(point["values"]), point["state"], tries, score, last]


def _said(point: Mapping[str, Any]) -> str:
    parts = [*point["marks"]]
    if point["error"] is not None:
        parts.append(" ".join(point["error"].split()))
    if point["state"] == "failed":
        parts.append("for good, until retried" if point["final"] else "will be tried again")
    return "; ".join(parts)


def _lease(lease: Mapping[str, Any] | None) -> str:
    if lease is None:
        return ""
    parts = [f"{lease['host']} pid {lease['pid']}"]
    if lease["job"] is not None:
        parts.append(f"job {lease['job']}")
    if lease["epoch"] is not None:
        parts.append(f"epoch {lease['epoch']}")
    parts.append("no beat yet" if lease["beat_age_s"] is None else f"beat {duration(lease['beat_age_s'])} ago")
    if lease["void"] is not None:
        parts.append(f"void: {lease['void']}")
    return ", ".join(parts)


def _columns(rows: list[list[str]]) -> Iterator[str]:
    """Rows with all columns but the last padded to their widest cell."""
    if not rows:
        return
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]) - 1)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
