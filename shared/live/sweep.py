"""One sweep as the hub sees it: what its ledger says, bounded and made of plain values, with what has changed since."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.live import checked
from shared.live.discovery import run_id
from shared.sweep.overview import SweepReader
from shared.sweep.sweep_file import SWEEP_FILE

MAX_POINTS = 1000
MAX_KEYS = 12
MAX_NOTES = 20
MAX_VALUE = 200
NOTHING: dict[str, Any] = {"counts": {}, "settled": 0, "total": None}
_log = logging.getLogger(__name__)
URGENT = ("running", "failed", "interrupted")


class Sweep:
    """Read by the thread of the board while viewers are served.

    Args:
        sweep_id: Its id, made of its place like that of a run.
        root: Outputs folder.
        place: The sweep's folder, as parts below `root`.
        max_points: Points sent.

    Attributes:
        read_at: Monotonic time of the newest reading.
        cost_s: Seconds that it took.
    """

    def __init__(self, sweep_id: str, root: Path, place: tuple[str, ...], max_points: int = MAX_POINTS) -> None:
        self.id = sweep_id
        self.root = root
        self.place = place
        self.max_points = max_points
        self.version = 0
        self.read_at = float("-inf")
        self.cost_s = 0.0
        self._lock = threading.Lock()
        self._reader: SweepReader | None = None
        self._sign = (0, 0)
        self._row = self._named({"sweeper": "", "state": "unknown", "problem": None} | NOTHING)
        self._head: dict[str, Any] = {}
        self._points: dict[str, dict[str, Any]] = {}
        self._changed: dict[str, int] = {}
        self._left_out = 0
        self._heard: dict[tuple[str, int], tuple[Any, float]] = {}

    def refresh(self) -> None:
        """Read the ledger again; what cannot be read is told in the sweep's line."""
        began = time.monotonic()
        try:
            found = self._current_reader().read(thorough=False)
        except (UserError, OSError) as error:
            self._fail(checked.text(error, 400))
        except Exception as error:  # what somebody's files hold must not keep the others from being read
            _log.exception("sweep %s cannot be shown", "/".join(self.place))
            self._fail(f"cannot be shown ({type(error).__name__}); the hub's log says more")
        else:
            self._take(found)
        self.read_at = time.monotonic()
        self.cost_s = self.read_at - began

    def _current_reader(self) -> SweepReader:
        """The reader, a new one where another sweep stands in the folder now."""
        folder = self.root.joinpath(*self.place)
        status = (folder / SWEEP_FILE).stat()
        sign = (status.st_ino, status.st_mtime_ns)
        if self._reader is None or sign != self._sign:
            self._reader, self._sign = SweepReader(folder), sign
        return self._reader

    def _fail(self, problem: str) -> None:
        self._reader = None
        self._row = self._row | {"state": "unknown", "problem": problem}

    def row(self) -> dict[str, Any]:
        """The sweep's line in the list."""
        return self._row

    def changes(self, since: int) -> dict[str, Any]:
        """What is newer than the version `since`: head, ids of all points shown, and the points that changed."""
        with self._lock:
            since = since if since <= self.version else 0
            changed = [point for one, point in self._points.items() if self._changed[one] > since]
            return {
                "type": "sweep", "id": self.id, "since": since, "version": self.version, "now": time.time(),
                "head": self._head, "order": list(self._points), "points": changed, "left_out": self._left_out,
            }  # fmt: skip

    def _take(self, found: Mapping[str, Any]) -> None:
        """Bring in one reading of the ledger."""
        shown = _most_telling(found["points"], found["best"], self.max_points)
        points = {point["id"]: self._point(point) for point in shown}
        head = {
            "keys": [checked.text(key, checked.MAX_NAME) for key in found["keys"][:MAX_KEYS]],
            "direction": found["direction"], "best": found["best"],
            "notes": [checked.text(note, 400) for note in found["notes"][:MAX_NOTES]],
        }  # fmt: skip
        with self._lock:
            changed = [one for one, point in points.items() if self._points.get(one) != point]
            if changed or head != self._head or list(points) != list(self._points):
                self.version += 1
            self._changed = {one: self.version if one in changed else self._changed[one] for one in points}
            self._points, self._head, self._left_out = points, head, len(found["points"]) - len(shown)
        self._heard = {key: self._heard[key] for key in self._heard if key[0] in points}
        self._row = self._named(
            {
                "state": found["state"], "sweeper": checked.text(found["sweeper"], checked.MAX_NAME),
                "counts": found["counts"], "settled": found["settled"], "total": found["total"], "problem": None,
            }
        )  # fmt: skip

    def _named(self, facts: dict[str, Any]) -> dict[str, Any]:
        name = checked.text(self.place[-1], checked.MAX_NAME)
        return {"id": self.id, "name": name, "project": checked.text(self.place[0], checked.MAX_NAME), **facts}

    def _point(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """A point as it is sent."""
        run = _place_of(point["run"], self.root)
        values = list(point["values"].items())[:MAX_KEYS]
        return {
            "id": point["id"], "number": point["number"], "stage": point["stage"], "state": point["state"],
            "attempts": point["attempts"], "score": checked.number(point["score"]),
            "values": {checked.text(key, checked.MAX_NAME): _plain(value) for key, value in values},
            "error": None if point["error"] is None else checked.text(point["error"], 400),
            "marks": point["marks"], "counts": point["counts"], "lease": self._lease(point),
            "run_id": None if run is None else run_id(run),
            "run_name": None if point["run"] is None else checked.text(Path(point["run"]).name, checked.MAX_NAME),
        }  # fmt: skip

    def _lease(self, point: Mapping[str, Any]) -> dict[str, Any] | None:
        """Who works on a point; `heard` is when this hub, by its own clock, saw the beat change."""
        lease = point["lease"]
        if lease is None:
            return None
        key = (point["id"], lease["event"])
        if key not in self._heard:  # the file's own age, until the next beat is seen to come
            self._heard[key] = (lease["beat"], time.time() - (lease["beat_age_s"] or 0.0))
        elif self._heard[key][0] != lease["beat"]:
            self._heard[key] = (lease["beat"], time.time())
        return {
            "host": checked.text(lease["host"], checked.MAX_NAME), "pid": checked.number(lease["pid"]),
            "epoch": checked.number(lease["epoch"]), "heard": round(self._heard[key][1]),
            "void": None if lease["void"] is None else checked.text(lease["void"], 200),
        }  # fmt: skip


def _most_telling(points: Sequence[Mapping[str, Any]], best: str | None, limit: int) -> list[Mapping[str, Any]]:
    """As many points as may be sent, in their order: the best, what needs an eye, what has a score, the rest."""
    if len(points) <= limit:
        return list(points)

    def rank(point: Mapping[str, Any]) -> tuple[int, int]:
        kind = 0 if point["id"] == best else 1 if point["state"] in URGENT else 2 if point["score"] is not None else 3
        return kind, -point["number"]

    return sorted(sorted(points, key=rank)[:limit], key=lambda point: point["number"])


def _plain(value: Any) -> float | str | bool | None:
    """A swept value as the page can show it."""
    if value is None or isinstance(value, bool):
        return value
    return checked.text(value, MAX_VALUE) if (found := checked.number(value)) is None else found


def _place_of(run: str | None, root: Path) -> tuple[str, ...] | None:
    """The run's place below the outputs folder, also where the writer saw that folder under another name."""
    if run is None:
        return None
    path = Path(run)
    if path.is_relative_to(root):
        return path.relative_to(root).parts
    tail = path.parts[-3:]  # project, experiment, name
    return tail if len(tail) == 3 and ".." not in tail and root.joinpath(*tail).is_dir() else None
