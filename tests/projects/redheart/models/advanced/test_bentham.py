import math

import pytest
import torch

from projects.redheart.models.advanced.bentham import AdvancedBentham, Sensations, balance, circumstances
from projects.redheart.tasks import BENTHAM_SCORES
from tests.fabricate import analyzer_contract as contract
from tests.fabricate.story_network import fabricated_context, sizes

NUMBERS = {"hidden": 24, "dropout": 0.0}
SOME = {"lasting": 0.5, "probability": 0.5, "delay": 0.5, "persons": 1.0}


@pytest.mark.parametrize("check", contract.CONTRACT, ids=lambda check: check.__name__)
def test_contract(check):
    check(AdvancedBentham, **NUMBERS)


def test_the_full_size_is_two_and_a_half_million():
    numbers = sizes("full")["analyzers"]["advanced_bentham"]
    assert contract.parameters(AdvancedBentham, 768, **numbers) == pytest.approx(2.5e6, rel=0.01)


def sensations(pleasure, pain, **others):
    rows = {"pleasure": pleasure, "pain": pain}
    rows |= {name: others.get(name, [value] * len(pleasure)) for name, value in SOME.items()}
    return Sensations(**{name: torch.tensor([row], dtype=torch.float32) for name, row in rows.items()})


def seven(*arguments, **others):
    found = circumstances(felt := sensations(*arguments, **others), torch.ones_like(felt.pain, dtype=torch.bool))
    return dict(zip(BENTHAM_SCORES[:7], found[0].tolist(), strict=True))


def test_the_circumstances_by_hand():
    found = seven(
        [3.0, 0.0], [0.0, 1.0], lasting=[1.0, 0.2], probability=[0.8, 0.4], delay=[0.0, math.log(2)], persons=[1.0, 5.0]
    )
    assert found["intensity"] == pytest.approx(1 - math.exp(-2))
    assert found["duration"] == pytest.approx(0.6)
    assert found["certainty"] == pytest.approx((3 * 0.8 + 0.4) / 4, abs=1e-3)
    assert found["propinquity"] == pytest.approx((3 + 0.5) / 4, abs=1e-3)
    assert found["extent"] == pytest.approx(1 - math.exp(-8 / 4), abs=1e-3)


def test_fecundity_looks_at_what_follows_at_once_and_purity_at_all_that_follows():
    pure = seven([1.0, 2.0, 3.0], [0.0] * 3)
    assert (pure["fecundity"], pure["purity"]) == pytest.approx((1.0, 1.0), abs=1e-3)
    mixed = seven([1.0, 0.0, 1.0], [0.0, 1.0, 0.0])  # pleasure, pain, pleasure
    assert (mixed["fecundity"], mixed["purity"]) == pytest.approx((0.0, 1 / 3), abs=1e-3)
    turned = seven([1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0])
    assert (turned["fecundity"], turned["purity"]) == pytest.approx((2 / 3, 1 / 3), abs=1e-3)


def test_a_single_part_is_followed_by_nothing():
    found = seven([2.0], [0.0])
    assert (found["fecundity"], found["purity"]) == pytest.approx((0.5, 0.5))


def test_the_balance_by_hand():
    felt = sensations([3.0, 0.0], [0.0, 1.0], probability=[1.0, 0.5], delay=[0.0, math.log(2)])
    assert balance(felt).item() == pytest.approx((3 - 0.25) / 4, abs=1e-3)
    swapped = felt._replace(pleasure=felt.pain, pain=felt.pleasure)
    assert balance(swapped).item() == pytest.approx(-balance(felt).item())


def answers(analyzer, raw):
    """The seven circumstances and three values as logits, with gain 1 and no correction."""
    analyzer.feel.register_forward_hook(lambda _, __, ___: torch.tensor(raw)[None])
    with torch.no_grad():
        analyzer.gain.fill_(math.log(math.e - 1))
        for parameter in analyzer.correction.parameters():
            parameter.zero_()
    context = fabricated_context(1, len(raw), contract.WIDTH)
    context = context._replace(mask=torch.ones(1, len(raw), dtype=torch.bool))
    return dict(zip(BENTHAM_SCORES, analyzer(context)["bentham"][0].tolist(), strict=True))


def test_more_of_a_circumstance_never_turns_good_into_bad():
    values = BENTHAM_SCORES[7:]
    for persons in (-3.0, 0.0, 3.0):
        good = answers(contract.built(AdvancedBentham, **NUMBERS), [[2.0, -4.0, 0.0, 1.0, -1.0, persons]] * 3)
        bad = answers(contract.built(AdvancedBentham, **NUMBERS), [[-4.0, 2.0, 0.0, 1.0, -1.0, persons]] * 3)
        for name in values:
            assert good[name] > 0 > bad[name]
            assert good[name] == pytest.approx(-bad[name], abs=1e-3)
        assert all(good[name] == pytest.approx(bad[name], abs=1e-4) for name in BENTHAM_SCORES[:7])


def test_the_circumstances_answer_in_logits():
    found = answers(contract.built(AdvancedBentham, **NUMBERS), [[0.0, 0.0, 1.5, 0.7, 0.0, 0.0]] * 2)
    assert found["duration"] == pytest.approx(1.5, abs=1e-4)
    assert found["certainty"] == pytest.approx(0.7, abs=5e-3)


def test_parts_and_story_both_change_the_answer():
    analyzer = contract.built(AdvancedBentham, **NUMBERS)
    other = fabricated_context(4, 8, contract.WIDTH, seed=9)
    for field in ("sequence", "pooled"):
        assert contract.changes(analyzer, **{field: getattr(other, field)})["bentham"] > 1e-2
