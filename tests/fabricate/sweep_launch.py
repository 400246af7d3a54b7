"""Sweeps by command, with the toy objective or the engine, under any launcher; and what their ledger says."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from shared.sweep.ledger import SweepLedger
from shared.sweep.states import PointView

ROOT = Path(__file__).resolve().parents[2]
TOY = (
    "hydra.sweeper.objective=tests.fabricate.toy_objective.run",
    "hydra.sweeper.num_samples=null",
    "hydra.sweeper.epochs=3",
)
LIMIT_S = 600.0


class Launched:
    """One command `python -m projects.redheart.train -m hydra/sweeper=hierarchical_lr hydra/launcher=...`.

    Args:
        launcher: Name of the launcher.
        outputs: Folder for everything, also the command's own output.
        overrides: More of them.
        python: Interpreter.
        environ: More environment variables.
    """

    def __init__(
        self, launcher: str, outputs: Path, *overrides: str, python: str = sys.executable, environ: dict | None = None
    ) -> None:
        outputs.mkdir(parents=True, exist_ok=True)
        self.folder = outputs / "redheart" / "sweeps" / "lr"
        self.log = outputs / f"{launcher}.log"
        self.toy_log = outputs / "toy.log"
        command = [python, "-m", "projects.redheart.train", "-m", "hydra/sweeper=hierarchical_lr"]
        command += [
            f"hydra/launcher={launcher}",
            f"paths.outputs={outputs}",
            "hydra.sweeper.on_change=keep",
            *overrides,
        ]
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "PYTEST", "OMP_NUM"))
        }
        more = {"TOY_LOG": str(self.toy_log), "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
        with self.log.open("a") as stream:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=clean | more | (environ or {}), stdout=stream, stderr=stream
            )

    def end(self) -> "Launched":
        """Wait for a good end."""
        assert self.process.wait(LIMIT_S) == 0, self.said()
        return self

    def said(self) -> str:
        """Everything on standard output and error so far."""
        return self.log.read_text()

    def views(self) -> list[PointView]:
        """The points, in order."""
        return SweepLedger(self.folder).points() if (self.folder / "sweep.json").exists() else []

    def table(self) -> list[tuple]:
        """What all launchers must agree on: number, stage, values, score."""
        return [(view.number, view.stage, view.values, (view.outcome or {}).get("score")) for view in self.views()]

    def epochs(self) -> Counter:
        """How often each epoch of each point was trained by the toy."""
        lines = self.toy_log.read_text().splitlines() if self.toy_log.exists() else []
        told = [json.loads(line) for line in lines]
        return Counter((entry["point"], entry["epoch"]) for entry in told)

    def until(self, condition: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
        """Wait for something that must come before the command ends."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert self.process.poll() is None, f"ended before {what}: {self.said()}"
            assert time.monotonic() < deadline, f"no {what} in {limit_s:.0f} s: {self.said()}"
            time.sleep(0.05)

    def begun(self, min_epochs: int = 1) -> PointView:
        """Wait until a point is in its middle, and return it as it runs."""
        found: list[PointView] = []

        def look() -> bool:
            counts = Counter(point for point, _ in self.epochs())
            found[:] = [one for one in self.views() if one.state == "running" and counts[one.id] >= min_epochs]
            return bool(found)

        self.until(look, "a point in its middle")
        return found[0]


@contextmanager
def launched(launcher: str, outputs: Path, *overrides: str, **more: object) -> Iterator[Launched]:
    """Start a sweep; whatever the test does, nothing that it started stays."""
    sweep = Launched(launcher, outputs, *overrides, **more)  # type: ignore[arg-type]
    try:
        yield sweep
    finally:
        end_tree(sweep.process)


def end_tree(process: subprocess.Popen) -> None:
    """Kill a process and all below it."""
    if process.poll() is None:
        for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            one.kill()
    process.wait()


def job_process(view: PointView) -> psutil.Process:
    """The process that the launcher runs for a point; between the two is the server that it was forked from."""
    assert view.lease is not None
    return psutil.Process(view.lease.pid).parents()[1]


def each_once(sweep: Launched, views: Sequence[PointView]) -> bool:
    """Whether every epoch of every point was trained exactly once."""
    return sweep.epochs() == Counter({(view.id, epoch): 1 for view in views for epoch in range(3)})
