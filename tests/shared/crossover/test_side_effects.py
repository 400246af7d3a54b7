"""Networks whose units leave something behind or depend on more than weights and inputs: right losses, or an error."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from shared.crossover.evaluator import ChildEvaluator
from shared.crossover.side_effects import Watch, equal_losses
from shared.errors import TrainingError
from tests.shared.crossover.networks import CLASSES, WIDTH, Leaves, Network, make_batches, make_sources

WRITES = ("attribute", "list", "object", "dict", "buffer", "tensor", "outside", "sometimes", "hook", "closure")
ELSEWHERE: dict[str, torch.Tensor] = {}


class Writer(nn.Linear):
    """Leaves its output where others find it."""

    def __init__(self, how, root):
        super().__init__(WIDTH, WIDTH)
        self.how, self.kept, self.found, self.told = how, [None], {}, SimpleNamespace(skip=None)
        self.skip = None
        self.plain_tensor = torch.zeros(1, WIDTH)
        self.register_buffer("trace", torch.zeros(1, WIDTH), persistent=False)
        self.inner, self.root = nn.Identity(), [root]
        if how == "hook":
            self.inner.register_forward_hook(lambda part, inputs, output: ELSEWHERE.update(x=output.detach().mean(0)))

    def forward(self, input):
        output = self.inner(super().forward(input))
        trace = output.detach().mean(0, keepdim=True)
        if self.how == "attribute":
            self.skip = trace
        elif self.how == "list":
            self.kept = [trace]
        elif self.how == "object":
            self.told.skip = trace
        elif self.how == "dict":
            self.found["skip"] = trace
        elif self.how == "buffer":
            self.trace.copy_(trace)
        elif self.how == "tensor":
            self.plain_tensor += 0.1
            self.plain_tensor.copy_(trace)
        elif self.how == "outside":
            self.root[0].skip = trace
        elif self.how == "sometimes":  # nothing changes as long as the condition is not met
            self.skip = trace if float(trace.sum()) > float(self.bias.sum()) + 4 else None
        elif self.how == "closure":
            ELSEWHERE["x"] = trace
        return output

    def read(self):
        places = {
            "attribute": self.skip, "sometimes": self.skip, "list": self.kept[0], "object": self.told.skip,
            "dict": self.found.get("skip"), "buffer": self.trace, "tensor": self.plain_tensor,
            "outside": self.root[0].skip, "hook": ELSEWHERE.get("x"), "closure": ELSEWHERE.get("x"),
        }  # fmt: skip
        found = places[self.how]
        return torch.zeros(1, WIDTH) if found is None else found


class Reader(nn.Linear):
    """Reads what a writer left behind."""

    def __init__(self, writer):
        super().__init__(WIDTH, CLASSES)
        self.writer = [writer]

    def forward(self, input):
        return super().forward(input + 3 * torch.tanh(self.writer[0].read()))


class Leaky(Network):
    """A writer, a unit that is sound, and a reader of what the writer left; the sound unit is between or first."""

    def __init__(self, how, seed):
        super().__init__()
        order = np.random.default_rng(seed)
        self.skip = None
        self.late = bool(order.integers(2))
        self.sound = nn.Linear(WIDTH, WIDTH)
        self.writer = Writer(how, self)
        self.reader = Reader(self.writer)

    def logits(self, batch):
        if not self.late:
            return self.reader(torch.tanh(self.sound(self.writer(batch["image"]))))
        features = self.sound(batch["image"])
        return self.writer(batch["image"])[:, :CLASSES] + self.reader(features)


def wrong_losses(network, seed, batches):
    """How many children in random order got other losses than without the cache; None after an error."""
    torch.manual_seed(seed)
    module = network()
    groups, sources = make_sources(module, 3, seed)
    assignments = list(itertools.product(range(3), repeat=len(groups.names)))
    np.random.default_rng(seed).shuffle(assignments)
    assignments = [tuple(map(int, a)) for a in assignments[:14]]
    try:
        with ChildEvaluator(module, groups, sources, lambda: batches) as evaluator:
            found = [evaluator.losses(a) for a in assignments]
    except TrainingError as error:
        assert "caching is not valid" in str(error)  # noqa: PT017 - either outcome is right, this is what is tested
        return None
    with ChildEvaluator(module, groups, sources, lambda: batches, cache_mb=0) as plain:
        return sum(not equal_losses(losses, plain.losses(a)) for losses, a in zip(found, assignments, strict=True))


@pytest.mark.parametrize("how", WRITES)
def test_random_networks_with_side_effects_give_right_losses_or_an_error(how):
    for seed in range(6):
        ELSEWHERE.clear()
        assert wrong_losses(lambda seed=seed: Leaky(how, seed), seed, make_batches(batch_size=6, seed=seed)) in (
            0,
            None,
        )


@pytest.mark.parametrize("how", [how for how in WRITES if how not in ("closure", "sometimes")])
def test_what_can_be_seen_costs_the_cache_and_no_error(how):
    ELSEWHERE.clear()
    module = Leaky(how, 0)
    groups, sources = make_sources(module, 2)
    with ChildEvaluator(module, groups, sources, make_batches) as evaluator:
        for assignment in itertools.product(range(2), repeat=3):
            evaluator.losses(assignment)
    assert sum(evaluator.cost["unit_calls_reused"].values()) == 0
    assert set(evaluator.cost["not_reused"]) == {"writer", "sound", "reader"}


class HiddenWriter(nn.Linear):
    """Leaves its output in a global, where no watch can see it."""

    def forward(self, input):
        output = super().forward(input)
        ELSEWHERE["x"] = output.detach().mean(0, keepdim=True)
        return output


class HiddenReader(nn.Linear):
    """Reads that global; its own input and weights do not tell that it changed."""

    def forward(self, input):
        return super().forward(input + 3 * torch.tanh(ELSEWHERE["x"]))


class Hidden(Network):
    def __init__(self):
        super().__init__()
        self.writer, self.reader = HiddenWriter(WIDTH, WIDTH), HiddenReader(WIDTH, CLASSES)

    def logits(self, batch):
        return self.writer(batch["image"])[:, :CLASSES] + self.reader(batch["image"])


def test_what_the_watch_cannot_see_the_guard_catches():
    torch.manual_seed(0)
    module = Hidden()
    groups, sources = make_sources(module, 2)
    with ChildEvaluator(module, groups, sources, make_batches) as evaluator:
        evaluator.losses((0, 0))
        with pytest.raises(TrainingError, match="caching is not valid for this module"):
            evaluator.losses((1, 0))
    with ChildEvaluator(module, groups, sources, make_batches, cache_mb=0) as plain:
        assert not equal_losses(plain.losses((0, 0)), plain.losses((1, 0)))


def test_a_step_that_sets_what_a_unit_reads_is_seen():
    class Scaled(nn.Linear):
        scale = 1.0

        def forward(self, input):
            return super().forward(input) * self.scale

    class Scaling(Leaves):
        def __init__(self):
            super().__init__()
            self.backbone, self.collected = Scaled(WIDTH, WIDTH), []

        def logits(self, batch):
            self.backbone.scale = 1.0 + float(self.a.weight.detach().mean())
            return super().logits(batch)

    class Collecting(Leaves):
        def __init__(self):
            super().__init__()
            self.collected = []

        def logits(self, batch):
            self.collected.append(super().logits(batch))
            return self.collected[-1]

    assert wrong_losses(Scaling, 0, make_batches()) == 0
    module = Collecting()
    groups, sources = make_sources(module, 2)
    with ChildEvaluator(module, groups, sources, make_batches) as evaluator:
        evaluator.losses((0, 0, 0, 0))
        evaluator.losses((0, 0, 0, 1))
    assert evaluator.cost["not_reused"] == {}, "what a step keeps on the whole module is no concern of the units"


def test_a_unit_that_draws_and_one_tied_to_a_module_of_elsewhere():
    class Drawing(nn.Linear):
        def forward(self, input):
            return super().forward(input) + torch.rand(1)

    module = Leaves()
    module.backbone = Drawing(WIDTH, WIDTH)
    module.b.others = [module.a]
    groups, sources = make_sources(module, 2)
    with ChildEvaluator(module, groups, sources, make_batches) as evaluator:
        evaluator.losses((0, 0, 0, 0))
        assert evaluator.check((0, 0, 0, 1)) is True
    assert evaluator.cost["not_reused"]["backbone"] == "its call changes torch's random state"
    assert evaluator.cost["not_reused"]["b"] == "its attribute others holds a module or parameter of elsewhere"


def test_a_watch_sees_values_only_where_they_change():
    module = nn.ModuleDict({"unit": nn.Linear(1, 1)})
    watch = Watch(module, ["unit"])
    module["unit"].size, module["unit"].places = 1000, [1]
    assert watch.begin() is None
    module["unit"].size = int("1000")
    assert watch.changed() is None
    module["unit"].places.append(2)
    assert watch.changed() == "unit.places"
    assert watch.begin() == "unit.places"
    with torch.no_grad():
        module["unit"].weight.zero_()
    assert watch.changed() == "unit.weight"
    assert watch.begin() is None
