import json
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import ConfigError, RunInterrupted
from shared.sweep import contexts, jobs
from shared.sweep.jobs import in_turn, job_overrides, launcher_job, run_job
from tests.fabricate.toy_sweep import epochs_run, planned, toy_search


@pytest.fixture(autouse=True)
def toy_environment(tmp_path, monkeypatch):
    """The server that point processes are copied from has the environment that it was started with: one a test."""
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    monkeypatch.setattr(jobs, "_stopped_by", [])
    yield
    multiprocessing.forkserver._forkserver._stop()


def running(search, id, epochs=1):
    """Wait until a point runs and has begun its epoch; returns the process that holds its lease."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        view = search.ledger().point(id)
        beats = list((search.folder / "beats").glob(f"{id}.*"))
        if view.run is not None and view.lease is not None and beats:
            return view.lease.pid
        time.sleep(0.02)
    raise AssertionError("the point did not begin")


def in_thread(action):
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def test_a_point_runs_in_a_process_of_its_own(tmp_path):
    search = toy_search(tmp_path)
    id = planned(search, 7e-5)[0]
    assert run_job(search.folder, id) == "done"
    view = search.ledger().point(id)
    assert view.history[0].pid != os.getpid()
    assert view.history[0].data["job"] == f"process {os.getpid()}"
    assert view.history[0].data["started_by"].endswith(f"pid {os.getpid()}")
    assert "torch" not in view.outcome
    before = epochs_run(tmp_path)
    assert run_job(search.folder, id) == "done"
    assert epochs_run(tmp_path) == before, "a settled point is not run again"


def test_jobs_in_turn_need_no_launcher(tmp_path):
    search = toy_search(tmp_path)
    ids = planned(search, 7e-5, 1e-4)
    in_turn(search)([job_overrides(search.folder, id) for id in ids], 0)
    views = [search.ledger().point(id) for id in ids]
    assert [view.state for view in views] == ["done", "done"]
    taken = [[event.t for event in view.history] for view in views]
    assert max(taken[0]) <= min(taken[1])


def test_a_process_that_is_killed_is_an_interruption_and_one_that_crashes_a_failure(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TOY_MODES", json.dumps({"optimizer.lr=1e-05": "crash", "optimizer.lr=0.0001": "vanish"}))
    search = toy_search(tmp_path)
    crashing, vanishing = planned(search, 1e-5, 1e-4)
    assert run_job(search.folder, crashing) == "failed"
    assert search.ledger().point(crashing).error == "the point's process crashed (SIGSEGV)"
    assert "the point's process crashed (SIGSEGV)" in capfd.readouterr().err
    assert run_job(search.folder, vanishing) == "interrupted"
    view = search.ledger().point(vanishing)
    assert view.failures == 0
    assert view.is_free


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_is_handed_on_waited_for_and_told(tmp_path, monkeypatch, signum):
    monkeypatch.setenv("TOY_EPOCH_S", "1.0")
    search = toy_search(tmp_path, epochs=60)
    first, second = planned(search, 7e-5, 1e-4)
    thread = in_thread(lambda: (running(search, first), os.kill(os.getpid(), signum)))
    with pytest.raises(RunInterrupted, match=f"stopped by {signum.name}") as stopped:
        run_job(search.folder, first)
    thread.join()
    assert stopped.value.exit_code == 128 + signum
    view = search.ledger().point(first)
    assert (view.state, view.error) == ("interrupted", "stopped by SIGTERM")
    with pytest.raises(RunInterrupted):  # a launcher that goes on with its next job in this process
        run_job(search.folder, second)
    assert search.ledger().point(second).attempts == 0


def signals(pid, field):
    """The signals of a field of /proc/<pid>/status that a scheduler or a terminal sends."""
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith(f"{field}:"))
    mask = int(line.split()[1], 16)
    sent = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
    return {signum for signum in sent if mask >> (signum - 1) & 1}


def test_what_a_scheduler_sends_to_all_processes_reaches_the_point_by_its_job_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_EPOCH_S", "1.0")
    search = toy_search(tmp_path, epochs=60)
    id = planned(search, 7e-5)[0]
    server = multiprocessing.forkserver._forkserver
    seen = []

    def everyone():
        point = running(search, id)
        seen.append((signals(server._forkserver_pid, "SigBlk"), signals(point, "SigBlk"), signals(point, "SigIgn")))
        for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(server._forkserver_pid, signum)
        os.kill(point, signal.SIGUSR1)
        os.kill(point, signal.SIGUSR2)
        time.sleep(0.5)
        seen.append((search.ledger().point(id).state, Path(f"/proc/{server._forkserver_pid}").exists()))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = in_thread(everyone)
    with pytest.raises(RunInterrupted):
        run_job(search.folder, id)
    thread.join()
    users = {signal.SIGUSR1, signal.SIGUSR2}
    assert seen == [({signal.SIGINT, signal.SIGTERM, *users}, set(), users), ("running", True)]
    assert search.ledger().point(id).error == "stopped by SIGTERM"
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & users, "this process hears them as before"


def test_the_second_signal_does_not_wait(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_MODES", json.dumps({"*": "hang"}))
    search = toy_search(tmp_path, epochs=2)
    id = planned(search, 7e-5)[0]

    def stop_twice():
        os.kill(running(search, id), signal.SIGSTOP)  # it answers to nothing but SIGKILL
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = in_thread(stop_twice)
    with pytest.raises(RunInterrupted):
        run_job(search.folder, id)
    thread.join()
    assert search.ledger().point(id).state == "interrupted"


def test_the_scheduler_s_own_signal_reaches_its_handler_once_the_point_is_safe(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_EPOCH_S", "1.0")
    search = toy_search(tmp_path, epochs=60)
    id = planned(search, 7e-5)[0]
    states = []
    former = signal.signal(signal.SIGUSR2, lambda signum, frame: states.append(search.ledger().point(id).state))
    try:
        thread = in_thread(lambda: (running(search, id), os.kill(os.getpid(), signal.SIGUSR2)))
        assert run_job(search.folder, id) == "interrupted"
        thread.join()
    finally:
        signal.signal(signal.SIGUSR2, former)
    assert states == ["interrupted"]


def test_a_point_whose_job_is_killed_saves_and_leaves(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_EPOCH_S", "1.0")
    search = toy_search(tmp_path, epochs=60)
    id = planned(search, 7e-5)[0]
    job = multiprocessing.get_context("spawn").Process(target=run_job, args=(search.folder, id))
    job.start()
    running(search, id)
    job.kill()
    job.join()
    deadline = time.monotonic() + 20
    while search.ledger().point(id).state == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    view = search.ledger().point(id)
    assert (view.state, view.error) == ("interrupted", "stopped by SIGTERM")


def test_a_job_whose_code_was_changed_starts_no_process(tmp_path, monkeypatch):
    search = toy_search(tmp_path)
    id = planned(search, 7e-5)[0]
    monkeypatch.setattr(contexts, "code_hash_now", lambda primary, objective: "another")
    monkeypatch.setattr(jobs, "_context", None)
    with pytest.raises(ConfigError, match=r"the code was changed while the sweep .*toy ran"):
        run_job(search.folder, id)
    assert search.ledger().point(id).history == ()


def test_the_process_that_imports_the_code_looks_itself_and_leaves_the_point_alone(tmp_path, monkeypatch, capfd):
    search, real = toy_search(tmp_path), jobs._task
    id = planned(search, 7e-5)[0]
    monkeypatch.setattr(jobs, "_task", lambda *given: replace(real(*given), code_hash="of when the job began"))
    assert run_job(search.folder, id) == "planned"
    assert search.ledger().point(id).history == ()
    assert f"point {id}: the code was changed while the sweep {search.folder} ran" in capfd.readouterr().err


def test_jobs_get_folder_and_point_and_nothing_else(tmp_path):
    folder = tmp_path / "it's, {here} = $x"
    overrides = job_overrides(folder, "0123456789ab")
    assert overrides[1:] == ["hydra.sweep.subdir=.", "hydra.job.name=point-0123456789ab"]
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(overrides[0]).value() == str(folder)


def test_a_slurm_job_has_the_number_that_its_tools_show(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    assert launcher_job() == "slurm 78"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "77")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    assert launcher_job() == "slurm 77_0"


def test_a_point_that_no_plan_has_is_told(tmp_path):
    search = toy_search(tmp_path)
    with pytest.raises(ConfigError, match=r"sweep toy has no point .?0123456789ab"):
        run_job(search.folder, "0123456789ab")
