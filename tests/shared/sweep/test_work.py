"""Joining a sweep: points of the toy objective, run one after the other beside others."""

import json
import signal
import subprocess
import sys
import time

import pytest

from shared.sweep import contexts
from tests.fabricate.sweep_folder import SETTINGS, SPACE, SweepFolder

OBJECTIVE = "tests.fabricate.toy_objective.run"
ALL = SETTINGS | {"epochs": 2, "num_samples": None, "halving": None, "max_disk_gb": None, "keep_top": 3}


@pytest.fixture
def sweep(tmp_path):
    """Three planned rates of a toy sweep of spectra."""
    outputs = tmp_path / "outputs"
    facts = {"primary": "spectra", "overrides": [f"paths.outputs={outputs}"], "objective": OBJECTIVE, "settings": ALL}
    space = SPACE | {"points_per_stage": 3, "stages": 1}
    sweep = SweepFolder(outputs / "spectra" / "sweeps" / "lr", space=space, **facts)
    contexts.enter(sweep.folder, contexts.code_hash("spectra", OBJECTIVE), "refuse", 0, print)
    sweep.plan([{"optimizer.lr": rate} for rate in (1e-5, 7e-5, 5e-4)])
    return sweep


@pytest.fixture
def work(repo_root, sweep, monkeypatch):
    """Start `python -m shared.sweep work`."""

    def start(*arguments, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        command = [sys.executable, "-m", "shared.sweep", "work", str(sweep.folder), *arguments]
        return subprocess.Popen(command, cwd=repo_root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def test_it_runs_what_there_is_and_says_why_it_leaves(sweep, work):
    out, err = work().communicate(timeout=90)
    assert [view.state for view in sweep.ledger.points()] == ["done"] * 3, err
    lines = out.splitlines()
    assert lines[0] == "point 0 (optimizer.lr=1e-05)"
    assert lines[1] == "point 0 is done"
    assert lines[-2:] == ["all points are settled", "3 points run here"]


def test_it_stops_after_so_many_points(sweep, work):
    process = work("--max-points", "1")
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    assert out.splitlines()[-1] == "1 point run here"
    assert [view.state for view in sweep.ledger.points()] == ["done", "planned", "planned"]


def test_it_leaves_the_points_of_others_alone_and_tells_of_failures(sweep, work):
    with sweep.claim(0):
        out, _ = work(TOY_MODES=json.dumps({"optimizer.lr=7e-05": "bad_config"})).communicate(timeout=90)
        assert sweep.ledger.points()[0].attempts == 1
    assert "point 1 is failed: toy.size is 0; allowed are numbers from 1 on" in out.splitlines()
    assert out.splitlines()[-2:] == [
        "no point is to be had now (1 are running elsewhere); --wait stays for points still to come",
        "2 points run here",
    ]


def test_other_code_is_refused_in_one_sentence(sweep, work):
    (sweep.folder / "contexts" / "0000.json").unlink()
    contexts.enter(sweep.folder, "another", "refuse", 0, print)
    process = work()
    _, err = process.communicate(timeout=90)
    assert process.returncode == 2
    assert err.splitlines()[-1].startswith(f"error: the code here is another than that of the sweep {sweep.folder}")
    assert [view.state for view in sweep.ledger.points()] == ["planned"] * 3


@pytest.mark.slow
def test_it_waits_for_points_still_to_come_and_saves_at_a_signal(sweep, work):
    with sweep.claim(0) as other:
        process = work("--wait", TOY_EPOCH_S="0.2")
        deadline = time.monotonic() + 60
        while [view.state for view in sweep.ledger.points()] != ["running", "done", "done"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert process.poll() is None
        other.interrupted("made free by the test")
    out, _ = process.communicate(timeout=60)
    assert out.splitlines()[-2:] == ["all points are settled", "3 points run here"]


@pytest.mark.slow
def test_a_signal_ends_it_with_the_point_saved(sweep, work):
    process = work(TOY_EPOCH_S="20")
    deadline = time.monotonic() + 60
    while sweep.ledger.points()[0].run is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert [view.state for view in sweep.ledger.points()] == ["interrupted", "planned", "planned"]
