import errno
import json
import os
import subprocess
import sys
import time

import pytest

from shared.errors import ConfigError, DataError
from shared.sweep import event_files, exclusive_files
from shared.sweep.ledger import LeaseLost, Proposal, SweepLedger


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def proposals(*rates, stage=0):
    return [Proposal({"lr": rate}, (f"lr={rate}",), stage) for rate in rates]


def planned(folder, *rates, **options):
    ledger = SweepLedger(folder, **options)
    assert ledger.plan(proposals(*(rates or (0.1,))), space={}, after=0)
    return ledger, [view.id for view in ledger.points()]


def event_path(folder, id, n):
    return folder / "ledger" / id[:2] / f"{id}.{n:04d}.json"


def let_pass(clock, ledger, seconds=90.0, looks=4):
    for _ in range(looks):
        clock.now += seconds / (looks - 1)
        ledger.recover()


def test_plans_are_written_once_number_over_all_and_leave_out_what_is_known(tmp_path):
    a, b = SweepLedger(tmp_path), SweepLedger(tmp_path)
    assert a.plan(proposals(1e-4, "0.0001", 2e-4), space={"low": 1}, after=0)
    assert not b.plan(proposals(5e-4), space={}, after=0)
    assert b.plan(proposals(1.0000001e-4, 3e-4, stage=1), space={"low": 1}, after=1)
    assert a.plan(proposals(3e-4), space={"low": 1}, after=2)
    assert [(v.number, v.stage, v.values) for v in a.points()] == [
        (0, 0, {"lr": 1e-4}), (1, 0, {"lr": 2e-4}), (2, 1, {"lr": 3e-4})
    ]  # fmt: skip
    assert [plan.number for plan in a.plans()] == [0, 1]
    assert a.plan([], space={"low": 2}, after=2)  # another space is written down without a new point
    assert b.plans()[-1].space == {"low": 2}


def test_a_new_generation_has_points_of_its_own_and_keeps_the_old(tmp_path):
    ledger, (old,) = planned(tmp_path)
    for number, mode in enumerate(("first", "keep", "rerun")):
        exclusive_files.create(tmp_path / "contexts" / f"{number:04d}.json", {"mode": mode})
    assert ledger.generation == 1
    assert ledger.points() == []
    assert ledger.plan(proposals(0.1), space={}, after=1)
    (new,) = ledger.points()
    assert (new.number, new.generation) == (1, 1)
    assert [view.id for view in ledger.points(all_generations=True)] == [old, new.id]


def test_two_claimers_and_the_life_of_a_point(tmp_path):
    a, (id,) = planned(tmp_path)
    b = SweepLedger(tmp_path, host="other")
    with a.claim(id, job="3_0", started_by="sweeper") as claim:
        assert b.claim(id, job=None) is None
        assert (b.point(id).lease.pid, b.point(id).lease.job, b.point(id).lease.host) == (os.getpid(), "3_0", a.host)
        assert claim.opened("runs/x", weights="w")
        assert b.claimable() == []
        assert claim.done({"score": 0.5})
        assert not claim.failed("too late")
    view = b.point(id)
    assert (view.state, view.outcome, view.run, view.history[1].data["weights"]) == (
        "done",
        {"score": 0.5},
        "runs/x",
        "w",
    )
    assert b.claim(id, job=None) is None
    assert list((tmp_path / "beats").iterdir()) == []


def test_a_claimer_with_an_old_view_is_refused_by_the_number(tmp_path, monkeypatch):
    a, (id,) = planned(tmp_path)
    b = SweepLedger(tmp_path)
    old = b.point(id)
    assert a.claim(id, job=None) is not None
    monkeypatch.setattr(b, "point", lambda id: old)  # as a client of NFS with an old listing sees it
    assert b.claim(id, job=None) is None
    assert len(list((tmp_path / "ledger").rglob("*.json"))) == 1


