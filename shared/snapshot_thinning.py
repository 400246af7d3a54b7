"""Which snapshot files are given up: those of a group's worse epochs, then whole epochs until the rest fits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.snapshots import SnapshotStore


@dataclass(frozen=True)
class Thinning:
    """What may stay.

    What a group keeps depends on the values of all epochs so far, and a file that was given up stays so: it does not
    matter how often or when a fit was interrupted.

    Attributes:
        badness: Epoch -> monitor of the whole network, lower is better; NaN is worse than any number.
        ranking: Module group -> epochs, the best first, see `shared.sweet_spots.rank_epochs`.
        keep_per_group: Epochs whose file a group keeps beside the newest and the best; None: all of them.
        max_bytes: Disk that all snapshots may take; None: no limit.
    """

    badness: Mapping[int, float]
    ranking: Mapping[str, Sequence[int]] = field(default_factory=dict)
    keep_per_group: int | None = None
    max_bytes: int | None = None

    def apply(self, store: SnapshotStore, newest: int) -> list[int]:
        """Thin out; again with equal values it changes nothing.

        Args:
            store: The snapshots.
            newest: The newest epoch, which stays whole, as does the one with the best monitor.

        Returns:
            Epochs that were removed altogether.
        """
        stay = {newest, *self._best()}
        if self.keep_per_group is not None:
            for group, ranked in self.ranking.items():
                store.thin_group(group, stay | set(ranked[: self.keep_per_group]))
        if self.max_bytes is None:
            return []
        return store.thin(self.max_bytes, stay, self.badness)

    def _best(self) -> list[int]:
        """The epoch with the best monitor, the earlier of equals; none where no value is a number."""
        known = {epoch: value for epoch, value in self.badness.items() if not math.isnan(value)}
        return [min(known, key=lambda epoch: (known[epoch], epoch))] if known else []
