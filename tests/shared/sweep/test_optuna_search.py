import logging
import math
import random

import optuna
import pytest

from shared.errors import ConfigError
from shared.sweep import optuna_search
from shared.sweep.axes import parse_search
from shared.sweep.canonical import point_id
from shared.sweep.optuna_search import OptunaPlanner
from tests.fabricate.sweep_points import point, settle, view

MIXED = ["lr=tag(log,interval(1e-5,1e-1))", "model=a,b"]


def planner_of(arguments, total, **settings):
    _, axes = parse_search(arguments)
    return OptunaPlanner(axes, total, **settings)


def mixed_score(values):
    return math.log10(values["lr"] / 1e-3) ** 2 + (values["model"] == "b")


def go_on(planner, points, score, until=10_000):
    points = list(points)
    while len(points) < until and (wanted := planner.propose(points)) is not None:
        assert wanted
        points += [settle(view(len(points) + n, p), score(p.values)) for n, p in enumerate(wanted)]
    return points


def ids(points):
    return [point_id(point.values, 0) for point in points]


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_it_stops_at_the_total_without_repeats_and_is_resumed_towards_it(sampler):
    arguments = ["a=range(0,4)", "model=x,y,z"] if sampler == "grid" else MIXED
    planner = planner_of(arguments, 10, batch=3, sampler=sampler, seed=4)
    points = go_on(planner, [], lambda values: 1.0)
    assert len(points) == 10 == len(set(ids(points)))
    assert planner.propose(points) is None
    again = go_on(planner_of(arguments, 10, batch=3, sampler=sampler, seed=4), points[:6], lambda values: 1.0)
    assert ids(again) == ids(points)
    more = go_on(planner_of(arguments, 12, batch=3, sampler=sampler, seed=4), points, lambda values: 1.0)
    assert ids(more)[:10] == ids(points)
    assert len(set(ids(more))) == 12


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_the_same_points_give_the_same_answer(sampler):
    arguments = ["a=range(0,9)", "b=range(0,9)"] if sampler == "grid" else MIXED
    points = go_on(planner_of(arguments, 20, sampler=sampler), [], lambda values: 1.0, until=13)
    first, second = (planner_of(arguments, 20, batch=4, sampler=sampler).propose(points) for _ in range(2))
    assert first == second
    other = planner_of(arguments, 20, batch=4, sampler=sampler, seed=1).propose(points)
    assert other != first


def test_tpe_finds_what_random_does_not():
    means = {}
    for sampler in ("tpe", "random"):
        points = go_on(planner_of(MIXED, 40, batch=4, sampler=sampler), [], mixed_score)
        means[sampler] = sum(point.outcome["score"] for point in points[20:]) / 20
        best = min(points, key=lambda point: point.outcome["score"])
        assert best.overrides == (f"lr={best.values['lr']!r}", f"model={best.values['model']}")
    assert means["tpe"] < 0.7 * means["random"]


@pytest.mark.slow
def test_gp_finds_it_in_few_points():
    points = go_on(planner_of(MIXED, 16, batch=2, sampler="gp"), [], mixed_score)
    assert min(point.outcome["score"] for point in points) < 0.05


def test_several_at_once_do_not_propose_the_same():
    planner = planner_of(MIXED, 30, batch=8)
    points = go_on(planner, [], mixed_score, until=16)
    running = [view(len(points) + n, proposal) for n, proposal in enumerate(planner.propose(points))]
    assert planner.propose([*points, *running]) == []
    half = [settle(one, mixed_score(one.values)) for one in running[:4]] + running[4:]
    wanted = planner.propose([*points, *half])
    assert len(wanted) == 4
    assert not {point_id(one.values, 0) for one in wanted} & set(ids([*points, *half]))


def test_running_points_keep_the_sampler_away_from_them():
    arguments = ["lr=tag(log,interval(1e-5,1e-1))"]
    points = go_on(planner_of(arguments, 60), [], lambda values: math.log10(values["lr"] / 1e-3) ** 2, until=20)

    def first(there, seed):
        (wanted,) = planner_of(arguments, len(there) + 1, batch=99, seed=seed).propose(there)
        return math.log10(wanted.values["lr"])

    free = [first(points, seed) for seed in range(8)]
    middle, spread = sum(free) / 8, max(free) - min(free)
    chance = random.Random(0)
    crowd = [{"lr": 10 ** chance.uniform(middle - spread, middle + spread)} for _ in range(30)]
    running = [view(20 + n, point(0, values, 0.0)) for n, values in enumerate(crowd)]
    crowded = [first([*points, *running], seed) for seed in range(8)]
    assert spread < 0.6
    assert sum(abs(place - middle) > spread for place in crowded) >= 6


