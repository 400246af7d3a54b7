"""Sweeps for the page: their ledgers below `outputs/<project>/sweeps/<name>/`, read by a thread of their own.

A ledger on a network file system may answer slowly, so the runs do not wait for it. Nothing is read while nobody looks,
and a sweep whose reading takes long is read less often: at most a tenth of one thread's time goes into each.
"""

import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.live.discovery import run_id
from shared.live.sweep import Sweep
from shared.sweep.sweep_file import SWEEP_FILE

ROOM = "sweeps"
MAX_SWEEPS = 20
MAX_FOLDERS = 2000
POLL_S = 0.1
CHOSEN_S, OTHERS_S = 1.0, 5.0
SCAN_S = 3.0
LOOKED_S = 10.0
SHARE = 0.1
_log = logging.getLogger(__name__)


class SweepBoard:
    """Finds sweeps and keeps up with those that somebody looks at.

    Args:
        root: Outputs folder.
        max_sweeps: Sweeps listed; the newest are kept.
    """

    def __init__(self, root: Path, max_sweeps: int = MAX_SWEEPS) -> None:
        self.root = root
        self.max_sweeps = max_sweeps
        self.left_out = 0
        self._sweeps: dict[str, Sweep] = {}
        self._asked: dict[str, float] = {}
        self._looked = -LOOKED_S
        self._rows: tuple[int, list[dict[str, Any]]] = (0, [])
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to follow the sweeps, as soon as somebody looks."""
        self._thread = threading.Thread(target=self._follow, name="live-sweeps", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def rows(self) -> tuple[int, list[dict[str, Any]]]:
        """Version and lines of the list; whoever asks counts as somebody who looks."""
        self._looked = time.monotonic()
        return self._rows

    def peek(self, sweep_id: str) -> Sweep | None:
        """The sweep of that id, kept up to date more often from now on; waits for nothing."""
        sweep = self._sweeps.get(sweep_id)
        if sweep is not None:
            self._asked[sweep_id] = time.monotonic()
        return sweep

    def scan(self) -> None:
        """Look for new and removed sweeps."""
        found, self.left_out = find_sweeps(self.root, self.max_sweeps)
        places = {run_id(place): place for place in found}
        self._sweeps = {one: self._sweeps.get(one) or Sweep(one, self.root, places[one]) for one in places}
        self._asked = {one: at for one, at in list(self._asked.items()) if one in places}

    def refresh(self, *, everything: bool = False) -> None:
        """Read the ledgers whose turn it is.

        Args:
            everything: Those of all sweeps, whose turn ever it is.
        """
        for sweep in list(self._sweeps.values()):
            now = time.monotonic()
            pause = CHOSEN_S if now - self._asked.get(sweep.id, -LOOKED_S) < LOOKED_S else OTHERS_S
            is_due = everything or now > sweep.read_at + max(pause, sweep.cost_s / SHARE)
            if is_due and not self._stop.is_set():
                sweep.refresh()
        rows = [sweep.row() for sweep in self._sweeps.values()]
        if rows != self._rows[1]:
            self._rows = (self._rows[0] + 1, rows)

    def _follow(self) -> None:
        scanned = -SCAN_S
        while not self._stop.wait(POLL_S):
            now = time.monotonic()
            if now - self._looked > LOOKED_S:
                continue
            try:
                if now - scanned > SCAN_S:
                    scanned = now
                    self.scan()
                self.refresh()
            except Exception:  # as with the runs: what one folder holds must not hide the others
                _log.exception("a look at the sweeps failed")


def find_sweeps(root: Path, limit: int) -> tuple[list[tuple[str, ...]], int]:
    """Places of the folders `<project>/sweeps/<name>` that hold a sweep.json; links are not followed.

    Args:
        root: Outputs folder.
        limit: Places at most; those of the sweeps begun last are kept.

    Returns:
        Places, newest first, and how many were left out.
    """
    found: list[tuple[float, tuple[str, ...]]] = []
    for project in _folders(root):
        for name in _folders(root / project / ROOM):
            with suppress(OSError):
                found.append(((root / project / ROOM / name / SWEEP_FILE).lstat().st_mtime, (project, ROOM, name)))
    found.sort(reverse=True)
    return [place for _, place in found[:limit]], max(0, len(found) - limit)


def _folders(folder: Path) -> list[str]:
    """Names of the folders in a folder that are not hidden, none where it cannot be read."""
    try:
        if folder.is_symlink():
            return []
        with os.scandir(folder) as entries:
            names = [one.name for one in entries if not one.name.startswith(".") and one.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return sorted(names)[:MAX_FOLDERS]
