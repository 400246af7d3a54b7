"""Reads an events.jsonl that is still being written, line by whole line."""

import json
import os
from pathlib import Path
from typing import Any

MAX_LINE_BYTES = 256 * 1024
CHUNK_BYTES = 1 << 20
HEAD_BYTES = 256


class Tail:
    """Where a reader of one file stands.

    A last line without its newline waits until it has one. Lines that are no JSON objects, or longer than
    `MAX_LINE_BYTES`, are passed over and counted, since the file may be anybody's.

    Args:
        path: The file; it may not exist yet.

    Attributes:
        skipped: Lines passed over.
        restarts: How often the file was found shorter than before or replaced, and was read from its beginning.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped = 0
        self.restarts = 0
        self._offset = 0
        self._head = b""  # an inode would not do: the next file often gets the same
        self._skipping = False  # within a line that is too long

    def poll(self) -> tuple[list[dict[str, Any]], bool]:
        """Read what has come since the last call, `CHUNK_BYTES` at most.

        Returns:
            Objects in the order of the file, and whether there is more to read now.
        """
        try:
            with self.path.open("rb") as stream:
                self._notice_replacement(stream.fileno())
                stream.seek(self._offset)
                content = stream.read(CHUNK_BYTES)
        except OSError:  # not there yet, or gone; the next call looks again
            return [], False
        whole = content.rfind(b"\n") + 1
        more = len(content) == CHUNK_BYTES
        if not whole:
            self._pass_over(content)
            return [], more and self._skipping
        self._offset += whole
        lines = content[:whole].split(b"\n")[:-1]
        if self._skipping:
            self._skipping = False
            lines = lines[1:]
        return [event for event in map(self._parsed, lines) if event is not None], more

    def _notice_replacement(self, descriptor: int) -> None:
        """A file that begins otherwise or has become shorter is another one, and is read anew."""
        head = os.pread(descriptor, HEAD_BYTES, 0)
        if self._offset and (os.fstat(descriptor).st_size < self._offset or not head.startswith(self._head)):
            self.restarts += 1
            self._offset, self.skipped, self._skipping = 0, 0, False
        self._head = head

    def _pass_over(self, content: bytes) -> None:
        """A line that does not end is either being written or too long to be an event."""
        if self._skipping:
            self._offset += len(content)
        elif len(content) > MAX_LINE_BYTES:
            self._offset += len(content)
            self._skipping = True
            self.skipped += 1

    def _parsed(self, line: bytes) -> dict[str, Any] | None:
        if len(line) <= MAX_LINE_BYTES:
            try:
                event = json.loads(line)
                if isinstance(event, dict):
                    return event
            except (ValueError, RecursionError):
                pass
        self.skipped += 1
        return None
