"""Leases: who is alive, told by the process on the same machine and by heartbeats from any other.

No two clocks are ever compared. An observer counts, on its own monotonic clock, how long a heartbeat has not changed.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.errors import DataError
from shared.sweep import exclusive_files
from shared.sweep.machine import machine_identity, process_birth
from shared.sweep.states import Lease


class LeaseWatch:
    """Tells which leases are void; must live as long as a lease may last to tell it of other machines.

    Args:
        folder: The folder `beats`.
        host: Name of this machine.
        lease_s: How long a heartbeat may stay unchanged.
        clock: Monotonic seconds.
    """

    def __init__(self, folder: Path, host: str, lease_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder = folder
        self.host = host
        self.lease_s = lease_s
        self._clock = clock
        self._seen: dict[str, tuple[Any, float, float]] = {}

    def why_void(self, point: str, lease: Lease) -> str | None:
        """Reason why a lease is void, None while it holds.

        Args:
            point: Id of the point.
            lease: The lease of its newest `running` event.
        """
        if lease.host == self.host and lease.machine == machine_identity() and _is_gone(lease):
            return f"process {lease.pid} on {lease.host} is gone"
        now = self._clock()
        beat = self.beat(point, lease.event)
        sign = (lease.token, None if beat is None else beat.get("beat"))
        last, unchanged_s, looked = self._seen.get(point, (None, 0.0, now))
        # A look adds at most half a lease: if this process itself was stopped, or the file system hung for everybody,
        # the long gap between two looks says nothing about the holder.
        unchanged_s = unchanged_s + min(now - looked, self.lease_s / 2) if sign == last else 0.0
        self._seen[point] = (sign, unchanged_s, now)
        if unchanged_s < self.lease_s:
            return None
        return f"no heartbeat from process {lease.pid} on {lease.host} for {self.lease_s:g} s"

    def beat(self, point: str, event: int) -> dict[str, Any] | None:
        """Return the newest heartbeat of a lease; None where there is none or it cannot be read now."""
        with suppress(OSError):
            return exclusive_files.read(beat_path(self.folder, point, event))
        return None

    def forget(self, point: str, event: int) -> None:
        """Remove the heartbeat of a lease that was found void."""
        self._seen.pop(point, None)
        with suppress(OSError):
            beat_path(self.folder, point, event).unlink()


class Heartbeat:
    """A thread that renews a heartbeat and looks whether the lease was lost; no error of the file system ends it.

    Args:
        path: File of the heartbeat.
        beat_s: Seconds between two.
        is_lost: Asked at each beat.
    """

    def __init__(self, path: Path, beat_s: float, is_lost: Callable[[], bool]) -> None:
        self.path = path
        self.beat_s = beat_s
        self.note: dict[str, Any] = {}
        self.num_errors = 0
        self.lost = threading.Event()
        self._is_lost = is_lost
        self._stop = threading.Event()
        self._beats = 0
        self._thread: threading.Thread | None = None
        self._looked = time.monotonic()

    def start(self) -> None:
        """Write the first heartbeat and go on in a thread."""
        self.beat()
        self._thread = threading.Thread(target=self._run, name=f"lease-{self.path.stem}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and remove the heartbeat."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        with suppress(OSError):
            self.path.unlink()

    def beat(self) -> None:
        """Write one heartbeat and look whether the lease still holds; a failure of the file system is counted."""
        self._beats += 1
        try:
            exclusive_files.replace(self.path, {"beat": self._beats, "t": time.time(), **self.note})
        except OSError:
            self.num_errors += 1
        self.look()

    def look(self) -> bool:
        """Whether the lease was lost, asked now."""
        try:
            if self._is_lost():
                self.lost.set()
        except (OSError, DataError):  # such as an event of a newer version: whose the point is, nobody can tell now
            self.num_errors += 1
        self._looked = time.monotonic()
        return self.lost.is_set()

    @property
    def is_late(self) -> bool:
        """Whether the thread has missed its turn: this process was stopped and has just come back."""
        return time.monotonic() - self._looked > 2 * self.beat_s

    def _run(self) -> None:
        while not self._stop.wait(self.beat_s) and not self.lost.is_set():
            self.beat()


def beat_path(folder: Path, point: str, event: int) -> Path:
    """File of the heartbeat of a lease."""
    return folder / f"{point}.{event:04d}.json"


def _is_gone(lease: Lease) -> bool:
    """Whether the process of a lease of this machine has ended; its number may belong to another one by now."""
    try:
        return process_birth(lease.pid) != lease.born
    except PermissionError:
        return False
