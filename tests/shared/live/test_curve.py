import numpy as np
import pytest

from shared.live.curve import Curve


def filled(num, max_points=100, every=1):
    curve = Curve(max_points)
    losses = np.random.default_rng(0).normal(size=num)
    for k in range(num):
        curve.add((k + 1) * every, k // 10, float(losses[k]), 0.1, stamp=k + 1)
    return curve, losses


@pytest.mark.parametrize("every", [1, 7, 1000])
def test_any_number_of_steps_stays_below_the_limit_and_loses_no_extreme(every):
    curve, losses = filled(12_345, every=every)
    found = curve.changes(0)
    rows = found["rows"]
    assert 25 < len(rows) <= 100
    assert found["count"] == sum(row[6] for row in rows) == 12_345
    assert min(row[3] for row in rows) == pytest.approx(losses.min(), rel=1e-5)
    assert max(row[4] for row in rows) == pytest.approx(losses.max(), rel=1e-5)
    assert sum(row[2] * row[6] for row in rows) / 12_345 == pytest.approx(losses.mean(), abs=1e-5)
    assert [row[0] for row in rows] == sorted({row[0] for row in rows})
    assert rows[-1][0] == 12_345 * every


def test_few_steps_are_kept_as_they_are():
    curve, losses = filled(100)
    assert [row[2] for row in curve.changes(0)["rows"]] == pytest.approx(losses.tolist(), rel=1e-5)


def test_changes_bring_any_earlier_state_up_to_date():
    curve = Curve(64)
    rng = np.random.default_rng(1)
    copies = {0: []}  # stamp -> the rows that somebody had then
    step = 0
    for stamp in range(1, 2001):
        if rng.random() < 0.01:
            step = int(step * rng.random())
            curve.truncate(step)
        else:
            step += int(rng.integers(1, 5))
            curve.add(step, 0, float(rng.normal()), 0.1, stamp)
        for since in rng.choice(list(copies), size=3):
            change = curve.changes(int(since))
            assert copies[int(since)][: change["from"]] + change["rows"] == curve.changes(0)["rows"]
        copies[stamp] = curve.changes(0)["rows"]
        if len(copies) > 5:
            copies.pop(min(copies))


def test_truncation_leaves_nothing_past_the_step():
    curve, _ = filled(1000)
    width = curve.width
    assert width > 1
    curve.truncate(500)
    rows = curve.changes(0)["rows"]
    assert rows[-1][0] <= 500
    assert rows[-1][0] > 500 - width
    assert curve.count == sum(row[6] for row in rows)


def test_a_loss_that_is_not_finite_is_a_gap():
    curve = Curve()
    curve.add(1, 0, None, None, 1)
    curve.add(2, 0, 0.5, 0.1, 2)
    assert [row[2] for row in curve.changes(0)["rows"]] == [None, 0.5]


def test_a_limit_below_two_is_refused():
    with pytest.raises(ValueError, match="max_points must be at least 2, got 1"):
        Curve(1)
