"""What stands around the application: who may call it, the headers of every answer, and no stack trace in any."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

from projects.pillsnap.server.refusal import ClientGone, Refusal
from shared.live.security import Access, is_loopback

log = logging.getLogger("pillsnap.server")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Sent with every answer. No answer has CORS headers: pages of other sites cannot read any."""

LINGER_S = 1.0
LINGER_BYTES = 32 << 20


class Guard:
    """ASGI application around another.

    Args:
        app: The application.
        access: Under which Host and Origin it may be called.
        count: Called with path and status of each answered request.
    """

    def __init__(self, app: App, access: Access, count: Callable[[str, int], None]) -> None:
        self._app = app
        self._access = access
        self._count = count

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        headers = Headers(raw=scope["headers"])
        reason = self._access.refusal(headers)
        try:
            if reason is not None:
                raise Refusal(403, "forbidden", reason, close=True)
            await self._app(scope, exchange.receive, exchange.send)
        except ClientGone:
            exchange.status = 499  # nobody reads it; it stands in the metrics
        except asyncio.CancelledError:  # the server's time to end is over
            late = Refusal(503, "draining", "the server was stopped before it got to this request", close=True)
            await exchange.answer(late, scope)
        except Refusal as refusal:
            await exchange.answer(refusal, scope)
        except Exception:
            log.exception("a request failed")
            await exchange.answer(failed(), scope)
        finally:
            self._count(scope["path"], exchange.status)


def failed() -> Refusal:
    """The answer where something went wrong that nobody expected; the log has the rest."""
    return Refusal(500, "internal", "the server failed on this request", close=True)


class _Exchange:
    """The two channels of one request, with the headers added and a soft end for a body that is not wanted."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.status = 0
        self._receive = receive
        self._send = send
        self._unread = True
        self._closes = False

    async def answer(self, refusal: Refusal, scope: Message) -> None:
        """Refuse, unless an answer has begun."""
        if not self.status:
            await refusal.response()(scope, self.receive, self.send)

    async def receive(self) -> Message:
        """Pass on, and note when the body has been read."""
        message = await self._receive()
        self._unread = message["type"] == "http.request" and bool(message.get("more_body"))
        return message

    async def send(self, message: Message) -> None:
        """Pass on, with the headers.

        Where the connection is closed with part of the body unread, the client would be cut off while it sends and
        might never read the answer. So the answer goes out, what still comes is thrown away for a moment, then the
        connection is closed.
        """
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            self._closes = headers.get("connection") == "close"
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        elif self._closes and self._unread and self.status != 408 and not message.get("more_body"):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self) -> None:
        thrown_away = 0
        try:
            async with asyncio.timeout(LINGER_S):
                while self._unread and thrown_away < LINGER_BYTES:
                    thrown_away += len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass


def access_of(host: str, names: tuple[str, ...]) -> Access:
    """The rules for a server on that address; a page of another site cannot call it under a name of its own.

    Args:
        host: Address that it listens on. One that others can reach may be called by any address.
        names: Host names under which it may be called.
    """
    # `Access` wants a token where others can listen; this server asks for none, so it is drawn and forgotten.
    return Access(host, None if is_loopback(host) else secrets.token_hex(16), names)
