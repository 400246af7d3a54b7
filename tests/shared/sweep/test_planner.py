import json
import random

import pytest

from shared.sweep.axes import parse_search
from shared.sweep.grid import parse_grid
from shared.sweep.lr_stages import HierarchicalRates
from shared.sweep.optuna_search import OptunaPlanner
from shared.sweep.planner import Planner
from tests.fabricate.sweep_points import settle, view


def search() -> OptunaPlanner:
    return OptunaPlanner(parse_search(["a=interval(0,1)", "b=x,y"])[1], total=12, batch=5)


PLANNERS = {
    "rates": HierarchicalRates,
    "grid": lambda: parse_grid(["a=1,2,3", "b=x,y"])[1],
    "optuna": search,
}


@pytest.mark.parametrize("name", PLANNERS)
def test_what_all_planners_promise(name):
    """A new planner at each question, points in any order and points of another search among them: the same answer."""
    points, strange = [], view(900, parse_grid(["other=1,2"])[1].propose([])[0])
    chance = random.Random(0)
    for _ in range(20):
        planner: Planner = PLANNERS[name]()
        wanted = planner.propose(points)
        shuffled = [*points, strange]
        chance.shuffle(shuffled)
        assert PLANNERS[name]().propose(shuffled) == wanted
        if wanted is None:
            break
        assert wanted
        for proposal in wanted:
            assert planner.contains(proposal.values)
            assert len(proposal.overrides) == len(proposal.values)
            points.append(settle(view(len(points), proposal), chance.random()))
        fresh = len(points) - len(wanted)
        waiting = [view(fresh + place, proposal) for place, proposal in enumerate(wanted)]
        assert PLANNERS[name]().propose([*points[:fresh], *waiting]) in ([], None)
    assert wanted is None
    assert len(points) == planner.total
    assert not planner.contains(strange.values)
    assert json.loads(json.dumps(planner.space())) == planner.space()
    assert isinstance(planner.notes, list)
