import copy

import pytest

from shared.events import read_events
from shared.live.history import MAX_EPOCH_ROWS, MAX_WARNINGS, History
from shared.live.tail import Tail
from tests.fabricate.live_run import LiveRun


def event(seq, kind, step=0, epoch=0, **data):
    return {"v": 1, "seq": seq, "t": 100.0 + seq, "run": "r", "kind": kind, "step": step, "epoch": epoch, "data": data}


def fed(*events):
    history = History()
    for one in events:
        history.apply(one)
    return history


class Receiver:
    """What the page does with changes, in Python."""

    def __init__(self):
        self.version, self.steps, self.epochs, self.samples, self.parts = 0, [], [], {}, {}

    def take(self, changes):
        changes = copy.deepcopy(changes)
        for rows, change in ((self.steps, changes["steps"]), (self.epochs, changes["epochs"])):
            del rows[change["from"] :]
            rows += change["rows"]
        kept = changes.get("samples_kept", list(self.samples))
        self.samples = {index: one for index, one in self.samples.items() if index in kept}
        self.samples |= {one["index"]: one for one in changes.get("samples", [])}
        self.parts |= {key: changes[key] for key in ("facts", "end", "warnings", "stages") if key in changes}
        self.version = changes["version"]

    def state(self):
        return self.steps, self.epochs, self.samples, self.parts


@pytest.fixture
def resumed_run(tmp_path):
    """A run that was killed after three epochs and resumed from the second."""
    run = LiveRun(tmp_path / "run", max_epochs=4)
    run.start()
    run.train(3)
    run.resume(40)
    run.train(2)
    run.finish()
    return run


def test_what_counts_is_what_read_events_keeps(resumed_run):
    path = resumed_run.folder / "events.jsonl"
    history = fed(*Tail(path).poll()[0])
    kept = read_events(path)
    found = history.changes(0)
    steps = [one for one in kept if one["kind"] == "step"]
    assert [row[0] for row in found["steps"]["rows"]] == [one["step"] for one in steps]
    assert [row[2] for row in found["steps"]["rows"]] == pytest.approx([one["data"]["loss"] for one in steps], rel=1e-5)
    assert found["steps"]["count"] == len(steps) == 80
    assert [row[1] for row in found["epochs"]["rows"]] == [0, 1, 2, 3]
    assert found["seq"] == sum(1 for _ in path.open())
    assert history.missing == history.ignored == 0
    assert found["end"]["state"] == "done"


@pytest.mark.parametrize("every", [1, 7, 40])
def test_changes_lead_from_any_version_to_the_same(resumed_run, every):
    events = Tail(resumed_run.folder / "events.jsonl").poll()[0]
    history, follower = History(), Receiver()
    for number, one in enumerate(events):
        history.apply(one)
        if number % every == 0:  # a viewer that leaves frames out
            follower.take(history.changes(follower.version))
            late = Receiver()
            late.take(history.changes(0))
            assert follower.state()[:3] == late.state()[:3]
    follower.take(history.changes(follower.version))
    late = Receiver()
    late.take(history.changes(0))
    assert follower.state() == late.state()


def test_an_event_seen_before_changes_nothing():
    first = event(0, "warning", sentence="once")
    history = fed(first)
    assert not history.apply(first)
    assert history.changes(0)["warnings"] == ["once"]


def test_a_gap_is_counted():
    assert fed(event(0, "start"), event(5, "step", 1)).missing == 4


@pytest.mark.parametrize(
    "broken",
    [
        {}, {"kind": "step"}, event(0, "unheard of"), event(-1, "step"), event(0, "step") | {"data": []},
        event(0, "step") | {"t": float("nan")}, event(0, "step") | {"step": "1"}, event(True, "step"),
    ],
)  # fmt: skip
def test_what_is_no_event_is_ignored_and_counted(broken):
    history = History()
    assert not history.apply(broken)
    assert history.ignored == 1
    assert history.version == 0


def test_a_superseded_sample_and_warning_go():
    axis = {"name": "wavelength", "unit": "nm", "values": [1, 2]}
    curves = {"channels": ["B"], "axis": axis, "target": [[0.0, 1.0]], "prediction": [[0.5, 0.5]], "image": None}
    history = fed(
        event(0, "start"), event(1, "sample", 10, index=0, **curves), event(2, "sample", 20, index=1, **curves),
        event(3, "warning", 0, sentence="stays"), event(4, "warning", 20, sentence="goes"),
    )  # fmt: skip
    follower = Receiver()
    follower.take(history.changes(0))
    assert set(follower.samples) == {0, 1}
    history.apply(event(5, "start", 10))
    follower.take(history.changes(follower.version))
    assert set(follower.samples) == {0}
    assert follower.parts["warnings"] == ["stays"]


@pytest.mark.parametrize("state", ["failed", "interrupted", "done"])
@pytest.mark.parametrize("kind", ["start", "stage"])
def test_a_run_that_goes_on_after_its_end_is_open_again(state, kind):
    history = fed(event(0, "start"), event(1, "step", 1), event(2, "end", 1, state=state))
    follower = Receiver()
    follower.take(history.changes(0))
    assert follower.parts["end"]["state"] == state
    history.apply(event(3, kind, 1, stage="test", state="start"))
    follower.take(history.changes(follower.version))
    assert follower.parts["end"] is None


def test_time_left_comes_from_the_pace_since_the_start():
    history = fed(event(0, "start", max_epochs=10, batches_per_epoch=10))
    for k in range(20):  # one batch a second
        history.apply(event(k + 1, "step", k + 1, k // 10, loss=1.0, batch=k % 10))
    place = history.changes(0)["place"]
    assert place["left_s"] == pytest.approx(80, abs=0.2)
    assert place["epoch_left_s"] == pytest.approx(0, abs=0.1)
    history.apply(event(21, "step", 21, 2, loss=1.0, batch=0))
    history.apply(event(22, "step", 22, 2, loss=1.0, batch=1))
    assert history.changes(0)["place"]["epoch_left_s"] == pytest.approx(8, abs=0.1)


def test_a_night_of_events_stays_small():
    history = fed(event(0, "start", max_epochs=300, batches_per_epoch=1000))
    seq = 1
    for step in range(1, 60_001):
        history.apply(event(seq, "step", step, step // 1000, loss=1.0 / step, lr=0.1, batch=step % 1000))
        seq += 1
    for k in range(2 * MAX_EPOCH_ROWS):
        history.apply(event(seq + k, "epoch", 60_000 + k, k, **{"val/loss": 0.1}))
    for k in range(3 * MAX_WARNINGS):
        history.apply(event(seq + 2 * MAX_EPOCH_ROWS + k, "warning", sentence="w" * 10_000))
    found = history.changes(0)
    assert len(found["steps"]["rows"]) <= 2000
    assert found["steps"]["count"] == 60_000
    assert len(found["epochs"]["rows"]) <= MAX_EPOCH_ROWS
    assert len(found["warnings"]) == MAX_WARNINGS
    assert max(map(len, found["warnings"])) == 2000
