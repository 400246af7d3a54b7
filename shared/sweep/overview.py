"""What there is to say about a sweep, in plain values: for the terminal, for `--json` and for the live page.

Reads only the sweep's folder. Importing it imports neither torch nor Hydra.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.errors import ConfigError, DataError
from shared.sweep import contexts, exclusive_files
from shared.sweep.axes import axis_of
from shared.sweep.data_seen import seen
from shared.sweep.grid import GridPlanner
from shared.sweep.lease import beat_path
from shared.sweep.ledger import STATES, PointView, SweepLedger
from shared.sweep.limits import newest_limits
from shared.sweep.lr_stages import HierarchicalRates
from shared.sweep.optuna_search import OptunaPlanner
from shared.sweep.planner import Planner
from shared.sweep.scoring import Direction, measured, minimised, ranked
from shared.sweep.sweep_file import SWEEP_FILE, check_names

SCHEMA = 1
OUTSIDE, OTHER_CODE, OTHER_DATA = "outside", "other code", "other data"
"""Marks: not in the space searched now; made with other code or data than the newest that the sweep has seen."""


class SweepReader:
    """Reads one sweep again and again; a lease on another machine is told void only by a reader that lives on.

    Args:
        folder: The sweep's folder.
        writes: For those who write with its ledger: that one sets damaged files aside.

    Raises:
        ConfigError: If it is no sweep, or its sweep.json is damaged or of a newer version.
    """

    def __init__(self, folder: Path, *, writes: bool = False) -> None:
        self.folder = folder
        self.facts = read_facts(folder)
        self.direction: Direction = self.facts["direction"]
        self._writes = writes
        self._limits = newest_limits(folder)
        self.ledger = self._open()

    def _open(self) -> SweepLedger:
        """The ledger with the limits that were asked for last.

        Raises:
            ConfigError: sweep.json has settings that no sweep has.
        """
        settings = self.facts["settings"] | self._limits
        names = ("retries", "max_interruptions", "lease_s")
        limits = {key: settings[key] for key in names if settings.get(key) is not None}
        try:
            return SweepLedger(self.folder, read_only=not self._writes, **limits)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{self.folder / SWEEP_FILE}: settings that no sweep has ({error})") from error

    def _follow_limits(self) -> None:
        """Somebody may have given the sweep's command again with other limits."""
        newest = newest_limits(self.folder)
        if newest != self._limits:
            self._limits = newest
            self.ledger = self._open()

    def space(self) -> "Space":
        """What the newest plan searches."""
        plans = self.ledger.plans()
        return Space(plans[-1].space if plans else {})

    def read(self, *, thorough: bool = True) -> dict[str, Any]:
        """What the ledger says now.

        Args:
            thorough: Also look for files that cannot be read, which takes a second listing of the ledger.

        Returns:
            The keys that docs/sweeps.md lists under "status --json".

        Raises:
            DataError: If the folder cannot be read.
        """
        try:
            self._follow_limits()
            views = self.ledger.points(all_generations=True)
            generation, space = self.ledger.generation, self.space()
        except OSError as error:
            raise DataError(f"{self.folder} cannot be read: {error.strerror or error}") from error
        current = [view for view in views if view.generation == generation and space.contains(view.values)]
        order = [view.id for view in ranked(current, self.direction)]
        ranks = {one: place for place, one in enumerate(order, start=1)}
        marks = self._marks(views, space, generation)
        counted = {view.id for view in current}
        points = [self._point(view, marks[view.id], view.id in counted, ranks.get(view.id)) for view in views]
        finished = space.is_exhausted(current, self.direction)
        total = len(current) if finished else space.total(current)
        working = any(point["lease"] is not None and point["lease"]["void"] is None for point in points)
        return {
            "schema": SCHEMA, "folder": str(self.folder), "project": self.facts["primary"],
            "sweeper": self.facts["sweeper"], "keys": _keys(points), "direction": self.direction,
            "generation": generation, "state": "done" if finished else "running" if working else "waiting",
            "finished": finished,
            "counts": {state: sum(view.state == state for view in current) for state in STATES},
            "settled": sum(view.is_settled for view in current), "total": total, "best": order[0] if order else None,
            "notes": [*self.ledger.notices, *(unreadable(self.folder, views) if thorough else []), *_marked(marks)],
            "points": points,
        }  # fmt: skip

    def _marks(self, views: Sequence[PointView], space: "Space", generation: int) -> dict[str, list[str]]:
        """What is to be said of each point beside its state, by its id."""
        known = contexts.contexts(self.folder)
        code, data = known[-1].code_hash if known else None, self._data_hash(generation)
        found = {}
        for view in views:
            outcome, is_old = view.outcome or {}, view.generation != generation
            marks = [] if space.contains(view.values) else [OUTSIDE]
            if is_old or (code is not None and outcome.get("code_hash", code) != code):
                marks.append(OTHER_CODE)
            elif data is not None and outcome.get("data_hash", data) != data:
                marks.append(OTHER_DATA)
            found[view.id] = marks
        return found

    def _data_hash(self, generation: int) -> Any:
        """Hash of the data that the generation has seen last; None before that."""
        found: list[dict[str, Any]] = []
        with suppress(OSError):
            found = seen(self.folder, "data", generation)
        return found[-1].get("data_hash") if found else None

    def _point(self, view: PointView, marks: list[str], counts: bool, rank: int | None) -> dict[str, Any]:
        outcome = view.outcome or {}
        ended = [event.t for event in view.history if event.kind in ("done", "failed")]
        return {
            "id": view.id, "number": view.number, "stage": view.stage, "generation": view.generation,
            "values": view.values, "state": view.state, "final": view.final, "attempts": view.attempts,
            "failures": view.failures, "interruptions": view.interruptions, "score": measured(view), "rank": rank,
            "stopped_at": outcome.get("stopped_at"), "seconds": _number(outcome.get("seconds")),
            "error": view.error, "run": view.run, "marks": marks, "counts": counts, "lease": self._lease(view),
            "ended": ended[-1] if ended and view.is_settled else None,
        }  # fmt: skip

    def _lease(self, view: PointView) -> dict[str, Any] | None:
        """Who has the point; the age of the beat compares our clock with the file's time, so it is for people only."""
        lease = view.lease
        if lease is None:
            return None
        path = beat_path(self.ledger.beats_folder, view.id, lease.event)
        beat: dict[str, Any] = {}
        age: float | None = None
        with suppress(OSError):
            beat = exclusive_files.read(path) or {}
            age = round(max(0.0, time.time() - path.stat().st_mtime), 1)
        return {
            "event": lease.event, "host": lease.host, "pid": lease.pid, "job": lease.job,
            "started_by": lease.started_by, "since": lease.t, "beat": beat.get("beat"), "beat_age_s": age,
            "epoch": beat.get("epoch"), "void": self.ledger.is_void(view),
        }  # fmt: skip


