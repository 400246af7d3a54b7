import itertools

import numpy as np
import pytest
import torch
from torch import nn

from shared.crossover.activations import ActivationCache, digest_of
from shared.crossover.evaluator import ChildEvaluator, Source
from shared.crossover.search import coordinate_search
from shared.errors import CheckpointError, TrainingError
from shared.sample_losses import sample_losses
from tests.shared.crossover.networks import (
    Flipped,
    InPlace,
    Joined,
    Leaves,
    Normed,
    Stateful,
    Tied,
    Twice,
    make_batches,
    make_sources,
)  # fmt: skip

TOPOLOGIES = (Leaves, InPlace, Joined, Twice, Tied, Flipped, Normed)


def plain_losses(module, state, batches):
    """The losses without any of ours but the loss itself."""
    module.load_state_dict(state)
    module.eval()
    with torch.no_grad():
        outputs = [module.predict_step({**batch, "image": batch["image"].clone()}, 0) for batch in batches]
    return torch.cat([sample_losses(module, output) for output in outputs]).numpy()


@pytest.mark.parametrize("cache_mb", [0, 1, 0.001])
@pytest.mark.parametrize("network", TOPOLOGIES)
def test_losses_equal_those_of_the_joined_state(network, cache_mb):
    module, batches = network(), make_batches()
    groups, sources = make_sources(module, 3)
    assignments = list(itertools.product(range(3), repeat=len(groups.names)))
    np.random.default_rng(0).shuffle(assignments)
    with ChildEvaluator(module, groups, sources, lambda: batches, cache_mb) as evaluator:
        found = {tuple(a): evaluator.losses(tuple(map(int, a))) for a in assignments}
        states = {a: evaluator.state(a) for a in found}
    twin = network()
    for assignment, losses in found.items():
        np.testing.assert_allclose(losses, plain_losses(twin, states[assignment], batches), rtol=1e-6, atol=1e-9)
    assert len({losses.tobytes() for losses in found.values()}) == len(found), "sources must differ to show a mix-up"


@pytest.mark.parametrize("network", TOPOLOGIES)
def test_the_cache_is_used(network):
    module, batches = network(), make_batches()
    groups, sources = make_sources(module, 2)
    with ChildEvaluator(module, groups, sources, lambda: batches) as evaluator:
        evaluator.losses((0,) * len(groups.names))
        evaluator.losses((*(0,) * (len(groups.names) - 1), 1))  # another leaf, or in Tied another decoder bias
        assert sum(evaluator.cost["unit_calls_reused"].values()) >= len(batches)


def test_unit_calls_of_a_backbone_with_leaves():
    module, batches = Leaves(), make_batches()
    groups, sources = make_sources(module, 4)
    with ChildEvaluator(module, groups, sources, lambda: batches) as evaluator:
        coordinate_search(lambda a: evaluator.losses(a).mean(), [(0, 0, 0, 0)], [range(4)] * 4, range(4), max_sweeps=1)
    computed, num = evaluator.cost["unit_calls_computed"], len(batches)
    # The backbone once for each source. Each leaf on each backbone output, then with each of its other sources.
    assert computed == {"backbone": 4 * num, "a": 7 * num, "b": 7 * num, "c": 7 * num}
    assert evaluator.cost["passes"] == 1 + 4 * 3


def test_unit_calls_of_parallel_branches():
    module, batches = Joined(), make_batches()
    groups, sources = make_sources(module, 4)
    with ChildEvaluator(module, groups, sources, lambda: batches) as evaluator:
        coordinate_search(lambda a: evaluator.losses(a).mean(), [(0, 0, 0)], [range(4)] * 3, range(3), max_sweeps=1)
    computed, num = evaluator.cost["unit_calls_computed"], len(batches)
    assert computed == {"left": 4 * num, "right": 4 * num, "join": 10 * num}


def test_flips_are_told_apart_and_reused():
    module, batches = Flipped(), make_batches()
    groups, sources = make_sources(module, 2)
    with ChildEvaluator(module, groups, sources, lambda: batches) as evaluator:
        evaluator.losses((0, 0))
        evaluator.losses((0, 1))
    assert evaluator.cost["unit_calls_computed"] == {"backbone": 2 * len(batches), "head": 4 * len(batches)}
    assert evaluator.cost["unit_calls_reused"] == {"backbone": 2 * len(batches), "head": 0}


