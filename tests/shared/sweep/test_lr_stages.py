import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ConfigError
from shared.sweep.lr_stages import HierarchicalRates, is_near
from tests.fabricate.sweep_points import settle, view

KEY = "optimizer.lr"


def bowl(best):
    return lambda rate: (math.log(rate) - math.log(best)) ** 2


def run_all(planner, points, score, failing=lambda rate: False):
    """Go on until nothing more comes, each point settled before the next question."""
    points = list(points)
    for _ in range(50):
        assert planner.propose(points) == planner.propose(points)
        wanted = planner.propose(points)
        if wanted is None:
            return points
        assert wanted, "all points are settled, so there is nothing to wait for"
        for proposal in wanted:
            rate = proposal.values[KEY]
            planned = view(len(points), proposal)
            points.append(settle(planned, None if failing(rate) else score(rate)))
    raise AssertionError("the planner does not come to an end")


def rates(points, stage=None):
    return sorted(point.values[KEY] for point in points if stage in (None, point.stage))


def best_of(points):
    return min((point for point in points if point.outcome), key=lambda point: point.outcome["score"]).values[KEY]


def test_stage_0_spreads_over_the_range_in_log_space():
    wanted = HierarchicalRates(1e-5, 1e-1).propose([])
    assert [proposal.values for proposal in wanted] == [{KEY: rate} for rate in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)]
    assert [proposal.overrides for proposal in wanted[:2]] == [(f"{KEY}=1e-05",), (f"{KEY}=0.0001",)]
    assert {proposal.stage for proposal in wanted} == {0}


def test_stage_1_is_around_the_best_at_a_third_of_the_distance():
    planner = HierarchicalRates(1e-5, 1e-1)
    points = [
        settle(view(number, proposal), bowl(1e-3)(proposal.values[KEY]))
        for number, proposal in enumerate(planner.propose([]))
    ]
    third = 10 ** (1 / 3)
    found = [proposal.values[KEY] for proposal in planner.propose(points)]
    # The best itself is tested, so the middle one is moved: one step of 1.1, and beyond it in the last digit.
    assert found == pytest.approx([1e-3 / third**2, 1e-3 / third, 1.101e-3, 1e-3 * third, 1e-3 * third**2], rel=1e-3)
    assert 1.101e-3 in found


def test_25_rates_for_the_default_range():
    points = run_all(HierarchicalRates(), [], bowl(1.3e-4))
    assert [len(rates(points, stage)) for stage in range(5)] == [5] * 5
    assert (rates(points)[0], rates(points)[-1]) == (1e-5, 5e-4)
    assert abs(math.log(best_of(points) / 1.3e-4)) < math.log(1.1)


def test_it_waits_until_a_stage_is_settled_and_not_for_the_last():
    planner = HierarchicalRates(stages=2)
    points = [view(number, proposal) for number, proposal in enumerate(planner.propose([]))]
    assert planner.propose(points) == []
    points = [settle(point, bowl(1e-4)(point.values[KEY])) for point in points]
    wanted = planner.propose(points)
    assert len(wanted) == 5
    points += [view(len(points) + number, proposal) for number, proposal in enumerate(wanted)]
    assert planner.propose(points) is None


def test_a_failed_rate_counts_as_tested_and_is_never_the_best():
    points = run_all(HierarchicalRates(), [], bowl(1e-3), failing=lambda rate: rate > 2e-4)
    assert len(points) == 25
    assert best_of(points) < 2e-4
    assert all(not is_near(one, other) for one in rates(points) for other in rates(points) if one != other)


def test_a_point_stopped_early_is_not_the_best():
    planner = HierarchicalRates(1e-5, 1e-1, stages=2)
    points = [
        settle(view(number, proposal), bowl(1e-3)(proposal.values[KEY]))
        for number, proposal in enumerate(planner.propose([]))
    ]
    points[0] = settle(points[0], -1.0, stopped_at=1)
    assert 5e-4 < planner.propose(points)[2].values[KEY] < 2e-3


def test_all_failed_ends_with_a_note():
    planner = HierarchicalRates()
    points = run_all(planner, [], bowl(1e-4), failing=lambda rate: True)
    assert len(points) == 5
    assert planner.notes[0] == "no rate has a score before stage 1: there is nothing to search around"


def test_a_narrow_range_has_fewer_and_says_so():
    planner = HierarchicalRates(1e-4, 1.3e-4)
    points = run_all(planner, [], bowl(1.2e-4))
    assert rates(points) == [1e-4, 1.14e-4, 1.3e-4]  # ln 1.3 / ln 1.1 = 2.8: three at most
    assert len(planner.notes) == 5
    assert planner.notes[0] == (
        "stage 0 has 3 of 5 rates: no other between 0.0001 and 0.00013 is more than 10 % away from those tested; "
        "widen hydra.sweeper.low or hydra.sweeper.high"
    )


def test_the_same_sweep_again_adds_nothing_and_a_wider_one_adds_to_it():
    narrow, wide = HierarchicalRates(1e-5, 1e-4), HierarchicalRates(1e-5, 1e-2)
    first = run_all(narrow, [], bowl(1e-3))
    assert narrow.propose(first) is None
    both = run_all(wide, first, bowl(1e-3))
    assert both[: len(first)] == first
    added = both[len(first) :]
    assert len([point for point in added if point.stage == 0]) == 3  # 1e-5 is there, 5.6e-5 stands within 10 %
    assert all(not is_near(one, other) for one in rates(both) for other in rates(both) if one != other)
    assert best_of(first) == 1e-4
    assert abs(math.log(best_of(both) / 1e-3)) < math.log(1.15)
    assert narrow.propose(both) is None
    assert wide.propose(both) is None


