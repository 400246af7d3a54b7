"""The hub's end of a run that pushes its events."""

import asyncio
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from starlette.websockets import WebSocket

from shared.live.discovery import EVENTS_FILE
from shared.live.mirror import Mirror, MirrorError
from shared.live.store import RunStore

MAX_MESSAGES_PER_S = 50


class Receiver:
    """Takes pushed events in.

    A run whose directory stands below the hub's root is read from its own file; what it pushes only makes that happen
    at once. Any other is copied (see `shared.live.mirror`).

    Args:
        socket: Accepted connection.
        store: The hub's runs.
    """

    def __init__(self, socket: WebSocket, store: RunStore) -> None:
        self.socket = socket
        self.store = store

    async def serve(self, hello: dict[str, Any]) -> None:
        """Answer each message with the seq that the hub wants next, until the run ends."""
        path = await asyncio.to_thread(visible_directory, self.store.root, hello)
        try:
            mirror = None if path is not None else await asyncio.to_thread(Mirror, self.store.root, hello)
        except MirrorError as error:
            await self.socket.close(4403, str(error))
            return
        self.store.scan_soon()
        have = 0 if mirror is None else mirror.next_seq
        await self._answer(have, visible=mirror is None)
        while True:
            began = time.monotonic()
            events = parse_lines(await self.socket.receive_text())
            try:
                have = await asyncio.to_thread(self._take, path, mirror, events, have)
            except MirrorError as error:
                await self.socket.close(4413, str(error))
                return
            except OSError:  # the copy was removed, or the disk is full: the run comes back and is told what is there
                await self.socket.close(1011, "the copy cannot be written")
                return
            await self._answer(have, visible=mirror is None)
            # A run that floods the hub is read no faster than this: its own bounded queue absorbs the rest.
            await asyncio.sleep(max(0.0, 1 / MAX_MESSAGES_PER_S - (time.monotonic() - began)))

    def _take(self, path: Path | None, mirror: Mirror | None, events: list[dict[str, Any]], have: int) -> int:
        if mirror is not None:
            mirror.append(events)
            path, have = mirror.path, mirror.next_seq
        elif events:
            have = max(have, *(event["seq"] + 1 for event in events))
        run = None if path is None else self.store.at(path)
        if run is not None:
            run.offer(events)
        return have

    async def _answer(self, have: int, *, visible: bool) -> None:
        await self.socket.send_text(json.dumps({"have": have, "visible": visible}))


def parse_lines(text: str) -> list[dict[str, Any]]:
    """Events of a message, one JSON object a line; anything else is left out."""
    events = []
    for line in text.split("\n"):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and isinstance(event.get("seq"), int):
            events.append(event)
    return events


def visible_directory(root: Path, hello: dict[str, Any]) -> Path | None:
    """The run's directory, if it stands below `root` on this machine and is really the same.

    Another machine may have the same paths, so the first line of the events must be the one that the run has.
    """
    try:
        path = Path(str(hello.get("path"))).resolve()
        if not path.is_relative_to(root) or path.name != EVENTS_FILE:
            return None
        with path.open("rb") as stream:
            first = stream.readline(1 << 16)
    except (OSError, ValueError):
        return None
    return path.parent if first and head_of(first) == hello.get("head") else None


def head_of(first_line: bytes) -> str:
    """What tells a file of events from any other: a hash of its first line, which holds the time and the run's name."""
    return hashlib.sha256(first_line).hexdigest()
