"""`events.jsonl`: what happens in a run, one JSON object a line, written to disk before anything else sees it.

Each line: {v: 1, seq, t, run, kind, step, epoch, data}; seq runs from 0 without gaps, over resumptions too. After a
resume the lines whose step lies past the `start` event's step are superseded by those that follow it.
"""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.atomic import write_bytes

VERSION = 1
KINDS = ("start", "step", "epoch", "sample", "stage", "heartbeat", "end", "warning")
MIN_STEP_INTERVAL_S = 0.1  # at most ten step events a second

Listener = Callable[[int, str], None]
"""Takes an event's seq and its line; called in the writing thread, so it must return at once and never raise."""


class EventWriter:
    """Append events to a file; several threads may write.

    Args:
        path: The file; an existing one is continued, without a line that a killed run left half written.
        run: Name of the run, repeated in each event.
        silent: Write nothing: one of several processes that train together, and not the one that tells of it.

    Attributes:
        closing: What the `end` event carries beside its own data, such as what a callback has cost.
        last_time: When the last event was written, seconds since the epoch; 0 before the first.
    """

    def __init__(self, path: Path, run: str, *, silent: bool = False) -> None:
        self.path = path
        self.run = run
        self.silent = silent
        self.next_seq = 0 if silent else _repair(path)
        self.closing: dict[str, Any] = {}
        self.last_time = 0.0
        self._last_step_time = 0.0
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()  # a seq and its line go together

    def subscribe(self, listener: Listener) -> None:
        """Have a listener called with each event from now on, after it is on disk."""
        self._listeners.append(listener)

    def step_is_due(self) -> bool:
        """Whether a step event may be written now; asked first, so that reading a loss back from a GPU is rare."""
        return not self.silent and time.time() - self._last_step_time >= MIN_STEP_INTERVAL_S

    def write(self, kind: str, step: int, epoch: int, **data: Any) -> None:
        """Append one event."""
        assert kind in KINDS, kind
        if self.silent:
            return
        now = time.time()
        if kind == "step":
            self._last_step_time = now
        if kind == "end":
            data |= self.closing
        with self._lock:
            seq = self.next_seq
            event = {
                "v": VERSION, "seq": seq, "t": now, "run": self.run, "kind": kind, "step": step, "epoch": epoch,
                "data": data,
            }  # fmt: skip
            line = json.dumps(event, ensure_ascii=False)
            # A name that is no UTF-8 holds half characters; written with a backslash they are JSON as well.
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(line + "\n")
            self.next_seq += 1
            self.last_time = now
            for listener in self._listeners:  # under the lock, so that they see the order of the file
                listener(seq, line)


def read_events(path: Path) -> list[dict[str, Any]]:
    """Events that count: those past a later `start` event's step are left out.

    Args:
        path: events.jsonl of a run.

    Returns:
        Events in order of seq.
    """
    kept: list[dict[str, Any]] = []
    for (
        line
    ) in path.read_bytes().splitlines():  # of bytes: those of a text also end at U+2028, which JSON leaves as it is
        event = json.loads(line)
        if event["kind"] == "start":
            kept = [old for old in kept if old["step"] <= event["step"]]
        kept.append(event)
    return kept


def _repair(path: Path) -> int:
    """Cut a torn last line off and return the next sequence number."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_bytes(path, whole)
    return whole.count(b"\n")