def test_equivalent_passes_are_one_for_a_full_pass_and_less_for_a_leaf():
    module, batches = Leaves(), make_batches()
    groups, sources = make_sources(module, 2)
    with ChildEvaluator(module, groups, sources, lambda: batches) as evaluator:
        evaluator.losses((0, 0, 0, 0))
        assert evaluator.cost["equivalent_passes"] == pytest.approx(1.0)
        evaluator.losses((0, 0, 0, 1))
        assert 1.0 < evaluator.cost["equivalent_passes"] < 2.0


@pytest.mark.parametrize("cache_mb", [0, 64])
def test_a_unit_with_state_is_not_reused_and_the_check_says_that_it_does_not_repeat(cache_mb):
    module, batches = Stateful(), make_batches()
    groups, sources = make_sources(module, 2)
    with ChildEvaluator(module, groups, sources, lambda: batches, cache_mb) as evaluator:
        evaluator.losses((0, 0, 0, 0))
        assert evaluator.check((0, 1, 0, 0)) is False
        reasons = evaluator.cost["not_reused"]
    assert sum(evaluator.cost["unit_calls_reused"].values()) == 0
    if cache_mb:
        assert reasons["backbone"] == "its call changes backbone.calls"
        assert reasons["a"] == "backbone is not reused either (its call changes backbone.calls)"
    else:
        assert reasons == {}


@pytest.mark.parametrize("cache_mb", [0, 64])
def test_a_sound_module_passes_the_check(cache_mb):
    module, batches = Leaves(), make_batches()
    groups, sources = make_sources(module, 2)
    with ChildEvaluator(module, groups, sources, lambda: batches, cache_mb) as evaluator:
        evaluator.losses((0, 0, 0, 0))
        assert evaluator.check((1, 0, 0, 1)) is True


