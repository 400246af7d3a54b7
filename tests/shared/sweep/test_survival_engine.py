"""kill -9 of a real fit, and of the sweeper above one: the sweep ends with the numbers of an undisturbed one."""

import os
import signal
from pathlib import Path

import pytest

from tests.fabricate.sweep_launch import launched

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TINY = (
    "+debug=fast",
    "data.standin.num_stories=300",
    "runtime.threads=1",
    "hydra.sweeper.num_samples=null",
    "hydra.sweeper.epochs=6",
    "hydra.sweeper.stages=1",
    "hydra.sweeper.points_per_stage=2",
)


def test_two_kills_of_real_fits_leave_the_same_numbers(tmp_path: Path):
    with launched("basic", tmp_path / "calm", *TINY) as calm:
        calm.end()
    with launched("basic", tmp_path / "killed", *TINY) as sweep:
        sweep.until(lambda: fitting(sweep), "the first epoch of a point")
        os.kill(fitting(sweep)[0].lease.pid, signal.SIGKILL)
        sweep.until(lambda: any(view.attempts > 1 for view in sweep.views()), "its second attempt")
        sweep.until(lambda: fitting(sweep), "an epoch more")
        sweep.process.kill()
        sweep.process.wait()
    with launched("basic", tmp_path / "killed", *TINY) as sweep:
        sweep.end()
        views = sweep.views()
    assert sweep.table() == calm.table()
    assert [view.state for view in views] == ["done", "done"]
    assert [sum(event.kind == "done" for event in view.history) for view in views] == [1, 1]
    assert sum(view.attempts for view in views) >= 4, "both kills have hit a fit"
    assert [view.outcome["epochs"] for view in views] == [view.outcome["epochs"] for view in calm.views()]
    assert (sweep.folder / "table.csv").read_bytes() == (calm.folder / "table.csv").read_bytes()


def fitting(sweep) -> list:
    """Points whose run has a checkpoint and that are running now."""
    running = [view for view in sweep.views() if view.state == "running" and view.run]
    return [view for view in running if any(Path(view.run).rglob("*.ckpt"))]
