import pytest
import torch

from projects.redheart.models.advanced.surd import AdvancedSurd, peak, slowness
from projects.redheart.tasks import SURD_METRICS
from tests.fabricate import analyzer_contract as contract
from tests.fabricate.story_network import fabricated_context, sizes

NUMBERS = {"hidden": 16, "slow": 4, "dropout": 0.0}
RELEVANCE = SURD_METRICS.index("relevance")


@pytest.mark.parametrize("check", contract.CONTRACT, ids=lambda check: check.__name__)
def test_contract(check):
    check(AdvancedSurd, **NUMBERS)


def test_the_full_size_is_two_point_two_million():
    numbers = sizes("full")["analyzers"]["advanced_surd"]
    assert contract.parameters(AdvancedSurd, 768, **numbers) == pytest.approx(2.2e6, rel=0.01)


def test_slowness_by_hand():
    everywhere = torch.ones(1, 4, dtype=torch.bool)
    swings = torch.tensor([[1.0, -1.0, 1.0, -1.0]])[..., None] * 10
    assert slowness(swings, everywhere).item() == pytest.approx(4, abs=1e-3)
    halves = torch.tensor([[1.0, 1.0, -1.0, -1.0]])[..., None] * 10
    assert slowness(halves, everywhere).item() == pytest.approx(4 / 3, abs=1e-3)
    assert slowness(torch.full((1, 4, 1), 5.0), everywhere).item() == 0
    noise = torch.randn(1, 20_000, 1, generator=torch.Generator().manual_seed(0))
    assert slowness(noise, torch.ones(1, 20_000, dtype=torch.bool)).item() == pytest.approx(2, abs=0.05)


def test_slowness_needs_two_samples():
    values = torch.tensor([[[3.0], [9.0]]])
    assert slowness(values, torch.tensor([[True, False]])).item() == 0
    assert slowness(values[:, :1], torch.tensor([[True]])).item() == 0


def test_the_peak_lies_between_mean_and_maximum():
    values, present = torch.tensor([[0.0, 1.0, 5.0, 99.0]]), torch.tensor([[True, True, True, False]])
    expected = (values[0, :3].softmax(0) * values[0, :3]).sum().item()
    assert 2 < expected < 5
    assert peak(values, present).item() == pytest.approx(expected)
    assert peak(values, torch.zeros_like(present)).item() == 0


def test_a_part_is_foretold_from_the_earlier_ones_alone():
    analyzer = contract.built(AdvancedSurd, **NUMBERS)
    codes, present = torch.randn(2, 6, 16), torch.ones(2, 6, dtype=torch.bool)
    changed = codes.clone()
    changed[:, 3] += 1.0
    for before, after in zip(analyzer.foretell(codes, present), analyzer.foretell(changed, present), strict=True):
        moved = (after - before).abs().amax((0, 2)) > 1e-6
        assert moved.tolist() == [False, False, False, False, True, True]


def test_log_variances_are_bounded():
    analyzer = contract.built(AdvancedSurd, **NUMBERS)
    _, log_variance = analyzer.foretell(1e4 * torch.randn(2, 6, 16), torch.ones(2, 6, dtype=torch.bool))
    assert log_variance.abs().max() <= 4


def test_relevance_is_nearness_to_title_and_action():
    analyzer = contract.built(AdvancedSurd, **NUMBERS)
    context = fabricated_context(4, 8, contract.WIDTH)
    with torch.no_grad():
        analyzer.topic.weight.copy_(torch.eye(16))
        topic = context.sequence[:, :1].expand(-1, 8, -1)
        mean, highest, known = analyzer.relevance(analyzer.encode(topic), context).unbind(1)
        assert known.tolist() == [1, 1, 0, 1]
        torch.testing.assert_close(mean, known)  # every sentence says what the title says: cosine 1
        torch.testing.assert_close(highest, known)
        mean, _, _ = analyzer.relevance(analyzer.encode(context.sequence), context).unbind(1)
        assert (mean[[0, 1, 3]].abs() < 0.9).all()


def test_each_metric_reads_its_own_features():
    analyzer = contract.built(AdvancedSurd, **NUMBERS)
    context = fabricated_context(4, 8, contract.WIDTH)
    before = analyzer(context)["surd"]
    with torch.no_grad():
        analyzer.topic.weight.mul_(-1)
    moved = (analyzer(context)["surd"] - before).abs().amax(0) > 1e-6
    assert moved.nonzero().flatten().tolist() == [RELEVANCE]
    with torch.no_grad():
        analyzer.mean.bias.add_(1.0)
        analyzer.topic.weight.mul_(-1)
    moved = (analyzer(context)["surd"] - before).abs().amax(0) > 1e-6
    assert moved.nonzero().flatten().tolist() == [SURD_METRICS.index("surprise")]


def test_the_order_of_the_parts_matters():
    analyzer = contract.built(AdvancedSurd, **NUMBERS)
    context = fabricated_context(4, 8, contract.WIDTH)._replace(mask=torch.ones(4, 8, dtype=torch.bool))
    order = [0, 4, 1, 6, 2, 7, 3, 5]
    mixed = context._replace(sequence=context.sequence[:, order], part=context.part[:, order])
    moved = (analyzer(mixed)["surd"] - analyzer(context)["surd"]).abs().amax(0)
    assert (moved > 1e-5).tolist() == [True, True, False, True]


def test_parts_and_story_both_change_the_answer():
    analyzer = contract.built(AdvancedSurd, **NUMBERS)
    other = fabricated_context(4, 8, contract.WIDTH, seed=9)
    for field in ("sequence", "pooled"):
        assert contract.changes(analyzer, **{field: getattr(other, field)})["surd"] > 1e-2
