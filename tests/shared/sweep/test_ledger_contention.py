"""Many processes on one ledger, and processes that are killed at any moment."""

import json
import random
import subprocess
import sys
import time

import pytest

from bench.ledger_workers import audit
from shared.sweep.ledger import SweepLedger


def start(folder, repo_root, **options):
    command = [sys.executable, "-m", "bench.ledger_workers", str(folder)]
    command += [f"--{name}={value}" for name, value in options.items()]
    return subprocess.Popen(command, cwd=repo_root, start_new_session=True)


def num_operations(folder):
    times = [json.loads(path.read_text()) for path in (folder / "times").iterdir()]
    return [sum(map(len, worker.values())) for worker in times]


def test_8_processes_with_100_operations_each(tmp_path, repo_root):
    assert start(tmp_path, repo_root, processes=8, operations=100, points=60).wait(100) == 0
    assert len(num_operations(tmp_path)) == 8
    assert min(num_operations(tmp_path)) >= 100
    assert audit(tmp_path, 60) >= 3 * 60


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_64_processes_with_1000_operations_each(tmp_path, repo_root):
    began = time.monotonic()
    assert start(tmp_path, repo_root, processes=64, operations=1000, points=2000).wait(1100) == 0
    operations = num_operations(tmp_path)
    print(f"{sum(operations) / (time.monotonic() - began):.0f} operations a second")
    assert len(operations) == 64
    assert min(operations) >= 1000
    assert audit(tmp_path, 2000) >= 3 * 2000


def test_writers_killed_at_any_moment_leave_whole_files_and_a_valid_chain(tmp_path, repo_root):
    chance = random.Random(7)
    workers = [start(tmp_path, repo_root, points=60, first=n) for n in range(3)]
    for n in range(3, 15):
        time.sleep(0.15 + 0.15 * chance.random())
        victim = workers.pop(0)
        victim_pid = victim.pid
        kill_all(victim_pid)
        victim.wait(10)
        workers.append(start(tmp_path, repo_root, points=60, first=n))
    for worker in workers:
        assert worker.wait(60) == 0
    SweepLedger(tmp_path).recover()  # the last ones may have been killed while a temporary file was open
    assert audit(tmp_path, 60) >= 3 * 60
    assert all(view.state == "done" for view in SweepLedger(tmp_path).points())


def kill_all(group):
    """Kill a worker and the process that forked it."""
    import os
    import signal

    os.killpg(group, signal.SIGKILL)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda paths: paths[0].write_text("{"), "Expecting"),
        (lambda paths: paths[-1].unlink(), "is done 0 times|is lost"),
        (lambda paths: paths[1].unlink(), "has no event 1"),
        (lambda paths: paths[0].with_name("x.tmp").write_text(""), "does not belong here"),
    ],
)
def test_the_audit_finds_what_is_wrong(tmp_path, repo_root, harm, message):
    assert start(tmp_path, repo_root, points=2).wait(60) == 0
    audit(tmp_path, 2)
    point = SweepLedger(tmp_path).points()[0].id
    harm(sorted((tmp_path / "ledger" / point[:2]).glob(f"{point}.*")))
    with pytest.raises((AssertionError, ValueError), match=message):
        audit(tmp_path, 2)
