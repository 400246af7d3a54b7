"""Fits of the real engine on a real SLURM: a preempted one ends where the uninterrupted one does."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.fabricate.sweep_launch import launched

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


def test_a_preempted_fit_ends_with_the_same_numbers(slurm, tmp_path: Path):
    with launched("submitit_slurm", tmp_path / "whole", *TINY, environ=slurm) as whole:
        whole.end()
    with launched("submitit_slurm", tmp_path / "preempted", *TINY, environ=slurm) as sweep:

        def fitting() -> list:
            return [one for one in sweep.views() if one.state == "running" and one.run and trained(one.run)]

        sweep.until(fitting, "the second epoch of a point")
        view = fitting()[0]
        job = view.lease.job.removeprefix("slurm ")
        subprocess.run(["scancel", "--signal=USR2", job], env=os.environ | slurm, check=True, timeout=60)
        sweep.end()
    assert sweep.table() == whole.table()
    after = sweep.views()[view.number]
    assert (after.state, after.attempts, after.failures) == ("done", 2, 0)
    assert [epoch["epoch"] for epoch in after.outcome["epochs"]] == list(range(8))
    assert after.outcome["epochs"] == whole.views()[view.number].outcome["epochs"]


def trained(run: str) -> bool:
    """Whether a run has put an epoch behind it."""
    return any(Path(run).rglob("*.ckpt"))
