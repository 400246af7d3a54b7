"""Sweeps on the page: the board that reads ledgers, what viewers are sent."""

import json
import os
import shutil
import time

import pytest
from fastapi.testclient import TestClient

from shared.live.discovery import run_id
from shared.live.hub import create_app
from shared.live.security import Access
from shared.live.sweep import Sweep
from shared.live.sweeps import SweepBoard, find_sweeps
from tests.fabricate.live_run import LiveRun
from tests.fabricate.sweep_folder import OUT_OF_MEMORY, SweepFolder

PLACE = ("redheart", "sweeps", "lr")
OWN = {"host": "127.0.0.1:8600"}


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "outputs"


@pytest.fixture
def filled(outputs):
    sweep = SweepFolder(outputs.joinpath(*PLACE))
    with sweep.fill():
        yield sweep


def read(outputs, place=PLACE, **options):
    sweep = Sweep(run_id(place), outputs, place, **options)
    sweep.refresh()
    return sweep


def test_sweeps_are_found_where_they_belong_newest_first(outputs, tmp_path):
    for age, place in enumerate(("b/sweeps/two", "a/sweeps/one", "a/elsewhere/three", ".hidden/sweeps/four")):
        folder = SweepFolder(outputs / place).folder
        then = time.time() - 10 * age
        os.utime(folder / "sweep.json", (then, then))
    (outputs / "a" / "sweeps" / "no-sweep").mkdir()
    (outputs / "linked").symlink_to(outputs / "a")
    found = [("b", "sweeps", "two"), ("a", "sweeps", "one")]
    assert find_sweeps(outputs, 10) == (found, 0)
    assert find_sweeps(outputs, 1) == (found[:1], 1)
    assert find_sweeps(tmp_path / "nowhere", 10) == ([], 0)


def test_the_row_counts_and_the_points_say_who_has_them(outputs, filled):
    LiveRun(filled.run_of(7))
    sweep = read(outputs)
    row = sweep.row()
    assert {key: row[key] for key in ("name", "project", "state", "settled", "total", "problem")} == {
        "name": "lr", "project": "redheart", "state": "running", "settled": 7, "total": 10, "problem": None,
    }  # fmt: skip
    found = sweep.changes(0)
    assert (found["since"], found["version"], found["left_out"], len(found["points"])) == (0, 1, 0, 10)
    points = found["points"]
    assert found["head"]["keys"] == ["optimizer.lr"]
    assert found["head"]["best"] == points[2]["id"]
    assert points[6]["error"] == OUT_OF_MEMORY
    assert points[7]["run_id"] == run_id(("redheart", "sweep-lr", filled.run_of(7).name))
    assert points[7]["lease"]["epoch"] == 3
    assert abs(points[7]["lease"]["heard"] - time.time()) < 30
    json.dumps(found, allow_nan=False)


def test_only_points_that_have_changed_are_sent_again(outputs, filled):
    sweep = read(outputs)
    assert sweep.changes(1)["points"] == []
    sweep.refresh()
    assert sweep.version == 1
    filled.done(9, 0.7)
    sweep.refresh()
    found = sweep.changes(1)
    assert [point["number"] for point in found["points"]] == [9]
    assert (found["version"], len(found["order"])) == (2, 10)
    assert len(sweep.changes(99)["points"]) == 10  # a version of another life of the hub


def test_another_sweep_under_the_same_name_is_read_anew(outputs):
    first = SweepFolder(outputs.joinpath(*PLACE))
    first.plan([{"optimizer.lr": 1e-4}])
    first.done(0, 0.5)
    sweep = read(outputs)
    shutil.rmtree(first.folder)
    sweep.refresh()
    assert "No such file" in sweep.row()["problem"]
    SweepFolder(outputs.joinpath(*PLACE)).plan([{"optimizer.lr": 1e-4}])
    sweep.refresh()
    assert sweep.row()["problem"] is None
    assert [point["state"] for point in sweep.changes(1)["points"]] == ["planned"]


