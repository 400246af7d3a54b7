"""The ledger of a sweep: what is planned, who works on what, and what came of it; safe for any number of machines.

Layout and rules: CONTRACTS "Sweeps". Everything is decided by the exclusive creation of a file (`exclusive_files`):
a point's next event has the number after its last one, and whoever creates it first has won. There is no server, no
lock and no clock that two machines would have to agree on.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from shared.errors import ConfigError, DataError
from shared.sweep import exclusive_files
from shared.sweep.claim import Claim, LeaseLost
from shared.sweep.event_files import GRACE_S, EventFiles, Notices, writing
from shared.sweep.lease import LeaseWatch
from shared.sweep.machine import machine_identity, process_birth
from shared.sweep.plans import Plan, PlanFiles, Proposal
from shared.sweep.states import STATES, Lease, Limits, PointView, fold

__all__ = ["STATES", "Claim", "LeaseLost", "Plan", "PointView", "Proposal", "SweepLedger"]

BEATS_A_LEASE = 6
UNSEEN_S = 120.0
"""How long a file that exists may stay out of sight; clients of NFS show an old listing for up to 60 s."""


class SweepLedger:
    """The ledger in a sweep's folder; objects in any number of processes and machines may work on one folder.

    Args:
        folder: Folder of the sweep, which exists.
        retries: Attempts after the first that an exception may end.
        max_interruptions: Interruptions in a row without progress that are followed by another attempt.
        lease_s: How long a heartbeat may stay unchanged, seconds. On NFS above 60, the time for which a client may
            show an old file.
        beat_s: Seconds between heartbeats, at most a third of `lease_s`; None: a sixth.
        host: Name of this machine; None: its own.
        clock: Monotonic seconds.
        read_only: For those who look on: a damaged file is told and stays where it is.

    Raises:
        DataError: The folder does not exist.
        ValueError: A number is out of its range.
    """

    def __init__(
        self,
        folder: Path,
        *,
        retries: int = 2,
        max_interruptions: int = 20,
        lease_s: float = 90.0,
        beat_s: float | None = None,
        host: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        read_only: bool = False,
    ) -> None:
        beat_s = lease_s / BEATS_A_LEASE if beat_s is None else beat_s
        if not 0 < beat_s <= lease_s / 3:
            raise ValueError(f"beat_s must be above 0 and at most a third of lease_s {lease_s:g}, found {beat_s:g}.")
        if not folder.is_dir():
            raise DataError(f"the sweep folder {folder} does not exist.")
        self.folder = folder
        self.limits = Limits(retries, max_interruptions)
        self.beat_s = beat_s
        self.host = socket.gethostname() if host is None else host
        self.beats_folder = folder / "beats"
        self._notices = Notices()
        self._files = EventFiles(folder / "ledger", self.host, self._notices, clock, read_only)
        self._plans = PlanFiles(folder, self._notices, read_only)
        self._watch = LeaseWatch(self.beats_folder, self.host, lease_s, clock)
        self._mutex = threading.RLock()
        self._views: dict[str, PointView] = {}

    @property
    def notices(self) -> tuple[str, ...]:
        """What was odd so far, one sentence each: damaged and foreign files, clocks that differ."""
        return tuple(self._notices.sentences)

    @property
    def generation(self) -> int:
        """How often the points were begun anew because code or data had changed, from 0."""
        with self._mutex:
            return self._plans.generation()

    def plans(self) -> list[Plan]:
        """All plans in order."""
        with self._mutex:
            return self._plans.plans()

    def plan(self, proposals: Sequence[Proposal], *, space: dict[str, Any], after: int) -> bool:
        """Add points; those whose values are a point of this generation already are left out.

        Args:
            proposals: Wanted points, in order.
            space: What is searched, in plain values.
            after: Number of plans that this planner has seen: `plans()[-1].number + 1`, 0 without any.

        Returns:
            False: another planner has written a plan meanwhile; read again and decide again.

        Raises:
            DataError: The folder cannot be written.
        """
        with self._mutex:
            return self._plans.create(proposals, space, after)

    def points(self, all_generations: bool = False) -> list[PointView]:
        """Read what is new and return the points in order of their numbers.

        Args:
            all_generations: Also those of older code or data.
        """
        with self._mutex:
            changed = self._files.refresh()
            generation = self._plans.generation()
            planned = [point for plan in self._plans.plans() for point in plan.points]
            for point in planned:
                if point.id in changed or point.id not in self._views:
                    self._views[point.id] = fold(point, self._files.events(point.id), self.limits)
            views = [self._views[p.id] for p in planned if all_generations or p.generation == generation]
            return sorted(views, key=lambda view: view.number)

    def point(self, id: str) -> PointView:
        """Read what is new about one point and return it.

        Raises:
            ConfigError: No plan has it.
        """
        with self._mutex:
            planned = self._plans.find(id)
            if planned is None:
                raise ConfigError(f"sweep {self.folder.name} has no point {id!r} in any of its plans.")
            if self._files.refresh_point(id) or id not in self._views:
                self._views[id] = fold(planned, self._files.events(id), self.limits)
            return self._views[id]

    def claim(self, id: str, *, job: str | None, started_by: str | None = None) -> Claim | None:
        """Take a point.

        Args:
            id: Id of the point.
            job: What the launcher calls the job.
            started_by: Who started the job, for people.

        Returns:
            None: somebody else has it or was quicker, it is done, or it failed for good.

        Raises:
            ConfigError: No plan has it.
            DataError: The folder cannot be written.
        """
        with self._mutex:
            view = self.point(id)
            if view.state == "running":
                self._void(view)
                view = self.point(id)
            if view.is_free:
                view = self._readable(view)
            if not view.is_free:
                return None
            data = {
                "token": secrets.token_hex(8), "machine": machine_identity(), "born": process_birth(os.getpid()),
                "job": job, "started_by": started_by,
            }  # fmt: skip
            if self._files.create(id, view.last_event + 1, "running", data) is None:
                return None
            lease = self._fold(id).lease
            return None if lease is None else Claim(self, view, lease, self.beat_s)

    def is_void(self, view: PointView) -> str | None:
        """Reason why a running point has nobody any more, None while somebody has it.

        At once where its process has ended on this machine; otherwise after `lease_s` of looks at an unchanged
        heartbeat by this object, whatever any wall clock says.
        """
        if view.lease is None:
            return None
        with self._mutex:
            return self._watch.why_void(view.id, view.lease)

    def recover(self) -> int:
        """Write "interrupted" for running points whose lease is void; return how many."""
        with self._mutex:
            for folder in (self.beats_folder, self.folder / "plans"):
                exclusive_files.remove_leftovers(folder)
            return sum(self._void(view) for view in self.points() if view.state == "running")

    def claimable(self) -> list[PointView]:
        """Points to be run that nobody has, after `recover`; in order of their numbers.

        Raises:
            DataError: The folder cannot be written.
        """
        self.recover()
        return [view for view in self.points() if view.is_free]

    def retry(self, ids: Collection[str] | None) -> int:
        """Let points that failed for good be tried again, with all their retries; return how many there were.

        Args:
            ids: Which; those that did not fail for good are left alone. None: all of this generation.

        Raises:
            ConfigError: An id that no plan has.
            DataError: The folder cannot be written.
        """
        with self._mutex:
            views = self.points() if ids is None else [self.point(id) for id in ids]
            chosen = [view for view in (self._readable(view) for view in views if view.final) if view.final]
            written = [self._files.create(view.id, view.last_event + 1, "retry", {}) for view in chosen]
            for view in chosen:
                self._fold(view.id)
            return sum(event is not None for event in written)

    def holds(self, id: str, lease: Lease) -> bool:
        """Whether a lease is still that of its point.

        Raises:
            OSError: The file system does not tell now.
        """
        with self._mutex:
            if not self._files.has(id, lease.event, lease.token):
                return False
            current = self.point(id).lease
            return current is not None and current.token == lease.token

    def extend(self, id: str, lease: Lease, kind: str, data: dict[str, Any]) -> bool:
        """Write an event of a lease; False: the lease was lost, nothing is written.

        Raises:
            DataError: The folder cannot be written, or the next event is there and cannot be read.
            ValueError: The data are no JSON.
        """
        data = {"lease": lease.event, "token": lease.token} | data
        with self._mutex:
            view, waited_s = self._views[id], 0.0
            while view.lease is not None and view.lease.token == lease.token:
                with writing(self._files.path(id, lease.event)):
                    if not self._files.has(id, lease.event, lease.token):
                        return False
                if self._files.create(id, view.last_event + 1, kind, data) is not None:
                    self._fold(id)
                    return True
                if self.point(id).last_event == view.last_event:
                    waited_s = self._wait_for(id, view.last_event + 1, waited_s)
                view = self.point(id)
            return False

    def _readable(self, view: PointView) -> PointView:
        """Wait while an unreadable file has the number of a point's next event: it is finished or set aside soon.

        Raises:
            DataError: It can be neither read nor renamed.
        """
        waited_s = 0.0
        while self._files.is_waiting(view.id, view.last_event + 1):
            if waited_s > UNSEEN_S:
                raise DataError(
                    f"{self._files.path(view.id, view.last_event + 1)} is damaged and cannot be renamed; the folder of "
                    "a sweep must be writable and its disk must have room."
                )
            time.sleep(GRACE_S / 4)
            waited_s += GRACE_S / 4
            view = self.point(view.id)
        return view

    def _wait_for(self, id: str, n: int, waited_s: float) -> float:
        """Wait a little for an event that exists and cannot be read yet: unfinished, or not listed by NFS so far."""
        if waited_s > UNSEEN_S:
            raise DataError(f"{self._files.path(id, n)} exists and could not be read for {UNSEEN_S:g} s.")
        time.sleep(GRACE_S / 8)
        return waited_s + GRACE_S / 8

    def _void(self, view: PointView) -> bool:
        """Interrupt a running point if its lease is void; return whether this call did it."""
        reason = self.is_void(view)
        if reason is None or view.lease is None:
            return False
        beat = self._watch.beat(view.id, view.lease.event) or {}
        data = {"reason": reason, "epoch": beat.get("epoch")}
        written = self.extend(view.id, view.lease, "interrupted", data)
        if written:
            self._watch.forget(view.id, view.lease.event)
        return written

    def _fold(self, id: str) -> PointView:
        """Fold the events of a point again."""
        planned = self._plans.find(id)
        assert planned is not None
        self._views[id] = fold(planned, self._files.events(id), self.limits)
        return self._views[id]
