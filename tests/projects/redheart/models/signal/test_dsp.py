import pytest
import torch

from projects.redheart.models.signal.dsp import EmotionDSPSimulator
from projects.redheart.models.signal.trajectory import as_signal
from tests.fabricate import analyzer_contract as contract
from tests.fabricate.story_network import fabricated_context, sizes

NUMBERS = {"hidden": 24, "filters": 3, "blocks": 1, "transform_length": 64, "dropout": 0.0}


@pytest.mark.parametrize("check", contract.CONTRACT, ids=lambda check: check.__name__)
def test_contract(check):
    check(EmotionDSPSimulator, **NUMBERS)


def test_the_full_size_is_two_point_three_million():
    numbers = sizes("full")["analyzers"]["dsp"]
    assert contract.parameters(EmotionDSPSimulator, 768, **numbers) == pytest.approx(2.3e6, rel=0.01)


def test_the_order_of_the_parts_matters():
    analyzer = contract.built(EmotionDSPSimulator, **NUMBERS)
    context = fabricated_context(4, 8, contract.WIDTH)._replace(mask=torch.ones(4, 8, dtype=torch.bool))
    before = analyzer(context)
    after = analyzer(context._replace(trajectory=context.trajectory.flip(1)))
    assert all((after[task] - before[task]).abs().max() > 1e-3 for task in before)


def test_trajectory_and_story_both_change_the_answer():
    analyzer = contract.built(EmotionDSPSimulator, **NUMBERS)
    other = fabricated_context(4, 8, contract.WIDTH, seed=9)
    for field in ("trajectory", "pooled"):
        assert min(contract.changes(analyzer, **{field: getattr(other, field)}).values()) > 1e-2


def test_a_slow_and_a_fast_swing_of_the_same_size_are_told_apart_by_their_features():
    analyzer = contract.built(EmotionDSPSimulator, **NUMBERS)
    step = torch.arange(32.0)
    swings = torch.stack([torch.sin(2 * torch.pi * step / period) for period in (16, 3)])[..., None].expand(-1, -1, 7)
    signal = as_signal(swings, torch.ones(2, 32, dtype=torch.bool))
    spectrum = analyzer.features(signal, torch.zeros(2, 7, 5))[:, -33 * 7 :].reshape(2, 33, 7)
    # 64 / 16 = 4 and 64 / 3 = 21.3 cycles in the transform's length.
    assert spectrum[0].argmax(0).tolist() == [4] * 7
    assert spectrum[1].argmax(0).tolist() == [21] * 7


@pytest.mark.parametrize("wrong", [{"filters": 0}, {"transform_length": 63}, {"transform_length": 0}])
def test_filters_and_transform_are_checked(wrong):
    with pytest.raises(ValueError, match=r"filters \d, transform_length \d+; allowed: at least 1, and even from 2 on"):
        EmotionDSPSimulator(contract.WIDTH, **NUMBERS | wrong)


def test_a_story_longer_than_the_transform_is_refused():
    analyzer = contract.built(EmotionDSPSimulator, **NUMBERS | {"transform_length": 8})
    analyzer(fabricated_context(2, 8, contract.WIDTH))
    with pytest.raises(ValueError, match="signals have 9 samples; the transform takes at most 8"):
        analyzer(fabricated_context(2, 9, contract.WIDTH))


def test_a_story_without_a_single_position_has_an_answer():
    analyzer = contract.built(EmotionDSPSimulator, **NUMBERS)
    context = fabricated_context(2, 8, contract.WIDTH)
    empty = context._replace(
        sequence=context.sequence[:, :0],
        mask=context.mask[:, :0],
        part=context.part[:, :0],
        trajectory=context.trajectory[:, :0],
    )
    masked = context._replace(mask=torch.zeros_like(context.mask))
    contract.assert_same(analyzer(empty), analyzer(masked))