def test_everything_is_put_back():
    module, batches = Normed(), make_batches()
    groups, sources = make_sources(module, 2)
    module.train()
    module.head.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = torch.get_rng_state()
    broken = [{"image": batches[0]["image"]}]
    with (
        pytest.raises(KeyError, match="target"),
        ChildEvaluator(module, groups, sources, lambda: [batches[0], *broken]) as evaluator,
    ):
        evaluator.losses((0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert module.training
    assert not module.head.training
    assert "forward" not in vars(module.backbone)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_a_step_that_writes_into_the_batch_gets_a_fresh_one():
    class Doubling(Leaves):
        def logits(self, batch):
            batch["image"].mul_(2)
            return super().logits(batch)

    module = Doubling()
    groups, sources = make_sources(module, 2)
    with ChildEvaluator(module, groups, sources, make_batches) as evaluator:
        found = [evaluator.losses(a) for a in ((0, 0, 0, 0), (0, 0, 0, 1), (1, 0, 0, 0))]
        states = [evaluator.state(a) for a in ((0, 0, 0, 0), (0, 0, 0, 1), (1, 0, 0, 0))]
    doubled = [{**batch, "image": 2 * batch["image"]} for batch in make_batches()]
    for losses, state in zip(found, states, strict=True):
        np.testing.assert_allclose(losses, plain_losses(Leaves(), state, doubled), rtol=1e-6)


def test_the_loader_is_read_once_where_the_budget_allows():
    reads = []

    def batches():
        reads.append(1)
        return make_batches()

    module = Leaves()
    groups, sources = make_sources(module, 2)
    for cache_mb, expected in ((64, 1), (0, 3)):
        reads.clear()
        with ChildEvaluator(module, groups, sources, batches, cache_mb) as evaluator:
            for leaf in (0, 1):
                evaluator.losses((0, 0, 0, leaf))
            evaluator.state_losses(evaluator.state((1, 1, 1, 1)))
        assert len(reads) == expected


def test_groups_come_from_the_batches_or_are_the_samples():
    module, batches = Leaves(), make_batches(num_groups=3, per_group=2)
    groups, sources = make_sources(module, 1)
    with ChildEvaluator(module, groups, sources, lambda: batches) as evaluator:
        with pytest.raises(ValueError, match="groups are known after the first pass"):
            _ = evaluator.group
        evaluator.losses((0, 0, 0, 0))
    assert evaluator.group.tolist() == [0, 0, 1, 1, 2, 2]
    assert evaluator.groups_known
    bare = [{key: batch[key] for key in ("image", "target")} for batch in batches]
    with ChildEvaluator(module, groups, sources, lambda: bare) as evaluator:
        evaluator.losses((0, 0, 0, 0))
    assert evaluator.group.tolist() == list(range(6))
    assert not evaluator.groups_known


def test_batches_in_another_order_are_refused():
    module, orders = Leaves(), iter([make_batches(), make_batches()[::-1]])
    groups, sources = make_sources(module, 2)
    with ChildEvaluator(module, groups, sources, lambda: next(orders), cache_mb=0) as evaluator:
        evaluator.losses((0, 0, 0, 0))
        with pytest.raises(TrainingError, match="batches differ from those of the first pass"):
            evaluator.losses((0, 0, 0, 1))


def test_weights_of_another_shape_are_refused():
    module = Leaves()
    groups, (good, _) = make_sources(module, 2)
    bad = Source(9, "bad", lambda group: {name: t[:1] for name, t in good.load(group).items()})
    with ChildEvaluator(module, groups, [good, bad], make_batches) as evaluator:
        with pytest.raises(CheckpointError, match=r"tensor backbone.0.weight has shape \(1, 6\)"):
            evaluator.losses((1, 0, 0, 0))
        with pytest.raises(CheckpointError, match=r"tensor backbone.0.weight is missing"):
            evaluator.state_losses({})
        with pytest.raises(ValueError, match=r"assignment \(0, 0, 0, 2\) must name one of 2 sources"):
            evaluator.losses((0, 0, 0, 2))
    with pytest.raises(ValueError, match="cache_mb is -1"):
        ChildEvaluator(module, groups, [good], make_batches, cache_mb=-1)


def test_units_with_odd_arguments_and_results_are_computed_each_time():
    class Odd(Leaves):
        def logits(self, batch):
            return self.a(self.backbone(batch["image"]), object()) + self.c(batch["image"])["logits"]

    class WithObject(nn.Linear):
        def forward(self, input, anything):
            return super().forward(input)

    class WithText(nn.Linear):
        def forward(self, input):
            return {"logits": super().forward(input), "kind": object()}

    module = Odd()
    module.a, module.c = WithObject(6, 3), WithText(6, 3)
    groups, sources = make_sources(module, 2)
    with ChildEvaluator(module, groups, sources, make_batches) as evaluator:
        evaluator.losses((0, 0, 0, 0))
        evaluator.losses((0, 0, 1, 0))  # b is not used at all
        num = len(make_batches())
        assert evaluator.cost["unit_calls_computed"] == {"backbone": num, "a": 2 * num, "b": 0, "c": 2 * num}
        assert evaluator.check((0, 0, 1, 0))


def test_least_recently_used_outputs_go_first():
    cache = ActivationCache(max_bytes=80)
    for key in (b"a", b"b"):
        cache.put(key, ([torch.zeros(10)], None))
    cache.get(b"a")
    cache.put(b"c", ([torch.zeros(10)], None))
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None
    assert cache.num_bytes == 80
    cache.put(b"big", ([torch.zeros(100)], None))
    assert cache.get(b"big") is None


def test_digests_tell_values_types_and_shapes_apart():
    base = torch.arange(6.0)
    others = [base.double(), base.reshape(2, 3), base.flip(0), base.to(torch.bfloat16), torch.arange(6)]
    digests = [digest_of(tensor) for tensor in (base, *others)]
    assert len(set(digests)) == 6
    assert digest_of(base.reshape(2, 3).t().contiguous().t()) == digest_of(base.reshape(2, 3))
    assert digest_of(base.to_sparse()) is None
    assert digest_of(torch.zeros(0)) != digest_of(torch.zeros(0, 2))
