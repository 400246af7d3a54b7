"""What 50 points of a sweep in one process leave behind in memory, and what a new process for each point costs.

A tiny battery network is fitted as a point of a sweep, 50 times in one process: the resident memory behind each, with a
line through the last 25 (the first ones fill caches of the libraries). Then the time from asking for a process until it
could begin with a point: forked from a server that has the objective's modules, against a fresh interpreter.
"""

import gc
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from omegaconf import DictConfig, open_dict

from bench.record import Record, run_benchmark
from shared.compose import composed
from shared.sweep.objective import PointWork

NUM_POINTS = 50
NUM_LAST = 25
NUM_STARTS = 5
MODULES = ["shared.sweep.engine_point"]

TINY = (
    "callbacks=minimal", "callbacks.progress.enabled=false", "stages=[fit]", "trainer.max_epochs=1",
    "data.standin.num_slices=240", "data.standin.num_batteries=48", "data.standin.size_px=32",
    "data.image_size_px=32", "data.num_workers=0", "data.scan_workers=1", "data.batch_size=32",
    "model.parameters.backbone=test_resnet", "runtime.threads=1", "trainer=cpu",
)  # fmt: skip


class Unclaimed:
    """A claim that nobody else wants."""

    lost = False

    def check(self) -> None:
        """It is never lost."""

    def opened(self, run: str, **facts: Any) -> bool:
        """There is no ledger."""
        return True

    def note(self, **facts: Any) -> None:
        """Nobody watches."""


def point_work(root: Path, config: DictConfig, number: int) -> PointWork:
    """One point at a rate of its own."""
    own = config.copy()
    with open_dict(own):
        own.experiment = "sweep-bench"
        own.optimizer.lr = 1e-5 * (1 + number)
    folder = root / "battery" / "sweeps" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"keep_top": 1, "max_disk_gb": None, "halving": None, "on_change": "refuse"}
    values = {"optimizer.lr": own.optimizer.lr}
    return PointWork(f"{number:012x}", 0, own, (), None, Unclaimed(), folder, settings, values)


def memory_of_points(root: Path, num_points: int = NUM_POINTS) -> np.ndarray:
    """Resident memory of this process behind each point, MB, (num_points,)."""
    from shared.sweep import engine_point

    config = composed("battery", [*TINY, f"paths.outputs={root}", f"paths.cache={root / 'cache'}"])
    process = psutil.Process()
    memory = []
    for number in range(num_points):
        engine_point.run(point_work(root, config, number))
        gc.collect()
        memory.append(process.memory_info().rss / 1e6)
    return np.array(memory)


def slope(memory: np.ndarray, num_last: int = NUM_LAST) -> tuple[float, float]:
    """Growth over the last points: MB a point by a straight line, and its standard error."""
    last = memory[-num_last:]
    number = np.arange(len(last))
    rate, start = np.polyfit(number, last, 1)
    residuals = float(np.sum((last - (start + rate * number)) ** 2))
    spread = np.sqrt(residuals / (len(last) - 2) / np.sum((number - number.mean()) ** 2))
    return float(rate), float(spread)


def _stamp(sender: Any) -> None:
    import shared.sweep.engine_point  # noqa: F401 - what a point needs

    sender.send(time.time())


def start_times(count: int = NUM_STARTS) -> tuple[list[float], list[float]]:
    """Seconds until a process has the objective's modules: forked from a server that has them, and fresh."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(MODULES)
    forked, fresh = [], []
    for number in range(count + 1):
        receiver, sender = context.Pipe(duplex=False)
        began = time.time()
        process = context.Process(target=_stamp, args=(sender,))
        process.start()
        ready = receiver.recv()
        process.join()
        if number:  # the first one started the server
            forked.append(ready - began)
            began = time.time()
            subprocess.run([sys.executable, "-c", f"import {MODULES[0]}"], check=True)
            fresh.append(time.time() - began)
    return forked, fresh


def measure(record: Record) -> None:
    """Run both."""
    forked, fresh = start_times()
    record.add_samples("start of a point's process, forked from a server", forked, "s")
    record.add_samples("start of a point's process, fresh interpreter", fresh, "s")
    record.add("fresh start / forked start", float(np.median(fresh) / np.median(forked)), "ratio")
    with tempfile.TemporaryDirectory() as folder:
        memory = memory_of_points(Path(folder))
    rate, spread = slope(memory)
    record.add(f"memory behind {NUM_POINTS} points in one process", float(memory[-1]), "MB")
    record.add(f"growth over the last {NUM_LAST} points", float(memory[-1] - memory[-NUM_LAST]), "MB")
    record.add("growth a point there, by a straight line", rate, "MB")
    record.add("standard error of that growth", spread, "MB")


if __name__ == "__main__":
    run_benchmark("bench_sweep_points", measure)
