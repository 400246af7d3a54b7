"""What an objective gets and gives: one point of a sweep as work to be done.

An objective is a function `(PointWork) -> dict` named by its dotted path: `shared.sweep.engine_point.run` trains with
the engine, tests have a toy one without torch. Nothing heavy is imported here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from shared.errors import DataError

if TYPE_CHECKING:
    from omegaconf import DictConfig

DIRECTIONS = ("min", "max")
"""Whether the smaller or the larger score is the better one."""

NOT_FINITE = "not finite"
"""What the NaN guard's TrainingError says; such a point is a result, and is not tried again."""

DATA_CHANGED = "the data are not those that"
"""How the sentence of a DataChangedError begins, by which the sweeper knows such points."""

Outcome = dict[str, Any]
"""What an objective returns: plain JSON with at least `score`, as measured (its direction is the sweep's)."""


class DataChangedError(DataError):
    """A point has found other data than the points before it: their results must not be compared."""


class PointClaim(Protocol):
    """What an objective uses of the claim that it works under; `shared.sweep.claim.Claim` is one."""

    @property
    def lost(self) -> bool:
        """Whether somebody else has taken the point over, so that nothing of this work would count."""
        ...

    def check(self) -> None:
        """Raise LeaseLost if `lost`."""
        ...

    def opened(self, run: str, **facts: Any) -> bool:
        """Say in the ledger which run directory the point has, with facts such as the hash of its first weights."""
        ...

    def note(self, **facts: Any) -> None:
        """Leave the epoch in the heartbeat, for those who watch."""
        ...


@dataclass(frozen=True)
class PointWork:
    """One point to be measured.

    Attributes:
        id: Of the point, 12 hex digits.
        generation: Of the sweep; points of one generation share code and data.
        config: Composed configuration of the point, `resume` null.
        overrides: Of the point, kept in its run directory.
        resume: Run directory of the attempt before, to go on with; None for a first attempt.
        claim: The lease that the work is done under.
        folder: Of the sweep.
        settings: The sweep's plain settings (`hydra.sweeper.*`).
        values: Swept keys and the point's values.
        direction: One of DIRECTIONS.
        score_name: What a score is, in a few words; `scoring.RATE_SCORE` in a sweep over rates, else the monitor.
    """

    id: str
    generation: int
    config: "DictConfig"
    overrides: tuple[str, ...]
    resume: Path | None
    claim: PointClaim
    folder: Path
    settings: Mapping[str, Any]
    values: Mapping[str, Any]
    direction: str = "min"
    score_name: str = ""

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction is {self.direction!r}; allowed are {', '.join(DIRECTIONS)}")


Objective = Callable[[PointWork], Outcome]
"""Raises RunInterrupted where a signal stopped it (the point goes on later), TrainingError where the loss was not
finite (final), anything else for a failure that may be tried again."""
