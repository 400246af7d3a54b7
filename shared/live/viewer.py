"""One viewer's connection: brings its selected runs up to date, ten times a second at most.

A viewer confirms each frame. While it owes `MAX_UNCONFIRMED` confirmations it gets no more, and since a frame says what
has changed since the last one sent, it misses nothing by that. One that confirms nothing for `SILENT_S` is let go.
"""

import asyncio
import json
import time
from typing import Any

from starlette.websockets import WebSocket

from shared.live.store import RunStore
from shared.live.sweeps import SweepBoard

FRAME_S = 0.1
MAX_SELECTED = 64
MAX_UNCONFIRMED = 3
SILENT_S = 30.0
ALIVE_S = 5.0
MAX_MESSAGES_PER_S = 50
MAX_ENCODED = 128

_Part = tuple[str, tuple[int, int], tuple[int, int], str]
"""Run, the version that the viewer has, the version that it reaches, and what is new as JSON."""


class Frames:
    """Encodes what viewers with the same knowledge are all sent, once.

    Args:
        store: The runs.
        sweeps: The sweeps.
    """

    def __init__(self, store: RunStore, sweeps: SweepBoard) -> None:
        self.store = store
        self.sweeps = sweeps
        self._encoded: dict[tuple[Any, ...], tuple[tuple[int, int], str]] = {}
        self._list: tuple[int, str] = (-1, "")
        self._sweep_list: tuple[int, str] = (-1, "")

    def run(self, run_id: str, since: tuple[int, int]) -> tuple[tuple[int, int], str]:
        """Version and JSON of what is new in a run; an empty text where nothing is."""
        run = self.store.get(run_id)
        version = (0, 0) if run is None else run.version
        if run is None or version in ((0, 0), since):
            return since, ""
        key = (run_id, since, version)
        entry = self._encoded.get(key)
        if entry is None:
            if len(self._encoded) > MAX_ENCODED:  # by any of the threads, at any time: only `entry` is sure to stay
                self._encoded.clear()
            reached, changes = run.changes(since)
            text = json.dumps({"generation": reached[0], **changes}, allow_nan=False) if changes else ""
            entry = self._encoded[key] = (reached, text)
        return entry

    def runs(self) -> tuple[int, str]:
        """Version and JSON of the list of runs."""
        version, rows = self.store.rows()
        entry = self._list
        if entry[0] != version:
            message = {"type": "runs", "now": time.time(), "left_out": self.store.left_out, "runs": rows}
            entry = self._list = (version, json.dumps(message))
        return entry

    def sweep_list(self) -> tuple[int, str]:
        """Version and JSON of the list of sweeps."""
        version, rows = self.sweeps.rows()
        entry = self._sweep_list
        if entry[0] != version:
            message = {"type": "sweeps", "now": time.time(), "left_out": self.sweeps.left_out, "sweeps": rows}
            entry = self._sweep_list = (version, json.dumps(message, allow_nan=False))
        return entry

    def sweep(self, sweep_id: str, since: int) -> tuple[int, str]:
        """Version and JSON of what is new in a sweep; an empty text where nothing is."""
        sweep = self.sweeps.peek(sweep_id)
        if sweep is None or sweep.version in (0, since):
            return since, ""
        message = sweep.changes(since)
        return message["version"], json.dumps(message, allow_nan=False)


