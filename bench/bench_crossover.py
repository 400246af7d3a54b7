"""Cost of the crossover's coordinate search: with kept activations, without, and against the grid.

A network of four groups, a backbone with 70 % of the cost and three leaves, and 30 snapshots; each group may take the
best single checkpoint, its sweet spot or that one's neighbours, 5 sources. A batch takes some twenty milliseconds, less
than those of a small image network; with batches of 3 ms the bookkeeping of a reused one, under a millisecond, takes
the ratio down to about 2.2. Both searches look at the same children in the same run, one after the other. The grid of
5^4 children is counted, not run: its cost is the number of its passes times the mean of a measured pass. Then the unit
calls of one sweep are counted for each topology of the cost model in shared/crossover/evaluator.py.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.record import Record, run_benchmark
from shared.crossover.acceptance import group_means
from shared.crossover.candidates import CandidateTable, build_candidates
from shared.crossover.evaluator import ChildEvaluator
from shared.crossover.search import SearchResult, coordinate_search
from shared.crossover.settings import BestSingle
from shared.module_groups import ModuleGroups
from shared.snapshots import SnapshotStore

NUM_SNAPSHOTS, NUM_SAMPLES, BATCH_SIZE, WIDTH, CLASSES = 30, 2048, 256, 768, 10
REPETITIONS = 3
SPOTS = (5, 11, 17, 23)
CACHE_MB = 512.0


def block(depth: int, outputs: int = WIDTH) -> nn.Sequential:
    """Layers of equal cost, and a cheap last one."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(WIDTH, WIDTH), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, outputs)) if outputs != WIDTH else nn.Sequential(*layers)


class Network(nn.Module):
    """Four groups in one of three topologies."""

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"logits": self(batch["image"]), "target": batch["target"]}


class Leaves(Network):
    """A backbone with 7 of 10 layers and three leaves with one each."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.a, self.b, self.c = block(7), block(1, CLASSES), block(1, CLASSES), block(1, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        features = self.backbone(image)
        return self.a(features) + self.b(features) + self.c(features)


class Chain(Network):
    """Four stages of equal cost."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = block(2), block(2), block(2), block(2, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        return self.d(self.c(self.b(self.a(image))))


class Branches(Network):
    """Three branches on the input and a join with a tenth of the cost."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.join = block(3), block(3), block(3), block(1, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        return self.join(self.a(image) + self.b(image.flip(1)) + self.c(image.roll(1, 1)))


def measure(record: Record) -> None:
    """The searches on backbone and leaves, then the unit calls of the other topologies."""
    torch.manual_seed(0)
    batches = [
        {
            "image": torch.randn(BATCH_SIZE, WIDTH), "target": torch.randint(0, CLASSES, (BATCH_SIZE,)),
            "group_index": torch.arange(BATCH_SIZE) // 4,
        }
        for _ in range(NUM_SAMPLES // BATCH_SIZE)
    ]  # fmt: skip
    for network in (Leaves, Chain, Branches):
        with tempfile.TemporaryDirectory() as folder:
            module = network()
            groups = ModuleGroups.of(module)
            table = snapshots(module, groups, Path(folder))
            if network is Leaves:
                compare(record, module, groups, table, batches)
            count(record, module, groups, table, batches)


def snapshots(module: nn.Module, groups: ModuleGroups, folder: Path) -> CandidateTable:
    """Write 30 snapshots, each a little away from the first weights, and collect 5 sources for each group."""
    store = SnapshotStore(folder, groups)
    first = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for epoch in range(NUM_SNAPSHOTS):
        noise = torch.Generator().manual_seed(epoch)
        state = {name: t + 0.3 * t.std() * torch.randn(t.shape, generator=noise) for name, t in first.items()}
        store.write(epoch, epoch, groups.split(state), {})
    best = BestSingle(groups.join({name: store.load(14, name) for name in groups.names}), 14)
    spots = dict(zip(groups.names, SPOTS, strict=True))
    table = build_candidates(groups, store, spots, best, (2, 4))
    # The best single, the sweet spot and three neighbours: the 5 of the grid.
    return CandidateTable(
        table.sources, tuple(options[:5] for options in table.candidates), table.sweet_spot, (), {}, {}
    )


def searched(
    module: nn.Module, groups: ModuleGroups, table: CandidateTable, batches: list[Any], cache_mb: float, sweeps: int = 3
) -> tuple[SearchResult, dict[str, Any], float]:
    """One whole search: what it found, what it computed, and its seconds."""
    started = time.perf_counter()
    with ChildEvaluator(module, groups, table.sources, lambda: batches, cache_mb) as evaluator:

        def score(assignment: tuple[int, ...]) -> float:
            return float(np.mean(group_means(evaluator.losses(assignment), evaluator.group)[0]))

        result = coordinate_search(score, table.starts, table.candidates, range(len(groups.names)), sweeps)
    return result, evaluator.cost, time.perf_counter() - started


def compare(record: Record, module: nn.Module, groups: ModuleGroups, table: CandidateTable, batches: list[Any]) -> None:
    """The search with and without the cache, and the grid."""
    cached_s, uncached_s, pass_s = [], [], []
    for _ in range(REPETITIONS):
        cached, cost, seconds = searched(module, groups, table, batches, CACHE_MB)
        cached_s.append(seconds)
        uncached, uncached_cost, seconds = searched(module, groups, table, batches, 0.0)
        uncached_s.append(seconds)
        pass_s.append(uncached_cost["seconds"] / uncached_cost["passes"])
        assert (cached.best, cached.value) == (uncached.best, uncached.value), "the cache must not change the result"
    grid = int(np.prod([len(options) for options in table.candidates]))
    record.add("children looked at", len(cached.tried), "passes")
    record.add("sweeps", cached.sweeps, "sweeps")
    record.add("passes the cached search is worth, by forward time", cost["equivalent_passes"], "passes")
    record.add_samples("search with kept activations", cached_s, "s")
    record.add_samples("the same search without", uncached_s, "s")
    record.add_samples("one pass without", pass_s, "s")
    record.add_samples("search without / with", [b / a for a, b in zip(cached_s, uncached_s, strict=True)], "ratio")
    record.add("children of the grid", grid, "passes")
    worth = [grid * one / a for a, one in zip(cached_s, pass_s, strict=True)]
    record.add_samples("grid (passes x measured pass) / search with", worth, "ratio")


def count(record: Record, module: nn.Module, groups: ModuleGroups, table: CandidateTable, batches: list[Any]) -> None:
    """Unit calls of one sweep from the best single checkpoint, by batch, beside the calls without a cache."""
    alone = CandidateTable(table.sources, table.candidates, table.best_single, (), {}, {})
    calls: Callable[[dict[str, Any]], float] = lambda cost: sum(cost["unit_calls_computed"].values()) / len(batches)  # noqa: E731
    _, cost, _ = searched(module, groups, alone, batches, CACHE_MB, sweeps=1)
    name = type(module).__name__.lower()
    record.add(f"{name}: unit calls of a sweep", calls(cost), "calls")
    reused = sum(cost["unit_calls_reused"].values()) / len(batches)
    record.add(f"{name}: unit calls without a cache", calls(cost) + reused, "calls")
    record.add(f"{name}: passes a sweep is worth", cost["equivalent_passes"], "passes")


if __name__ == "__main__":
    run_benchmark("bench_crossover", measure)
