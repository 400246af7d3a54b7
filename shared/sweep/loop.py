"""The sweeper's own loop: plan, launch, read again, until every point is settled."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil
from rich.console import Console

from shared.errors import ConfigError, DataError, RunInterrupted, TrainingError
from shared.sweep.exports import drop_best
from shared.sweep.jobs import job_overrides
from shared.sweep.launchers import first_line, job_faults, most_at_once
from shared.sweep.ledger import SweepLedger
from shared.sweep.planner import Planner
from shared.sweep.plans import next_number
from shared.sweep.point_process import PASSED_ON, STOPPING
from shared.sweep.progress import Teller, told_to, values_text
from shared.sweep.rebuild import rebuild_exports
from shared.sweep.scoring import minimised
from shared.sweep.search import Search
from shared.sweep.states import PointView

Launch = Callable[[Sequence[Sequence[str]], int], object]
"""A Hydra launcher's `launch(job_overrides, initial_job_idx)`."""

FUTILE_LAUNCHES = 3
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0
STOP_GRACE_S = 120.0
"""How long the sweeper waits for points of its own machine to save after a signal."""


class SweepLoop:
    """Runs one search to its end with a launcher.

    Args:
        search: What is searched.
        planner: Says which points there should be.
        launch: Runs jobs and returns when they have ended.
        launcher: Its name, for messages.
        console: Where progress is told.
    """

    def __init__(self, search: Search, planner: Planner, launch: Launch, launcher: str, console: Console) -> None:
        self.search = search
        self.planner = planner
        self.launcher = launcher
        self._launch = launch
        self._console = console
        self._ledger = search.ledger()
        self._at_once = search.settings["at_once"] or most_at_once(launcher)
        self._futile: dict[str, int] = {}
        self._num_launched = 0
        self._told: set[str] = set()
        self._signum: int | None = None

    @property
    def has_launched(self) -> bool:
        """Whether this process has launched any point."""
        return self._num_launched > 0

    def run(self) -> list[PointView]:
        """Go on until no point is missing; returns all points of this search, in order.

        Raises:
            RunInterrupted: A signal stopped it; points running below this process have saved and left.
            TrainingError: The launcher starts jobs, but the ledger never hears of them.
            ConfigError: The code was changed meanwhile, or another sweeper has begun all points anew with other code.
        """
        with self._interruptible(), told_to(self._tell_once), Teller(self.search, self.planner, self._console):
            while self._step():
                pass
        return self._points()

    def _step(self) -> bool:
        """Plan and launch what there is, or wait for others; returns whether there may be more to do."""
        self._require_generation()
        planned = self._plan()
        chosen = [view for view in self._ledger.claimable() if self.planner.contains(view.values)]
        running = [view for view in self._points() if view.state == "running"]
        if chosen or running:
            self._export(drop_best)
        if chosen:
            self.search.require_unchanged_code(self.search.code_hash())
            self._launch_points(chosen[: self._at_once])
            return True
        if running:
            self._wait_for(running)
            return True
        return planned

    def _require_generation(self) -> None:
        """Stop where these points count no more.

        Raises:
            ConfigError: Another sweeper has begun anew.
        """
        newest = self._ledger.generation
        if newest != self.search.generation:
            raise ConfigError(
                f"another sweeper has begun the points of {self.search.folder} anew with other code (generation "
                f"{newest}, here {self.search.generation}); this one stops"
            )

    def _points(self) -> list[PointView]:
        return [view for view in self._ledger.points() if self.planner.contains(view.values)]

    def _plan(self) -> bool:
        """Write down the points that the planner wants now; returns whether there are new ones, from it or another."""
        plans, before = self._ledger.plans(), len(self._ledger.points())
        proposals = self.planner.propose(minimised(self._ledger.points(), self.search.direction)) or []
        for note in self.planner.notes:
            self._tell_once(note)
        self._ledger.plan(proposals, space=self.planner.space(), after=next_number(plans))
        return len(self._ledger.points()) > before

    def _launch_points(self, views: Sequence[PointView]) -> None:
        """One launch; whatever becomes of the launcher, the ledger tells what has happened."""
        jobs = [job_overrides(self.search.folder.resolve(), view.id) for view in views]
        fault, said = "", ""
        try:
            said = self._tell_faults(views, job_faults(self._launch(jobs, self._num_launched)))
        except SystemExit as stop:
            self._stop(_signal_of(stop))
        except RunInterrupted as error:
            self._stop(error.signum)
        except Exception as error:  # a launcher of any kind, its workers killed, its queue full, its command not there
            fault = first_line(error)
            self._console.print(f"the launcher {self.launcher} stopped early: {fault}", markup=False, style="yellow")
        if self._signum is not None:
            self._stop(self._signum)
        self._num_launched += len(views)
        self._export(lambda folder: rebuild_exports(folder, complete=False, pictures=False))
        self._count_futile(views, fault, said)

    def _export(self, write: Callable[[Path], object]) -> None:
        """Change the exports; what can be made again at any time must not end a sweep."""
        try:
            write(self.search.folder)
        except (OSError, DataError) as error:
            self._tell_once(f"the exports cannot be written for now ({first_line(error)}); the points go on")

    def _tell_faults(self, views: Sequence[PointView], faults: Mapping[int, str]) -> str:
        """Show what jobs raised that could not say it in the ledger; returns the first of it."""
        for place, said in faults.items():
            view = views[place]
            self._console.print(
                f"the job of point {view.number} ({values_text(view.values)}) failed: {said}",
                markup=False, soft_wrap=True, style="yellow",
            )  # fmt: skip
        return next(iter(faults.values()), "")

    def _count_futile(self, views: Sequence[PointView], fault: str, said: str) -> None:
        """Stop where jobs are started again and again and none of them says a word.

        Raises:
            TrainingError: After the third launch of a point.
        """
        before = {view.id: view.last_event for view in views}
        moved = {view.id for view in self._ledger.points() if view.last_event > before.get(view.id, view.last_event)}
        for id in before:
            if id in moved:
                self._futile.pop(id, None)
            elif not moved or not fault:  # a launcher that broke down in the middle did not get to the rest
                self._futile[id] = self._futile.get(id, 0) + 1
        worst = max(self._futile.values(), default=0)
        if worst >= FUTILE_LAUNCHES:
            logs = self.search.folder / ".submitit"
            where = f"its logs are in {logs}" if logs.is_dir() else "its messages stand above"
            word = f", which said {fault or said}" if fault or said else ""
            raise TrainingError(
                f"{len(self._futile)} points were launched {worst} times by {self.launcher}{word}, and none of them "
                f"has begun; {where}"
            )

    def _wait_for(self, running: Sequence[PointView]) -> None:
        """Points that others have: another sweeper, a job that outlived its launcher, another machine."""
        for view in running:
            lease = view.lease
            if lease is not None:
                self._tell_once(
                    f"point {view.number} ({values_text(view.values)}) is running on {lease.host}, process "
                    f"{lease.pid}; waiting for it"
                )
        wait, begun, known = FIRST_WAIT_S, {view.id for view in running}, len(self._ledger.points())
        while True:
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)
            if any(self.planner.contains(view.values) for view in self._ledger.claimable()):
                return  # one that was let go, taken up again by a person, or planned by somebody else
            now = {view.id: view for view in self._ledger.points()}
            if len(now) > known or any(id not in now or now[id].state != "running" for id in begun):
                return

    def _tell_once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._console.print(f"note: {sentence}", markup=False, soft_wrap=True)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        taken = (*STOPPING, *(signum for signum in PASSED_ON if signal.getsignal(signum) is signal.SIG_DFL))
        former = {signum: signal.signal(signum, self._handle) for signum in taken}
        try:
            yield
        except SystemExit as stop:  # raised by the handler outside a launch
            if self._signum is None:
                raise
            self._stop(_signal_of(stop))
        finally:
            for signum, handler in former.items():
                signal.signal(signum, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        """Let the points below this process save, then leave; the second signal does not wait.

        It leaves by SystemExit: Hydra takes every Exception of a job for the job's result, and goes on with the next.
        """
        if self._signum is None:
            self._signum = signum
            stop_jobs(self.search.ledger())
        raise SystemExit(128 + signum)

    def _stop(self, signum: int) -> None:
        """Leave with the state of things.

        Raises:
            RunInterrupted: Always.
        """
        self._signum = signum
        points = self._points()
        settled, total = sum(view.is_settled for view in points), max(self.planner.total or 0, len(points))
        raise RunInterrupted(
            signum,
            f"stopped by {signal.Signals(signum).name}; {settled} of {total} points are "
            "settled; the same command goes on",
        )


def stop_jobs(ledger: SweepLedger, grace_s: float = STOP_GRACE_S) -> None:
    """Send SIGTERM to the jobs below this process and wait until their points have left.

    Args:
        ledger: Of the sweep.
        grace_s: How long to wait at most.
    """
    below = {child.pid for child in psutil.Process().children(recursive=True)}
    own = [view for view in ledger.points() if view.lease is not None and view.lease.pid in below]
    for view in own:
        job = view.lease.job if view.lease is not None else None
        pid = int(job.split()[1]) if job is not None and job.startswith("process ") else None
        with suppress(ProcessLookupError):
            if pid in below and pid != os.getpid():
                os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline:
        still = {view.id for view in ledger.points() if view.state == "running" and not ledger.is_void(view)}
        if not still & {view.id for view in own}:
            return
        time.sleep(0.1)


def _signal_of(stop: SystemExit) -> int:
    """The signal that an exit code stands for."""
    code = stop.code if isinstance(stop.code, int) else 1
    if code <= 128:
        raise stop
    return code - 128
