"""What a server is told when it starts; each field is an option of `python -m projects.pillsnap.serve`."""

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from shared.errors import ConfigError

MIB = 1 << 20


def _option(default: Any, words: str) -> Any:
    return field(default=default, metadata={"help": words})


@dataclass(frozen=True)
class Settings:
    """Limits and sizes of one server.

    Raises:
        ConfigError: If a number is out of its range.
    """

    model: Path
    names: tuple[str, ...] = ()
    host: str = _option("127.0.0.1", "address to listen on; any but the loopback can be reached by others")
    port: int = _option(8000, "port; 0 takes a free one")
    workers: int = _option(max(1, len(os.sched_getaffinity(0))), "worker processes, each with a model of its own")
    threads: int = _option(1, "threads of one worker's model")
    max_batch: int = _option(4, "most photos of one pass through the model")
    max_wait_ms: float = _option(2.0, "longest wait of a worker that has a photo for more photos to go with it")
    queue: int = _option(64, "photos that may wait; beyond them a request is answered 503")
    deadline_s: float = _option(30.0, "a photo that has no answer by then is given up with 503")
    hang_s: float = _option(60.0, "a worker that is silent for so long over one batch is killed and started again")
    load_s: float = _option(120.0, "longest time for a worker to load the model")
    max_files: int = _option(16, "most photos of one /predict/batch")
    max_form_mib: float = _option(40.0, "largest body of one /predict/batch, in MiB")
    max_pending_mib: float = _option(256.0, "most MiB of uploads in memory at once; beyond them 503")
    header_s: float = _option(10.0, "longest time for a client to send the head of a request")
    body_s: float = _option(60.0, "longest time for a client to send a body")
    grace_s: float = _option(5.0, "head start of a body before --min-rate counts")
    min_rate: float = _option(4096.0, "bytes a second that a body must keep up on average after --grace-s")
    max_connections: int = _option(512, "most open connections; one more is answered 503 and closed")
    drain_s: float = _option(20.0, "after SIGTERM, longest time for what has been accepted to be answered")

    def __post_init__(self) -> None:
        least = {"port": 0, "max_wait_ms": 0, "grace_s": 0, "drain_s": 0}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, str | Path | tuple):
                continue
            least_allowed = least.get(entry.name, 1 if isinstance(entry.default, int) else 0.01)
            if not least_allowed <= value < float("inf"):
                option = "--" + entry.name.replace("_", "-")
                raise ConfigError(f"{option} is {value}, allowed: a number from {least_allowed} on")
        if self.max_files > self.queue:
            raise ConfigError(f"--max-files is {self.max_files}, allowed: at most --queue, which is {self.queue}")