class Viewer:
    """Serves one connection until it ends.

    Args:
        socket: Accepted connection whose first message has been read.
        frames: Shared by all viewers.
    """

    def __init__(self, socket: WebSocket, frames: Frames) -> None:
        self.socket = socket
        self.frames = frames
        self._selected: dict[str, tuple[int, int]] = {}
        self._list_version = -1
        self._sweep_list_version = 0
        self._sweep: tuple[str, int] | None = None
        self._unconfirmed = 0
        self._heard = time.monotonic()

    async def serve(self, first: dict[str, Any]) -> None:
        """Read and write until one side ends."""
        self._take(first)
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        tokens, asked = float(MAX_MESSAGES_PER_S), time.monotonic()
        while True:
            message = json.loads(await self.socket.receive_text())
            now = time.monotonic()
            tokens = min(MAX_MESSAGES_PER_S, tokens + (now - asked) * MAX_MESSAGES_PER_S) - 1
            asked = now
            if tokens < 0:
                return
            if isinstance(message, dict):
                self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("type") == "ack":
            self._unconfirmed = max(0, self._unconfirmed - 1)
            self._heard = time.monotonic()
        chosen = message.get("select")
        if isinstance(chosen, list):
            ids = [one for one in chosen if isinstance(one, str)][:MAX_SELECTED]
            self._selected = {run_id: self._selected.get(run_id, (0, 0)) for run_id in ids}
            named = message.get("sweep")
            if not isinstance(named, str):
                self._sweep = None
            elif self._sweep is None or self._sweep[0] != named:
                self._sweep = (named, 0)

    async def _write(self) -> None:
        sent = time.monotonic()
        self._heard = sent
        while True:
            now = time.monotonic()
            if self._unconfirmed and now - self._heard > SILENT_S:
                return
            if self._unconfirmed < MAX_UNCONFIRMED:
                messages = await self._due() if self._is_behind() else []
                if not messages and now - sent > ALIVE_S:
                    messages = [json.dumps({"type": "alive", "now": time.time()})]
                for text in messages:
                    self._unconfirmed += 1
                    await asyncio.wait_for(self.socket.send_text(text), SILENT_S)
                    sent = now
            await asyncio.sleep(FRAME_S)

    def _is_behind(self) -> bool:
        """Cheap look that waits for no lock, so that nothing is encoded where nothing has come."""
        if self.frames.store.rows()[0] != self._list_version:
            return True
        if self.frames.sweeps.rows()[0] != self._sweep_list_version or self._is_behind_in_sweep():
            return True
        for run_id, seen in self._selected.items():
            run = self.frames.store.peek(run_id)
            if run is not None and (not run.is_loaded or run.version not in ((0, 0), seen)):
                return True
        return False

    def _is_behind_in_sweep(self) -> bool:
        if self._sweep is None:
            return False
        sweep = self.frames.sweeps.peek(self._sweep[0])
        return sweep is not None and sweep.version not in (0, self._sweep[1])

    async def _due(self) -> list[str]:
        """Messages that bring the viewer up to date; encoded in a thread, while its selection may change."""
        (version, text), parts = await asyncio.to_thread(self._encode, dict(self._selected))
        messages = []
        if version != self._list_version:
            self._list_version = version
            messages.append(text)
        current = []
        for run_id, since, reached, part in parts:
            if self._selected.get(run_id) == since:  # else chosen anew meanwhile: it knows nothing of that run now
                self._selected[run_id] = reached
                current.append(part)
        if current:
            messages.append('{"type": "frame", "runs": [' + ", ".join(current) + "]}")
        return messages + await self._due_of_sweeps()

    async def _due_of_sweeps(self) -> list[str]:
        """The list of sweeps, and what is new in the chosen one."""
        version, text = self.frames.sweep_list()
        messages = [text] if version != self._sweep_list_version else []
        self._sweep_list_version = version
        chosen = self._sweep
        if chosen is not None:
            reached, text = await asyncio.to_thread(self.frames.sweep, *chosen)
            if text and self._sweep == chosen:  # else chosen anew meanwhile
                self._sweep = (chosen[0], reached)
                messages.append(text)
        return messages

    def _encode(self, selected: dict[str, tuple[int, int]]) -> tuple[tuple[int, str], list[_Part]]:
        parts = []
        for run_id, since in selected.items():
            reached, text = self.frames.run(run_id, since)
            if text:
                parts.append((run_id, since, reached, text))
        return self.frames.runs(), parts
