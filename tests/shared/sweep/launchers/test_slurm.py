"""Sweeps on a real SLURM of one node."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.fabricate.sweep_launch import TOY, each_once, job_process, launched

pytestmark = [pytest.mark.slow, pytest.mark.slurm, pytest.mark.timeout(900)]
FEW = (*TOY, "hydra.sweeper.stages=1")


def client(slurm: dict[str, str], *command: str) -> str:
    return subprocess.run(
        command, env=os.environ | slurm, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def jobs_of(view) -> list[str]:
    return [event.data["job"] for event in view.history if event.kind == "running"]


def test_points_and_optimum_are_those_of_the_basic_launcher(slurm, basic_table, tmp_path: Path):
    with launched("submitit_slurm", tmp_path, *TOY, environ=slurm) as sweep:
        assert sweep.end().table() == basic_table
    assert len(basic_table) == 25
    assert each_once(sweep, sweep.views())
    assert {view.attempts for view in sweep.views()} == {1}


@pytest.mark.parametrize("victim", ["point", "job"])
def test_a_killed_process_costs_one_attempt(victim: str, slurm, basic_table, tmp_path: Path):
    with launched("submitit_slurm", tmp_path, *TOY, environ=slurm | {"TOY_EPOCH_S": "1"}) as sweep:
        killed = sweep.begun()
        os.kill(killed.lease.pid if victim == "point" else job_process(killed).pid, signal.SIGKILL)
        assert sweep.end().table() == basic_table
    assert {view.number: view.attempts for view in sweep.views() if view.attempts != 1} == {killed.number: 2}
    assert each_once(sweep, sweep.views())


def test_a_preempted_point_is_queued_again_and_goes_on(slurm, basic_table, tmp_path: Path):
    with launched("submitit_slurm", tmp_path, *FEW, environ=slurm | {"TOY_EPOCH_S": "3"}) as sweep:
        view = sweep.begun()
        job = jobs_of(view)[-1].removeprefix("slurm ")
        client(slurm, "scancel", "--signal=USR2", job)
        sweep.until(lambda: sweep.views()[view.number].state == "interrupted", "interruption")
        assert sweep.end().table() == basic_table[:5]
    after = sweep.views()[view.number]
    assert (after.attempts, after.failures, jobs_of(after)) == (2, 0, [f"slurm {job}"] * 2)
    assert each_once(sweep, sweep.views())
    log = "".join(path.read_text() for path in (sweep.folder / ".submitit" / job).glob("*.out"))
    assert "Requeued job" in log


@pytest.mark.parametrize("signum", ["USR1", "TERM"])
def test_a_job_that_is_told_to_stop_is_launched_again(signum: str, slurm, basic_table, tmp_path: Path):
    with launched("submitit_slurm", tmp_path, *FEW, environ=slurm | {"TOY_EPOCH_S": "3"}) as sweep:
        view = sweep.begun()
        job = jobs_of(view)[-1].removeprefix("slurm ")
        client(slurm, "scancel", f"--signal={signum}", job)
        assert sweep.end().table() == basic_table[:5]
    after = sweep.views()[view.number]
    assert (after.attempts, after.failures) == (2, 0)
    assert len(set(jobs_of(after))) == 2, "another job, not the same one queued again"
    assert each_once(sweep, sweep.views())


def test_two_sweepers_on_one_ledger_share_the_points(slurm, basic_table, tmp_path: Path):
    environ = slurm | {"TOY_EPOCH_S": "0.3"}
    with launched("submitit_slurm", tmp_path, *TOY, environ=environ) as cluster:
        cluster.begun()
        with launched("basic", tmp_path, *TOY, environ=environ) as here:
            here.end()
            cluster.end()
    assert cluster.table() == basic_table
    assert each_once(cluster, cluster.views())
    assert {jobs_of(view)[0].split()[0] for view in cluster.views()} == {"slurm", "process"}


def test_a_job_that_dies_before_its_first_word_ends_the_sweep_with_a_sentence(slurm, tmp_path: Path):
    begun = time.monotonic()
    dead = "hydra.launcher.setup=['kill -9 $$']"
    with launched("submitit_slurm", tmp_path, *FEW, dead, environ=slurm) as sweep:
        assert sweep.process.wait(600) == 1
    assert "were launched 3 times by SlurmLauncher" in " ".join(sweep.said().split())
    assert time.monotonic() - begun < 300
