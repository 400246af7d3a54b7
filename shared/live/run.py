"""One run as the hub sees it: its status from status.json, its history from events.jsonl."""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from shared.live import checked
from shared.live.discovery import EVENTS_FILE, STATUS_FILE, Found
from shared.live.history import History
from shared.live.mirror import MIRRORS, WHENCE_FILE
from shared.live.tail import MAX_LINE_BYTES, Tail

STALE_S = 30.0
"""A run whose process cannot be looked at, and from which nothing has come for so long, is called stale."""

MAX_STATUS_BYTES = 4 << 20


class Run:
    """Thread-safe: the poller reads while viewers are served.

    Args:
        found: Where the run stands.

    Attributes:
        complete: Whether the history holds all of the file; only then is it shown.
        generation: Changes when the history begins anew.
    """

    def __init__(self, found: Found) -> None:
        self.found = found
        self.complete = False
        self.generation = 0
        self._history: History | None = None
        self._tail = Tail(found.path / EVENTS_FILE)
        self._lock = threading.Lock()
        self._status: dict[str, Any] = {}
        self._status_mtime = -1
        self._events_mtime = 0.0
        self._last_kinds: tuple[str | None, dict[str, Any]] = (None, {})
        self._whence = _read_json(found.path / WHENCE_FILE) if found.place[0] == MIRRORS else None

    def load(self) -> None:
        """Keep the history from now on."""
        if self._history is not None:  # without the lock, which is held while a file is read
            return
        with self._lock:
            if self._history is None:
                self._begin()

    def unload(self) -> None:
        """Forget the history; the file has it."""
        with self._lock:
            self._history, self.complete = None, False

    @property
    def is_loaded(self) -> bool:
        """Whether the history is kept."""
        return self._history is not None

    def poll(self) -> bool:
        """Read what the run has written since; at most one chunk of events.

        Returns:
            Whether there is more to read at once.
        """
        with self._lock:
            if self._history is None:
                return False
            return self._read(self._history)

    def offer(self, events: list[dict[str, Any]]) -> None:
        """Take in pushed events that continue what was read; the file fills any gap."""
        with self._lock:
            if self._history is None or not self.complete:
                return
            self._read(self._history)
            history = self._history
            for event in events:
                if event.get("seq") == history.next_seq:
                    history.apply(event)

    @property
    def version(self) -> tuple[int, int]:
        """(generation, version) of the history; (0, 0) while it is not complete."""
        history = self._history
        return (0, 0) if history is None or not self.complete else (self.generation, history.version)

    def changes(self, since: tuple[int, int]) -> tuple[tuple[int, int], dict[str, Any]]:
        """What is new after a version, with the version that the receiver has then."""
        with self._lock:
            history = self._history
            if history is None or not self.complete:
                return since, {}
            from_version = since[1] if since[0] == self.generation else 0
            notes = {"skipped": self._tail.skipped + history.ignored, "missing": history.missing}
            found = {"id": self.found.id, "notes": notes, **history.changes(from_version)}
            return (self.generation, history.version), found

    def refresh(self) -> None:
        """Read status.json again if it has changed, and the time of the newest event."""
        path = self.found.path / STATUS_FILE
        with suppress(OSError):
            mtime = path.stat().st_mtime_ns
            if mtime != self._status_mtime:
                self._status_mtime, self._status = mtime, _read_json(path) or self._status
        with suppress(OSError):
            mtime_s = (self.found.path / EVENTS_FILE).stat().st_mtime
            if mtime_s != self._events_mtime:
                self._events_mtime = mtime_s
                if not self._status:
                    self._last_kinds = _last_event(self.found.path / EVENTS_FILE)

    def row(self) -> dict[str, Any]:
        """The run's line in the list: names, state, stage, epoch, and when it was last heard of."""
        place = self.found.place
        remote = None
        if self._whence is not None:
            given = self._whence.get("place")
            place = tuple(checked.text(part, checked.MAX_NAME) for part in given) if isinstance(given, list) else ()
            remote = checked.text(self._whence.get("host", ""), checked.MAX_NAME)
        status = self._status
        seen = max(self._events_mtime, checked.number(status.get("heartbeat")) or 0.0)
        *folders, name = place or ("run",)
        return {
            "id": self.found.id, "name": name, "project": folders[0] if folders else "",
            "experiment": "/".join(folders[1:]), "sweep": "sweeps" in folders[1:2], "host": remote,
            "kind": checked.text(status.get("kind", "run"), 40), "state": self._state(seen),
            "stage": checked.text(status.get("stage") or "", 40), "epoch": checked.number(status.get("epoch")),
            "started": checked.number(status.get("started")) or self.found.changed, "seen": round(seen, 1),
        }  # fmt: skip

    def _state(self, seen: float) -> str:
        state = self._status.get("state")
        if state is None:  # somebody else's run: its events tell
            kind, data = self._last_kinds
            state = data.get("state", "done") if kind == "end" else "running"
        if state == "running":
            alive = self._is_alive()
            if alive is None:  # another host's, or one without a status: only what it writes tells
                alive = time.time() - seen <= STALE_S
            return "running" if alive else "stale"
        return state if state in ("running", "done", "failed", "interrupted") else "unknown"

    def _is_alive(self) -> bool | None:
        """Whether the process that wrote the status lives; None where that cannot be told from here."""
        status = self._status
        pid, began = status.get("pid"), checked.number(status.get("started_by"))
        if status.get("host") != socket.gethostname() or not isinstance(pid, int) or began is None:
            return None
        try:
            return abs(psutil.Process(pid).create_time() - began) <= 1
        except psutil.AccessDenied:
            return None
        except (psutil.Error, ValueError, OverflowError):  # no such process, or no such number of one
            return False

    def _begin(self) -> None:
        self._history, self._tail, self.complete = History(), Tail(self._tail.path), False
        self.generation += 1

    def _read(self, history: History) -> bool:
        restarts = self._tail.restarts
        events, more = self._tail.poll()
        if self._tail.restarts != restarts:  # another file stands there now: nothing of the old one counts
            self._history = history = History()
            self.generation += 1
        for event in events:
            history.apply(event)
        if not more:
            self.complete = True
        return more


def _read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, None where there is none to be read."""
    try:
        if path.stat().st_size > MAX_STATUS_BYTES:
            return None
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _last_event(path: Path) -> tuple[str | None, dict[str, Any]]:
    """Kind and data of the last whole line of a file."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - MAX_LINE_BYTES))
            lines = stream.read().rsplit(b"\n", 2)
        event = json.loads(lines[-2]) if len(lines) > 1 else {}
    except (OSError, ValueError, RecursionError):
        return None, {}
    data = event.get("data") if isinstance(event, dict) else None
    return (event.get("kind"), data) if isinstance(data, dict) else (None, {})
