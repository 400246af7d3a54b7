import json
import multiprocessing
import os
import socket
import time

import pytest

from shared.errors import ConfigError
from shared.run_dir import RunDirectory, beating, unfinished_runs


def make(outputs):
    return str(RunDirectory.create(outputs, "battery", "x").path)


def test_runs_made_at_once_by_several_processes_never_share_a_folder(tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        paths = pool.map(make, [tmp_path] * 20)
    assert len(set(paths)) == 20


def test_latest_points_to_the_newest_finished_run(tmp_path):
    first = RunDirectory.create(tmp_path, "battery", "a")
    second = RunDirectory.create(tmp_path, "battery", "b")
    first.mark_done("fit", {})
    first.finish()
    assert (tmp_path / "battery" / "latest").resolve() == first.path
    second.finish()
    assert (tmp_path / "battery" / "latest").resolve() == first.path  # it trained nothing
    second.mark_done("fit", {})
    second.finish()
    assert (tmp_path / "battery" / "latest").resolve() == second.path
    assert not list((tmp_path / "battery").glob(".latest*"))


def test_status_keeps_what_the_stages_left(tmp_path):
    run = RunDirectory.create(tmp_path, "battery", "a")
    assert run.done("fit") is None
    run.mark_done("fit", {"epochs": 3})
    run.heartbeat(stage="test", epoch=2)
    assert run.done("fit") == {"epochs": 3}
    status = run.status()
    assert (status["state"], status["stage"], status["epoch"]) == ("running", "test", 2)


def test_a_dead_process_is_not_alive_and_its_run_is_unfinished(tmp_path):
    run = RunDirectory.create(tmp_path, "battery", "a")
    assert run.is_alive()
    status = run.status()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        dead = pool.apply(os.getpid)
    (run.path / "status.json").write_text(json.dumps(status | {"pid": dead}))
    assert not run.is_alive()
    assert [found.path for found in unfinished_runs(tmp_path, "battery", "a")] == [run.path]


def test_a_later_process_with_the_same_pid_is_not_the_run(tmp_path):
    run = RunDirectory.create(tmp_path, "battery", "a")
    status = run.status() | {"started_by": 1.0}
    (run.path / "status.json").write_text(json.dumps(status))
    assert not run.is_alive()


def test_another_host_counts_as_alive_while_its_heart_beats(tmp_path):
    run = RunDirectory.create(tmp_path, "battery", "a")
    elsewhere = run.status() | {"host": socket.gethostname() + "-other", "pid": 1}
    (run.path / "status.json").write_text(json.dumps(elsewhere))
    assert run.is_alive()
    (run.path / "status.json").write_text(json.dumps(elsewhere | {"heartbeat": elsewhere["heartbeat"] - 300}))
    assert not run.is_alive()


def test_a_folder_without_status_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match=r"has no status\.json"):
        RunDirectory.open(tmp_path)


def test_an_error_goes_when_the_run_goes_on(tmp_path):
    run = RunDirectory.create(tmp_path, "p", "e")
    run.set_state("failed", error="the disk is full")
    assert run.status()["error"] == "the disk is full"
    run.set_state("running")
    assert "error" not in run.status()


def test_a_run_beats_while_it_lives_and_no_longer(tmp_path):
    run = RunDirectory.create(tmp_path, "p", "e")
    before = run.status()["heartbeat"]
    with beating(run, every_s=0.01):
        deadline = time.monotonic() + 10
        while run.status()["heartbeat"] == before and time.monotonic() < deadline:
            time.sleep(0.01)
        for number in range(20):  # what the run itself writes meanwhile is not lost
            run.mark_done(f"stage{number}", {"number": number})
    after = run.status()
    assert after["heartbeat"] > before
    assert len(after["stages"]) == 20
    time.sleep(0.05)
    assert run.status()["heartbeat"] == after["heartbeat"]


def test_a_point_of_a_sweep_is_never_the_latest_nor_what_auto_goes_on_with(tmp_path):
    own = RunDirectory.create(tmp_path, "battery", "a")
    own.mark_done("fit", {})
    own.finish()
    point = RunDirectory.create(tmp_path, "battery", "a", kind="point")
    point.mark_done("fit", {})
    point.finish()
    assert (own.kind, point.kind) == ("run", "point")
    assert (tmp_path / "battery" / "latest").resolve() == own.path
    stopped = RunDirectory.create(tmp_path, "battery", "a", kind="point")
    stopped.set_state("interrupted")
    assert stopped.is_unfinished()
    assert unfinished_runs(tmp_path, "battery", "a") == []


def test_a_run_that_another_process_has_taken_over_is_not_own(tmp_path):
    run = RunDirectory.create(tmp_path, "p", "e")
    assert run.is_own()
    (run.path / "status.json").write_text(json.dumps(run.status() | {"pid": os.getpid() + 1}))
    assert not run.is_own()
