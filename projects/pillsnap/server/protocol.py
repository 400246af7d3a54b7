"""uvicorn's connections with the limits it lacks: how many, and how long a client may take to say what it wants."""

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from projects.pillsnap.server.settings import Settings

BODY_SLACK_S = 5.0  # the application's own limit on bodies comes first; this one is for bodies that nobody reads
STALL_S = 30.0


def guarded_protocol(settings: Settings) -> type[H11Protocol]:
    """The protocol class for `uvicorn.Config(http=...)`."""

    class Guarded(GuardedProtocol):
        limits = settings

    return Guarded


class GuardedProtocol(H11Protocol):
    """One connection."""

    limits: Settings

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._timer: asyncio.TimerHandle | None = None
        self._timed: tuple[Any, int] | None = None
        self._stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or say that there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._refuse(503, "Service Unavailable", "busy", "too many connections are open; try again", retry=True)
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._time(None, 0.0)
        self._stop_stall()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, and look at what the client still owes."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Look again: the next request may have begun."""
        super().on_response_complete()
        if self.timeout_keep_alive_task is None:
            self._watch()

    def pause_writing(self) -> None:
        """Give a client that reads nothing some time, then leave it."""
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        self._stop_stall()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, as JSON like everything else."""
        self._refuse(400, "Bad Request", "bad_request", "this is not a valid HTTP request")

    def _watch(self) -> None:
        """One clock for the head of a request, one for its body; neither starts anew while the same one is awaited."""
        if self.transport.is_closing():
            self._time(None, 0.0)
        elif self.conn.their_state is h11.IDLE:
            self._time((h11.IDLE, id(self.cycle)), self.limits.header_s)
        elif self.conn.their_state is h11.SEND_BODY:
            self._time((h11.SEND_BODY, id(self.cycle)), self.limits.body_s + BODY_SLACK_S)
        else:
            self._time(None, 0.0)

    def _time(self, what: tuple[Any, int] | None, seconds: float) -> None:
        if what == self._timed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timed = what
        self._timer = None if what is None else self.loop.call_later(seconds, self._too_late)

    def _too_late(self) -> None:
        self._timer = self._timed = None
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(408, "Request Timeout", "too_slow", "the head of the request came too slowly")
        else:
            self.transport.close()

    def _refuse(self, status: int, phrase: str, error: str, detail: str, *, retry: bool = False) -> None:
        """Answer past h11, which has not read a whole request, and close."""
        body = json.dumps({"error": error, "detail": detail}).encode()
        head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        head += "Connection: close\r\n" + ("Retry-After: 1\r\n" if retry else "") + "\r\n"
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()

    def _stop_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
