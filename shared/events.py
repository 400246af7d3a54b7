"""`events.jsonl`: what happens in a run, one JSON object a line, written to disk before anything else sees it.

Each line: {v: 1, seq, t, run, kind, step, epoch, data}; seq runs from 0 without gaps, over resumptions too. After a
resume the lines whose step lies past the `start` event's step are superseded by those that follow it.
"""

import json
import time
from pathlib import Path
from typing import Any

from shared.atomic import write_bytes

VERSION = 1
KINDS = ("start", "step", "epoch", "sample", "stage", "heartbeat", "end", "warning")
MIN_STEP_INTERVAL_S = 0.1  # at most ten step events a second


class EventWriter:
    """Append events to a file.

    Args:
        path: The file; an existing one is continued, without a line that a killed run left half written.
        run: Name of the run, repeated in each event.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self.run = run
        self.next_seq = _repair(path)
        self._last_step_time = 0.0

    def step_is_due(self) -> bool:
        """Whether a step event may be written now; asked first, so that reading a loss back from a GPU is rare."""
        return time.time() - self._last_step_time >= MIN_STEP_INTERVAL_S

    def write(self, kind: str, step: int, epoch: int, **data: Any) -> None:
        """Append one event."""
        assert kind in KINDS, kind
        now = time.time()
        if kind == "step":
            self._last_step_time = now
        event = {
            "v": VERSION, "seq": self.next_seq, "t": now, "run": self.run, "kind": kind, "step": step, "epoch": epoch,
            "data": data,
        }  # fmt: skip
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(event, ensure_ascii=False) + "\n")
        self.next_seq += 1


def read_events(path: Path) -> list[dict[str, Any]]:
    """Events that count: those past a later `start` event's step are left out.

    Args:
        path: events.jsonl of a run.

    Returns:
        Events in order of seq.
    """
    kept: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
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
