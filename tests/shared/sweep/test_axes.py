import random

import pytest

from shared.errors import ConfigError
from shared.sweep.axes import (
    Choice,
    Interval,
    axis_of,
    drawn_value,
    listed_values,
    parse_search,
    place_of,
    plain_axis,
    size_of,
)


@pytest.mark.parametrize(
    ("argument", "axis"),
    [
        ("a=interval(1,3)", Interval(1.0, 3.0)),
        ("a=int(interval(1,9))", Interval(1, 9, whole=True)),
        ("a=tag(log,interval(1e-5,1e-3))", Interval(1e-5, 1e-3, log=True)),
        ("a=tag(log,int(interval(1,64)))", Interval(1, 64, log=True, whole=True)),
        ("a=range(0,10,4)", Choice(("a=0", "a=4", "a=8"), (0, 4, 8), ordered=True)),
        ("a=choice(x,2.5)", Choice(("a=x", "a=2.5"), ("x", 2.5))),
        ("a=x,y", Choice(("a=x", "a=y"), ("x", "y"))),
    ],
)
def test_what_an_override_may_be(argument, axis):
    fixed, axes = parse_search(["trainer=cpu", argument])
    assert fixed == ("trainer=cpu",)
    assert axes == {"a": ("a", axis)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["a=interval(3,3)"],
            r"a=interval\(3,3\) is no range to search in; two finite numbers, the smaller first, are",
        ),
        (["a=interval(3,1)"], "no range to search in"),
        (["a=interval(0,inf)"], "no range to search in"),
        (["a=tag(log,interval(0,1))"], "two finite numbers, the smaller first and above 0, are needed$"),
        (["a=1,2", "+a=interval(0,1)"], "a is swept twice; say what it may be in one override$"),
        (["a=range(2,2)"], r"a=range\(2,2\) lists no value"),
    ],
)
def test_what_is_no_axis_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        parse_search(arguments)


def test_places_of_values():
    choice = Choice(("a=x", "a=1"), ("x", 1))
    assert [place_of(choice, value) for value in ("x", 1, 1.0, "y")] == [0, 1, 1, None]
    interval = Interval(1e-5, 1e-3, log=True)
    assert [place_of(interval, value) for value in (1e-5, 1e-3 * (1 + 1e-12), 2e-3, "x", True)] == [
        1e-5, 1e-3, None, None, None,
    ]  # fmt: skip
    assert [place_of(Interval(1, 9, whole=True), value) for value in (9, 2.5, 10)] == [9, None, None]


def test_sizes_lists_and_plain_forms():
    whole, choice = Interval(1, 4, whole=True), Choice(("a=x", "a=y"), ("x", "y"))
    assert list(listed_values(whole)) == [1, 2, 3, 4]
    assert size_of({"a": ("a", whole), "b": ("b", choice)}) == 8
    assert size_of({"a": ("a", whole), "b": ("b", Interval(0.0, 1.0))}) is None
    assert plain_axis(whole) == {"low": 1, "high": 4, "log": False, "whole": True}
    assert plain_axis(choice) == {"values": ["x", "y"]}


def test_draws_are_even_in_log_space_where_it_is_said():
    chance = random.Random(0)
    draws = [drawn_value(Interval(1e-4, 1.0, log=True), chance) for _ in range(2000)]
    assert all(1e-4 <= draw <= 1.0 for draw in draws)
    assert sum(draw < 1e-2 for draw in draws) / 2000 == pytest.approx(0.5, abs=0.05)
    even = [drawn_value(Interval(0.0, 1.0), chance) for _ in range(2000)]
    assert sum(draw < 0.25 for draw in even) / 2000 == pytest.approx(0.25, abs=0.05)
    assert {drawn_value(Interval(1, 3, whole=True), chance) for _ in range(99)} == {1, 2, 3}
    assert {drawn_value(Choice(("a=x", "a=y"), ("x", "y")), chance) for _ in range(99)} == {0, 1}


@pytest.mark.parametrize(
    "axis", [Interval(1e-5, 1e-3, log=True), Interval(1, 9, whole=True), Choice(("a=x", "a=2"), ("x", 2))]
)
def test_an_axis_is_read_back_from_a_plan(axis):
    found = axis_of(plain_axis(axis))
    assert plain_axis(found) == plain_axis(axis)
    values = axis.values if isinstance(axis, Choice) else (axis.low, axis.high, axis.high + 1)
    assert [place_of(found, value) for value in values] == [place_of(axis, value) for value in values]
