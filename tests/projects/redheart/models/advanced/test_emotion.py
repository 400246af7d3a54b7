from itertools import combinations

import pytest
import torch
from torch.nn import functional as F

from projects.redheart.models.advanced.emotion import CHECKS, PAIRS, AdvancedEmotion, PairExperts, votes
from tests.fabricate import analyzer_contract as contract
from tests.fabricate.story_network import fabricated_context, sizes

NUMBERS = {"hidden": 24, "expert_hidden": 4, "num_heads": 4, "blocks": 2, "dropout": 0.0}


@pytest.mark.parametrize("check", contract.CONTRACT, ids=lambda check: check.__name__)
def test_contract(check):
    check(AdvancedEmotion, **NUMBERS)


def test_the_full_size_is_63_million():
    numbers = sizes("full")["analyzers"]["advanced_emotion"]
    assert contract.parameters(AdvancedEmotion, 768, **numbers) == pytest.approx(63.0e6, rel=0.01)


def test_votes_by_hand():
    decisions = torch.zeros(3, 21)
    decisions[0, PAIRS.index((0, 1))] = 6.0
    decisions[1, PAIRS.index((2, 6))] = -3.0
    for pair in combinations(range(7), 2):  # the third: emotion 4 beats all others by 1
        decisions[2, PAIRS.index(pair)] = {0: 1.0, 1: -1.0}[pair.index(4)] if 4 in pair else 0.0
    found = votes(decisions, torch.full((3, 21), 1 / 21))
    torch.testing.assert_close(found[0], torch.tensor([1.0, -1, 0, 0, 0, 0, 0]))
    torch.testing.assert_close(found[1], torch.tensor([0, 0, -0.5, 0, 0, 0, 0.5]))
    torch.testing.assert_close(found[2], torch.tensor([-1 / 6] * 4 + [1.0] + [-1 / 6] * 2))


def test_a_pair_outside_the_gate_has_no_vote():
    gate = torch.zeros(1, 21)
    gate[0, PAIRS.index((0, 3))] = 1.0
    found = votes(torch.full((1, 21), 2.0), gate)
    torch.testing.assert_close(found, torch.tensor([[7.0, 0, 0, -7, 0, 0, 0]]))


def test_the_experts_are_perceptrons_side_by_side():
    torch.manual_seed(0)
    experts, features = PairExperts(5, 3), torch.randn(4, 5)
    with torch.no_grad():
        experts.bias.normal_()
    for pair in range(21):
        hidden = F.gelu(F.linear(features, experts.weight[pair].T, experts.bias[pair]))
        torch.testing.assert_close(experts(features)[:, pair], hidden @ experts.answer[pair])


def test_each_objective_builds_on_those_before():
    analyzer = contract.built(AdvancedEmotion, **NUMBERS)
    seen = {}
    for name, step in analyzer.steps.items():
        step.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output[1]}))
    context = fabricated_context(4, 8, contract.WIDTH)
    analyzer(context)
    before = dict(seen)
    assert list(before) == list(CHECKS)
    for name, checks in before.items():
        assert checks.shape == (4, len(CHECKS[name]))
        assert checks.abs().max() <= 1
    with torch.no_grad():
        analyzer.steps["implication"].remember.bias.add_(1.0)
    analyzer(context)
    same = [torch.equal(seen[name], before[name]) for name in CHECKS]
    assert same == [True, True, False, False]


def test_parts_and_story_both_change_the_answer():
    analyzer = contract.built(AdvancedEmotion, **NUMBERS)
    other = fabricated_context(4, 8, contract.WIDTH, seed=9)
    for field in ("sequence", "pooled"):
        assert contract.changes(analyzer, **{field: getattr(other, field)})["emotion"] > 1e-2


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="width is 32; allowed: multiples of num_heads = 5"):
        AdvancedEmotion(contract.WIDTH, **NUMBERS | {"num_heads": 5})
