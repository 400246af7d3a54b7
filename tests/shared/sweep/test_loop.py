import io
import os
import re
import signal
import threading
import time

import pytest
from hydra.core.utils import JobReturn, JobStatus
from rich.console import Console

from shared.errors import ConfigError, RunInterrupted, TrainingError
from shared.sweep import contexts, exclusive_files
from shared.sweep import loop as loops
from shared.sweep.grid import GridPlanner
from shared.sweep.loop import SweepLoop
from shared.sweep.plans import Proposal
from shared.sweep.point_process import Task, measure
from tests.fabricate.toy_sweep import rates_planner, toy_search

RATES = (1e-5, 1e-4, 1e-3)


class Launcher:
    """Runs points in this process; `before` may spoil a launch."""

    def __init__(self, search, before=None):
        self.search, self.before, self.launches = search, before, []

    def launch(self, job_overrides, initial_job_idx):
        ids = [overrides[2].removeprefix("hydra.job.name=point-") for overrides in job_overrides]
        self.launches.append(ids)
        for id in ids:
            if self.before is not None:
                self.before(len(self.launches), id)
            measure(Task(self.search.folder, id, dict(self.search.settings), self.search.code_hash()))


def swept(search, before=None, rates=RATES, launcher=None):
    """Run a loop; returns its points, its launcher and what it said."""
    said = io.StringIO()
    launcher = launcher or Launcher(search, before)
    loop = SweepLoop(search, rates_planner(*rates), launcher.launch, "Toy", Console(file=said, width=400))
    try:
        return loop.run(), launcher, said
    except Exception as error:
        error.said = said.getvalue()
        raise


def test_all_points_are_launched_at_once_and_settled_ones_told_with_the_best_so_far(tmp_path):
    points, launcher, said = swept(toy_search(tmp_path))
    assert [len(ids) for ids in launcher.launches] == [3]
    assert [view.state for view in points] == ["done"] * 3
    lines = [line for line in said.getvalue().splitlines() if " of 3: " in line]
    assert len(lines) == 3
    assert re.fullmatch(
        r"3 of 3: optimizer.lr=0.001: score 1.76713; best so far 0.457\d+ at optimizer.lr=0.0001", lines[2]
    )


def test_again_it_launches_nothing_and_with_more_values_only_those(tmp_path):
    search = toy_search(tmp_path)
    swept(search)
    points, launcher, said = swept(search)
    assert launcher.launches == []
    assert "3 of 3 points are settled already" in said.getvalue()
    points, launcher, _ = swept(search, rates=(*RATES, 2e-3))
    assert [len(ids) for ids in launcher.launches] == [1]
    assert len(points) == 4
    points, launcher, _ = swept(search, rates=RATES[:2])
    assert launcher.launches == []
    assert len(points) == 2, "what is outside the space is kept, and not counted"
    assert len(search.ledger().points()) == 4


def test_a_launcher_that_breaks_down_is_told_and_the_rest_is_launched_again(tmp_path):
    def break_down(launch, id):
        if launch in (1, 2, 3, 4):
            measure(Task(search.folder, id, dict(search.settings), search.code_hash()))
            raise RuntimeError("a worker process was unexpectedly terminated\nmore")

    search = toy_search(tmp_path)
    rates = (1e-5, 2e-5, 1e-4, 2e-4, 1e-3, 2e-3)
    points, launcher, said = swept(search, break_down, rates=rates)
    assert [view.state for view in points] == ["done"] * 6
    assert [len(ids) for ids in launcher.launches] == [6, 5, 4, 3, 2], (
        "one point a launch; nobody else is blamed for it"
    )
    assert (
        "the launcher Toy stopped early: RuntimeError: a worker process was unexpectedly terminated"
        in said.getvalue().splitlines()
    )


@pytest.mark.parametrize("fault", [None, FileNotFoundError(2, "No such file or directory: 'sbatch'")])
def test_jobs_that_never_say_a_word_end_the_sweep_after_three_launches(tmp_path, fault):
    class Dead(Launcher):
        def launch(self, job_overrides, initial_job_idx):
            self.launches.append(len(job_overrides))
            if fault is not None:
                raise fault

    search = toy_search(tmp_path)
    dead = Dead(search)
    (search.folder / ".submitit").mkdir()
    said = "which said FileNotFoundError.*sbatch.*, " if fault else ""
    pattern = f"3 points were launched 3 times by Toy, {said}and none of them has begun; its logs are in .*submitit"
    with pytest.raises(TrainingError, match=pattern):
        swept(search, launcher=dead)
    assert dead.launches == [3, 3, 3]


