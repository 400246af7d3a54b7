"""Starts a hub in the background for a run that finds none."""

import http.client
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from shared.live.security import TOKEN_VARIABLE, is_loopback

SERVICE = "sweetspot-live"
IDLE_MINUTES = 10.0
LOG_FILE = "live-hub.log"
START_S = 20.0


def may_start(url: str) -> bool:
    """Whether a run may start the hub of that address: a local one, outside tests and outside a Hydra multirun."""
    if "PYTEST_CURRENT_TEST" in os.environ or not is_loopback(urlsplit(url).hostname or ""):
        return False
    return not _is_multirun()


def hub_answers(url: str, timeout_s: float = 1.0) -> bool:
    """Whether a hub, and nothing else, serves that address."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
        try:
            connection.request("GET", parts.path.rstrip("/") + "/health")
            answer = connection.getresponse()
            return answer.status == 200 and SERVICE.encode() in answer.read(1000)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError):
        return False


def start_hub(url: str, outputs: Path, token: str | None) -> bool:
    """Start a hub in a session of its own, so that it outlives the run and no Ctrl-C reaches it; wait until it answers.

    Where two runs do so at once the second hub finds the port taken and leaves, and both runs use the first.

    Args:
        url: Loopback address.
        outputs: Folder whose runs it shows; its log stands there too.
        token: Token that it is to ask for, handed on in its environment; None: none.

    Returns:
        Whether a hub answers now.
    """
    parts = urlsplit(url)
    command = [
        sys.executable, "-m", "shared.live", "--outputs", str(outputs), "--host", parts.hostname or "127.0.0.1",
        "--port", str(parts.port or 80), "--idle-minutes", str(IDLE_MINUTES),
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    if token is not None:
        environment[TOKEN_VARIABLE] = token
    outputs.mkdir(parents=True, exist_ok=True)
    with (outputs / LOG_FILE).open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
        )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if hub_answers(url):
            return True
        if process.poll() is not None:  # the port was taken: by another run's hub, which answers soon, or by a stranger
            time.sleep(1.0)
            return hub_answers(url)
        time.sleep(0.2)
    return False


def _is_multirun() -> bool:
    """Hydra is asked only where it is loaded: a run without it is none of its jobs."""
    if "hydra" not in sys.modules:
        return False
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
