"""In which order rank 0 ends the others and takes leave; its processes are stood for by notes."""

from types import SimpleNamespace

import pytest

from shared.distributed import launch
from shared.distributed.plan import RankPlan
from shared.distributed.share import ALONE, RankShare
from shared.errors import RunInterrupted, TrainingError


class Ranks:
    """Notes what it is asked; `fault` is what a rank has said at its end."""

    threads = 1
    fault: str | None = None

    def __init__(self, notes):
        self.notes = notes

    def environment(self, rank):
        return {}

    def start(self, checkpoint):
        self.notes.append("start")

    def wait_until_ready(self):
        self.notes.append("ready")

    def find_fault(self, patience_s):
        return self.fault

    def end(self, patience_s):
        self.notes.append(f"end within {patience_s:g} s")

    def wait_for_end(self, session):
        self.notes.append("wait")

    def close(self):
        self.notes.append("close")


@pytest.fixture
def notes(monkeypatch):
    notes = []
    monkeypatch.setattr(launch, "_Ranks", lambda session, plan: Ranks(notes))
    monkeypatch.setattr(launch, "leave", lambda: notes.append("leave"))
    return notes


def fit(error):
    session = SimpleNamespace(datamodule=SimpleNamespace(share=ALONE))
    plan = RankPlan(count=2, kind="ddp", on_gpu=False, find_unused=False, sync_batch_norm=False)
    try:
        with launch.other_ranks(session, plan, None):
            assert session.datamodule.share == RankShare(0, 2)
            if error is not None:
                raise error
    finally:
        assert session.datamodule.share == ALONE


def test_a_fit_that_went_well_takes_leave_and_waits(notes):
    fit(None)
    assert notes == ["start", "ready", "leave", "wait", "close"]


@pytest.mark.parametrize("error", [ValueError("own"), RuntimeError("own"), KeyboardInterrupt()])
def test_on_an_exception_of_its_own_the_others_are_ended_before_it_takes_leave_of_them(error, notes):
    with pytest.raises(type(error)) as raised:
        fit(error)
    assert raised.value is error
    assert notes == ["start", "ready", "end within 1 s", "leave", "close"]


def test_interrupted_they_have_the_time_to_end_by_themselves(notes):
    with pytest.raises(RunInterrupted):
        fit(RunInterrupted(15, "stopped by SIGTERM"))
    assert notes == ["start", "ready", "leave", f"end within {launch.LAST_WORDS_S:g} s", "close"]


def test_when_another_rank_was_the_reason_its_sentence_comes(notes, monkeypatch):
    monkeypatch.setattr(Ranks, "fault", "rank 1 was ended by SIGKILL")
    with pytest.raises(TrainingError, match="rank 1 was ended by SIGKILL"):
        fit(RuntimeError("[gloo] Connection closed by peer"))
    assert notes == ["start", "ready", "end within 1 s", "leave", "close"]
