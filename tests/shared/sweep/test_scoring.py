import math

import pytest

from shared.errors import DataError
from shared.sweep import scoring
from shared.sweep.scoring import (
    RATE_SCORE,
    Epoch,
    lr_score,
    measured,
    minimised,
    monitor_score,
    ranked,
    rate_key,
    read_epochs,
    score_of,
)
from tests.fabricate.sweep_points import point, view

TABLE = """epoch,train/loss,val/loss,val/accuracy,train/gradient_norm
0,3.0,2.5,0.1,1.5
1,2.0,nan,,
2,1.0,1.5,0.6,0.5
3,0.5,1.75,0.4,0.25
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(TABLE)
    return path


def test_epochs_are_read(table):
    epochs = read_epochs(table)
    assert epochs[0] == Epoch(0, 3.0, 2.5, 1.5)
    assert math.isnan(epochs[1].val_loss)
    assert epochs[1].gradient_norm is None
    assert epochs[3] == Epoch(3, 0.5, 1.75, 0.25)
    assert read_epochs(table.parent / "absent.csv") == []


@pytest.mark.parametrize("content", ["epoch,val/loss\n0,1.0\n", "epoch,train/loss,val/loss\n0,1.0,x\n"])
def test_a_table_without_numbers_is_refused(table, content):
    table.write_text(content)
    with pytest.raises(DataError, match=r"metrics\.csv has no numbers for epoch, train/loss and val/loss"):
        read_epochs(table)


def test_lr_score_by_hand():
    epochs = [Epoch(0, 9.0, 9.0), Epoch(1, 3.0, 2.0), Epoch(2, 2.0, 1.0), Epoch(3, 1.0, 3.0)]
    assert lr_score(epochs) == pytest.approx((2.0 + 1.0 + 3.0) / 3 + 0.1 * 2.0)
    assert lr_score(epochs[:2]) == pytest.approx(5.5 + 0.1)
    with pytest.raises(ValueError, match="there is no epoch to score; at least 1 is needed"):
        lr_score([])


def test_the_best_of_a_monitor_over_all_epochs(table):
    assert monitor_score(table, "val/loss", "min") == 1.5
    assert monitor_score(table, "val/loss", "max") == 2.5
    assert monitor_score(table, "val/accuracy", "max") == 0.6


@pytest.mark.parametrize(
    ("key", "content", "message"),
    [
        ("val/f1", TABLE, r"metrics\.csv has no column val/f1; it has epoch, train/loss"),
        ("val/loss", "epoch,val/loss\n0,nan\n", r"metrics\.csv has no finite val/loss in 1 epochs"),
        ("val/loss", "epoch,val/loss\n0,abc\n", r"a cell in column val/loss that is no number"),
        ("val/loss", "epoch,val/loss\n", r"no finite val/loss in 0 epochs"),
    ],
)
def test_a_monitor_that_is_not_there_is_refused(table, key, content, message):
    table.write_text(content)
    with pytest.raises(DataError, match=message):
        monitor_score(table, key, "min")


def test_another_direction_is_refused(table):
    with pytest.raises(ValueError, match="direction is 'up'; allowed are 'min' and 'max'"):
        monitor_score(table, "val/loss", "up")


def test_a_score_is_one_of_a_done_point_and_finite():
    assert measured(point(0, {"a": 1}, 2)) == 2.0
    assert [measured(point(0, {"a": 1}, score)) for score in (None, math.nan, math.inf, True, "1")] == [None] * 5
    assert measured(view(0, point(0, {"a": 1}, 1.0))) is None


def test_ranking_puts_stopped_points_last_and_failed_ones_nowhere():
    points = [
        point(0, {"a": 0}, 2.0), point(1, {"a": 1}), point(2, {"a": 2}, 0.1, stopped_at=1), point(3, {"a": 3}, 1.0),
        point(4, {"a": 4}, 1.0), point(5, {"a": 5}, 0.2, stopped_at=2), point(6, {"a": 6}, math.nan),
    ]  # fmt: skip
    assert [one.number for one in ranked(points)] == [3, 4, 0, 2, 5]
    assert [one.number for one in ranked(points, "max")] == [0, 3, 4, 5, 2]
    assert [scoring.was_stopped(one) for one in points[:3]] == [False, False, True]


def test_a_planner_sees_scores_to_be_minimised():
    points = [point(0, {"a": 0}, 2.0, value=5.0), point(1, {"a": 1}), point(2, {"a": 2}, 3.0)]
    assert minimised(points, "min") == points
    seen = minimised(points, "max")
    assert [measured(one) for one in seen] == [-2.0, None, -3.0]
    assert seen[0].outcome["value"] == 5.0
    assert measured(points[0]) == 2.0
    assert [one.number for one in ranked(seen)] == [one.number for one in ranked(points, "max")]


def test_rates_alone_are_ranked_by_losses_and_anything_else_by_the_monitor():
    def grid(*keys):
        return {"kind": "grid", "values": {key: [1e-4, 1e-3] for key in keys}}

    stages = {"kind": "hierarchical_lr", "key": "optimizer.head_lr"}
    assert (rate_key(grid("optimizer.lr")), rate_key(stages)) == ("optimizer.lr", "optimizer.head_lr")
    for space in (grid("optimizer.lr", "seed"), grid("seed"), grid(), {"kind": "optuna", "values": {}}, {}):
        assert rate_key(space) is None
        assert score_of(space, "val/f1", "max") == ("max", "val/f1")
    assert score_of(grid("seed"), "val/loss", "min") == ("min", "val/loss")
    assert score_of(grid("optimizer.lr"), "val/f1", "max") == ("min", RATE_SCORE)
