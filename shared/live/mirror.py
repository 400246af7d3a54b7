"""Copies of runs whose directory this machine does not see: the hub writes what they push to files of its own.

So the history of such a run survives a restart of the hub, and the page reads it like any other. Where the copies stand
is made of a hash of what the run says about itself, never of a path that it sends.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from shared.atomic import write_json
from shared.live import checked

MIRRORS = ".live"
MAX_MIRRORS = 200
MAX_PLACE = 5
MAX_BYTES = 256 * 1024 * 1024
WHENCE_FILE = "whence.json"


class MirrorError(Exception):
    """A run cannot be copied; the sentence goes to the run that pushes."""


class Mirror:
    """Appends the events of one run, in order and without gaps.

    Args:
        root: Outputs folder of the hub.
        identity: What the run says about itself: "host"; "path" of its events; "head", the hash of their first line;
            "place", the names of the folders that lead to it below its own outputs.

    Raises:
        MirrorError: If there are `MAX_MIRRORS` copies already.
    """

    def __init__(self, root: Path, identity: dict[str, Any]) -> None:
        whence = {key: checked.text(identity.get(key, ""), checked.MAX_TEXT) for key in ("host", "path", "head")}
        name = hashlib.sha256(json.dumps(whence, sort_keys=True).encode("utf-8", "replace")).hexdigest()[:16]
        self.path = root / MIRRORS / name
        if not self.path.is_dir():
            if (root / MIRRORS).is_dir() and sum(1 for _ in (root / MIRRORS).iterdir()) >= MAX_MIRRORS:
                raise MirrorError(f"the hub keeps copies of {MAX_MIRRORS} runs already; remove some below {MIRRORS}")
            self.path.mkdir(parents=True)
            given = identity.get("place")
            parts = given if isinstance(given, list) and given else Path(whence["path"]).parts[-2:-1]
            place = [checked.text(part, checked.MAX_NAME) for part in parts[-MAX_PLACE:]]
            write_json(self.path / WHENCE_FILE, {"host": whence["host"], "place": place})
        self._events = self.path / "events.jsonl"
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
            MirrorError: If the copy would grow beyond `MAX_BYTES`.
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
