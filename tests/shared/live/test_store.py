"""Discovery, status and the store of runs."""

import json
import os
import time

import pytest

from shared.live.discovery import find_runs, run_id
from shared.live.run import Run
from shared.live.store import RunStore
from shared.live.sweeps import SweepBoard
from shared.live.viewer import Frames
from tests.fabricate.live_run import LiveRun


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"


def only(outputs):
    (found,), _ = find_runs(outputs, 10)
    run = Run(found)
    run.refresh()
    return run


def rewrite(folder, **changes):
    path = folder / "status.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def age(folder, seconds):
    then = time.time() - seconds
    for name in ("status.json", "events.jsonl"):
        if (folder / name).exists():
            os.utime(folder / name, (then, then))


def test_runs_points_and_other_peoples_runs_are_found_but_not_what_lies_inside_one(outputs):
    for place in ("p/e/a", "p/sweeps/lr/b", "p/e_evaluate/c"):
        LiveRun(outputs / place)
    (outputs / "plain").mkdir()
    (outputs / "plain" / "events.jsonl").write_text("")
    LiveRun(outputs / "p/e/a/checkpoints/inner")
    LiveRun(outputs / ".hidden/x")
    (outputs / "p" / "latest").symlink_to("e/a")
    found, left_out = find_runs(outputs, 10)
    assert {"/".join(run.place) for run in found} == {"p/e/a", "p/sweeps/lr/b", "p/e_evaluate/c", "plain"}
    assert left_out == 0
    assert len(find_runs(outputs, 3)[0]) == 3
    assert find_runs(outputs, 3)[1] == 1
    assert {run.id for run in found} >= {run_id(("p", "e", "a"))}


def test_a_missing_folder_has_no_runs(outputs):
    assert find_runs(outputs, 10) == ([], 0)


def test_the_row_names_the_run(outputs):
    LiveRun(outputs / "p" / "sweeps" / "lr" / "x").train(2)
    row = only(outputs).row()
    expected = {
        "name": "x",
        "project": "p",
        "experiment": "sweeps/lr",
        "sweep": True,
        "state": "running",
        "stage": "fit",
        "epoch": 2,
    }
    assert {key: row[key] for key in expected} == expected


@pytest.mark.parametrize("state", ["done", "failed", "interrupted"])
def test_a_run_that_has_ended_says_so(outputs, state):
    run = LiveRun(outputs / "p/e/a")
    run.status(state)
    age(run.folder, 3600)
    assert only(outputs).row()["state"] == state


def test_a_run_of_this_machine_may_be_silent_as_long_as_its_process_lives(outputs):
    run = LiveRun(outputs / "p/e/a")
    run.start()
    rewrite(run.folder, heartbeat=time.time() - 3600)
    age(run.folder, 3600)
    assert only(outputs).row()["state"] == "running"


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"pid": None}, {"started_by": "x"}])
def test_a_run_elsewhere_that_was_silent_for_half_a_minute_is_stale(outputs, changes):
    run = LiveRun(outputs / "p/e/a")
    run.start()
    rewrite(run.folder, heartbeat=time.time() - 60, **changes)
    assert only(outputs).row()["state"] == "running"  # its events are fresh
    age(run.folder, 31)
    assert only(outputs).row()["state"] == "stale"
    age(run.folder, 25)
    assert only(outputs).row()["state"] == "running"


def test_a_run_whose_process_is_gone_is_stale_at_once(outputs):
    run = LiveRun(outputs / "p/e/a")
    rewrite(run.folder, started_by=1.0)  # another process has this pid now
    assert only(outputs).row()["state"] == "stale"
    rewrite(run.folder, host="elsewhere")
    assert only(outputs).row()["state"] == "running"


@pytest.mark.parametrize(
    ("content", "state"),
    [
        ("", "stale"),
        ("[]", "stale"),
        ("{", "stale"),
        ("\xff", "stale"),
        ('{"state": 7, "pid": "x", "heartbeat": "y", "stage": ["z"]}', "unknown"),
    ],
)
def test_a_broken_status_is_no_crash(outputs, content, state):
    run = LiveRun(outputs / "p/e/a")
    (run.folder / "status.json").write_text(content, encoding="latin-1")
    assert only(outputs).row()["state"] == state


