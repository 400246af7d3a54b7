"""Which part of a batch or fold one of several processes works on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RankShare:
    """The part of one rank.

    Args:
        rank: Which, 0 to count - 1.
        count: Ranks in all, 1 or more.

    Raises:
        ValueError: If there is no such rank.
    """

    rank: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.count:
            raise ValueError(f"rank is {self.rank} of {self.count}, allowed: 0 up to, but not, their number")

    def places(self, num_samples: int) -> slice:
        """Places of an epoch that the rank draws: every `count`-th, so each batch is cut into equal parts.

        Example:
            >>> list(range(8))[RankShare(1, 2).places(8)]
            [1, 3, 5, 7]
        """
        return slice(self.rank, num_samples, self.count)

    def block(self, num_samples: int) -> slice:
        """Samples of a fold that the rank evaluates: one piece, each sample in exactly one rank's, none twice.

        Example:
            >>> [list(range(5))[RankShare(rank, 2).block(5)] for rank in (0, 1)]
            [[0, 1], [2, 3, 4]]
        """
        return slice(num_samples * self.rank // self.count, num_samples * (self.rank + 1) // self.count)


ALONE = RankShare(0, 1)
"""The share of a process that has no others beside it."""
