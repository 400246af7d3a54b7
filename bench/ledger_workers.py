"""Processes that work on one sweep ledger at once, and the audit of what they leave: for the bench and the tests.

Imports the ledger only, so that hundreds of processes cost little: `python -m bench.ledger_workers` forks them itself.
"""

import argparse
import json
import os
import random
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shared.sweep.ledger import Claim, Proposal, SweepLedger

ENDS = ("done", "failed", "interrupted")
PLAN_SIZE = 100
MANY = 10**6
MAX_WORK_S = 0.002
LOOK_EVERY_S = 1.0


class Worker:
    """Does random operations on a ledger and writes down, after each, what the ledger said was written.

    Args:
        folder: Folder of the sweep.
        number: Of this worker; seed of its choices and name of its file `told/<number>`.
        num_points: How many there are to be.
    """

    def __init__(self, folder: Path, number: int, num_points: int) -> None:
        self.ledger = SweepLedger(folder, retries=MANY, max_interruptions=MANY, lease_s=600, beat_s=1)
        self.random = random.Random(number)
        self.num_points = num_points
        self.num_operations = 0
        self.times: dict[str, list[float]] = defaultdict(list)
        (folder / "told").mkdir(exist_ok=True)
        self._told = os.open(folder / "told" / f"{number}-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._free: list[str] = []

    def plan(self) -> None:
        """Compete with the other planners until all points are planned."""
        while (begun := sum(len(plan.points) for plan in self.ledger.plans())) < self.num_points:
            numbers = range(begun, min(begun + PLAN_SIZE, self.num_points))
            proposals = [Proposal({"x": number}, (f"x={number}",)) for number in numbers]
            after = len(self.ledger.plans())
            self._timed("plan", lambda p=proposals, a=after: self.ledger.plan(p, space={}, after=a))

    def work(self, operations: int) -> None:
        """Work until all points are done; claim what is done, in vain, until this many operations were done."""
        while self._look():
            if not self._free:
                time.sleep(LOOK_EVERY_S * self.random.random())  # others hold the last ones
            while self._free:
                self._one_point()
        ids = [view.id for view in self.ledger.points()]
        while self.num_operations < operations:
            id = self.random.choice(ids)
            assert self._timed("claim", lambda id=id: self.ledger.claim(id, job=None)) is None, "a done point was taken"

    def _look(self) -> bool:
        """Read the ledger; return whether anything is to be done."""
        views = self._timed("refresh", self.ledger.claimable)
        self._free = [view.id for view in views]
        for view in self.ledger.points():
            if view.final and self._timed("retry", lambda id=view.id: self.ledger.retry([id])):
                self._tell(view.id, view.last_event + 1, "retry")
        return not all(view.state == "done" for view in self.ledger.points())

    def _one_point(self) -> None:
        # Half of the workers go for the same next point.
        place = 0 if self.random.random() < 0.5 else self.random.randrange(len(self._free))
        id = self._free.pop(place)
        claim = self._timed("claim", lambda: self.ledger.claim(id, job=None))
        if claim is None:
            return
        self._tell(id, claim.lease.event, "running")
        if self._timed("opened", lambda: claim.opened(f"run-{os.getpid()}")):
            self._tell(id, claim.lease.event + 1, "opened")
        time.sleep(self.random.random() * MAX_WORK_S)
        self._end(claim)

    def _end(self, claim: Claim) -> None:
        kind = self.random.choices(ENDS, (0.7, 0.15, 0.15))[0]
        if kind == "done":
            written = self._timed(kind, lambda: claim.done({"score": self.random.random()}))
        elif kind == "failed":
            written = self._timed(kind, lambda: claim.failed("made up", final=self.random.random() < 0.3))
        else:
            written = self._timed(kind, lambda: claim.interrupted("made up"))
        if not written:
            raise AssertionError(f"a live worker lost point {claim.id}")
        self._tell(claim.id, claim.lease.event + 2, kind)

    def _timed(self, kind: str, operation: Any) -> Any:
        began = time.perf_counter()
        answer = operation()
        self.times[kind].append(time.perf_counter() - began)
        self.num_operations += 1
        return answer

    def _tell(self, point: str, n: int, kind: str) -> None:
        os.write(self._told, f"{point} {n} {kind}\n".encode())


def run_forked(folder: Path, processes: int, operations: int, points: int, first: int = 0) -> list[dict[str, Any]]:
    """Fork the workers, let them begin together, wait; return the times of each kind of operation, one dict a worker.

    Raises:
        AssertionError: A worker ended with an error.
    """
    (folder / "times").mkdir(exist_ok=True)
    children = []
    start = time.monotonic() + 0.01 * processes
    for number in range(first, first + processes):
        if pid := os.fork():
            children.append(pid)
            continue
        try:
            worker = Worker(folder, number, points)
            time.sleep(max(0.0, start - time.monotonic()))
            worker.plan()
            worker.work(operations)
            (folder / "times" / f"{number}.json").write_text(json.dumps(worker.times), encoding="ascii")
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    bad = [pid for pid in children if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]
    assert not bad, f"{len(bad)} of {processes} workers ended with an error"
    return [json.loads(path.read_text(encoding="ascii")) for path in sorted((folder / "times").iterdir())]


def audit(folder: Path, num_points: int) -> int:
    """Read the folder without the ledger's code and check the chain of each point; return the number of events.

    Each file is whole; each point has events 0, 1, 2 ... without a gap; nobody takes a point that is held or done, and
    only who holds it writes about it; each point is done exactly once; each event that a worker was told is written
    is there.

    Raises:
        AssertionError: Something of this does not hold.
    """
    chains: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for path in (folder / "ledger").rglob("*"):
        if path.is_dir():
            continue
        assert re.fullmatch(r"[0-9a-f]{12}\.\d{4}\.json", path.name), f"{path.name} does not belong here"
        event = json.loads(path.read_bytes())
        chains[event["point"]][event["n"]] = event
    planned = [p for path in (folder / "plans").glob("*.json") for p in json.loads(path.read_bytes())["points"]]
    assert sorted(point["number"] for point in planned) == list(range(num_points)), "plans: a number twice or missing"
    assert {point["id"] for point in planned} == set(chains), "a point without events, or events without a point"
    for point, chain in chains.items():
        _audit_chain(point, [chain[n] for n in sorted(chain)])
    told = [line.split() for path in (folder / "told").iterdir() for line in path.read_text().splitlines()]
    assert len({(point, n) for point, n, _ in told}) == len(told), "two workers were told to have written one event"
    for point, n, kind in told:
        assert chains[point].get(int(n), {}).get("kind") == kind, f"event {n} ({kind}) of point {point} is lost"
    return sum(map(len, chains.values()))


def _audit_chain(point: str, events: Iterable[dict[str, Any]]) -> None:
    state, token = "free", None
    kinds = []
    for number, event in enumerate(events):
        kind = event["kind"]
        kinds.append(kind)
        assert event["n"] == number, f"point {point} has no event {number}"
        if kind == "running":
            assert state == "free", f"point {point} was taken while {state}: {kinds}"
            state, token = "held", event["token"]
        elif kind == "retry":
            assert state == "failed for good", f"point {point} was retried while {state}: {kinds}"
            state = "free"
        else:
            assert state == "held", f"event {kind} of point {point}, which nobody holds: {kinds}"
            assert event["token"] == token, f"event {number} of point {point} is not by its holder"
            ends = {"opened": "held", "done": "done", "interrupted": "free", "failed": "free"}
            state = "failed for good" if event.get("final") else ends[kind]
    assert kinds.count("done") == 1, f"point {point} is done {kinds.count('done')} times: {kinds}"


def main() -> None:
    """Run from the command line; the tests start and kill such processes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name, default in (("processes", 1), ("operations", 0), ("points", 100), ("first", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    run_forked(options.folder, options.processes, options.operations, options.points, options.first)


if __name__ == "__main__":
    main()