def test_somebody_elses_run_tells_its_state_by_its_events(outputs):
    run = LiveRun(outputs / "a")
    run.start()
    (run.folder / "status.json").unlink()
    assert only(outputs).row()["state"] == "running"
    for state in ("failed", "interrupted", "done"):
        run.events.write("end", 1, 1, state=state)
        age(run.folder, 3600)
        assert only(outputs).row()["state"] == state
    run.resume(0)
    assert only(outputs).row()["state"] == "running"


def test_a_pushed_event_comes_in_once_and_a_gap_is_filled_from_the_file(outputs):
    writer = LiveRun(outputs / "p/e/a")
    writer.start()
    run = only(outputs)
    run.load()
    run.poll()
    lines = []
    writer.events.subscribe(lambda seq, line: lines.append(json.loads(line)))
    for _ in range(10):
        writer.train_step()
    run.offer(lines[8:])  # the others were dropped
    run.offer(lines[5:])
    run.poll()
    found = run.changes((0, 0))[1]
    assert found["steps"]["count"] == 10
    assert found["notes"] == {"skipped": 0, "missing": 0}


def test_a_replaced_file_begins_a_new_generation(outputs):
    writer = LiveRun(outputs / "p/e/a")
    writer.start()
    writer.train(1)
    run = only(outputs)
    run.load()
    run.poll()
    seen, _ = run.changes((0, 0))
    (writer.folder / "events.jsonl").write_text("")
    LiveRun(writer.folder).start()
    run.poll()
    assert run.version[0] != seen[0]
    assert run.changes(seen)[1]["since"] == 0


def test_only_so_many_histories_are_kept(outputs):
    for k in range(5):
        LiveRun(outputs / f"p/e/{k}").start()
    store = RunStore(outputs, max_loaded=2, keep_s=0.0)
    store.scan()
    runs = [store.get(row["id"]) for row in store.rows()[1]]
    store.poll()
    assert [run.is_loaded for run in runs] == [False, False, False, True, True]
    assert store.get("no such id") is None
    assert store.is_any_running


def test_a_history_that_was_just_asked_for_is_not_forgotten(outputs):
    for k in range(5):
        LiveRun(outputs / f"p/e/{k}").start()
    store = RunStore(outputs, max_loaded=2, keep_s=0.5)
    store.scan()
    runs = [store.get(row["id"]) for row in store.rows()[1]]
    store.poll()
    assert all(run.is_loaded for run in runs)
    time.sleep(0.6)
    store.peek(runs[0].found.id)
    store.poll()
    assert [run.is_loaded for run in runs] == [True, False, False, False, True]


def test_a_loaded_run_is_had_while_it_is_being_read(outputs):
    LiveRun(outputs / "p/e/a").start()
    store = RunStore(outputs)
    store.scan()
    run = store.get(store.rows()[1][0]["id"])
    with run._lock:  # the poller reads a long file
        assert store.get(run.found.id) is run


def test_a_name_that_is_no_text_can_be_sent(outputs):
    folder = outputs / os.fsdecode(b"p\xff") / "e"
    run = LiveRun(folder)
    run.events.write("warning", 0, 0, sentence=f"{folder.name} \udc80")
    store = RunStore(outputs)
    store.scan()
    frames = Frames(store, SweepBoard(store.root))
    assert len(json.loads(frames.runs()[1].encode("utf-8"))["runs"]) == 1
    row = store.rows()[1][0]
    store.get(row["id"])
    store.poll()
    assert json.loads(frames.run(row["id"], (0, 0))[1].encode("utf-8"))["warnings"] == ["e \udc80"]


def test_one_run_that_fails_does_not_stop_the_others(outputs, monkeypatch, eventually):
    for name in "ab":
        LiveRun(outputs / "p" / "e" / name).start()
    monkeypatch.setattr(Run, "refresh", lambda run: 1 / 0)
    store = RunStore(outputs)
    with pytest.raises(ZeroDivisionError):
        store.start()
    monkeypatch.undo()
    store.start()
    monkeypatch.setattr(Run, "row", lambda run: 1 / 0)
    store.scan_soon()
    time.sleep(0.3)
    monkeypatch.undo()
    LiveRun(outputs / "p" / "e" / "c").start()
    store.scan_soon()
    eventually(lambda: len(store.rows()[1]) == 3)
    store.stop()


def test_a_removed_run_leaves_the_list(outputs):
    run = LiveRun(outputs / "p/e/a")
    store = RunStore(outputs)
    store.scan()
    version, rows = store.rows()
    assert len(rows) == 1
    for name in ("status.json", "events.jsonl"):
        (run.folder / name).unlink(missing_ok=True)
    store.scan()
    assert store.rows() == (version + 1, [])
