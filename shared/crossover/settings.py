"""What the crossover is told: its settings, its data and the best single checkpoint."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Batches = Callable[[], Iterable[Any]]


@dataclass(frozen=True)
class CrossoverSettings:
    """Settings of the crossover.

    Attributes:
        neighbours: Distances in epochs from a sweet spot, on both sides, that are candidates too, each >= 1.
        max_sweeps: Most sweeps of the coordinate search over the groups.
        blocks: Most blocks of the cross-fitted form.
        min_groups_split: Groups in val and accept together from which on they are used apart.
        batch_norm_batches: Training batches that batch-norm statistics are estimated on.
        barrier_points: Shares at which the loss between two networks is looked at, each between 0 and 1.
        lawa_k: Snapshots in the average of the latest.
        cache_mb: Budget for kept batches and activations, MB; 0: nothing is kept.
        variant_rows: Whether the sweet spots, as they are and shifted by the neighbours' distances, are rows of the
            table too, with the mean of their predictions; that takes a file and a pass over the test fold for each.
        draws: Bootstrap draws of the optimism bill.
        seed: Of the draws and the blocks.

    Raises:
        ValueError: If a value is out of range.
    """

    neighbours: tuple[int, ...] = (2, 4)
    max_sweeps: int = 3
    blocks: int = 10
    min_groups_split: int = 40
    batch_norm_batches: int = 50
    barrier_points: tuple[float, ...] = (0.25, 0.5, 0.75)
    lawa_k: int = 5
    cache_mb: float = 2048.0
    variant_rows: bool = False
    draws: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("max_sweeps", 1), ("blocks", 2), ("min_groups_split", 0), ("batch_norm_batches", 1), ("lawa_k", 1),
            ("cache_mb", 0), ("draws", 100),
        ):  # fmt: skip
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} is {getattr(self, name)}; at least {least} is needed")
        if not all(isinstance(step, int) and step >= 1 for step in self.neighbours):
            raise ValueError(f"neighbours is {list(self.neighbours)}; distances in epochs, each at least 1, are needed")
        if not self.barrier_points or not all(0.0 < point < 1.0 for point in self.barrier_points):
            raise ValueError(f"barrier_points is {list(self.barrier_points)}; numbers between 0 and 1 are needed")


@dataclass(frozen=True)
class CrossoverData:
    """Where the batches come from; each gives the same ones in the same order whenever it is called.

    Attributes:
        select: The val fold, on which children are chosen.
        accept: The accept fold; None: there is none, and the test is cross-fitted on val.
        train: Training batches for batch-norm statistics; None: they stay as crossed or averaged.
    """

    select: Batches
    accept: Batches | None = None
    train: Batches | None = None


@dataclass(frozen=True)
class BestSingle:
    """The best single checkpoint.

    Attributes:
        state: Its full state dict, on the CPU.
        epoch: Its epoch, from 0.
    """

    state: dict[str, Tensor]
    epoch: int
