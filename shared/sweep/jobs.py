"""What a launcher runs: a job starts the process of one point, waits for it, and hands signals on to it."""

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import OmegaConf

from shared.errors import RunInterrupted
from shared.sweep import point_process
from shared.sweep.ledger import SweepLedger
from shared.sweep.search import Search
from shared.sweep.states import PointView

POINT_PREFIX = "point-"
"""A job's name is this and the point's id."""
CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGSYS}
"""Signals by which a process ends itself; any other death without a word came from outside."""

_stopped_by: list[int] = []


def job_name(point: str) -> str:
    """Name of the job of a point."""
    return f"{POINT_PREFIX}{point}"


def job_overrides(folder: Path, point: str) -> list[str]:
    """Overrides that a launcher gets for a point; all else stands in the sweep's folder."""
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return [f"hydra.sweep.dir='{quoted}'", "hydra.sweep.subdir=.", f"hydra.job.name={job_name(point)}"]


def in_turn(search: Search) -> Callable[[Sequence[Sequence[str]], int], None]:
    """A launcher without Hydra: this process starts the jobs, one after the other.

    Args:
        search: Whose jobs.

    Returns:
        What `SweepLoop` takes as `launch`.
    """

    def launch(jobs: Sequence[Sequence[str]], first: int) -> None:
        for *_, name in jobs:
            run_job(search.folder, name.partition("=")[2].removeprefix(POINT_PREFIX), search.settings)

    return launch


def job_of(hydra: Any) -> tuple[Path, str, dict[str, Any]]:
    """Folder, point and settings of the sweep's job that this process runs.

    Args:
        hydra: Hydra's own configuration of the job.
    """
    given = OmegaConf.to_container(hydra.sweeper, resolve=True)
    assert isinstance(given, dict)
    settings = {str(key): value for key, value in given.items() if key != "_target_"}
    return Path(str(hydra.sweep.dir)), str(hydra.job.name).removeprefix(POINT_PREFIX), settings


def run_job(folder: Path, point: str, settings: Mapping[str, Any] | None = None) -> str:
    """Run one point to its end, in a process of its own.

    Args:
        folder: Of the sweep.
        point: Its id.
        settings: As given today; None: those that the sweep was started with.

    Returns:
        The point's state afterwards, one of `states.STATES`.

    Raises:
        RunInterrupted: A signal has stopped this process; the point has saved what it could.
        ConfigError: There is no such sweep or point, or the code here is not that of the sweep.
    """
    if _stopped_by:  # a launcher that goes on with the next job after a signal
        raise RunInterrupted(_stopped_by[0], f"stopped by {signal.Signals(_stopped_by[0]).name}")
    search = Search.load(folder, settings)
    ledger = search.ledger()
    view = ledger.point(point)
    if view.is_settled:
        return view.state
    search.require_point(point, search.code_hash())
    process = _context(search.objective).Process(
        target=point_process.enter,
        args=(_task(search, point),),
        name=job_name(point),
    )
    with _handing_on() as signals:
        with _known_start_method():
            process.start()
        signals.send_to(process.pid)
        process.join()
        signals.over()
    _speak_for(ledger, point, process.pid, process.exitcode)
    signals.pass_up()
    return ledger.point(point).state


def _task(search: Search, point: str) -> point_process.Task:
    return point_process.Task(
        folder=search.folder,
        point=point,
        settings=dict(search.settings),
        code_hash=search.code_hash(),
        job=launcher_job(),
        started_by=f"{socket.gethostname()} pid {os.getpid()}",
    )


def launcher_job() -> str | None:
    """What the launcher calls this job: the number of a SLURM job, or the process of a local one."""
    slurm = os.environ.get("SLURM_JOB_ID")
    if slurm is not None:
        array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        return f"slurm {array}_{task}" if array and task else f"slurm {slurm}"
    return f"process {os.getpid()}"


class _Signals:
    """Hands the first signal on as SIGTERM; the second one, from somebody who does not want to wait, as SIGKILL."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.former: dict[int, Any] = {}
        self._child: int | None = None

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler."""
        self.received.append(signum)
        self._hand_on()

    def send_to(self, child: int | None) -> None:
        """The process is there; what came before it goes to it now."""
        self._child = child
        if self.received:
            self._hand_on()

    def over(self) -> None:
        """The process is gone, and its number may belong to another one soon."""
        self._child = None

    def pass_up(self) -> None:
        """Act on what was received, now that the point is safe.

        Raises:
            RunInterrupted: For SIGINT, SIGTERM, and others that nobody else listens to: the point is launched again.
        """
        for signum in self.received:
            if signum in point_process.STOPPING or not callable(self.former[signum]):
                _stopped_by.append(signum)
                raise RunInterrupted(signum, f"stopped by {signal.Signals(signum).name}")
            self.former[signum](signum, None)  # submitit's puts the job into the queue again and ends this process

    def _hand_on(self) -> None:
        if self._child is None:
            return
        stops = sum(signum in point_process.STOPPING for signum in self.received)
        with suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL if stops > 1 else signal.SIGTERM)


@contextmanager
def _handing_on() -> Iterator[_Signals]:
    """Handle signals while a point runs; in another thread than the main one, none is handled."""
    signals = _Signals()
    if threading.current_thread() is threading.main_thread():
        for signum in (*point_process.STOPPING, *point_process.PASSED_ON):
            former = signal.getsignal(signum)
            if signum in point_process.STOPPING or former is not signal.SIG_IGN:
                signals.former[signum] = signal.signal(signum, signals.handle)
    try:
        yield signals
    finally:
        for handled, handler in signals.former.items():
            signal.signal(handled, handler)


@contextmanager
def _known_start_method() -> Iterator[None]:
    """A new process takes over the default way to start further ones; joblib's workers have one that only they know."""
    former = multiprocessing.get_start_method(allow_none=True)
    known = multiprocessing.get_all_start_methods()
    if former is None or former in known:
        yield
        return
    multiprocessing.set_start_method(known[0], force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(former, force=True)


def _context(objective: str) -> Any:
    """Processes that begin as copies of one that has imported what the objective needs, and nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([point_process.__name__, objective.rpartition(".")[0]])
    _start_server()
    return context


def _start_server() -> None:
    """Start the process that points are copied from so that it hears no signal.

    SLURM signals every process below a job, this one too (measured, 22.05). Its death would look like the end of the
    point, and the job would be queued again while the point is still saving.
    """
    kept = {*point_process.STOPPING, *point_process.PASSED_ON}
    former = signal.pthread_sigmask(signal.SIG_BLOCK, kept)
    try:
        resource_tracker.ensure_running()  # unblocks some of them
        signal.pthread_sigmask(signal.SIG_BLOCK, kept)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _speak_for(ledger: SweepLedger, point: str, pid: int | None, exitcode: int | None) -> None:
    """Write what became of a process that ended without a word: a crash is a failure, a kill an interruption."""
    view: PointView = ledger.point(point)
    lease = view.lease
    if view.state != "running" or lease is None or lease.pid != pid or not ledger.is_void(view):
        return
    crash = next((one for one in CRASHES if exitcode == -one), None)
    if crash is not None:
        said = f"the point's process crashed ({crash.name})"
        print(f"point {view.number}: {said}", file=sys.stderr)
        ledger.extend(point, lease, "failed", {"error": said, "final": False})
    else:
        ledger.recover()
