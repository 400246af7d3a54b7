"""The process that measures one point: it holds the lease, calls the objective, and writes what came of it."""

import importlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Any, cast

from shared.errors import ConfigError, RunInterrupted, TrainingError, UserError
from shared.sweep.claim import Claim, LeaseLost
from shared.sweep.objective import NOT_FINITE, DataChangedError, Objective, Outcome, PointWork
from shared.sweep.search import Search

STOPPING = (signal.SIGINT, signal.SIGTERM)
PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2)
"""Schedulers send these to all processes of a job; the job's own process passes them on as SIGTERM, once."""
ORPHAN_GRACE_S = 300.0
"""How long a point whose job was killed may take to save and leave."""


@dataclass(frozen=True)
class Task:
    """What a job hands to the point's process.

    Attributes:
        folder: Of the sweep.
        point: Its id.
        settings: The sweep's plain settings as they count today.
        code_hash: Of the code, read when the job's process began: modules that it has loaded stay as they were.
        job: What the launcher calls the job.
        started_by: Who started it, for people.
    """

    folder: Path
    point: str
    settings: dict[str, Any]
    code_hash: str
    job: str | None = None
    started_by: str | None = None


def enter(task: Task) -> None:
    """Begin of the process."""
    os.setsid()  # Ctrl-C reaches the job, which passes it on; two signals would mean that nothing is to be saved
    for signum in PASSED_ON:
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {*STOPPING, *PASSED_ON})  # blocked by the server, see jobs.py
    threading.Thread(target=_leave_with_job, name="job-watch", daemon=True).start()
    with suppress(RunInterrupted):  # before or after the lease: the job finds a point that was left, and says so
        try:
            measure(task)
        except UserError as error:
            if isinstance(error, RunInterrupted):
                raise
            print(f"point {task.point}: {error}", file=sys.stderr, flush=True)
            sys.exit(error.exit_code)


def measure(task: Task) -> str | None:
    """Claim a point, measure it and write what came of it.

    Returns:
        Kind of the event that was written last, None where the point was not to be had.

    Raises:
        ConfigError: The point may not be measured with the code of this process; nothing is written.
        DataError: The folder cannot be written.
    """
    with stoppable() as stop:
        search = Search.load(task.folder, task.settings)
        search.require_point(task.point, task.code_hash)
        claim = search.ledger().claim(task.point, job=task.job, started_by=task.started_by)
        if claim is None:
            return None
        with claim:
            kind, write = _ending(search, claim, task.code_hash, stop)
            stop.closing = True  # from here on there is nothing left to save
            try:
                write()
            except ValueError as error:  # refused before anything was written
                claim.failed(f"the outcome of point {claim.view.number} cannot be written: {error}")
                return "failed"
            return kind


class Stop:
    """The handler of SIGINT and SIGTERM where the objective has none of its own; it remembers the signal."""

    def __init__(self) -> None:
        self.closing = False
        self.received: int | None = None

    def handle(self, signum: int, frame: FrameType | None) -> None:
        """Raise, except while the result is written.

        Raises:
            RunInterrupted: Always otherwise.
        """
        if not self.closing:
            self.received = signum
            raise RunInterrupted(signum, said_of(signum))


def said_of(signum: int) -> str:
    """What is said of a point that a signal has stopped."""
    return f"stopped by {signal.Signals(signum).name}"


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Let SIGINT and SIGTERM raise `RunInterrupted` within the block, where handlers can be set: in the main thread."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    former = {signum: signal.signal(signum, stop.handle) for signum in STOPPING}
    try:
        yield stop
    finally:
        for signum, handler in former.items():
            signal.signal(signum, handler)


def resolve_objective(name: str) -> Objective:
    """The function with that dotted name.

    Raises:
        ConfigError: It is not there.
    """
    module, _, function = name.rpartition(".")
    try:
        return cast(Objective, getattr(importlib.import_module(module), function))
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"hydra.sweeper.objective {name} cannot be imported: {error}") from error


def _ending(search: Search, claim: Claim, code_hash: str, stop: Stop) -> tuple[str, Callable[[], object]]:
    """Measure the point; return how it ended and the write that says so."""
    try:
        outcome = _measured(search, claim) | {"code_hash": code_hash}
    except LeaseLost as error:
        print(f"point {claim.view.number}: {error}", file=sys.stderr)
        return "lost", lambda: None
    except RunInterrupted as error:
        reason = str(error)
        return "interrupted", lambda: claim.interrupted(reason)
    except Exception as error:
        if stop.received is not None:  # what was raised in the handler may have been caught, and told as another error
            return "interrupted", partial(claim.interrupted, said_of(stop.received))
        if not isinstance(error, UserError):
            traceback.print_exc()
        said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        # A wrong configuration, other data and a loss that is not finite end the same way each time.
        final = isinstance(error, ConfigError | DataChangedError) or (
            isinstance(error, TrainingError) and NOT_FINITE in said
        )
        return "failed", lambda: claim.failed(said, final=final)
    return "done", lambda: claim.done(outcome)


def _measured(search: Search, claim: Claim) -> Outcome:
    view = claim.view
    resume = Path(view.run) if view.run is not None and Path(view.run).is_dir() else None
    work = PointWork(
        id=view.id,
        generation=view.generation,
        config=search.point_config(view),
        overrides=(*search.overrides, *view.overrides),
        resume=resume,
        claim=claim,
        folder=search.folder,
        settings=search.settings,
        values=view.values,
        direction=search.direction,
        score_name=search.score_name,
    )
    outcome = resolve_objective(search.objective)(work)
    score = outcome.get("score")
    if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
        raise TrainingError(f"the score of point {view.number} is {score!r}, which is {NOT_FINITE}")
    return outcome


def _leave_with_job() -> None:
    """Wait for the end of the process that started this one; then stop as if by a signal, since nobody waits for us."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(ORPHAN_GRACE_S)
    os._exit(1)