def test_a_launch_holds_at_most_as_many_points_as_are_allowed_at_once(tmp_path):
    points, launcher, _ = swept(toy_search(tmp_path, at_once=2))
    assert [len(ids) for ids in launcher.launches] == [2, 1]
    assert [view.attempts for view in points] == [1, 1, 1]


def test_what_a_job_raises_is_told_with_its_point(tmp_path):
    class Faulty(Launcher):
        def launch(self, job_overrides, initial_job_idx):
            super().launch(job_overrides[:1], initial_job_idx)
            faults = [OSError("no space left\nat all")] * (len(job_overrides) - 1)
            failed = [JobReturn(status=JobStatus.FAILED, _return_value=fault) for fault in faults]
            return [JobReturn(status=JobStatus.COMPLETED), *failed]

    search = toy_search(tmp_path)
    _, launcher, said = swept(search, launcher=Faulty(search))
    assert [len(ids) for ids in launcher.launches] == [1, 1, 1]
    assert said.getvalue().count("the job of point 1 (optimizer.lr=0.0001) failed: OSError: no space left\n") == 1
    assert said.getvalue().count("the job of point 2 (optimizer.lr=0.001) failed: OSError: no space left\n") == 2


def test_an_error_of_every_job_stands_in_the_sentence_that_ends_the_sweep(tmp_path):
    class Dead(Launcher):
        def launch(self, job_overrides, initial_job_idx):
            return [JobReturn(status=JobStatus.FAILED, _return_value=OSError("read-only")) for _ in job_overrides]

    search = toy_search(tmp_path)
    with pytest.raises(TrainingError, match="3 times by Toy, which said OSError: read-only, and none"):
        swept(search, launcher=Dead(search))


