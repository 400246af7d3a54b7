"""Sends a run's events to a hub, from a thread of its own, and never makes the run wait.

The events are on disk before they come here. A queue holds the newest; when it overflows the oldest go, and what the
hub then lacks is read back from the file. So a hub that is absent, dead or slow costs the run an append to a list.
"""

import atexit
import hmac
import json
import secrets
import socket
import struct
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from shared.events import EventWriter
from shared.live import launch
from shared.live.listener import foreign_uid
from shared.live.receiver import head_of
from shared.live.security import is_loopback, proof
from shared.live.tail import MAX_LINE_BYTES

TICK_S = 0.1
OPEN_S = 3.0
SILENT_S = 10.0
RETRY_S = (0.5, 1.0, 2.0, 5.0, 15.0)
HEARTBEAT_S = 10.0
BATCH_BYTES = 256 * 1024
MAX_IN_FLIGHT = 4
LEAVE_S = 2.0
FINAL = {4401, 4403, 4413}
"""Codes with which the hub closes for good: wrong token, not allowed, too much (`shared.live.hub`, `receiver`)."""


@dataclass(frozen=True)
class Target:
    """Where the events go.

    Attributes:
        url: Address of the hub, http or https.
        token: What it asks for; never sent, see `shared.live.security.proof`.
        start_hub: Start one where none answers (see `shared.live.launch.may_start`).
        outputs: Folder that a started hub shows.
    """

    url: str
    token: str | None
    start_hub: bool
    outputs: Path


