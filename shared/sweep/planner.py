"""What a planner of a sweep is: from the points there are, which points there should be."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from shared.sweep.plans import Proposal
from shared.sweep.states import PointView


class Planner(Protocol):
    """Says which points a sweep should have.

    A planner keeps no state of its own: its answer follows from its settings and the points in the ledger alone. So it
    may be asked again after any crash, by any machine, and answers the same; where two ask at once, one plan counts.

    Attributes:
        total: How many points there will be at most; None where that is not known before.
        notes: Sentences about what was not as asked for, rebuilt by each `propose`.
    """

    total: int | None
    notes: list[str]

    def space(self) -> dict[str, Any]:
        """The searched space as plain JSON values."""
        ...

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Whether a point with these values is one of this search; those that are not, are kept but not ranked."""
        ...

    def propose(self, points: Sequence[PointView]) -> list[Proposal] | None:
        """The points that are missing now.

        Args:
            points: All points of the generation that counts, their scores to be minimised.

        Returns:
            New points; an empty list: ask again when more points are settled; None: there will be no more.
        """
        ...