def test_leaving_without_a_result_is_an_interruption_that_says_why(tmp_path):
    ledger, (id,) = planned(tmp_path)

    def work():
        with ledger.claim(id, job=None) as claim:
            claim.note(epoch=4)
            raise KeyError("x")

    with pytest.raises(KeyError):
        work()
    view = ledger.point(id)
    assert (view.state, view.error, view.history[-1].data["epoch"]) == ("interrupted", "left with KeyError: 'x'", 4)
    with ledger.claim(id, job=None):
        pass
    assert ledger.point(id).error == "left without a result"


def test_failed_is_retried_then_final_and_retry_gives_it_back(tmp_path):
    ledger, (id, other) = planned(tmp_path, 0.1, 0.2, retries=1)
    for _ in range(2):
        assert id in [view.id for view in ledger.claimable()]
        ledger.claim(id, job=None).failed("loss is NaN")
    assert (ledger.point(id).final, ledger.claim(id, job=None)) == (True, None)
    assert ledger.retry([other]) == 0
    assert ledger.retry(None) == 1
    assert ledger.claim(id, job=None).failed("again", final=True)
    assert ledger.retry([id]) == 1
    with pytest.raises(ConfigError, match="has no point 'nonsense' in any of its plans"):
        ledger.retry(["nonsense"])


def test_a_killed_process_of_this_machine_is_void_at_once(tmp_path, repo_root):
    ledger, (id,) = planned(tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from shared.sweep.ledger import SweepLedger\n"
        f"with SweepLedger(Path(sys.argv[1])).claim({id!r}, job='j') as claim:\n"
        "    claim.note(epoch=3); claim._heartbeat.beat(); print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=repo_root)
    assert child.stdout.readline() == b"held\n"
    assert ledger.recover() == 0
    child.kill()
    child.wait()
    child.stdout.close()
    assert ledger.recover() == 1
    view = ledger.point(id)
    assert (view.state, view.error) == ("interrupted", f"process {child.pid} on {ledger.host} is gone")
    assert view.history[-1].data["epoch"] == 3
    assert list((tmp_path / "beats").iterdir()) == []


def test_a_worker_that_was_paused_and_comes_back_writes_nothing(tmp_path):
    clock = Clock()
    far, (id,) = planned(tmp_path, host="far")
    near = SweepLedger(tmp_path, host="near", clock=clock)
    paused = far.claim(id, job=None)  # no heartbeat: its process is stopped
    assert near.claimable() == []
    let_pass(clock, near)
    taken = near.claim(id, job=None)
    assert taken is not None
    before = sorted(path.name for path in (tmp_path / "ledger").rglob("*"))
    paused._heartbeat._looked -= 60
    assert paused.lost
    with pytest.raises(LeaseLost, match=f"point 0 \\({id}\\) was taken for dead while this process did not answer"):
        paused.check()
    assert [paused.opened("r"), paused.done({"score": 1}), paused.interrupted("x")] == [False] * 3
    assert sorted(path.name for path in (tmp_path / "ledger").rglob("*")) == before
    assert taken.done({"score": 2})
    assert far.point(id).outcome == {"score": 2}


def test_a_write_before_the_loss_was_noticed_is_refused_too(tmp_path):
    clock = Clock()
    far, (id,) = planned(tmp_path, host="far")
    paused = far.claim(id, job=None)
    near = SweepLedger(tmp_path, host="near", clock=clock)
    near.recover()
    let_pass(clock, near)
    assert near.point(id).state == "interrupted"
    assert not paused.done({"score": 1})
    assert paused.lost
    assert near.point(id).state == "interrupted"


@pytest.mark.parametrize("content", [b"", b'{"schema": 1, "point"', b"[]\n", b'{"schema": 1}\n'])
def test_a_damaged_event_is_set_aside_and_told(tmp_path, content):
    ledger, (id,) = planned(tmp_path)
    ledger.claim(id, job=None).interrupted("signal")
    event_path(tmp_path, id, 2).write_bytes(content)
    clock = Clock()
    reader = SweepLedger(tmp_path, clock=clock)
    assert (reader.point(id).state, reader.notices) == ("interrupted", ())  # a writer may be at it
    clock.now += event_files.GRACE_S
    assert reader.point(id).state == "interrupted"
    (notice,) = reader.notices
    assert "was empty, truncated or no event; it is kept as" in notice
    assert ".damaged-" in notice
    assert reader.claim(id, job=None).lease.event == 2
    assert len(SweepLedger(tmp_path).notices) == 0


def test_a_claim_waits_for_an_unreadable_event_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(event_files, "GRACE_S", 0.1)
    ledger, (id,) = planned(tmp_path)
    event_path(tmp_path, id, 0).parent.mkdir(parents=True)
    event_path(tmp_path, id, 0).write_bytes(b"{")
    assert ledger.claim(id, job=None).lease.event == 0


def test_a_damaged_event_that_stays_ends_a_claim_and_a_retry_with_one_sentence(tmp_path, monkeypatch):
    def refuse(path, is_whole):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(event_files, "GRACE_S", 0.1)
    monkeypatch.setattr("shared.sweep.ledger.UNSEEN_S", 0.4)
    monkeypatch.setattr(exclusive_files, "set_aside", refuse)
    ledger, (id, failed) = planned(tmp_path, 0.1, 0.2)
    with ledger.claim(failed, job=None) as claim:
        claim.failed("no", final=True)
    for point, n, act in ((id, 0, lambda: ledger.claim(id, job=None)), (failed, 2, lambda: ledger.retry(None))):
        path = event_path(tmp_path, point, n)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{")
        with pytest.raises(DataError, match=rf"{path.name} is damaged and cannot be renamed; the folder of a"):
            act()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path):
    ledger, (id,) = planned(tmp_path)
    ledger.claim(id, job=None)
    path = event_path(tmp_path, id, 0)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}) + "\n")
    with pytest.raises(DataError, match="has schema 2, and this version reads up to 1"):
        SweepLedger(tmp_path).points()
    assert path.exists()


