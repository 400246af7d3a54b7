"""Fits of the real engine on a real SLURM: one that is stopped ends where an undisturbed one without SLURM does."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.fabricate.sweep_launch import Launched, launched

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(900)]
TINY = (
    "+debug=fast",
    "data.standin.num_stories=300",
    "runtime.threads=1",
    "hydra.sweeper.num_samples=null",
    "hydra.sweeper.epochs=8",
    "hydra.sweeper.stages=1",
    "hydra.sweeper.points_per_stage=2",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Launched:
    """Run the sweep that nobody disturbs, without SLURM."""
    with launched("basic", tmp_path_factory.mktemp("whole"), *TINY) as sweep:
        return sweep.end()


def test_a_preempted_fit_ends_with_the_same_numbers(slurm, whole, tmp_path: Path):
    sweep, number = stopped("USR2", slurm, tmp_path)
    same(sweep, whole, number)
    assert len(jobs_of(sweep, number)) == 1, "it was queued again"


def test_a_fit_that_hears_the_signal_lightning_listens_to_is_left_to_the_sweeper(slurm, whole, tmp_path: Path):
    sweep, number = stopped("USR1", slurm, tmp_path)
    same(sweep, whole, number)
    assert len(jobs_of(sweep, number)) == 2, "it was launched again, and not queued again by Lightning"


def stopped(signum: str, slurm: dict[str, str], folder: Path) -> tuple[Launched, int]:
    """Run a sweep to its end and signal one of its jobs after an epoch; returns it and the point's number."""
    with launched("submitit_slurm", folder, *TINY, environ=slurm) as sweep:

        def fitting() -> list:
            return [one for one in sweep.views() if one.state == "running" and one.run and trained(one.run)]

        sweep.until(fitting, "the first epoch of a point")
        view = fitting()[0]
        job = view.lease.job.removeprefix("slurm ")
        subprocess.run(["scancel", f"--signal={signum}", job], env=os.environ | slurm, check=True, timeout=60)
        return sweep.end(), view.number


def same(sweep: Launched, whole: Launched, number: int) -> None:
    """Compare the numbers of a sweep with those of the undisturbed one."""
    assert sweep.table() == whole.table()
    after = sweep.views()[number]
    assert (after.state, after.attempts, after.failures) == ("done", 2, 0)
    assert [epoch["epoch"] for epoch in after.outcome["epochs"]] == list(range(8))
    assert after.outcome["epochs"] == whole.views()[number].outcome["epochs"]


def jobs_of(sweep: Launched, number: int) -> set[str]:
    """The jobs that have run a point."""
    return {event.data["job"] for event in sweep.views()[number].history if event.kind == "running"}


def trained(run: str) -> bool:
    """Whether a run has put an epoch behind it."""
    return any(Path(run).rglob("*.ckpt"))
