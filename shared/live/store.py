"""All runs of the hub, and the thread that keeps them up to date."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

from shared.live.discovery import find_runs
from shared.live.run import Run

MAX_RUNS = 1000
MAX_LOADED = 128
KEEP_S = 5.0
POLL_S = 0.1
_log = logging.getLogger(__name__)
REFRESH_S = 1.0
SCAN_S = 2.0


class RunStore:
    """Discovers runs and reads those that somebody looks at.

    Histories are read when first asked for; beyond `max_loaded` those that nobody has asked for the longest are
    forgotten. One asked for within `keep_s` stays, since several viewers with groups of their own would otherwise have
    each other's runs read again and again; `max_runs` bounds the memory then.

    Args:
        root: Outputs folder.
        max_runs: Runs listed.
        max_loaded: Histories kept that nobody looks at now.
        keep_s: Seconds for which a history is kept after it was asked for.
    """

    def __init__(
        self, root: Path, max_runs: int = MAX_RUNS, max_loaded: int = MAX_LOADED, keep_s: float = KEEP_S
    ) -> None:
        self.root = root
        self.max_runs = max_runs
        self.max_loaded = max_loaded
        self.keep_s = keep_s
        self.left_out = 0
        self._runs: dict[str, Run] = {}
        self._asked: dict[str, float] = {}
        self._rows: list[dict[str, Any]] = []
        self._rows_version = 0
        self._stop = threading.Event()
        self._scan_now = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Find the runs and begin to follow them."""
        self.scan()
        self._thread = threading.Thread(target=self._follow, name="live-runs", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def get(self, run_id: str) -> Run | None:
        """The run of that id, its history kept from now on."""
        run = self.peek(run_id)
        if run is not None:
            run.load()
        return run

    def peek(self, run_id: str) -> Run | None:
        """The run of that id, asked for but not loaded; waits for nothing."""
        run = self._runs.get(run_id)
        if run is not None:
            self._asked[run_id] = time.monotonic()
        return run

    def at(self, path: Path) -> Run | None:
        """The run whose directory is `path`."""
        return next((run for run in self._runs.values() if run.found.path == path), None)

    def rows(self) -> tuple[int, list[dict[str, Any]]]:
        """The list of runs and its version."""
        return self._rows_version, self._rows

    @property
    def is_any_running(self) -> bool:
        """Whether a run is going on."""
        return any(row["state"] == "running" for row in self._rows)

    def scan(self) -> None:
        """Look for new and removed runs, and read every status."""
        found, self.left_out = find_runs(self.root, self.max_runs)
        self._runs = {one.id: self._runs.get(one.id) or Run(one) for one in found}
        self._asked = {run_id: at for run_id, at in list(self._asked.items()) if run_id in self._runs}
        self.refresh()

    def scan_soon(self) -> None:
        """Have the thread look for new runs at once."""
        self._scan_now.set()

    def refresh(self) -> None:
        """Read the status of each run that may have changed it."""
        rows = []
        for run in list(self._runs.values()):
            run.refresh()
            rows.append(run.row())
        rows.sort(key=lambda row: row["started"], reverse=True)
        if rows != self._rows:
            self._rows, self._rows_version = rows, self._rows_version + 1

    def poll(self) -> None:
        """Read the events of the runs that are looked at."""
        loaded = [run for run in list(self._runs.values()) if run.is_loaded]
        pending = [run for run in loaded if run.poll()]
        while pending and not self._stop.is_set():  # long files take turns
            pending = [run for run in pending if run.poll()]
        latest = time.monotonic() - self.keep_s
        asked = {run: self._asked.get(run.found.id, 0.0) for run in loaded}
        unasked = sorted((run for run in loaded if asked[run] <= latest), key=lambda run: asked[run])
        for run in unasked[: max(0, len(loaded) - self.max_loaded)]:
            run.unload()

    def _follow(self) -> None:
        refreshed = scanned = time.monotonic()
        while not self._stop.wait(POLL_S):
            now = time.monotonic()
            try:
                if now - scanned > SCAN_S or self._scan_now.is_set():
                    self._scan_now.clear()
                    scanned = refreshed = now
                    self.scan()
                elif now - refreshed > REFRESH_S:
                    refreshed = now
                    self.refresh()
                self.poll()
            except Exception:  # whatever one run holds, the others are shown; the hub's log says what it was
                _log.exception("a look at the runs failed")
