"""Copies of runs whose directory this machine does not see: the hub writes what they push to files of its own.

So the history of such a run survives a restart of the hub, and the page reads it like any other. Where the copies stand
is made of a hash of what the run says about itself, never of a path that it sends.
"""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from shared.atomic import write_json
from shared.live import checked

MIRRORS = ".live"
MAX_MIRRORS = 200
MAX_PLACE = 5
MAX_BYTES = 256 * 1024 * 1024
MAX_TOTAL_BYTES = 2 * 1024**3
CHECK_BYTES = 16 * 1024 * 1024
SILENT_S = 3600.0
TAIL_BYTES = 64 * 1024
EVENTS_FILE = "events.jsonl"
WHENCE_FILE = "whence.json"


def prune(root: Path, keep: Path, max_copies: int, max_bytes: int) -> None:
    """Remove the copies of finished runs, the oldest first, until what is left keeps within the limits.

    A run counts as finished whose last event is `end`, or from which nothing has come for `SILENT_S`. One that goes on
    after all is copied again from its first event.

    Args:
        root: Outputs folder of the hub.
        keep: A copy that stays.
        max_copies: Copies allowed.
        max_bytes: Bytes of all copies allowed.

    Raises:
        MirrorError: If those that must stay exceed a limit.
    """
    copies = sorted((_changed(path), path) for path in (root / MIRRORS).glob("*") if path.is_dir())
    sizes = {path: _size(path) for _, path in copies}
    for changed, path in copies:
        if len(sizes) <= max_copies and sum(sizes.values()) <= max_bytes:
            return
        if path != keep and (time.time() - changed > SILENT_S or _last_kind(path) == "end"):
            shutil.rmtree(path, ignore_errors=True)
            del sizes[path]
    if len(sizes) > max_copies:
        raise MirrorError(f"the hub keeps copies of {len(sizes)} unfinished runs already")
    if sum(sizes.values()) > max_bytes:
        raise MirrorError(f"the hub's copies of unfinished runs fill {max_bytes} bytes already")


class MirrorError(Exception):
    """A run cannot be copied; the sentence goes to the run that pushes."""


class Mirror:
    """Appends the events of one run, in order and without gaps.

    Args:
        root: Outputs folder of the hub.
        identity: What the run says about itself: "host"; "path" of its events; "head", the hash of their first line;
            "place", the names of the folders that lead to it below its own outputs.

    Raises:
        MirrorError: If there are `MAX_MIRRORS` copies of unfinished runs already, or they fill `MAX_TOTAL_BYTES`.
    """

    def __init__(self, root: Path, identity: dict[str, Any]) -> None:
        whence = {key: checked.text(identity.get(key, ""), checked.MAX_TEXT) for key in ("host", "path", "head")}
        name = hashlib.sha256(json.dumps(whence, sort_keys=True).encode("utf-8", "replace")).hexdigest()[:16]
        self.path = root / MIRRORS / name
        if not self.path.is_dir():
            prune(root, self.path, MAX_MIRRORS - 1, MAX_TOTAL_BYTES)
            self.path.mkdir(parents=True)
            given = identity.get("place")
            parts = given if isinstance(given, list) and given else Path(whence["path"]).parts[-2:-1]
            place = [checked.text(part, checked.MAX_NAME) for part in parts[-MAX_PLACE:]]
            write_json(self.path / WHENCE_FILE, {"host": whence["host"], "place": place})
        self._root, self._unchecked = root, 0
        self._events = self.path / EVENTS_FILE
        content = self._events.read_bytes() if self._events.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # torn by a killed hub
            with self._events.open("r+b") as stream:
                stream.truncate(len(whole))
        self._bytes = len(whole)
        last = whole.rsplit(b"\n", 2)[-2] if whole else b""
        self.next_seq = int(json.loads(last)["seq"]) + 1 if last else 0

    def append(self, events: list[dict[str, Any]]) -> None:
        """Write those that come next; those known already are left out, and so is what lies behind a gap.

        Raises:
            MirrorError: If the copy would grow beyond `MAX_BYTES`, or all of them beyond `MAX_TOTAL_BYTES`.
        """
        lines = []
        for event in events:
            if checked.is_event(event) and event["seq"] == self.next_seq:
                lines.append(json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
                self.next_seq += 1
        content = b"".join(lines)
        if self._bytes + len(content) > MAX_BYTES:
            self.next_seq -= len(lines)
            raise MirrorError(f"the copy of this run would exceed {MAX_BYTES} bytes")
        if content:
            with self._events.open("ab") as stream:
                stream.write(content)
            self._bytes += len(content)
            self._unchecked += len(content)
        if self._unchecked > CHECK_BYTES:  # seldom, since it looks at all copies
            self._unchecked = 0
            prune(self._root, self.path, MAX_MIRRORS, MAX_TOTAL_BYTES)


def _changed(path: Path) -> float:
    events = path / EVENTS_FILE
    try:
        return (events if events.exists() else path).stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0


def _size(path: Path) -> int:
    try:
        return (path / EVENTS_FILE).stat().st_size
    except OSError:
        return 0


def _last_kind(path: Path) -> object:
    try:
        with (path / EVENTS_FILE).open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - TAIL_BYTES))
            event = json.loads(stream.read().rstrip(b"\n").rsplit(b"\n", 1)[-1])
    except (OSError, ValueError, RecursionError):
        return None
    return event.get("kind") if isinstance(event, dict) else None
