"""`python -m projects.pillsnap.serve`: the server; needs onnxruntime, and neither torch nor Lightning."""

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import uvicorn

from projects.pillsnap.server.app import create_app
from projects.pillsnap.server.protocol import guarded_protocol
from projects.pillsnap.server.service import Service
from projects.pillsnap.server.settings import Settings
from shared.errors import UserError
from shared.live.security import is_loopback
from shared.live.serve import bind

DEFAULT_MODEL = Path("outputs/pillsnap/latest/export/model.onnx")
BACKLOG = 512
KEEP_ALIVE_S = 15


class _Server(uvicorn.Server):
    """uvicorn that ends with code 0 when it is told to end, and lets the service know at once."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def stop(self) -> None:
        """Accept nothing more; what has been accepted is answered, within the limit."""
        self._service.draining = True
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn does, but without raising the signal once more at the end.

        The handlers stay until the loop is closed: a second SIGTERM must not cut the farewell to the workers short.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        yield


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        UserError: If the port is taken, the model may not be served, or workers do not start.
    """
    listener = bind(settings.host, settings.port)
    listener.listen(BACKLOG)
    service = Service(settings)
    config = uvicorn.Config(
        create_app(service), http=guarded_protocol(settings), ws="none", lifespan="off", log_level="warning",
        access_log=False, server_header=False, backlog=BACKLOG, timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )  # fmt: skip
    with listener:
        asyncio.run(_serve(_Server(config, service), service, listener))


async def _serve(server: _Server, service: Service, listener: socket.socket) -> None:
    """Run workers and connections until either ends; whatever ended the workers is raised."""
    pool = asyncio.create_task(service.pool.run())
    announcement = asyncio.create_task(_announce(service, listener.getsockname()[1]))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.wait({pool, serving}, return_when=asyncio.FIRST_COMPLETED)
        server.stop()
        await serving
    finally:
        announcement.cancel()
        pool.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pool


async def _announce(service: Service, port: int) -> None:
    """Print the address once the model is loaded."""
    while service.pool.facts is None:
        await asyncio.sleep(0.02)
    facts, host = service.pool.facts, service.settings.host
    service.metrics.name_model(facts["version"], facts["variant"])
    place = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    print(
        f"pill server: {place} ({len(facts['classes'])} pills, model {facts['version']} {facts['variant']})", flush=True
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve; see `--help`.

    Returns:
        Exit code: 0 after SIGTERM or SIGINT, 2 for wrong options, 1 if the server cannot go on.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    given = vars(_parser().parse_args(arguments))
    try:
        settings = Settings(**{**given, "names": tuple(given["names"])})
        if not is_loopback(settings.host):
            print(f"warning: {settings.host} can be reached by others, and no password is asked for", file=sys.stderr)
        serve(settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m projects.pillsnap.serve", description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="ONNX file; its certificate stands beside it")
    names = "host name, beside addresses and localhost, under which the server is called; may be repeated"
    parser.add_argument("--name", dest="names", action="append", default=[], help=names)
    for entry in fields(Settings):
        if "help" in entry.metadata:
            option = "--" + entry.name.replace("_", "-")
            parser.add_argument(option, type=type(entry.default), default=entry.default, help=entry.metadata["help"])
    return parser


if __name__ == "__main__":
    exit_code = main()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one more while the interpreter ends must not change the exit code
    sys.exit(exit_code)
