"""What the metrics of a point say: its epochs, its score, and the order of points."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from shared.errors import DataError
from shared.sweep.states import PointView

LAST_EPOCHS = 3
GAP_WEIGHT = 0.1
GRADIENT_KEY = "train/gradient_norm"
"""Column of metrics.csv with the mean norm of the gradient in an epoch."""

Direction = Literal["min", "max"]
RATES_KIND, GRID_KIND = "hierarchical_lr", "grid"
"""Kinds of spaces, as planners name them."""
RATE_KEY = "optimizer.lr"
RATE_SCORE = "mean of the last 3 validation losses + 0.1 |train - val|"
"""What points are ranked by where nothing but the learning rate differs; elsewhere it is the runtime's monitor."""


@dataclass(frozen=True)
class Epoch:
    """One epoch of a point; `gradient_norm` is None where the run logged none."""

    epoch: int
    train_loss: float
    val_loss: float
    gradient_norm: float | None = None


def rate_key(space: Mapping[str, Any]) -> str | None:
    """The key of the learning rate where a space has nothing but rates, None for any other space.

    Args:
        space: What a planner's `space()` says.

    Example:
        >>> rate_key({"kind": "grid", "values": {"optimizer.lr": [1e-4]}}), rate_key({"kind": "grid", "values": {}})
        ('optimizer.lr', None)
    """
    if space.get("kind") == RATES_KIND:
        return str(space["key"])
    return RATE_KEY if space.get("kind") == GRID_KIND and list(space.get("values", ())) == [RATE_KEY] else None


def score_of(space: Mapping[str, Any], monitor: str, mode: str) -> tuple[Direction, str]:
    """Whether the smallest or the largest score of a sweep is the best, and what a score is, in a few words.

    Args:
        space: What the planner's `space()` says.
        monitor: The runtime's monitor.
        mode: Its `monitor_mode`.
    """
    if rate_key(space) is not None:
        return "min", RATE_SCORE
    return "max" if mode == "max" else "min", monitor


def read_epochs(path: Path) -> list[Epoch]:
    """Read a run's metrics.csv; an absent file is a run that did not reach the end of an epoch.

    Raises:
        DataError: If a column is missing or a cell is no number.
    """
    try:
        return [
            Epoch(int(row["epoch"]), float(row["train/loss"]), float(row["val/loss"]), _gradient(row))
            for row in _rows(path)
        ]
    except (KeyError, ValueError) as error:
        raise DataError(f"{path} has no numbers for epoch, train/loss and val/loss ({error!r}).") from error


def _gradient(row: Mapping[str, str]) -> float | None:
    text = row.get(GRADIENT_KEY)
    return float(text) if text else None


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def lr_score(epochs: Sequence[Epoch]) -> float:
    """Mean of the last three validation losses + 0.1 |train - val| in the last epoch; smaller is better.

    Raises:
        ValueError: Without an epoch.

    Example:
        >>> lr_score([Epoch(0, 3.0, 2.0), Epoch(1, 1.0, 1.0)])
        1.5
    """
    if not epochs:
        raise ValueError("there is no epoch to score; at least 1 is needed")
    last = [epoch.val_loss for epoch in epochs[-LAST_EPOCHS:]]
    gap = abs(epochs[-1].train_loss - epochs[-1].val_loss)
    return sum(last) / len(last) + GAP_WEIGHT * gap


def monitor_score(path: Path, key: str, direction: Direction) -> float:
    """The best value of a metric over all epochs in a run's metrics.csv, as measured; epochs without one are left out.

    Args:
        path: The file metrics.csv.
        key: Its column, for example "val/loss".
        direction: Whether the smallest ("min") or the largest ("max") is the best.

    Raises:
        ValueError: For another direction.
        DataError: If there is no such column, or no finite number in it.
    """
    if direction not in ("min", "max"):
        raise ValueError(f"direction is {direction!r}; allowed are 'min' and 'max'")
    rows = _rows(path)
    if rows and key not in rows[0]:
        raise DataError(f"{path} has no column {key}; it has {', '.join(rows[0])}")
    try:
        values = [float(row[key]) for row in rows if row[key]]
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} has a cell in column {key} that is no number ({error})") from error
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        raise DataError(f"{path} has no finite {key} in {len(rows)} epochs")
    return min(finite) if direction == "min" else max(finite)


def measured(point: PointView) -> float | None:
    """The score of a point that is done, as measured; None for any other, and where it is not finite."""
    value = point.outcome.get("score") if point.state == "done" and point.outcome is not None else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def was_stopped(point: PointView) -> bool:
    """Whether a point was given up before its last epoch, so that its score is one of an earlier epoch."""
    return point.outcome is not None and point.outcome.get("stopped_at") is not None


def minimised(points: Sequence[PointView], direction: Direction) -> list[PointView]:
    """The points as a planner sees them: where the largest score is the best, scores are negated."""
    if direction == "min":
        return list(points)
    return [point if measured(point) is None else _negated(point) for point in points]


def _negated(point: PointView) -> PointView:
    outcome: dict[str, Any] = dict(point.outcome or {})
    return replace(point, outcome={**outcome, "score": -outcome["score"]})


def ranked(points: Sequence[PointView], direction: Direction = "min") -> list[PointView]:
    """Points with a score, best first; equal ones in the order of planning.

    Points that were stopped early follow all those that went to the end: their scores are of earlier epochs, so the two
    cannot be compared, and stopping meant that they were behind.
    """
    sign = 1.0 if direction == "min" else -1.0
    scored = [(was_stopped(point), sign * score, point.number, point) for point in points for score in _some(point)]
    return [point for *_, point in sorted(scored, key=lambda row: row[:3])]


def _some(point: PointView) -> list[float]:
    score = measured(point)
    return [] if score is None else [score]
