"""What the sweep ledger stands: 64 processes x 1,000 operations on one folder, and reading 10,000 points x 4 events.

On the local disk of one machine: each event is flushed with its folder entry before the operation returns. What 200
machines and a network file system make of it is arithmetic in docs/scale.md, from these numbers.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from bench.ledger_workers import audit
from bench.record import Record, run_benchmark
from shared.sweep.canonical import point_id
from shared.sweep.ledger import Proposal, SweepLedger

PROCESSES, OPERATIONS, POINTS = 64, 1000, 2000
READ_POINTS = 10_000
KINDS = ("running", "opened", "interrupted", "running")


def measure(record: Record) -> None:
    """Write with many processes, audit what they left, then read a large ledger."""
    with tempfile.TemporaryDirectory() as folder:
        measure_contention(record, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        measure_reading(record, Path(folder))


def measure_contention(
    record: Record, folder: Path, processes: int = PROCESSES, operations: int = OPERATIONS, points: int = POINTS
) -> None:
    """Processes that compete for points until all are done and each has done its operations; nothing may be lost."""
    command = [sys.executable, "-m", "bench.ledger_workers", str(folder), "--processes", str(processes)]
    began = time.perf_counter()
    subprocess.run([*command, "--operations", str(operations), "--points", str(points)], check=True)
    took = time.perf_counter() - began
    times: dict[str, list[float]] = defaultdict(list)
    for path in (folder / "times").iterdir():
        for kind, seconds in json.loads(path.read_text(encoding="ascii")).items():
            times[kind] += seconds
    num_events = audit(folder, points)
    total = sum(map(len, times.values()))
    record.add("processes at once", processes, "processes")
    record.add("operations in all, audited: nothing lost, each point done once", total, "operations")
    record.add("operations", total / took, "1/s")
    record.add("events written", num_events / took, "1/s")
    for kind in ("claim", "opened", "done"):
        for percentile in (50, 95):
            record.add(f"{kind}, percentile {percentile}", 1000 * np.percentile(times[kind], percentile), "ms")


def measure_reading(record: Record, folder: Path, points: int = READ_POINTS) -> None:
    """First reading of a large ledger, reading it again without news, and with one new event."""
    ledger = SweepLedger(folder)
    proposals = [Proposal({"x": number}, (f"x={number}",)) for number in range(points)]
    began = time.perf_counter()
    ledger.plan(proposals, space={}, after=0)
    record.add(f"planning {points} points", time.perf_counter() - began, "s")
    write_events(folder, points)
    began = time.perf_counter()
    views = ledger.points()
    record.add(f"first reading of {points} points x {len(KINDS)} events", time.perf_counter() - began, "s")
    assert {(view.state, view.attempts, view.last_event) for view in views} == {("running", 2, len(KINDS) - 1)}
    record.add_samples("reading again, nothing new", [1000 * _read(ledger) for _ in range(7)], "ms")
    seconds = []
    for view in views[:7]:
        write_event(folder, view.id, len(KINDS), "interrupted")
        seconds.append(_read(ledger))
        assert ledger.points()[view.number].state == "interrupted"
    record.add_samples("reading again, one new event", [1000 * s for s in seconds], "ms")


def write_events(folder: Path, points: int) -> None:
    """Write the events of a ledger as its workers would, without waiting for the disk."""
    for number in range(points):
        for n, kind in enumerate(KINDS):
            write_event(folder, point_id({"x": number}, 0), n, kind)


def write_event(folder: Path, point: str, n: int, kind: str) -> None:
    """Write one event; the token says to which of the two leases it belongs."""
    lease = 0 if n < 3 else 3
    data = {
        "schema": 1, "point": point, "n": n, "kind": kind, "t": time.time(), "host": "far", "pid": 1, "lease": lease,
        "token": str(lease), "machine": "far", "born": 1.0, "run": "runs/a", "reason": "made up",
    }  # fmt: skip
    path = folder / "ledger" / point[:2] / f"{point}.{n:04d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data) + "\n", encoding="ascii")


def _read(ledger: SweepLedger) -> float:
    began = time.perf_counter()
    ledger.points()
    return time.perf_counter() - began


if __name__ == "__main__":
    run_benchmark("bench_sweep_ledger", measure)
