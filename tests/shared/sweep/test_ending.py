"""The end of a sweep: what is said and written once no point is missing."""

import io
import json

import pytest
from rich.console import Console

from shared.errors import DataError
from shared.sweep import ending
from shared.sweep.ending import finish
from shared.sweep.loop import SweepLoop
from shared.sweep.point_process import Task, measure
from tests.fabricate.toy_sweep import rates_planner, toy_search


@pytest.fixture
def search(tmp_path):
    return toy_search(tmp_path)


def finished(search, *rates):
    """Run a sweep over the rates in this process to its end; returns what it said."""

    def launch(jobs, first):
        for *_, name in jobs:
            measure(Task(search.folder, name.rpartition("point-")[2], dict(search.settings), search.code_hash()))

    console = Console(file=io.StringIO(), width=400)
    finish(SweepLoop(search, rates_planner(*rates), launch, "Toy", console), console)
    return console.file.getvalue()


def test_exports_that_cannot_be_written_at_the_end_are_one_sentence(search, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ending, "rebuild_exports", full)
    with pytest.raises(
        DataError, match=r"the exports cannot be written to .*toy \(No space left on device\)"
    ) as caught:
        finished(search, 1e-5, 1e-4)
    assert caught.value.exit_code == 1


def test_pictures_are_drawn_again_where_others_have_settled_points_since(search):
    finished(search, 1e-5, 1e-4, 1e-3)
    picture = search.folder / "stage_0.png"
    picture.unlink()
    assert "there was nothing left to run" in finished(search, 1e-5, 1e-4, 1e-3)
    assert not picture.exists(), "nothing has changed"
    best = search.folder / "optimal_lr.json"
    best.write_text(json.dumps(json.loads(best.read_text()) | {"points": 2}))
    finished(search, 1e-5, 1e-4, 1e-3)
    assert picture.exists()