def test_a_finite_space_ends_and_says_so():
    planner = planner_of(["a=range(0,3)", "model=x,y"], 50, batch=4)
    points = go_on(planner, [], lambda values: float(values["a"]))
    assert len(points) == 6 == len(set(ids(points)))
    assert planner.total == 6
    assert planner.notes == ["the space has 6 points, so the total of 50 is not reached"]


def test_a_space_without_unknown_points_ends_and_says_so():
    planner = planner_of(["a=interval(1,1.000001)"], 50)
    points = go_on(planner, [], lambda values: 1.0)
    assert 1 <= len(points) <= 2
    assert planner.notes == [f"no unknown point was found after {len(points)}; widen the space"]


def test_a_known_suggestion_is_told_and_asked_again(monkeypatch):
    class Stubborn(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, name, distribution):
            return 1.0

    monkeypatch.setattr(optuna_search, "_sampler", lambda name, seed: Stubborn())
    told = []
    tell = optuna.Study.tell
    monkeypatch.setattr(optuna.Study, "tell", lambda self, trial, value: told.append(value) or tell(self, trial, value))
    planner = planner_of(["a=interval(0,2)"], 3)
    wanted = planner.propose([point(0, {"a": 1}, 7.5)])
    assert told == [7.5] * (optuna_search.MAX_TRIES + 1)
    assert len(wanted) == 1
    assert wanted[0].values["a"] != 1


def test_the_study_is_told_what_became_of_each_point():
    planner = planner_of(MIXED, 9)
    points = [
        point(0, {"lr": 1e-3, "model": "a"}, 0.5),
        point(1, {"lr": 1e-2, "model": "b"}, 2.0),
        point(2, {"lr": 1e-1, "model": "a"}),
        point(3, {"lr": 1e-4, "model": "a"}, 1.5, stopped_at=2),
        view(4, point(4, {"lr": 1e-5, "model": "b"}, 0.0)),
    ]
    trials = [planner._trial(one, 2.0) for one in points]
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "RUNNING"]
    assert [trial.value for trial in trials] == [0.5, 2.0, 2.0, 1.5, None]
    assert trials[3].intermediate_values == {2: 1.5}
    assert trials[1].params == {"lr": 1e-2, "model": 1}
    assert planner._trial(points[2], None).state.name == "FAIL"


def test_points_of_another_space_do_not_count():
    planner = planner_of(MIXED, 2)
    outside = [
        point(0, {"lr": 1.0, "model": "a"}, 0.1),
        point(1, {"lr": 1e-3}, 0.1),
        point(2, {"lr": 1e-3, "model": "c"}),
    ]
    assert not any(planner.contains(one.values) for one in outside)
    assert len(planner.propose(outside)) == 1
    assert planner.space() == {
        "kind": "optuna",
        "total": 2,
        "axes": {"lr": {"low": 1e-5, "high": 1e-1, "log": True, "whole": False}, "model": {"values": ["a", "b"]}},
    }


def test_suggestions_stay_inside_and_keep_plus_signs():
    planner = planner_of(["+n=int(interval(1,3))", "x=interval(0.1234567,0.1234569)"], 8, batch=8, sampler="random")
    wanted = planner.propose([])
    assert wanted
    for proposal in wanted:
        assert planner.contains(proposal.values)
        assert proposal.overrides[0] == f"+n={proposal.values['n']}"
        assert 0.1234567 <= proposal.values["x"] <= 0.1234569


def test_optuna_is_left_as_it_was(caplog):
    before = optuna.logging.get_verbosity()
    with caplog.at_level(logging.INFO):
        planner_of(MIXED, 4, batch=4).propose([])
    assert optuna.logging.get_verbosity() == before
    assert not [record for record in caplog.records if record.name.startswith("optuna")]


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (
            MIXED,
            {"sampler": "cmaes"},
            r"hydra\.sweeper\.sampler is cmaes, which keeps its state outside the points and so",
        ),
        (
            MIXED,
            {"sampler": "annealing"},
            r"hydra\.sweeper\.sampler is 'annealing'; allowed are tpe, random, gp, grid$",
        ),
        (MIXED, {"sampler": "grid"}, r"sampler is grid, but lr is an interval of numbers without end; list its values"),
        (MIXED, {"total": 0}, r"hydra\.sweeper\.total is 0; a whole number from 1 on is needed"),
        (MIXED, {"total": None}, r"hydra\.sweeper\.total is None; a whole number"),
        (MIXED, {"batch": 0}, r"hydra\.sweeper\.batch is 0; a whole number"),
        (["trainer=cpu"], {}, "hydra/sweeper=optuna has nothing to search; give an override such as"),
    ],
)
def test_wrong_settings_are_refused_by_key(arguments, settings, message):
    with pytest.raises(ConfigError, match=message):
        planner_of(arguments, **{"total": 5, **settings})


def test_a_grid_needs_no_total():
    assert planner_of(["a=1,2", "b=range(0,3)"], None, sampler="grid").total == 6
