import math

import pytest
import torch

from projects.redheart.models.advanced.regret import AdvancedRegret, foregone
from tests.fabricate import analyzer_contract as contract
from tests.fabricate.story_network import fabricated_context, sizes

NUMBERS = {"hidden": 24, "num_heads": 4, "alternatives": 2, "horizons": 3, "dropout": 0.0}


@pytest.mark.parametrize("check", contract.CONTRACT, ids=lambda check: check.__name__)
def test_contract(check):
    check(AdvancedRegret, **NUMBERS)


def test_the_full_size_is_44_million():
    numbers = sizes("full")["analyzers"]["advanced_regret"]
    assert contract.parameters(AdvancedRegret, 768, **numbers) == pytest.approx(44.2e6, rel=0.01)


def test_what_was_foregone_by_hand():
    actual, alternatives = torch.tensor([1.0]), torch.tensor([[0.0, 2.0, 4.0]])
    assert foregone(actual, alternatives, torch.tensor(1e-3)).item() == pytest.approx(3.0, abs=0.01)  # the best
    assert foregone(actual, alternatives, torch.tensor(1e4)).item() == pytest.approx(1.0, abs=0.01)  # the mean
    between = math.log((1 + math.e**2 + math.e**4) / 3) - 1
    assert foregone(actual, alternatives, torch.tensor(1.0)).item() == pytest.approx(between, abs=1e-6)
    assert foregone(actual, torch.tensor([[5.0]]), torch.tensor(0.7)).item() == pytest.approx(4.0)


def test_alternatives_as_good_as_the_deed_give_no_regret():
    same = foregone(torch.full((4,), 2.0), torch.full((4, 3), 2.0), torch.tensor(0.5))
    torch.testing.assert_close(same, torch.zeros(4), atol=1e-6, rtol=0)


def test_the_action_is_what_its_parts_tell_else_the_story():
    analyzer = contract.built(AdvancedRegret, **NUMBERS)
    context = fabricated_context(4, 8, contract.WIDTH)
    has_action = (context.part == 2).any(1)
    assert has_action.tolist() == [True, True, False, True]
    shift = torch.randn(contract.WIDTH)
    sentences = torch.where((context.part == 2)[..., None], context.sequence, context.sequence + shift)
    courses = analyzer.courses(context)
    assert courses.shape == (4, 5, contract.WIDTH)
    # Sentences are not read here, the action is.
    assert torch.equal(analyzer.courses(context._replace(sequence=sentences)), courses)
    acts = torch.where((context.part == 2)[..., None], context.sequence + shift, context.sequence)
    moved = (analyzer.courses(context._replace(sequence=acts)) - courses).abs().amax((1, 2))
    assert (moved > 1e-3).tolist() == has_action.tolist()


def test_deeds_are_regretted_soon_and_omissions_late_at_first():
    weight = AdvancedRegret(contract.WIDTH, **NUMBERS).time_weight.softmax(-1)
    assert weight[0].tolist() == sorted(weight[0].tolist(), reverse=True)
    assert weight[1].tolist() == sorted(weight[1].tolist())


def constant_values(analyzer, values):
    """Give each horizon the same values of the five courses, whatever the story."""
    for horizon in analyzer.horizons:
        horizon.register_forward_hook(lambda _, __, output: (output[0], torch.tensor(values).expand(4, 5)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 2.0, 2.0, 2.0, 2.0], 2.0),  # all alternatives better by 2: regret whatever the weights
        ([2.0, 0.0, 0.0, 0.0, 0.0], -2.0),
        ([3.0, 3.0, 3.0, 3.0, 3.0], 0.0),
    ],
)
def test_regret_is_the_mean_over_kinds_and_time(values, expected):
    analyzer = contract.built(AdvancedRegret, **NUMBERS)
    constant_values(analyzer, values)
    with torch.no_grad():
        analyzer.gain.fill_(math.log(math.e - 1))  # softplus: 1
        analyzer.offset.fill_(0.5)
        regret = analyzer(fabricated_context(4, 8, contract.WIDTH))["regret"]
    torch.testing.assert_close(regret, torch.full((4, 1), expected + 0.5))


def test_only_the_kind_that_was_better_is_regretted():
    analyzer = contract.built(AdvancedRegret, **NUMBERS)
    constant_values(analyzer, [0.0, 1.0, 1.0, 0.0, 0.0])
    with torch.no_grad():
        analyzer.gain.fill_(math.log(math.e - 1))
        analyzer.offset.zero_()
        context = fabricated_context(4, 8, contract.WIDTH)
        share = analyzer.kind(context.pooled).softmax(-1)[:, :1]
        torch.testing.assert_close(analyzer(context)["regret"], share)


def test_parts_and_story_both_change_the_answer():
    analyzer = contract.built(AdvancedRegret, **NUMBERS)
    other = fabricated_context(4, 8, contract.WIDTH, seed=9)
    for field in ("sequence", "pooled"):
        assert contract.changes(analyzer, **{field: getattr(other, field)})["regret"] > 1e-2


@pytest.mark.parametrize("wrong", [{"alternatives": 0}, {"horizons": 1}])
def test_nothing_to_compare_is_refused(wrong):
    with pytest.raises(ValueError, match=r"alternatives \d, horizons \d; allowed: at least 1 and at least 2"):
        AdvancedRegret(contract.WIDTH, **NUMBERS | wrong)