def test_foreign_files_are_ignored_and_told_once(tmp_path):
    ledger, (id,) = planned(tmp_path)
    ledger.claim(id, job=None).done({})
    shard = tmp_path / "ledger" / id[:2]
    (shard / "notes.txt").write_text("x")
    (tmp_path / "ledger" / ".DS_Store").write_text("x")
    (tmp_path / "plans" / "old.json").write_text("x")
    for _ in range(2):
        assert ledger.points()[0].state == "done"
    assert sorted(n.rpartition("/")[2] for n in ledger.notices) == [
        ".DS_Store is no file of a sweep and is ignored.", "notes.txt is no file of a sweep and is ignored."
    ]  # fmt: skip


def test_clocks_that_differ_are_told_and_change_nothing(tmp_path, monkeypatch):
    far, (id,) = planned(tmp_path, host="far")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    far.claim(id, job=None).done({"score": 1})
    near = SweepLedger(tmp_path, host="near")
    assert near.points()[0].state == "done"
    (notice,) = near.notices
    assert "the clock of host far and that of the file system differ by about +7200 s" in notice
    assert "nothing depends on it" in notice


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, number):
    ledger, (id,) = planned(tmp_path)

    def refuse(path, data):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(exclusive_files, "_write_new", refuse)
    for act in (lambda: ledger.claim(id, job=None), lambda: ledger.plan(proposals(0.5), space={}, after=1)):
        with pytest.raises(DataError, match=rf"cannot write .*: {os.strerror(number)}; the folder of a sweep must be"):
            act()
    assert ledger.points()[0].state == "planned"


@pytest.mark.parametrize("content", ['{"points": [', '{"points": []}\n'])
def test_a_damaged_plan_is_set_aside_and_its_number_is_free(tmp_path, content):
    ledger, _ = planned(tmp_path)
    (tmp_path / "plans" / "0001.json").write_text(content)
    assert len(ledger.points()) == 1
    assert "0001.json was empty, truncated or of another shape" in ledger.notices[0]
    assert ledger.plan(proposals(0.5), space={}, after=1)


