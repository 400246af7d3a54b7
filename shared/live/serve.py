"""Runs the hub until it is stopped or has been idle long enough."""

import asyncio
import errno
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from shared.errors import ConfigError
from shared.live.hub import MAX_MESSAGE_BYTES, Hub, create_app
from shared.live.security import Access

CHECK_S = 1.0


def serve(
    root: Path,
    access: Access,
    port: int,
    *,
    idle_minutes: float | None = None,
    on_ready: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        root: Outputs folder; made if it is not there.
        access: Address to bind to, and who may talk to the hub.
        port: Port; 0 takes a free one.
        idle_minutes: Leave after so long without a viewer or a run; None: never.
        on_ready: Called with the port once it is bound.

    Raises:
        ConfigError: If the port is taken.
    """
    root.mkdir(parents=True, exist_ok=True)
    # Bound here and not in uvicorn, so that of two hubs started at once exactly one goes on.
    listener = bind(access.host, port)
    app = create_app(root, access)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, ws_max_size=MAX_MESSAGE_BYTES, ws_per_message_deflate=False,
        ws_ping_interval=20, ws_ping_timeout=20, timeout_graceful_shutdown=2, server_header=False,
        limit_concurrency=400, h11_max_incomplete_event_size=16384, lifespan="on",
    )  # fmt: skip
    server = uvicorn.Server(config)
    if on_ready is not None:
        on_ready(listener.getsockname()[1])
    with listener:
        asyncio.run(_serve(server, app.state.hub, listener, idle_minutes))


def bind(host: str, port: int) -> socket.socket:
    """A listening socket that no other process shares.

    Raises:
        ConfigError: If the address or port cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio switches Nagle's algorithm off only where the protocol is stated. With it, an answer sent in two
    # pieces waits for the client's delayed acknowledgement, 44 ms each on the loopback (measured 2026-11-21).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "another program, perhaps another hub, has it" if taken else str(error)
        raise ConfigError(f"port {port} of {host} cannot be served: {reason}; stop that one or give --port") from error
    return listener


async def _serve(server: uvicorn.Server, hub: Hub, listener: socket.socket, idle_minutes: float | None) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not serving.done():
        await asyncio.wait([serving], timeout=CHECK_S)
        if idle_minutes is not None and hub.idle_s() > 60 * idle_minutes:
            server.should_exit = True
            await serving