def read_facts(folder: Path) -> dict[str, Any]:
    """What sweep.json says, with the parts that everything here needs.

    Raises:
        ConfigError: If it is missing, damaged or of a newer version, or names what is not of this project.
    """
    path = folder / SWEEP_FILE
    try:
        content = exclusive_files.read(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{folder} holds no {SWEEP_FILE}, so it is no sweep; they are in <outputs>/<project>/sweeps/"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror or error})") from error
    if content is None:
        raise ConfigError(
            f"{path} is damaged (empty, cut off or no JSON); give the sweep's command again, it writes it anew"
        )
    schema = content.get("schema")
    if schema != SCHEMA:
        raise ConfigError(f"{path} has schema {schema!r}, and this version reads {SCHEMA}")
    wanted = {"sweeper": str, "primary": str, "overrides": list, "settings": dict}
    for key, kind in wanted.items():
        if not isinstance(content.get(key), kind):
            raise ConfigError(f"{path}: {key} is {content.get(key)!r}; it must be a {kind.__name__}")
    check_names(path, content)
    direction = content.get("direction", "min")
    if direction not in ("min", "max"):
        raise ConfigError(f"{path}: direction is {direction!r}; allowed are 'min' and 'max'")
    return {**content, "overrides": [str(one) for one in content["overrides"]], "direction": direction}


class Space:
    """What the newest plan searches, as far as the plan itself tells.

    Args:
        content: The plan's `space`.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content
        self.planner: Planner | None = None
        kind, rest = content.get("kind"), {key: value for key, value in content.items() if key != "kind"}
        with suppress(
            ConfigError, TypeError, ValueError, LookupError, AttributeError
        ):  # of another version: then nothing is marked
            if kind == "hierarchical_lr":
                self.planner = HierarchicalRates(**rest)
            elif kind == "grid":
                axes = rest["values"].items()
                self.planner = GridPlanner({key: {str(k): one for k, one in enumerate(values)} for key, values in axes})
            elif kind == "optuna":
                searched = {key: (key, axis_of(axis)) for key, axis in rest["axes"].items()}
                self.planner = OptunaPlanner(searched, rest["total"], sampler="random")

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Whether a point with these values is one of this search."""
        return self.planner is None or self.planner.contains(values)

    def total(self, current: Sequence[PointView]) -> int | None:
        """How many points there will be at most, None where the space does not tell."""
        total = self.content.get("total") if self.planner is None else self.planner.total
        return max(total, len(current)) if isinstance(total, int) else None

    def is_exhausted(self, current: Sequence[PointView], direction: Direction) -> bool:
        """Whether all points are settled and no more will come.

        Args:
            current: Points that are ranked or may come to be.
            direction: "min" or "max".
        """
        if not current or not all(view.is_settled for view in current):
            return False
        if isinstance(self.planner, HierarchicalRates):  # may end with fewer rates than asked for
            return self.planner.propose(minimised(current, direction)) is None
        total = self.total(current)
        return total is not None and len(current) >= total


def unreadable(folder: Path, views: Sequence[PointView]) -> list[str]:
    """One sentence on event files that were set aside as damaged, and one on those that hold no event now."""
    before = "the events before them count"
    known = {f"{view.id}.{event.n:04d}.json" for view in views for event in view.history}
    planned = {view.id for view in views}
    names = [path.name for path in (folder / "ledger").glob("??/*") if not path.name.startswith(".")]
    aside = [name for name in names if exclusive_files.DAMAGED in name]
    now = [name for name in names if name.endswith(".json") and name.split(".")[0] in planned and name not in known]
    found = []
    if aside:
        found.append(f"{len(aside)} damaged event files were set aside, e.g. {min(aside)}; {before}")
    if now:
        found.append(f"{len(now)} event files cannot be read, e.g. {min(now)}; {before}")
    return found


def _marked(marks: Mapping[str, list[str]]) -> list[str]:
    """One sentence for each mark, with how many points have it."""
    said = {
        OUTSIDE: "lie outside the space searched now; they are kept and not ranked",
        OTHER_CODE: "were made with other code; they count if the sweep was told to keep them (on_change=keep)",
        OTHER_DATA: "were made with other data; they count if the sweep was told to keep them (on_change=keep)",
    }
    counts = {mark: sum(mark in found for found in marks.values()) for mark in said}
    return [f"{count} points {said[mark]}" for mark, count in counts.items() if count]


def _keys(points: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for point in points for key in point["values"]))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