def test_of_too_many_points_the_most_telling_are_sent_in_order(outputs, filled):
    sweep = read(outputs, max_points=5)
    found = sweep.changes(0)
    assert [point["number"] for point in found["points"]] == [2, 5, 6, 7, 8]
    assert found["left_out"] == 5


def test_a_run_seen_under_another_path_is_known_and_a_foreign_one_is_not(outputs):
    sweep = SweepFolder(outputs.joinpath(*PLACE))
    sweep.plan([{"optimizer.lr": rate} for rate in (1e-5, 1e-4, 2e-4)])
    LiveRun(sweep.run_of(0))
    claims = [sweep.ledger.claim(view.id, job=None) for view in sweep.ledger.points()]
    claims[0].opened(f"/elsewhere/outputs/redheart/sweep-lr/{sweep.run_of(0).name}")
    claims[1].opened("/elsewhere/x")
    claims[2].opened("../../..")
    points = read(outputs).changes(0)["points"]
    expected = run_id(("redheart", "sweep-lr", sweep.run_of(0).name))
    assert [point["run_id"] for point in points] == [expected, None, None]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "is damaged"),
        ('{"schema": 9}\n', "has schema 9"),
        ("[" * 100_000 + "\n", "cannot be shown (RecursionError)"),
    ],
)
def test_a_sweep_that_cannot_be_read_says_so_and_hides_no_other(outputs, filled, content, problem):
    broken = SweepFolder(outputs / "p" / "sweeps" / "broken").folder / "sweep.json"
    broken.write_text(content)
    board = SweepBoard(outputs)
    board.scan()
    board.refresh(everything=True)
    rows = {row["name"]: row for row in board.rows()[1]}
    assert problem in rows["broken"]["problem"]
    assert rows["broken"]["state"] == "unknown"
    assert rows["lr"]["settled"] == 7


def test_what_a_ledger_holds_is_bounded_and_plain(outputs):
    sweep = SweepFolder(outputs.joinpath(*PLACE), space={"kind": "grid", "values": {}})
    sweep.plan([{"x" * 500: "y" * 5000, "b": [1, {"c": 2}], "t": True}])
    sweep.claim(0).failed("z" * 5000, final=True)
    (point,) = read(outputs).changes(0)["points"]
    assert max(map(len, point["values"])) <= 120
    assert all(len(str(value)) <= 200 for value in point["values"].values())
    assert len(point["error"]) <= 400
    assert point["values"]["t"] is True


def test_nothing_is_read_while_nobody_looks(outputs, filled, eventually):
    board = SweepBoard(outputs)
    board.start()
    try:
        time.sleep(0.5)
        assert board._sweeps == {}
        rows = eventually(lambda: board.rows()[1])
        assert rows[0]["name"] == "lr"
    finally:
        board.stop()


def test_a_viewer_is_sent_the_list_and_the_sweep_that_it_chose(outputs, filled):
    app = create_app(outputs, Access("127.0.0.1", None))
    with (
        TestClient(app, base_url="http://127.0.0.1:8600") as client,
        client.websocket_connect("/view", headers=OWN) as socket,
    ):

        def until(kind):
            while True:
                message = socket.receive_json()
                socket.send_json({"type": "ack"})
                if message["type"] == kind:
                    return message

        socket.send_json({"type": "hello", "select": [], "sweep": run_id(PLACE)})
        (row,) = until("sweeps")["sweeps"]
        assert row["id"] == run_id(PLACE)
        assert len(until("sweep")["points"]) == 10
        filled.done(9, 0.7)
        second = until("sweep")
        assert [point["number"] for point in second["points"]] == [9]
        assert second["since"] == 1
        socket.send_json({"type": "select", "select": [], "sweep": {"not": "an id"}})
        filled.ledger.retry(None)
        assert until("sweeps")["sweeps"][0]["counts"]["failed"] == 0