def test_failed_points_are_tried_again_up_to_their_retries(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_MODES", '{"optimizer.lr=0.001": "fail", "optimizer.lr=0.0001": "fail_once"}')
    points, launcher, said = swept(toy_search(tmp_path, retries=1))
    assert [(view.state, view.attempts) for view in points] == [("done", 1), ("done", 2), ("failed", 2)]
    assert [len(ids) for ids in launcher.launches] == [3, 2]
    assert "3 of 3: optimizer.lr=0.001: failed: the toy was told to fail" in said.getvalue()


def test_a_point_that_somebody_else_runs_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(loops, "LONGEST_WAIT_S", 0.2)
    search = toy_search(tmp_path)
    ledger, planner = search.ledger(), rates_planner(*RATES)
    ledger.plan(planner.propose([]), space=planner.space(), after=0)
    claim = ledger.claim(ledger.points()[1].id, job="elsewhere")

    def finish_later():
        while sum(view.is_settled for view in search.ledger().points()) < 2:
            time.sleep(0.05)
        time.sleep(1.0)
        with claim:
            claim.done({"score": 0.25, "epochs": []})

    thread = threading.Thread(target=finish_later)
    thread.start()
    points, launcher, said = swept(search)
    thread.join()
    assert [len(ids) for ids in launcher.launches] == [2], "it is not launched a second time"
    assert [view.attempts for view in points] == [1, 1, 1]
    host = ledger.host
    told = f"point 1 (optimizer.lr=0.0001) is running on {host}, process {os.getpid()}; waiting for it"
    assert said.getvalue().count(told) == 1


@pytest.mark.parametrize("comes", ["retry", "plan"])
def test_a_point_that_comes_while_it_waits_is_begun_at_once(tmp_path, monkeypatch, comes):
    monkeypatch.setattr(loops, "LONGEST_WAIT_S", 0.2)
    search, rates = toy_search(tmp_path), RATES[:2]
    ledger, planner = search.ledger(), rates_planner(*rates)
    ledger.plan(planner.propose([])[: 2 if comes == "retry" else 1], space=planner.space(), after=0)
    slow = ledger.claim(ledger.points()[0].id, job="elsewhere")
    if comes == "retry":
        ledger.claim(ledger.points()[1].id, job=None).failed("no room", final=True)
    else:
        monkeypatch.setattr(GridPlanner, "propose", lambda self, points: None)  # the other sweeper plans the second

    def come_later():
        time.sleep(0.5)
        if comes == "retry":
            assert search.ledger().retry(None) == 1
        else:
            another = rates_planner(*rates)
            proposals = [Proposal({"optimizer.lr": RATES[1]}, (f"optimizer.lr={RATES[1]}",))]
            assert search.ledger().plan(proposals, space=another.space(), after=1)
        deadline = time.monotonic() + 20
        while search.ledger().points()[-1].state != "done" and time.monotonic() < deadline:
            time.sleep(0.05)
        states.append(search.ledger().points()[-1].state)
        with slow:
            slow.done({"score": 0.25, "epochs": []})

    states = []
    thread = threading.Thread(target=come_later)
    thread.start()
    points, launcher, _ = swept(search, rates=rates)
    thread.join()
    assert states == ["done"], "it did not wait for the slow one"
    assert [len(ids) for ids in launcher.launches] == [1]
    assert [view.state for view in points] == ["done", "done"]


def test_a_sweeper_stops_when_another_has_begun_anew(tmp_path):
    def begin_anew(launch, id):
        content = {"schema": 1, "mode": "rerun", "code_hash": "other", "t": 0.0, "host": "h"}
        exclusive_files.create(search.folder / "contexts" / "0001.json", content)

    class Quiet(Launcher):
        def launch(self, job_overrides, initial_job_idx):
            begin_anew(1, None)

    search = toy_search(tmp_path)
    sentence = r"another sweeper has begun the points of .*toy anew with other code \(generation 1, here 0\); this one"
    with pytest.raises(ConfigError, match=sentence):
        swept(search, launcher=Quiet(search))
    assert search.ledger().points() == [], "it has planned nothing in the new generation"


def test_a_sweeper_whose_code_was_changed_says_so_and_launches_nothing(tmp_path, monkeypatch):
    search = toy_search(tmp_path)
    monkeypatch.setattr(contexts, "code_hash_now", lambda primary, objective: "another")
    launcher = Launcher(search)
    with pytest.raises(ConfigError, match=r"the code was changed while the sweep .*toy ran, .*; start it again"):
        swept(search, launcher=launcher)
    assert launcher.launches == []


def test_two_sweepers_of_one_search_share_its_points(tmp_path):
    search = toy_search(tmp_path)
    others = []

    def another_begins(launch, id):
        if not others:
            others.append(None)  # the other one does not call a third
            _, launcher, _ = swept(search, rates=RATES)
            others[0] = launcher.launches

    points, _, _ = swept(search, another_begins)
    assert [len(ids) for ids in others[0]] == [3]
    assert [(view.state, view.attempts) for view in points] == [("done", 1)] * 3, "no point twice"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_says_what_is_settled_and_how_to_go_on(tmp_path, signum):
    def stop(launch, id):
        if search.ledger().points()[0].state == "done":
            signal.raise_signal(signum)

    search = toy_search(tmp_path)
    former = signal.getsignal(signum)
    with pytest.raises(RunInterrupted, match=f"{signum.name}; 1 of 3 points are settled; the same command") as stopped:
        swept(search, stop)
    assert stopped.value.exit_code == 128 + signum
    assert signal.getsignal(signum) is former
    points, launcher, _ = swept(search)
    assert [view.state for view in points] == ["done"] * 3
    assert [len(ids) for ids in launcher.launches] == [2]


def test_damage_in_the_ledger_is_told_and_the_point_run_again(tmp_path):
    search = toy_search(tmp_path)
    swept(search)
    done = sorted((search.folder / "ledger").glob("*/*.0002.json"))[0]
    done.write_bytes(done.read_bytes()[:30])
    points, launcher, said = swept(search)
    assert [view.state for view in points] == ["done"] * 3
    assert [len(ids) for ids in launcher.launches] == [1]
    assert f"{done.name}.damaged-" in said.getvalue().replace("\n", "")


def test_the_best_of_before_is_withdrawn_as_soon_as_points_are_missing(tmp_path):
    def look(launch, id):
        seen.append(best.exists())

    search, seen = toy_search(tmp_path), []
    swept(search)
    best = search.folder / "optimal_lr.json"
    best.write_text("{}")
    swept(search)
    assert best.exists(), "nothing is missing"
    swept(search, look, rates=(*RATES, 2e-3))
    assert seen == [False]


def test_exports_that_cannot_be_written_stop_no_sweep_and_are_told_once(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loops, "rebuild_exports", full)
    points, _, said = swept(toy_search(tmp_path, at_once=1))
    assert [view.state for view in points] == ["done"] * 3
    assert said.getvalue().count("the exports cannot be written for now (OSError: [Errno 28] No space left") == 1


def test_what_is_settled_is_never_more_than_the_total(tmp_path):
    search = toy_search(tmp_path)
    swept(search)
    said = io.StringIO()
    planner = rates_planner(*RATES)
    planner.total = 2  # as of a search in stages whose range holds more points than it plans itself
    SweepLoop(search, planner, Launcher(search).launch, "Toy", Console(file=said, width=400)).run()
    assert "3 of 3 points are settled already" in said.getvalue()
