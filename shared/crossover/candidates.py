"""Which sources each module group may take: its sweet spot, that one's neighbours, and the best single checkpoint."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from shared.crossover.evaluator import Source
from shared.crossover.search import Assignment
from shared.crossover.settings import BestSingle
from shared.module_groups import ModuleGroups
from shared.snapshots import SnapshotStore
from shared.weights import weights_sha256


@dataclass(frozen=True)
class Variant:
    """The sweet-spot assignment with all groups shifted by the same number of epochs.

    Attributes:
        shift: In epochs.
        assignment: Its sources.
        epochs: Group -> epoch, after clipping to the snapshots that exist.
    """

    shift: int
    assignment: Assignment
    epochs: dict[str, int]


@dataclass(frozen=True)
class CandidateTable:
    """Sources and what the search may do with them.

    Attributes:
        sources: Number 0 is the best single checkpoint, then the snapshots in order of epoch.
        candidates: For each group the numbers it may take, the best single's first.
        sweet_spot: The sweet-spot assignment.
        variants: It with all groups shifted.
        clipped: Group -> epoch used, where the snapshot of its sweet spot no longer exists or is damaged.
        singles: Each snapshot among the sources that has all groups, as a whole: the assignment that takes all from it.
        single_epochs: Epoch of each of these.
    """

    sources: tuple[Source, ...]
    candidates: tuple[tuple[int, ...], ...]
    sweet_spot: Assignment
    variants: tuple[Variant, ...]
    clipped: dict[str, int]
    singles: tuple[Assignment, ...] = field(repr=False)
    single_epochs: tuple[int, ...] = field(default=(), repr=False)

    @property
    def best_single(self) -> Assignment:
        """All groups from the best single checkpoint."""
        return (0,) * len(self.candidates)

    @property
    def starts(self) -> list[Assignment]:
        """Where the search begins: best single, sweet spots, shifted sweet spots, whole epochs; each once."""
        shifted = (variant.assignment for variant in self.variants)
        return list(dict.fromkeys([self.best_single, self.sweet_spot, *shifted, *self.singles]))

    def single_epoch(self, assignment: Assignment) -> int | None:
        """The epoch that an assignment is as a whole, byte for byte; None for a mixture and for the best single."""
        if assignment == self.best_single or assignment not in self.singles:
            return None
        return self.single_epochs[self.singles.index(assignment)]

    def epochs(self, groups: ModuleGroups, assignment: Assignment) -> dict[str, int]:
        """Group -> epoch of its source."""
        return {name: self.sources[source].epoch for name, source in zip(groups.names, assignment, strict=True)}


def damaged_snapshots(store: SnapshotStore) -> dict[int, str]:
    """Epoch -> what is wrong with its snapshot, of those that cannot be used; see `SnapshotStore.fault`."""
    faults = {epoch: store.fault(epoch) for epoch in store.epochs()}
    return {epoch: fault for epoch, fault in faults.items() if fault is not None}


def build_candidates(
    groups: ModuleGroups,
    store: SnapshotStore,
    sweet_spots: Mapping[str, int],
    best: BestSingle,
    neighbours: Sequence[int],
    leave_out: Collection[int] = (),
) -> CandidateTable:
    """Collect the candidates; sources with equal bytes in a group count once there, the best single first.

    A group has only the epochs whose file is still there. A neighbour without one is clipped: the nearest on that side
    of the sweet spot stands in, or none where there is none.

    Args:
        groups: The network's groups.
        store: Its snapshots, at least one.
        sweet_spots: Group -> epoch.
        best: The best single checkpoint.
        neighbours: Distances in epochs.
        leave_out: Epochs whose snapshots are not to be used, such as damaged ones.

    Raises:
        ValueError: If a group has no sweet spot or there is no snapshot to use.
        CheckpointError: If a snapshot's record cannot be read.
    """
    missing = [name for name in groups.names if name not in sweet_spots]
    existing = [epoch for epoch in store.epochs() if epoch not in leave_out]
    if missing or not existing:
        what = f"no snapshot in {store.folder} can be used"
        if missing:
            what = f"groups {', '.join(missing)} have no sweet spot"
        raise ValueError(f"{what}; each of {', '.join(groups.names)} needs one with its snapshot")
    having = {name: [epoch for epoch in existing if store.has(epoch, name)] for name in groups.names}
    if gone := [name for name, epochs in having.items() if not epochs]:
        raise ValueError(f"none of the {len(existing)} snapshots in {store.folder} has the group {gone[0]}")
    centres = {name: _nearest(having[name], sweet_spots[name]) for name in groups.names}
    clipped = {name: epoch for name, epoch in centres.items() if epoch != sweet_spots[name]}
    shifts = sorted({sign * step for step in neighbours for sign in (-1, 1)})
    wanted = {
        name: [centre, *(epoch for shift in shifts if (epoch := _beside(having[name], centre, shift)) is not None)]
        for name, centre in centres.items()
    }
    epochs = sorted({epoch for options in wanted.values() for epoch in options})
    sources, numbers = _sources(groups, store, best, epochs)
    candidates = tuple(
        tuple(dict.fromkeys([0, *(numbers[name, epoch] for epoch in wanted[name])])) for name in groups.names
    )
    variants = []
    for shift in shifts:
        shifted = {name: _or(_beside(having[name], centre, shift), centre) for name, centre in centres.items()}
        assignment = tuple(numbers[name, shifted[name]] for name in groups.names)
        variants.append(Variant(shift, assignment, shifted))
    sweet_spot = tuple(numbers[name, centres[name]] for name in groups.names)
    whole = tuple(epoch for epoch in epochs if all(epoch in having[name] for name in groups.names))
    singles = tuple(tuple(numbers[name, epoch] for name in groups.names) for epoch in whole)
    return CandidateTable(sources, candidates, sweet_spot, tuple(variants), clipped, singles, whole)


def _sources(
    groups: ModuleGroups, store: SnapshotStore, best: BestSingle, epochs: Sequence[int]
) -> tuple[tuple[Source, ...], dict[tuple[str, int], int]]:
    """The sources, and (group, epoch) -> number of the first source with the same bytes in that group."""
    parts = groups.split(best.state)
    first = {(name, weights_sha256(part)): 0 for name, part in parts.items()}
    sources = [Source(best.epoch, "best single", lambda group: parts[group])]
    numbers = {}
    for number, epoch in enumerate(epochs, start=1):
        record = store.record(epoch)["groups"]
        sources.append(Source(epoch, f"epoch {epoch}", _loader(store, epoch)))
        for name in groups.names:
            if store.has(epoch, name):  # equal bytes of a file that is gone would stand for those that are there
                numbers[name, epoch] = first.setdefault((name, record[name]["sha256"]), number)
    return tuple(sources), numbers


def _loader(store: SnapshotStore, epoch: int) -> Callable[[str], dict[str, Tensor]]:
    """Reads a group of one snapshot."""
    return lambda group: store.load(epoch, group)


def _nearest(existing: Sequence[int], epoch: int) -> int:
    """The nearest snapshot, the earlier of two."""
    return min(existing, key=lambda known: (abs(known - epoch), known))


def _beside(existing: Sequence[int], centre: int, shift: int) -> int | None:
    """The snapshot nearest to centre + shift on that side of the centre."""
    side = [epoch for epoch in existing if (epoch - centre) * shift > 0]
    return _nearest(side, centre + shift) if side else None


def _or(epoch: int | None, otherwise: int) -> int:
    return otherwise if epoch is None else epoch
