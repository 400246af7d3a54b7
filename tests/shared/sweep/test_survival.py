"""kill -9 of the sweeper, of point processes and of both at random moments: in the end it is as if nothing had been.

The toy objective goes through the same code as the engine does: sweeper, launcher, jobs, point processes, ledger.
"""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shared.sweep.ledger import SweepLedger
from tests.fabricate.toy_sweep import ROOT, command, environment, epochs_run

SEED = 7
LAUNCHERS = {"basic": (), "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")}
WAIT_S = 600  # on a machine that is busy with other tests; about a tenth on an idle one
TARGETS = ("sweeper", "point", "both")


def arguments(num_stages: int) -> tuple[str, ...]:
    """Of a hierarchical sweep with five points a stage."""
    settings = ("num_samples=null", "epochs=3", "name=toy", "max_interruptions=100", "lease_s=15.0")
    sweeper = [f"hydra.sweeper.{setting}" for setting in (*settings, f"stages={num_stages}")]
    return ("hydra/sweeper=hierarchical_lr", *sweeper)


def start(folder: Path, num_stages: int, launcher: str) -> subprocess.Popen[str]:
    """Start the sweep as a user does, in a session of its own."""
    given = command(folder, *arguments(num_stages), *LAUNCHERS[launcher])
    with (folder / "said").open("a") as said:
        return subprocess.Popen(
            given, cwd=ROOT, env=environment(folder, TOY_EPOCH_S="0.03"), stdout=said, stderr=said, text=True
        )


def points_of(folder: Path) -> list[int]:
    """Numbers of the processes that hold leases now."""
    path = folder / "redheart" / "sweeps" / "toy"
    if not path.is_dir():
        return []
    return [view.lease.pid for view in SweepLedger(path).points() if view.lease is not None]


def kill(process: subprocess.Popen[str], folder: Path, target: str) -> bool:
    """kill -9 the sweeper, its point processes or both; returns whether there was anything to kill."""
    points: list[int] = []
    while target != "sweeper" and not points and process.poll() is None:
        points = points_of(folder)  # between two points there is none
    alive = process.poll() is None
    pids = [*([process.pid] if alive and target != "point" else []), *points]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if target != "point":
        process.wait(timeout=30)
    return bool(pids)


def survive(folder: Path, num_stages: int, launcher: str, num_kills: int, chance: random.Random) -> int:
    """Run the sweep to its end through kills at random moments; returns how many hit something."""
    folder.mkdir()
    process, hits, targets = start(folder, num_stages, launcher), 0, [TARGETS[k % 3] for k in range(num_kills)]
    for target in targets:
        begun = len(epochs_run(folder)) if (folder / "log").exists() else 0
        deadline = time.monotonic() + WAIT_S
        wanted = begun + chance.randint(1, 4)  # by progress, not by the clock: a loaded machine kills as often
        while process.poll() is None and time.monotonic() < deadline:
            if (folder / "log").exists() and len(epochs_run(folder)) >= wanted:
                break
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.15))
        hits += kill(process, folder, target)
        if process.poll() is not None:
            process = start(folder, num_stages, launcher)
    assert process.wait(timeout=WAIT_S) == 0, (folder / "said").read_text()[-3000:]
    return hits


def uninterrupted(folder: Path, num_stages: int) -> bytes:
    """The table of a sweep that nobody disturbs."""
    folder.mkdir()
    process = start(folder, num_stages, "basic")
    assert process.wait(timeout=WAIT_S) == 0, (folder / "said").read_text()[-3000:]
    return (folder / "redheart" / "sweeps" / "toy" / "table.csv").read_bytes()


def check(folder: Path, num_points: int, table: bytes) -> None:
    """As many points as there should be, each done once, and the same table."""
    sweep = folder / "redheart" / "sweeps" / "toy"
    events = [json.loads(path.read_text()) for path in (sweep / "ledger").glob("*/*.json")]
    done = Counter(event["point"] for event in events if event["kind"] == "done")
    assert len(done) == num_points
    assert set(done.values()) == {1}
    views = SweepLedger(sweep).points()
    assert [view.state for view in views] == ["done"] * num_points
    assert len({view.values["optimizer.lr"] for view in views}) == num_points
    cumulative = json.loads((sweep / "lr_sweep_cumulative.json").read_text())
    assert [point["status"] for point in cumulative["points"]] == ["done"] * num_points
    assert (sweep / "table.csv").read_bytes() == table
    assert set(map(len, (view.outcome["epochs"] for view in views))) == {3}


@pytest.fixture(scope="module")
def table_of_five(tmp_path_factory) -> bytes:
    """The table of an undisturbed sweep of one stage."""
    return uninterrupted(tmp_path_factory.mktemp("calm") / "sweep", 1)


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path) -> Iterator[None]:
    """End the workers of killed sweepers, which joblib lets wait for five minutes; a point may not be among them."""
    yield
    for process in started_for(tmp_path):
        process.kill()


def started_for(folder: Path) -> list[psutil.Process]:
    """Processes of sweeps below a folder, known by their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TOY_LOG", "").startswith(f"{folder}/"):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_three_kills_leave_the_same_table(tmp_path, launcher, table_of_five):
    assert survive(tmp_path / "killed", 1, launcher, 3, random.Random(SEED)) >= 2
    check(tmp_path / "killed", 5, table_of_five)
    if launcher == "basic":
        deadline = time.monotonic() + 20
        while started_for(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert started_for(tmp_path) == [], "a process outlived its sweeper"


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_eighteen_kills_leave_the_same_25_points_and_the_same_table(tmp_path, launcher):
    table = uninterrupted(tmp_path / "calm", 5)
    assert survive(tmp_path / "killed", 5, launcher, 18, random.Random(SEED + 1)) >= 15
    check(tmp_path / "killed", 25, table)
