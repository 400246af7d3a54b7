"""The hub: a page, and the two WebSockets behind it (`/view` for browsers, `/push` for runs)."""

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, WebSocket
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocketDisconnect

from shared.live.receiver import Receiver
from shared.live.security import HEADERS, Access, proof
from shared.live.store import RunStore
from shared.live.sweeps import SweepBoard
from shared.live.viewer import Frames, Viewer

SERVICE = "sweetspot-live"
STATIC = Path(__file__).with_name("static")
MAX_VIEWERS = 100
MAX_PUSHERS = 100
MAX_MESSAGE_BYTES = 1 << 20
HELLO_S = 10.0

Greet = Callable[[WebSocket], Awaitable[dict[str, Any] | None]]
Serve = Callable[[WebSocket, dict[str, Any]], Awaitable[None]]


class Hub:
    """State of a running hub.

    Args:
        root: Outputs folder.
        access: Who may talk to it.
    """

    def __init__(self, root: Path, access: Access) -> None:
        self.root = root.resolve()
        self.access = access
        self.store = RunStore(self.root)
        self.sweeps = SweepBoard(self.root)
        self.frames = Frames(self.store, self.sweeps)
        self.instance = secrets.token_hex(4)
        self.viewers = 0
        self.pushers = 0
        self._last_used = time.monotonic()

    def idle_s(self) -> float:
        """Seconds since there was last a viewer, a run that pushes, or a run that is going on."""
        if self.viewers or self.pushers or self.store.is_any_running:
            self._last_used = time.monotonic()
        return time.monotonic() - self._last_used

    async def view(self, socket: WebSocket, hello: dict[str, Any]) -> None:
        """Serve a browser."""
        if self.viewers >= MAX_VIEWERS:
            await socket.close(4429, f"{MAX_VIEWERS} viewers are connected already")
            return
        self.viewers += 1
        try:
            self.store.scan_soon()
            welcome = {"type": "welcome", "hub": self.instance, "outputs": self.root.name, "now": time.time()}
            await socket.send_text(json.dumps(welcome))
            await Viewer(socket, self.frames).serve(hello)
        finally:
            self.viewers -= 1

    async def push(self, socket: WebSocket, hello: dict[str, Any]) -> None:
        """Serve a run."""
        if self.pushers >= MAX_PUSHERS:
            await socket.close(4429, f"{MAX_PUSHERS} runs are connected already")
            return
        self.pushers += 1
        try:
            await Receiver(socket, self.store).serve(hello)
        finally:
            self.pushers -= 1

    async def admit(self, socket: WebSocket, greet: Greet, serve: Serve) -> None:
        """Check Host, Origin and token, then serve until either side ends."""
        refusal = self.access.refusal(socket.headers)
        if refusal is not None:
            await socket.close(4403, refusal)  # before accept: the handshake is answered with 403
            return
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect, TimeoutError, ValueError, RuntimeError, asyncio.CancelledError):
            hello = await greet(socket)
            if hello is None:
                await asyncio.sleep(0.5)  # a guesser gets two tries a second and connection
                await socket.close(4401, "the token is missing or wrong")
                return
            await serve(socket, hello)
            await socket.close(1000)

    async def greet_viewer(self, socket: WebSocket) -> dict[str, Any] | None:
        """First message of a browser; None where it does not know the token."""
        hello = await _first(socket)
        return hello if hello is not None and self.access.knows(hello.get("token")) else None

    async def greet_run(self, socket: WebSocket) -> dict[str, Any] | None:
        """What a run says about itself; None where it does not know the token.

        Neither side says the token: each proves that it knows it, over random numbers that both have drawn.
        """
        nonce = secrets.token_hex(16)
        await socket.send_text(json.dumps({"nonce": nonce}))
        hello = await _first(socket)
        theirs = "" if hello is None else str(hello.get("nonce"))
        if hello is None or not self.access.accepts(hello.get("proof"), nonce, theirs):
            return None
        token = self.access.token
        await socket.send_text(json.dumps({"proof": None if token is None else proof(token, "hub", nonce, theirs)}))
        return await _first(socket)


async def _first(socket: WebSocket) -> dict[str, Any] | None:
    message = json.loads(await asyncio.wait_for(socket.receive_text(), HELLO_S))
    return message if isinstance(message, dict) else None


def create_app(root: Path, access: Access) -> FastAPI:
    """The application; `app.state.hub` is its `Hub`.

    Args:
        root: Outputs folder.
        access: Who may talk to it.
    """
    hub = Hub(root, access)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(hub.store.start)
        hub.sweeps.start()
        yield
        await asyncio.to_thread(hub.store.stop)
        await asyncio.to_thread(hub.sweeps.stop)

    app = FastAPI(title=SERVICE, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.hub = hub

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        refusal = access.refusal(request.headers)
        response = await call_next(request) if refusal is None else PlainTextResponse(refusal, 403)
        response.headers.update(HEADERS)
        return response

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"service": SERVICE})

    @app.websocket("/view")
    async def view(socket: WebSocket) -> None:
        await hub.admit(socket, hub.greet_viewer, hub.view)

    @app.websocket("/push")
    async def push(socket: WebSocket) -> None:
        await hub.admit(socket, hub.greet_run, hub.push)

    app.mount("/", StaticFiles(directory=STATIC, html=True))
    return app