@pytest.mark.parametrize(
    "wrong",
    [{"id": "../../../outside"}, {"id": "0" * 11}, {"id": "0" * 12 + "\n"}, {"number": -1}, {"number": "0"},
     {"stage": 0.5}, {"stage": True}],
)  # fmt: skip
def test_a_plan_whose_points_are_none_is_no_plan(tmp_path, wrong):
    point = {"id": "0" * 12, "number": 0, "stage": 0, "values": {"lr": 0.1}, "overrides": ["lr=0.1"]}
    content = {"schema": 1, "generation": 0, "space": {}, "points": [point]}
    exclusive_files.create(tmp_path / "plans" / "0000.json", content)
    assert len(SweepLedger(tmp_path).points()) == 1
    exclusive_files.create(tmp_path / "plans" / "0001.json", content | {"points": [point | wrong]})
    ledger = SweepLedger(tmp_path, read_only=True)
    assert [plan.number for plan in ledger.plans()] == [0]
    assert "0001.json is empty, truncated or of another shape" in ledger.notices[0]


def test_an_outcome_that_is_no_json_is_refused_and_the_point_is_still_held(tmp_path):
    ledger, (id,) = planned(tmp_path)
    claim = ledger.claim(id, job=None)
    with pytest.raises(ValueError, match="only finite numbers"):
        claim.done({"score": float("nan")})
    assert claim.done({"score": 1.0})


def test_each_event_file_is_read_once(tmp_path, monkeypatch):
    ledger, ids = planned(tmp_path, *(0.1 * k for k in range(1, 6)))
    for id in ids:
        ledger.claim(id, job=None).done({})
    reader, read = SweepLedger(tmp_path), []
    parse = event_files._parse
    monkeypatch.setattr(event_files, "_parse", lambda *args: (read.append(args), parse(*args))[1])
    for _ in range(3):
        assert all(view.state == "done" for view in reader.points())
    assert len(read) == 10


def test_arguments(tmp_path):
    with pytest.raises(DataError, match=r"the sweep folder .*none does not exist"):
        SweepLedger(tmp_path / "none")
    with pytest.raises(ValueError, match="beat_s must be above 0 and at most a third of lease_s 90, found 40"):
        SweepLedger(tmp_path, beat_s=40)


def test_importing_the_ledger_loads_nothing_heavy(repo_root):
    heavy = "{'torch', 'numpy', 'hydra', 'lightning', 'omegaconf'}"
    code = f"import sys, shared.sweep.ledger; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_damaged_plan_comes_back_from_its_copy_so_that_no_point_is_planned_twice(tmp_path):
    _, ids = planned(tmp_path, 1e-4)
    path = tmp_path / "plans" / "0000.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:20])
    onlooker = SweepLedger(tmp_path, read_only=True)
    assert [view.id for view in onlooker.points()] == ids
    assert path.read_bytes() == whole[:20]
    mending = SweepLedger(tmp_path)
    assert [view.id for view in mending.points()] == ids
    assert path.read_bytes() == whole
    assert f"{path} is restored from plans.copies/0000.json." in mending.notices
    (tmp_path / "plans.copies" / "0000.json").unlink()
    assert [view.id for view in SweepLedger(tmp_path).points()] == ids
    assert (tmp_path / "plans.copies" / "0000.json").read_bytes() == whole, "of a sweep without copies"


def test_a_folder_named_like_an_event_is_one_sentence(tmp_path):
    _, (id,) = planned(tmp_path, 1e-4)
    (tmp_path / "ledger" / id[:2] / f"{id}.0000.json").mkdir(parents=True)
    with pytest.raises(DataError, match=r"0000\.json is a folder where the file of an event must be; move it"):
        SweepLedger(tmp_path).points()
