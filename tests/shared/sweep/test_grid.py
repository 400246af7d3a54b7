import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ConfigError
from shared.sweep import grid
from shared.sweep.canonical import point_id
from shared.sweep.grid import GridPlanner, parse_grid
from tests.fabricate.sweep_points import settle, view

NUMBERS = st.one_of(st.integers(-9, 9), st.floats(1e-6, 1.0))


def values_of(proposals):
    return [proposal.values for proposal in proposals]


def test_all_combinations_the_last_key_fastest():
    fixed, planner = parse_grid(["trainer=cpu", "model=a,b", "optimizer.lr=1e-3,1e-4", "++note=x", "~callbacks.live"])
    assert fixed == ("trainer=cpu", "++note=x", "~callbacks.live")
    assert planner.total == 4
    wanted = planner.propose([])
    assert values_of(wanted) == [
        {"model": "a", "optimizer.lr": 0.001}, {"model": "a", "optimizer.lr": 0.0001},
        {"model": "b", "optimizer.lr": 0.001}, {"model": "b", "optimizer.lr": 0.0001},
    ]  # fmt: skip
    assert wanted[1].overrides == ("model=a", "optimizer.lr=0.0001")
    assert planner.space() == {"kind": "grid", "values": {"model": ["a", "b"], "optimizer.lr": [0.001, 0.0001]}}


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("a=choice(1,x,true)", [1, "x", True]),
        ("a=null,1", [None, 1]),
        ("a=range(0,3)", [0, 1, 2]),
        ("a=range(0,1,0.25)", [0, 0.25, 0.5, 0.75]),
        ("a=[1,2],[3]", [[1, 2], [3]]),
        ("a={b:1},{b:2}", [{"b": 1}, {"b": 2}]),
        ("a='x,y','z w'", ["x,y", "z w"]),
        ("+a=tag(t,choice(1,2))", [1, 2]),
        ("a=sort(3,1,2)", [1, 2, 3]),
    ],
)
def test_what_hydra_calls_a_sweep(argument, expected):
    _, planner = parse_grid([argument])
    assert [values["a"] for values in values_of(planner.propose([]))] == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["model=a,b", "x.y=1,2.5,'q r'", "z=3"], ["+a=range(1,4)", "~b", "c=[1,2],[3]"], ["a='x\\'y',z", "b@c=d,e"],
        ["a={b:1},{b:[2,3]}", "d=null,true"],
    ],
)  # fmt: skip
def test_jobs_are_those_of_hydras_own_sweeper(arguments):
    fixed, planner = parse_grid(arguments)
    swept = [argument for argument in arguments if argument not in fixed]
    overrides = OverridesParser.create().parse_overrides(swept)
    expected = BasicSweeper.split_arguments(overrides, max_batch_size=None)[0]
    assert [list(proposal.overrides) for proposal in planner.propose([])] == expected


def test_a_value_added_later_adds_only_what_is_new():
    _, first = parse_grid(["model=a,b", "lr=choice(1e-3)"])
    points = [settle(view(number, proposal), 1.0) for number, proposal in enumerate(first.propose([]))]
    assert first.propose(points) is None
    _, second = parse_grid(["lr=1e-3,1e-4", "model=b,a,c"])
    assert values_of(second.propose(points)) == [
        {"lr": 0.001, "model": "c"},
        {"lr": 0.0001, "model": "b"}, {"lr": 0.0001, "model": "a"}, {"lr": 0.0001, "model": "c"},
    ]  # fmt: skip
    _, fewer = parse_grid(["model=choice(a)", "lr=choice(0.001)"])
    assert [fewer.contains(point.values) for point in points] == [True, False]


def test_one_value_written_in_several_ways_is_one_point():
    _, planner = parse_grid(["lr=1e-4,0.0001,'1e-4',1e-3"])
    assert values_of(planner.propose([])) == [{"lr": 0.0001}, {"lr": 0.001}]
    assert planner.notes == ["lr=1e-4,0.0001,'1e-4',1e-3 lists 4 values, 2 of them different"]
    assert planner.contains({"lr": 0.000100000001})
    assert not planner.contains({"lr": 0.0001, "seed": 1})


def test_a_plus_makes_no_other_point_but_stays_in_the_override():
    _, planner = parse_grid(["+model.width=1,2"])
    wanted = planner.propose([])
    assert wanted[0].values == {"model.width": 1}
    assert wanted[0].overrides == ("+model.width=1",)


def test_nothing_swept_is_one_point():
    fixed, planner = parse_grid(["trainer=cpu"])
    assert (fixed, planner.total) == (("trainer=cpu",), 1)
    wanted = planner.propose([])
    assert values_of(wanted) == [{}]
    assert planner.propose([view(0, wanted[0])]) is None


def test_group_options_come_from_the_loader():
    class Loader:
        def get_group_options(self, group, results_filter):
            return ["small", "large", "other"]

    _, planner = parse_grid(["model=glob(*,exclude=o*)"], Loader())
    assert values_of(planner.propose([])) == [{"model": "small"}, {"model": "large"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lr=interval(1e-5,1e-3)"], r"lr=interval\(1e-5,1e-3\) is an interval, which a grid cannot enumerate; list"),
        (["lr=1e-3,nan"], r"lr=1e-3,nan cannot be swept: a swept number must be finite"),
        (["lr=1,2", "+lr=3,4"], "lr is swept twice; list all its values in one override$"),
        (["a=range(3,3)"], r"a=range\(3,3\) lists no value; at least 1 is needed"),
        (["a=range(1,3,0)"], r"a=range\(1,3,0\) cannot be swept"),
        (["a=[1,2"], r"a=\[1,2 is no override of Hydra's: no viable alternative"),
    ],
)
def test_what_is_no_grid_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        parse_grid(arguments)


def test_a_grid_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(grid, "MAX_POINTS", 9)
    with pytest.raises(ConfigError, match=r"the grid over a, b has 10 points; allowed are up to 9"):
        parse_grid(["a=1,2", "b=range(0,5)"])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(NUMBERS, min_size=1, max_size=4), min_size=1, max_size=3),
    st.data(),
)
def test_points_are_distinct_and_what_is_left_out_comes_next_time(lists, data):
    arguments = [f"k{n}={','.join(map(repr, values))}" for n, values in enumerate(lists) if len(values) > 1]
    arguments += [f"k{n}=choice({values[0]!r})" for n, values in enumerate(lists) if len(values) == 1]
    _, planner = parse_grid(arguments)
    wanted = planner.propose([])
    assert len(wanted) == planner.total == len({point_id(proposal.values, 0) for proposal in wanted})
    known = data.draw(st.sets(st.integers(0, len(wanted) - 1)))
    points = [view(number, wanted[place]) for number, place in enumerate(sorted(known))]
    rest = [proposal for place, proposal in enumerate(wanted) if place not in known]
    assert planner.propose(points) == (rest or None)
    assert isinstance(planner, GridPlanner)
