"""What a sweep leaves to be read: cumulative JSON, best point, table, a picture a stage, TensorBoard's view.

All of it is made from the points alone and can be made again at any time. `table.csv` and the file of the best hold
nothing that differs between two sweeps with the same results: no times, no paths, no attempts. Those are in the
cumulative file.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.atomic import write_bytes, write_json, write_text
from shared.learning_rate import OPTIMAL_FILE
from shared.sweep.scoring import RATES_KIND, Direction, measured, ranked, rate_key
from shared.sweep.states import PointView

SCHEMA = 1
TABLE_FILE = "table.csv"
UNCERTAINTY = "one seed, no interval"
"""Stands beside every score: how it would vary from seed to seed is not measured by one run."""
OUTSIDE, OTHER_CODE = "outside", "other code"
BEST_FILES = (OPTIMAL_FILE, "best.json")


@dataclass(frozen=True)
class SweepFacts:
    """What the exports need to know beside the points.

    Attributes:
        folder: Of the sweep.
        space: What the planner's `space()` says; one of rates alone makes the files of a rate sweep.
        contains: The planner's: whether values are inside the space.
        direction: Whether the smallest ("min") or the largest ("max") score is the best.
        score_name: The score in a few words, for axes.
        generation: That counts; points of others are kept and marked "other code".
        complete: No point is missing: only then is the best one written down for others to use.
        notes: Sentences of the planner.
        marks: Point id -> mark of a point that counts all the same, such as "kept from other code".
        search: What else the cumulative file says of the search, in plain values.
    """

    folder: Path
    space: Mapping[str, Any]
    contains: Callable[[Mapping[str, Any]], bool]
    direction: Direction = "min"
    score_name: str = "score"
    generation: int = 0
    complete: bool = False
    notes: Sequence[str] = ()
    marks: Mapping[str, str] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rate_key(self) -> str | None:
        """The key of the learning rate in a sweep over rates, None in any other."""
        return rate_key(self.space)

    def counts(self, point: PointView) -> bool:
        """Whether a point is ranked: of this generation and inside the space."""
        return point.generation == self.generation and self.contains(point.values)

    def marks_of(self, point: PointView) -> list[str]:
        """Why a point is not ranked, or what is to be known about one that is."""
        marks = [OTHER_CODE] if point.generation != self.generation else []
        if not self.contains(point.values):
            marks.append(OUTSIDE)
        return [*marks, self.marks[point.id]] if point.id in self.marks else marks


@dataclass(frozen=True)
class Best:
    """The best point.

    Attributes:
        id: Of the point.
        values: Swept keys and values.
        score: As measured; one seed, no interval.
        stage: That found it.
        points: Number of settled points that it is the best of.
        at_edge: Keys of which no value was tried on one side of the best one.
        note: What to do about that, "" where there is nothing.
    """

    id: str
    values: dict[str, Any]
    score: float
    stage: int
    points: int
    at_edge: tuple[str, ...]
    note: str


def write_exports(facts: SweepFacts, points: Sequence[PointView], *, pictures: bool = True) -> Best | None:
    """Write all files; the one that names the best comes last, and only once the sweep is complete.

    While points are missing there is no file of the best, also none of an earlier search. It is written only where it
    would say something else, since its time tells which sweep was last to find a rate (`optimizer.lr_from=latest`).

    Args:
        facts: About the sweep.
        points: All points of all generations.
        pictures: Whether to draw and to write TensorBoard's files too, which takes seconds.

    Returns:
        The best point so far, None where no point that counts has a score.

    Raises:
        OSError: If a file cannot be written; each is written whole or not at all.
    """
    best = find_best(facts, points)
    write_text(facts.folder / TABLE_FILE, table_csv(facts, points))
    write_json(facts.folder / cumulative_name(facts), _finite(cumulative(facts, points, best)))
    if pictures:
        _write_pictures(facts, points)
    if best is None or not facts.complete:
        drop_best(facts.folder)
        return best
    content = best_content(facts, best)
    if read_best(facts.folder) != content:
        drop_best(facts.folder)  # that of another kind of search has another name
        write_json(facts.folder / best_name(facts), content)
    return best


def drop_best(folder: Path) -> None:
    """Remove the file of the best: what it names may not be the best any more.

    Raises:
        OSError: It cannot be removed.
    """
    for name in BEST_FILES:
        (folder / name).unlink(missing_ok=True)


def read_best(folder: Path) -> dict[str, Any] | None:
    """What the file of the best says; None where there is none, or one that cannot be read."""
    for name in BEST_FILES:
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return content if isinstance(content, dict) else None
    return None


def cumulative_name(facts: SweepFacts) -> str:
    """Name of the file with every point."""
    return "sweep_cumulative.json" if facts.rate_key is None else "lr_sweep_cumulative.json"


def best_name(facts: SweepFacts) -> str:
    """Name of the file with the best point."""
    return BEST_FILES[facts.rate_key is None]


def find_best(facts: SweepFacts, points: Sequence[PointView]) -> Best | None:
    """The best point that counts, with a warning where it is at an edge of what was tried."""
    counted = [point for point in points if facts.counts(point)]
    order = ranked(counted, facts.direction)
    if not order:
        return None
    best, score = order[0], measured(order[0])
    assert score is not None
    settled = [point for point in counted if point.is_settled]
    edges = {
        key: side for key in best.values for side in _edge(key, best, settled, least=2 if facts.rate_key == key else 3)
    }
    note = "; ".join(_edge_sentence(facts, key, best.values[key], side) for key, side in edges.items())
    return Best(best.id, dict(best.values), score, best.stage, len(settled), tuple(edges), note)


def _edge(key: str, best: PointView, settled: Sequence[PointView], least: int) -> list[str]:
    """On which side of the best value nothing was tried; failed points count as tried, since they bound the search.

    Fewer than `least` values say nothing: two of any key may be all that it can be, such as 0 and 1.
    """
    if key.rpartition(".")[2] == "seed" or not all(_is_number(point.values.get(key)) for point in settled):
        return []
    tried = sorted({float(point.values[key]) for point in settled})
    value = float(best.values[key])
    if len(tried) < least or tried[0] < value < tried[-1]:
        return []
    return ["smallest" if value == tried[0] else "largest"]


def _edge_sentence(facts: SweepFacts, key: str, value: float, side: str) -> str:
    bound = {"smallest": "low", "largest": "high"}[side]
    remedy = f"widen hydra.sweeper.{bound}" if facts.space.get("kind") == RATES_KIND else f"widen {key}"
    return f"the best {key} {value:g} is the {side} of those tried: a better one may lie beyond; {remedy}"


def best_content(facts: SweepFacts, best: Best) -> dict[str, Any]:
    """What the file of the best says; `shared.learning_rate` reads `lr` from that of a rate sweep."""
    head = {"values": best.values} if facts.rate_key is None else {"lr": float(best.values[facts.rate_key])}
    return {
        "schema": SCHEMA, **head, "score": best.score, "uncertainty": UNCERTAINTY, "direction": facts.direction,
        "point": best.id, "stage": best.stage, "points": best.points, "at_edge": bool(best.at_edge), "note": best.note,
        "generation": facts.generation, "space": dict(facts.space),
    }  # fmt: skip


def in_order(facts: SweepFacts, points: Sequence[PointView]) -> list[tuple[int | None, PointView]]:
    """All points with their ranks: ranked ones, then others that count, then those that do not, by number."""
    order = ranked([point for point in points if facts.counts(point)], facts.direction)
    places = {point.id: rank for rank, point in enumerate(order, start=1)}
    rest = [point for point in points if point.id not in places]
    rest.sort(key=lambda point: (not facts.counts(point), point.number))
    return [*((places[point.id], point) for point in order), *((None, point) for point in rest)]


def cumulative(facts: SweepFacts, points: Sequence[PointView], best: Best | None) -> dict[str, Any]:
    """What the cumulative file says: every point of every generation, what it took and what it brought."""
    return {
        "schema": SCHEMA, **facts.search, "space": dict(facts.space), "direction": facts.direction,
        "score_name": facts.score_name, "generation": facts.generation, "complete": facts.complete,
        "uncertainty": UNCERTAINTY, "notes": list(facts.notes),
        "best": None if best is None else best_content(facts, best),
        "points": [_entry(facts, rank, point) for rank, point in in_order(facts, points)],
    }  # fmt: skip


def _entry(facts: SweepFacts, rank: int | None, point: PointView) -> dict[str, Any]:
    outcome = point.outcome or {}
    rate = {} if facts.rate_key is None else {"lr": point.values.get(facts.rate_key)}
    taken = (
        "value",
        "seconds",
        "samples",
        "stopped_at",
        "initial_weights",
        "data_hash",
        "peak_rss_mb",
        "metrics",
        "epochs",
    )
    return {
        "id": point.id, "number": point.number, "stage": point.stage, "generation": point.generation, **rate,
        "values": point.values, "status": point.state, "rank": rank, "score": measured(point),
        "uncertainty": None if measured(point) is None else UNCERTAINTY,
        "counts": facts.counts(point), "marks": facts.marks_of(point), "final": point.is_settled,
        "reason": point.error, "attempts": point.attempts, "run": outcome.get("run", point.run),
        **{key: outcome.get(key) for key in taken},
    }  # fmt: skip


def table_csv(facts: SweepFacts, points: Sequence[PointView]) -> str:
    """The ranked table; equal results give equal bytes."""
    keys = list(dict.fromkeys(key for point in points for key in point.values))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    after = ["status", "score", "uncertainty", "epochs", "stopped_at", "last_train_loss", "last_val_loss", "marks"]
    writer.writerow(["rank", "point", "stage", *keys, *after])
    for rank, point in in_order(facts, points):
        values = [_cell(point.values[key]) if key in point.values else "" for key in keys]
        outcome = point.outcome or {}
        epochs = outcome.get("epochs") or []
        last = [_cell(epochs[-1].get(name)) if epochs else "" for name in ("train_loss", "val_loss")]
        score = measured(point)
        told = [_cell(score), "" if score is None else UNCERTAINTY, str(len(epochs)), _cell(outcome.get("stopped_at"))]
        marks = "; ".join(facts.marks_of(point))
        writer.writerow([_cell(rank), point.id, point.stage, *values, point.state, *told, *last, marks])
    return table.getvalue()


def _cell(value: Any) -> str:
    """Numbers with all their digits, so that equal cells are equal numbers."""
    if value is None:
        return ""
    return value if isinstance(value, str) else repr(value)


def _write_pictures(facts: SweepFacts, points: Sequence[PointView]) -> None:
    """One picture a stage for a rate sweep, one in all for others; and TensorBoard's files."""
    from shared.report.figure_style import png_bytes
    from shared.sweep.figures import keys_figure, stage_figure
    from shared.sweep.hparams import write_hparams

    counted = [point for point in points if facts.counts(point)]
    if facts.rate_key is None:
        if counted:
            figure = keys_figure(counted, facts.direction, facts.score_name)
            write_bytes(facts.folder / "stage_0.png", png_bytes(figure))
    else:
        for stage in sorted({point.stage for point in counted}):
            figure = stage_figure(counted, stage, facts.rate_key, facts.direction, facts.score_name)
            write_bytes(facts.folder / f"stage_{stage}.png", png_bytes(figure))
    write_hparams(facts.folder / "tb", counted)


def _finite(content: Any) -> Any:
    """The content with null for numbers that JSON does not have."""
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
