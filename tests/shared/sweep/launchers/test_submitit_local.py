"""Sweeps as jobs of submitit without a scheduler."""

import os
import signal
from pathlib import Path

import pytest

from tests.fabricate.sweep_launch import TOY, each_once, job_process, launched

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_points_and_optimum_are_those_of_the_basic_launcher(basic_table, tmp_path: Path):
    with launched("submitit_local", tmp_path, *TOY) as sweep:
        assert sweep.end().table() == basic_table
    assert len(basic_table) == 25
    assert each_once(sweep, sweep.views())


@pytest.mark.parametrize("victim", ["point", "job"])
def test_a_killed_process_costs_no_point(victim: str, basic_table, tmp_path: Path):
    with launched("submitit_local", tmp_path, *TOY, environ={"TOY_EPOCH_S": "0.7"}) as sweep:
        killed = sweep.begun()
        os.kill(killed.lease.pid if victim == "point" else job_process(killed).pid, signal.SIGKILL)
        assert sweep.end().table() == basic_table
    assert sweep.views()[killed.number].attempts == 2
    assert each_once(sweep, sweep.views())
