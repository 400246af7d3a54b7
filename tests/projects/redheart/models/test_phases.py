import math

import pytest
import torch

from projects.redheart.models.phases import CommunityNetwork, EmotionCalibrator, EmpathyLearner, confidence
from tests.fabricate import analyzer_contract as contract
from tests.fabricate.story_network import fabricated_context, sizes

PHASES = {
    EmotionCalibrator: ("emotion_calibrator", {"hidden": 16, "blocks": 1, "dropout": 0.0}, 2.0e6),
    EmpathyLearner: ("empathy_learner", {"hidden": 8, "dropout": 0.0}, 0.2e6),
    CommunityNetwork: ("community_network", {"hidden": 16, "communities": 3, "prototypes": 8, "dropout": 0.0}, 2.1e6),
}


def phase(kind):
    return contract.built(kind, **PHASES[kind][1])


@pytest.mark.parametrize("check", contract.CONTRACT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", PHASES, ids=lambda kind: kind.__name__)
def test_contract(kind, check):
    check(kind, **PHASES[kind][1])


@pytest.mark.parametrize("kind", PHASES, ids=lambda kind: kind.__name__)
def test_the_full_size(kind):
    name, _, target = PHASES[kind]
    assert contract.parameters(kind, 768, **sizes("full")["analyzers"][name]) == pytest.approx(target, rel=0.01)


def test_confidence_by_hand():
    found = confidence(torch.tensor([[math.log(6.0), math.log(3.0), math.log(1.0)], [0.0, 0.0, 0.0]]))
    entropy = -(0.6 * math.log(0.6) + 0.3 * math.log(0.3) + 0.1 * math.log(0.1)) / math.log(3)
    torch.testing.assert_close(found[0], torch.tensor([0.6, 0.3, 0.1, entropy, 0.3]))
    torch.testing.assert_close(found[1], torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0, 0.0]))


def test_a_scale_alone_keeps_the_order_and_its_bounds():
    calibrator, context = phase(EmotionCalibrator), fabricated_context(4, 8, contract.WIDTH)
    logits = context.preliminary["emotion"]
    for push, scale in ((0.0, None), (1e3, 4.0), (-1e3, 0.25)):
        with torch.no_grad():
            calibrator.scale.bias.add_(push)
            for parameter in calibrator.offset.parameters():
                parameter.zero_()
            ratio = calibrator(context)["emotion"] / logits
        torch.testing.assert_close(ratio, ratio[:, :1].expand(-1, 7))
        assert ratio.min() >= 0.25 - 1e-4
        assert ratio.max() <= 4 + 1e-4
        assert scale is None or ratio.mean().item() == pytest.approx(scale, rel=1e-4)
        with torch.no_grad():
            calibrator.scale.bias.sub_(push)


def test_offsets_are_added_after_the_scale():
    calibrator, context = phase(EmotionCalibrator), fabricated_context(4, 8, contract.WIDTH)
    before = calibrator(context)["emotion"]
    with torch.no_grad():
        calibrator.offset.bias.copy_(calibrator.offset.bias + torch.arange(7.0))
    torch.testing.assert_close(calibrator(context)["emotion"] - before, torch.arange(7.0).expand(4, 7))


def test_the_calibrator_reads_story_and_preliminary_answer():
    other = fabricated_context(4, 8, contract.WIDTH, seed=9)
    for field in ("pooled", "preliminary"):
        assert contract.changes(phase(EmotionCalibrator), **{field: getattr(other, field)})["emotion"] > 1e-2


def test_without_a_turn_both_readings_are_one():
    learner, context = phase(EmpathyLearner), fabricated_context(4, 8, contract.WIDTH)
    seen = []
    learner.dropout.register_forward_hook(lambda _, __, state: seen.append(state.chunk(4, dim=-1)))
    learner(context)
    with torch.no_grad():
        for parameter in learner.turn.parameters():
            parameter.zero_()
    learner(context)
    (_, mine, theirs, difference), (_, same, others, nothing) = seen
    assert difference.abs().max() > 1e-3
    torch.testing.assert_close(theirs - mine, difference)
    assert torch.equal(same, others)
    assert not nothing.any()


def test_empathy_reads_the_sentences_through_the_action():
    learner, context = phase(EmpathyLearner), fabricated_context(4, 8, contract.WIDTH)
    before = learner(context)["emotion"]
    for code, rows in ((0, [True] * 4), (2, [True, True, False, True]), (1, [False] * 4)):
        there = (context.mask & (context.part == code))[..., None]
        changed = torch.where(there, context.sequence + torch.randn(contract.WIDTH), context.sequence)
        moved = (learner(context._replace(sequence=changed))["emotion"] - before).abs().amax(1)
        assert (moved > 1e-4).tolist() == rows
    # Only where no action is told does the whole story ask.
    moved = (learner(context._replace(pooled=context.pooled.flip(0)))["emotion"] - before).abs().amax(1)
    assert (moved > 1e-4).tolist() == [False, False, True, False]


def test_a_story_belongs_to_the_prototypes_that_are_like_it():
    network = phase(CommunityNetwork)
    with torch.no_grad():
        shares = network.assignment(50 * network.key[1, 5][None])
    assert shares.shape == (1, 3, 8)
    torch.testing.assert_close(shares.sum(-1), torch.ones(1, 3))
    likeness = network.key[1] @ network.key[1, 5]
    torch.testing.assert_close(shares[0, 1], (50 * likeness).softmax(-1))


def test_communities_that_agree_have_no_spread():
    network, context = phase(CommunityNetwork), fabricated_context(4, 8, contract.WIDTH)
    seen = []
    network.mix.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].chunk(3, dim=-1)))
    network(context)
    with torch.no_grad():
        network.key.copy_(network.key[:1].expand(3, -1, -1))
        network.value.copy_(network.value[:1].expand(3, -1, -1))
    network(context)
    (_, _, spread), (_, consensus, nothing) = seen
    assert spread.min() > 0
    assert consensus.abs().max() > 1e-3
    assert nothing.abs().max() < 1e-7


def test_a_community_without_an_opinion_leaves_the_preliminary_answers():
    network, context = phase(CommunityNetwork), fabricated_context(4, 8, contract.WIDTH)
    with torch.no_grad():
        for parameter in network.adjust.parameters():
            parameter.zero_()
    contract.assert_same(network(context), {task: context.preliminary[task] for task in network.tasks}, atol=0)


@pytest.mark.parametrize("wrong", [{"communities": 1}, {"prototypes": 1}])
def test_a_community_of_one_is_refused(wrong):
    numbers = PHASES[CommunityNetwork][1] | wrong
    with pytest.raises(ValueError, match=r"communities \d, prototypes \d; allowed: at least 2 of each"):
        CommunityNetwork(contract.WIDTH, **numbers)
