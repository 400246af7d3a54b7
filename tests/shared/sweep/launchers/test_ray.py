"""Sweeps on two workers of a Ray cluster on this machine."""

import os
import signal
from pathlib import Path

import pytest

from tests.fabricate.sweep_launch import ROOT, TOY, each_once, job_process, launched

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture
def python() -> str:
    path = ROOT / ".venv-ray" / "bin" / "python"
    if not path.exists():
        pytest.skip("RAY IS NOT TESTED: there is no .venv-ray; `make setup-ray` makes it")
    return str(path)


def test_points_and_optimum_are_those_of_the_basic_launcher(python: str, basic_table, tmp_path: Path):
    with launched("ray", tmp_path, *TOY, python=python) as sweep:
        assert sweep.end().table() == basic_table
    assert len(basic_table) == 25
    assert each_once(sweep, sweep.views())


@pytest.mark.parametrize("victim", ["point", "job"])
def test_a_killed_process_costs_no_point(victim: str, python: str, basic_table, tmp_path: Path):
    with launched("ray", tmp_path, *TOY, python=python, environ={"TOY_EPOCH_S": "0.7"}) as sweep:
        killed = sweep.begun()
        os.kill(killed.lease.pid if victim == "point" else job_process(killed).pid, signal.SIGKILL)
        assert sweep.end().table() == basic_table
    assert sweep.views()[killed.number].attempts == 2
    assert each_once(sweep, sweep.views())
