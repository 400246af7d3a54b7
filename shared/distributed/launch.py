"""Rank 0 starts the other ranks of a fit, watches them, and ends with one sentence when one of them dies."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, and not in its __all__

from shared.distributed.collectives import leave
from shared.distributed.plan import RankPlan, threads_of_rank
from shared.distributed.share import ALONE, RankShare
from shared.errors import RunInterrupted, TrainingError
from shared.session import Session

ADDRESS = "127.0.0.1"
LOGS = "ranks"
READY = b"ready"
START_S = 900.0
"""A rank has to import, read the data and build the network within this time."""
LAST_WORDS_S = 40.0
"""What the others have to end by themselves, so that each can say why; on a busy machine 16 s were seen.

Less than `STUCK_S`, which begins to count when the first of them has ended.
"""
TALKING = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "Rank ", "TCPStore")
"""In the message of every error that torch raises when a rank does not answer."""
STUCK_S = 60.0
"""After this time rank 0 no longer waits for its own main thread, which may wait for a dead rank inside a GPU call."""


@contextmanager
def other_ranks(session: Session, plan: RankPlan, checkpoint: Path | None) -> Iterator[None]:
    """The other ranks live while the block does; in the block this process is rank 0 of them.

    Args:
        session: The run, its data checked.
        plan: How many, and how.
        checkpoint: What all ranks go on from, None to begin.

    Raises:
        TrainingError: If a rank ended before the block did, with its own words.
    """
    if plan.count == 1:
        yield
        return
    ranks = _Ranks(session, plan)
    data, threads = session.datamodule, torch.get_num_threads()
    try:
        with _environment(ranks.environment(0)):
            ranks.start(checkpoint)
            torch.set_num_threads(ranks.threads)
            data.share = RankShare(0, plan.count)
            ranks.wait_until_ready()
            yield
        leave()
        ranks.wait_for_end(session)
    except BaseException as error:
        # An exception of rank 0's own comes as it is; one from talking to the others is their fault, if one has ended.
        sentence = ranks.find_fault(LAST_WORDS_S) if _is_about_others(error) else None
        if isinstance(error, RunInterrupted):  # the others stop at the same place, by themselves
            leave()
            ranks.end(LAST_WORDS_S)
        else:  # the others wait for this rank inside of a collective, and taking leave may wait for them
            ranks.end(1.0)
            leave()
        if sentence is not None:
            raise TrainingError(sentence) from error
        raise
    finally:
        data.share = ALONE
        torch.set_num_threads(threads)
        ranks.close()


class _Ranks:
    """The processes of rank 1 and above."""

    def __init__(self, session: Session, plan: RankPlan) -> None:
        self.run, self.plan = session.run, plan
        self.threads = threads_of_rank(session.settings.runtime.threads, plan)
        # Open before anybody looks for it: a port that was only found free could be taken by then.
        self._store = TCPStore(ADDRESS, 0, is_master=True, wait_for_workers=False, multi_tenant=True)
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._pipes: dict[int, int] = {}
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._leave_when_stuck, name="ranks", daemon=True)

    def environment(self, rank: int) -> dict[str, str]:
        """What Lightning and torch read; with LOCAL_RANK set, Lightning starts nothing itself."""
        return {
            "MASTER_ADDR": ADDRESS, "MASTER_PORT": str(self._store.port), "NODE_RANK": "0", "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(self.plan.count), "OMP_NUM_THREADS": str(self.threads),
            # gloo asks for the host's name otherwise, which need not lead to an address of this machine
            "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo"),
        }  # fmt: skip

    def log(self, rank: int) -> Path:
        """Where a rank writes what it says."""
        return self.run.path / LOGS / f"{rank}.log"

    def start(self, checkpoint: Path | None) -> None:
        """Start them; each writes to its pipe when it is ready to train."""
        self.log(1).parent.mkdir(exist_ok=True)
        for rank in range(1, self.plan.count):
            reading, writing = os.pipe()
            command = [
                sys.executable, "-m", "shared.distributed", str(self.run.path), "--rank", str(rank), "--ranks",
                str(self.plan.count), "--ready", str(writing), "--parent", str(os.getpid()),
            ]  # fmt: skip
            command += [] if checkpoint is None else ["--checkpoint", str(checkpoint)]
            with self.log(rank).open("ab") as log:
                self._processes[rank] = subprocess.Popen(
                    command, env=os.environ | self.environment(rank), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    pass_fds=(writing,),
                )  # fmt: skip
            os.close(writing)
            self._pipes[rank] = reading

    def wait_until_ready(self) -> None:
        """Wait for the word of each rank.

        Raises:
            TrainingError: If one ends before, or does not come.
        """
        deadline = time.monotonic() + START_S
        for rank, pipe in self._pipes.items():
            while not select.select([pipe], [], [], 0.5)[0]:
                if time.monotonic() > deadline:
                    raise TrainingError(f"rank {rank} was not ready within {START_S:g} s; see {self.log(rank)}")
            if os.read(pipe, len(READY)) != READY:  # it has ended, and its end of the pipe with it
                fault = self.find_fault(LAST_WORDS_S)
                raise TrainingError(fault or f"rank {rank} ended before the fit; see {self.log(rank)}")
        self._watch.start()

    def wait_for_end(self, session: Session) -> None:
        """Behind the fit: the ranks end by themselves; if not, nothing is lost any more."""
        self._over.set()
        self.end(LAST_WORDS_S)
        if (fault := self._fault()) is not None:
            session.warn(f"behind the fit {fault}")

    def find_fault(self, patience_s: float) -> str | None:
        """Why the fit cannot go on, if a rank was the reason; one that is just dying is waited for."""
        deadline = time.monotonic() + patience_s
        while (fault := self._fault()) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return fault

    def end(self, patience_s: float) -> None:
        """End the ranks that do not end by themselves in that time."""
        deadline = time.monotonic() + patience_s
        for process in self._processes.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """Leave neither process nor thread nor pipe."""
        self._over.set()
        self.end(0.0)
        if self._watch.is_alive():
            self._watch.join()
        for pipe in self._pipes.values():
            os.close(pipe)

    def _fault(self) -> str | None:
        """The first rank that has ended badly, and how."""
        for rank, process in self._processes.items():
            code = process.poll()
            if code:
                return f"rank {rank} {_how_it_ended(code, self.log(rank))}; all it said is in {self.log(rank)}"
        return None

    def _leave_when_stuck(self) -> None:
        """End this process if a rank has died and the main thread does not come back."""
        while not self._over.wait(0.2):
            fault = self._fault()
            if fault is not None and not self._over.wait(STUCK_S):
                self.run.set_state("failed", error=fault)
                print(f"error: {fault}", file=sys.stderr, flush=True)
                for process in self._processes.values():
                    process.kill()
                os._exit(1)


def _is_about_others(error: BaseException) -> bool:
    """Whether an error comes from a collective that another rank did not take part in."""
    return isinstance(error, RuntimeError) and any(text in str(error) for text in TALKING)


def _how_it_ended(code: int, log: Path) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    last = lines[-1].removeprefix("error: ") if lines else "it said nothing"
    return f"failed with exit code {code} ({last})"


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the block; the next job of a multirun must not find them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