def test_more_stages_go_on_where_the_sweep_ended():
    points = run_all(HierarchicalRates(stages=3), [], bowl(1e-4))
    more = run_all(HierarchicalRates(stages=4), points, bowl(1e-4))
    assert [point.stage for point in more[15:]] == [3] * 5


def test_a_point_retried_after_the_end_changes_no_plan():
    planner = HierarchicalRates()
    points = run_all(planner, [], bowl(1e-4), failing=lambda rate: rate > 4e-4)
    retried = [settle(point, -5.0) if point.outcome is None else point for point in points]
    assert retried != points
    assert planner.propose(retried) is None


@settings(max_examples=60, deadline=None)
@given(
    low=st.floats(1e-7, 1e-3), decades=st.floats(0.05, 5.0), place=st.floats(-0.2, 1.2),
    number=st.integers(2, 7), stages=st.integers(1, 6),
)  # fmt: skip
def test_rates_are_inside_apart_and_never_more_than_asked_for(low, decades, place, number, stages):
    high = low * 10**decades
    planner = HierarchicalRates(low, high, number, stages)
    points = run_all(planner, [], bowl(low * 10 ** (place * decades)))
    found = rates(points)
    assert all(low <= rate <= high for rate in found)
    assert all(upper / lower > 1.1 for lower, upper in pairwise(found))
    assert len(found) <= number * stages
    assert (len(found) < number * stages) == bool(planner.notes)
    assert planner.propose(points) is None


@settings(max_examples=150, deadline=None)
@given(low=st.floats(1e-7, 1e-3), decades=st.floats(1.5, 4.0), place=st.floats(0.0, 1.0), skew=st.floats(0.3, 3.0))
def test_the_optimum_of_a_convex_score_is_found(low, decades, place, skew):
    high = low * 10**decades
    best = low * 10 ** (place * decades)

    def lopsided(rate):
        distance = math.log(rate / best)
        return distance**2 * (skew if distance > 0 else 1.0)

    points = run_all(HierarchicalRates(low, high), [], lopsided)
    assert len(points) == 25
    assert abs(math.log(best_of(points) / best)) < math.log(1.15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"low": 1e-3, "high": 1e-4}, r"sweeper\.low is 0\.001 and hydra\.sweeper\.high 0\.0001; low must be"),
        ({"low": 1e-4, "high": 1e-4}, "low must be below high$"),
        ({"low": 0.0}, r"hydra\.sweeper\.low is 0\.0; a learning rate above 0 is needed"),
        ({"low": -1e-4}, r"hydra\.sweeper\.low is -0\.0001; a learning rate above 0"),
        ({"high": math.nan}, r"hydra\.sweeper\.high is nan; a learning rate above 0"),
        ({"high": math.inf}, r"hydra\.sweeper\.high is inf; a learning rate above 0"),
        ({"low": "1e-4"}, r"hydra\.sweeper\.low is '1e-4'; a learning rate above 0"),
        ({"high": True}, r"hydra\.sweeper\.high is True; a learning rate above 0"),
        ({"points_per_stage": 1}, r"hydra\.sweeper\.points_per_stage is 1; a whole number from 2 on is needed"),
        ({"points_per_stage": 2.5}, r"hydra\.sweeper\.points_per_stage is 2\.5; a whole number"),
        ({"stages": 0}, r"hydra\.sweeper\.stages is 0; a whole number from 1 on is needed"),
        ({"stages": True}, r"hydra\.sweeper\.stages is True; a whole number"),
    ],
)
def test_wrong_settings_are_refused_by_key(arguments, message):
    with pytest.raises(ConfigError, match=message):
        HierarchicalRates(**arguments)


@pytest.mark.parametrize(
    ("values", "inside"),
    [
        ({KEY: 1e-5}, True), ({KEY: 5e-4}, True), ({KEY: 0.9e-5}, False), ({KEY: 5.1e-4}, False),
        ({KEY: 1e-4, "model": "a"}, False), ({"seed": 1e-4}, False), ({KEY: "a"}, False), ({KEY: True}, False),
        ({}, False),
    ],
)  # fmt: skip
def test_what_is_inside_the_range(values, inside):
    assert HierarchicalRates().contains(values) is inside


def test_space_is_plain_and_total_is_told():
    planner = HierarchicalRates(1e-5, 1e-3, 3, 2, "optimizer.head_lr")
    assert planner.total == 6
    assert planner.space() == {
        "kind": "hierarchical_lr", "key": "optimizer.head_lr", "low": 1e-5, "high": 1e-3, "points_per_stage": 3,
        "stages": 2,
    }  # fmt: skip
    assert planner.propose([])[0].overrides == ("optimizer.head_lr=1e-05",)


def test_stages_of_a_sweep_that_had_fewer_rates_a_stage_are_not_called_short_of_room():
    first = run_all(HierarchicalRates(1e-5, 1e-2, points_per_stage=4, stages=3), [], bowl(1e-3))
    more = HierarchicalRates(1e-5, 1e-2, points_per_stage=5, stages=3)
    run_all(more, first, bowl(1e-3))
    assert more.notes == []