class Pusher:
    """One thread, which ends by itself once the fit is over and everything has been sent, and comes back with an event.

    Args:
        events: Writer of the run; its file is what is sent.
        target: Where to.
        queue_size: Events kept in memory.

    Attributes:
        dropped: Events that left the queue unsent; they are read from the file instead.
        errors: Connections that failed or broke.
        hook_s: Seconds spent in `listen`, that is in the thread that writes events.
    """

    def __init__(self, events: EventWriter, target: Target, queue_size: int) -> None:
        self.events, self.target = events, target
        self.dropped = self.errors = 0
        self.hook_s = 0.0
        self.connected = False
        self._queue: deque[tuple[int, str]] = deque(maxlen=queue_size)
        self._sent = 0  # seq up to which a hub has everything
        self._stay = True  # while the fit goes on, with nothing to send too
        self._refused = False
        self._leave_at = float("inf")
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._link: _Link | None = None
        self._retry_at, self._tries = 0.0, 0
        self._started_hub = self._announced = False
        self.place = (0, 0)  # step and epoch, for heartbeats

    def listen(self, seq: int, line: str) -> None:
        """Take one event; called by the writer."""
        began = time.perf_counter()
        if len(self._queue) == self._queue.maxlen:
            self.dropped += 1
        self._queue.append((seq, line))
        if not self._stay:
            self._leave_at = time.monotonic() + LEAVE_S
        self._start()
        self.hook_s += time.perf_counter() - began

    def begin(self) -> None:
        """The fit begins: stay connected until `release`."""
        self._stay, self._leave_at = True, float("inf")
        self._start()

    def release(self) -> None:
        """The fit is over: the thread sends what is left, for `LEAVE_S` at most, and ends."""
        self._stay, self._leave_at = False, time.monotonic() + LEAVE_S

    def leave(self) -> None:
        """The process ends: send what is left, wait for that, but not long."""
        self.release()
        if self._sent < self.events.next_seq:
            self._start()
        thread = self._thread
        if thread is not None:
            thread.join(LEAVE_S + OPEN_S)

    def _start(self) -> None:
        with self._guard:
            if self._thread is not None or self._refused:
                return
            self._retry_at, self._tries = 0.0, 0
            thread = threading.Thread(target=self._run, name="live-push", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends, and no thread begins any more; the file has everything
                return
            self._thread = thread
            atexit.register(self.leave)

    def _run(self) -> None:
        while not self._has_ended():
            try:
                self._tick()
            except Exception as error:  # whatever a peer does, and the library says to it: counted, and tried again
                self._lose()
                reason = _refusal(error)
                if reason is not None:
                    self._give_up(reason)
            time.sleep(TICK_S)

    def _has_ended(self) -> bool:
        """Whether the thread must end; then `listen` sees at once that there is none, and starts the next."""
        with self._guard:
            if not self._is_over():
                return False
            link, self._link = self._link, None
            if link is not None:
                self._sent = link.has
            self._thread, self.connected = None, False
            atexit.unregister(self.leave)
        if link is not None:
            link.close()
        return True

    def _give_up(self, reason: str) -> None:
        """A hub that refuses would refuse again: once said, this run pushes no more."""
        self._refused = True
        sentence = f"the live page at {self.target.url} refuses this run: {reason}; the run's own files are complete"
        print(sentence, file=sys.stderr, flush=True)
        with suppress(OSError):
            self.events.write("warning", *self.place, sentence=sentence)

    def _is_over(self) -> bool:
        if self._refused or time.monotonic() > self._leave_at:
            return True
        if self._stay:
            return False
        # Nothing goes on: one attempt at most, then the file is all there is.
        link = self._link
        return link.has >= self.events.next_seq if link is not None else self._tries > 0

    def _tick(self) -> None:
        if self._stay and 0 < self.events.last_time < time.time() - HEARTBEAT_S:
            self.events.write("heartbeat", *self.place)
        if self._link is None:
            if time.monotonic() < self._retry_at:
                return
            self._open()
        assert self._link is not None
        self._link.pump(self._queue)

    def _open(self) -> None:
        target = self.target
        if not launch.hub_answers(target.url, OPEN_S):
            if not target.start_hub or self._started_hub or not launch.may_start(target.url):
                raise ConnectionError("no hub answers")
            self._started_hub = True  # one attempt a run: a hub that somebody ends on purpose stays ended
            if not launch.start_hub(target.url, target.outputs, target.token):
                raise ConnectionError("no hub can be started")
        if target.token is None:
            _refuse_strangers(target.url)
        self._link = _Link(self.events, target)
        self.connected, self._tries = True, 0
        if not self._announced:
            self._announced = True
            print(f"live page: {target.url}", file=sys.stderr, flush=True)

    def _lose(self) -> None:
        self.errors += 1
        self.connected = False
        if self._link is not None:
            self._sent = self._link.has
            self._link.close()
            self._link = None
        self._retry_at = time.monotonic() + RETRY_S[min(self._tries, len(RETRY_S) - 1)]
        self._tries += 1


class _RefusedError(Exception):
    """Who listens there must not have the events; trying again would not help."""


def _refusal(error: Exception) -> str | None:
    """Why the hub will not have this run, in its words; None where it may be asked again."""
    if isinstance(error, _RefusedError):
        return str(error)
    if isinstance(error, InvalidStatus) and error.response.status_code == HTTPStatus.FORBIDDEN:
        return "it is not called by a name of its own; see --name of python -m shared.live"
    if isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.code in FINAL:
        return "".join(sign for sign in error.rcvd.reason if sign.isprintable())
    return None


def _refuse_strangers(url: str) -> None:
    parts = urlsplit(url)
    stranger = foreign_uid(parts.port or 80) if is_loopback(parts.hostname or "") else None
    if stranger is not None:
        raise _RefusedError(f"it belongs to another user (uid {stranger}); take another port, or a token")


class _Link:
    """One connection: what the hub has, and what is on its way."""

    def __init__(self, events: EventWriter, target: Target) -> None:
        self.events = events
        self._file = _Reader(events.path)
        self._socket = _socket_to(target.url)
        try:
            self._hub = _handshake(target.url, self._socket)
        except BaseException:
            self._socket.close()
            raise
        try:
            self._greet(target.token)
            with events.path.open("rb") as stream:
                head = head_of(stream.readline(1 << 16))
            path, outputs = events.path.resolve(), target.outputs.resolve()
            place = path.parent.relative_to(outputs).parts if path.is_relative_to(outputs) else (path.parent.name,)
            whence = {"host": socket.gethostname(), "path": str(path), "head": head, "place": place}
            self._hub.send(json.dumps(whence))
            answer = self._answer()
        except BaseException:
            self.close()  # the library's own reading thread as well
            raise
        self.has = int(answer["have"])
        if answer.get("visible"):  # the hub reads the same file: only what comes from now on is news to it
            self.has = self.sent = events.next_seq
        self.sent = self.has
        self._in_flight = 0
        self._heard = time.monotonic()

    def _greet(self, token: str | None) -> None:
        """Prove that this run knows the token, and have the hub prove it before it is told anything."""
        theirs, own = str(self._answer()["nonce"]), secrets.token_hex(16)
        self._hub.send(json.dumps({"nonce": own, "proof": token and proof(token, "run", theirs, own)}))
        shown = str(self._answer()["proof"])
        if token is not None and not hmac.compare_digest(shown.encode(), proof(token, "hub", theirs, own).encode()):
            raise _RefusedError("it does not know this run's token")

    def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._hub.recv(timeout=OPEN_S))
        return answer

    def pump(self, queue: "deque[tuple[int, str]]") -> None:
        """Take the hub's answers and send what is new, without ever filling the socket."""
        self._take_answers()
        while self._in_flight < MAX_IN_FLIGHT and (lines := self._next_lines(queue)):
            self._hub.send("\n".join(lines))
            self.sent += len(lines)
            self._in_flight += 1
        if self._in_flight and time.monotonic() - self._heard > SILENT_S:
            raise TimeoutError("the hub does not answer")

    def close(self) -> None:
        """Leave at once, whatever the other end does."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError, WebSocketException):
            self._hub.close()

    def _take_answers(self) -> None:
        while True:
            try:
                answer = json.loads(self._hub.recv(timeout=0))
            except TimeoutError:
                break
            self._heard = time.monotonic()
            self._in_flight = max(0, self._in_flight - 1)
            self.has = int(answer["have"])
            if not self._in_flight and self.has < self.sent:  # it missed some: again, from the file
                self.sent = self.has
        if not self._in_flight:
            self._heard = time.monotonic()

    def _next_lines(self, queue: "deque[tuple[int, str]]") -> list[str]:
        while queue and queue[0][0] < self.sent:
            queue.popleft()
        if not queue or queue[0][0] > self.sent:
            return self._file.lines(self.sent) if self.sent < self.events.next_seq else []
        lines: list[str] = []
        size = 0
        while queue and size < BATCH_BYTES and queue[0][0] == self.sent + len(lines):
            lines.append(_fitting(queue.popleft()[1]))
            size += 3 * len(lines[-1])
        return lines


class _Reader:
    """Reads events from the run's own file, where a line's number is its seq; it goes on where it last was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seq, self._offset = 0, 0

    def lines(self, seq: int) -> list[str]:
        """Lines from `seq` on, `BATCH_BYTES` or a little more."""
        if seq < self._seq:
            self._seq, self._offset = 0, 0
        found: list[str] = []
        size = 0
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            while size < BATCH_BYTES and (line := stream.readline()).endswith(b"\n"):
                self._seq, self._offset = self._seq + 1, self._offset + len(line)
                if self._seq > seq:
                    found.append(_fitting(line.decode("utf-8", "replace").rstrip("\n")))
                    size += len(line)
        return found


def _fitting(line: str) -> str:
    """A line too long for the hub loses its data, so that the numbers run on."""
    if len(line) * 3 < MAX_LINE_BYTES or len(line.encode("utf-8", "replace")) < MAX_LINE_BYTES:
        return line
    event: dict[str, Any] = json.loads(line)
    return json.dumps(event | {"data": {"omitted_bytes": len(line)}})


def _socket_to(url: str) -> socket.socket:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    link = socket.create_connection((parts.hostname or "", port), timeout=OPEN_S)
    # The library sends without a timeout: a peer that stops reading must not hold this thread for ever.
    seconds = struct.pack("ll", int(SILENT_S), 0)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
    return link


def _handshake(url: str, link: socket.socket) -> ClientConnection:
    address = url.rstrip("/").replace("http", "ws", 1) + "/push"
    connection = connect(
        address, sock=link, open_timeout=OPEN_S, close_timeout=0.2, compression=None, ping_interval=None,
        max_size=1 << 16, proxy=None,
    )  # fmt: skip
    return connection.__enter__()  # left with `close`: it lives as long as the link, not as a block
