"""The run directory: its unique name, its status, what stands in it and when it is finished.

Layout: docs/run-directory.md. `status.json` is replaced as a whole at each change, so a reader never sees half of it.
"""

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from shared.atomic import write_json, write_text
from shared.errors import CheckpointError, ConfigError
from shared.point_hooks import POINT_KIND

STATES = ("running", "interrupted", "failed", "done")
STATUS_SCHEMA = 1


class RunDirectory:
    """One run's folder `outputs/<project>/<experiment>/<YYYYmmdd-HHMMSS>-<6 hex>/`.

    Args:
        path: The folder, which exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()  # a status is read, changed and written back; the heartbeat has its own thread

    @classmethod
    def create(
        cls, outputs: Path, project: str, experiment: str, parents: Sequence[Path] = (), kind: str = "run"
    ) -> "RunDirectory":
        """Make a new folder that no other run has, not even one started in the same second.

        Args:
            outputs: Root of all outputs.
            project: Project name.
            experiment: Experiment name.
            parents: Runs whose samples and results this one stands on; the ledger reads them.
            kind: What its status says it is: "run", or "point" of a sweep.
        """
        folder = outputs / project / experiment
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
            path = folder / f"{stamp}-{secrets.token_hex(3)}"
            try:
                path.mkdir()  # exclusive: fails where another run has just made it
            except FileExistsError:
                continue
            run = cls(path)
            run._write_status(
                {
                    "schema": STATUS_SCHEMA,
                    "kind": kind,
                    "state": "running",
                    "started": time.time(),
                    "parents": [str(p) for p in parents],
                    "stages": {},
                }
            )
            run.set_state("running")
            return run

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Open an existing run.

        Raises:
            ConfigError: If the folder is not a run directory.
        """
        if not (path / "status.json").is_file():
            raise ConfigError(f"{path} is not a run directory: it has no status.json")
        return cls(path)

    @property
    def checkpoints(self) -> Path:
        """Folder of last.ckpt and best.ckpt."""
        return self.path / "checkpoints"

    def status(self) -> dict[str, Any]:
        """Content of status.json."""
        path = self.path / "status.json"
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read ({error}); the run cannot be resumed or loaded") from error

    @property
    def kind(self) -> str:
        """What the run is: "run", "point" of a sweep, or "evaluation" of another run."""
        return str(self.status().get("kind", "run"))

    def set_state(self, state: str, *, stage: str | None = None, epoch: int | None = None, **more: Any) -> None:
        """Write the state (one of STATES) with a fresh heartbeat; `stage` and `epoch` stay where not given."""
        assert state in STATES, state
        with self._lock:
            self._set_state(state, stage, epoch, more)

    def _set_state(self, state: str, stage: str | None, epoch: int | None, more: dict[str, Any]) -> None:
        before = self.status()
        before.pop("error", None)  # what stopped a run before its resumption says nothing about it now
        status = before | {"state": state, "pid": os.getpid(), "host": socket.gethostname()} | more
        status["started_by"] = psutil.Process().create_time()  # tells this process from a later one with the same pid
        self._write_status(self._beat(status, stage, epoch))

    def heartbeat(self, *, stage: str | None = None, epoch: int | None = None) -> None:
        """Say that the run is alive and where it is."""
        with self._lock:
            self._write_status(self._beat(self.status(), stage, epoch))

    def mark_done(self, stage: str, payload: dict[str, Any]) -> None:
        """Record that a stage is complete, with what later stages need from it; a resumed run skips it."""
        with self._lock:
            status = self.status()
            status["stages"][stage] = payload
            self._write_status(status)

    def done(self, stage: str) -> dict[str, Any] | None:
        """What `mark_done` recorded for a stage, or None if the stage is not complete."""
        found = self.status()["stages"].get(stage)
        return None if found is None else dict(found)

    def is_own(self) -> bool:
        """Whether this process was the last to set the state."""
        status = self.status()
        return bool((status["pid"], status["host"]) == (os.getpid(), socket.gethostname()))

    def is_alive(self) -> bool:
        """Whether the process that wrote the status runs (on this host), or beat within two minutes (elsewhere)."""
        status = self.status()
        if status["state"] != "running":
            return False
        if status["host"] != socket.gethostname():
            return bool(time.time() - status["heartbeat"] < 120)
        try:
            return abs(psutil.Process(status["pid"]).create_time() - status["started_by"]) < 1
        except psutil.NoSuchProcess:
            return False

    def is_unfinished(self) -> bool:
        """Whether the run stopped before its end; a run whose status cannot be read is nothing to go on with."""
        try:
            return self.status()["state"] != "done" and not self.is_alive()
        except (CheckpointError, KeyError):
            return False

    def finish(self) -> None:
        """Mark the run done and, if it trained a network and is no point, point `outputs/<project>/latest` to it."""
        self.set_state("done")
        if self.done("fit") is None or self.kind == POINT_KIND:
            return
        link = self.path.parents[1] / "latest"
        temporary = link.with_name(f".latest-{secrets.token_hex(3)}")
        temporary.symlink_to(self.path.relative_to(link.parent))
        temporary.replace(link)  # a rename over the old link: `latest` never points nowhere

    def write_file(self, name: str, content: str) -> None:
        """Write a small text file such as config.yaml, atomically."""
        write_text(self.path / name, content)

    def _beat(self, status: dict[str, Any], stage: str | None, epoch: int | None) -> dict[str, Any]:
        status["heartbeat"] = time.time()
        status["stage"] = stage or status.get("stage")
        status["epoch"] = epoch if epoch is not None else status.get("epoch")
        return status

    def _write_status(self, status: dict[str, Any]) -> None:
        write_json(self.path / "status.json", status)


@contextmanager
def beating(run: RunDirectory, every_s: float = 10.0) -> Iterator[None]:
    """Beat in `status.json` while the block lives, also in stages that write nothing for minutes.

    Args:
        run: The run.
        every_s: Seconds between two beats, > 0.
    """
    over = threading.Event()

    def beat() -> None:
        while not over.wait(every_s):
            try:
                run.heartbeat()
            except (OSError, CheckpointError):  # a full disk: whoever writes results says so
                continue

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def unfinished_runs(outputs: Path, project: str, experiment: str) -> list[RunDirectory]:
    """Runs of an experiment that are neither done nor alive, newest first; a sweep goes on with its points itself."""
    folder = outputs / project / experiment
    found = [RunDirectory(path.parent) for path in sorted(folder.glob("*/status.json"), reverse=True)]
    return [run for run in found if run.is_unfinished() and run.kind != POINT_KIND]
