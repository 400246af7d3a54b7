"""Asynchronous successive halving: points that are behind at a rung are given up before their last epoch.

At the rungs, after `first_epoch * eta**k` epochs, a point leaves its score in the sweep's folder and goes on only if
it is among the best 1/eta of those that have reached the rung by then, or fewer than eta have. Nobody waits, so any
launcher and several machines can take part. The price: what is given up depends on the order in which the points come,
the first ones always go on, and a point that starts slowly can be lost. It is off unless a sweep asks for it.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, algorithm 2. There a point that
was held back can be promoted later; here it has ended, since a paused fit would keep its memory or its checkpoint.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from shared.sweep import exclusive_files
from shared.sweep.halving_rule import HalvingRule
from shared.sweep.objective import DIRECTIONS

SCHEMA = 1
RUNGS = "rungs"
"""Folder of the sweep: `rungs/<epochs>/<point>.json`, each created once and never changed."""


def goes_on(own: float, others: Sequence[float], eta: int, direction: str = "min") -> bool:
    """Whether a score is among the best 1/eta of all at its rung; always while there are fewer than eta.

    Args:
        own: Score of the point.
        others: Scores of the other points that have reached the rung.
        eta: One of so many goes on, >= 2.
        direction: "min" or "max".

    Raises:
        ValueError: For another direction.

    Example:
        >>> goes_on(2.0, [1.0], eta=3), goes_on(2.0, [1.0, 3.0], eta=3), goes_on(0.5, [1.0, 3.0], eta=3)
        (True, False, True)
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction is {direction!r}; allowed are {', '.join(DIRECTIONS)}")
    count = len(others) + 1
    if count < eta:
        return True
    sign = 1.0 if direction == "min" else -1.0
    better = sum(1 for other in others if sign * other < sign * own)
    return better < count // eta


class SuccessiveHalving(Callback):
    """Ends a fit that is behind at a rung.

    Args:
        rule: When points are compared, and how many go on.
        folder: Of the sweep.
        point: Id of the point.
        generation: Of the sweep; points of another one are not compared.
        direction: "min" or "max".
        score: The point's score so far, None where it has none yet.
        tell: Called at each rung with the epochs after which the point is given up, None where it goes on.
    """

    def __init__(
        self,
        rule: HalvingRule,
        folder: Path,
        point: str,
        generation: int,
        direction: str,
        score: Callable[[], float | None],
        tell: Callable[[int | None], None],
    ) -> None:
        self.rule = rule
        self.folder = folder
        self.point = point
        self.generation = generation
        self.direction = direction
        self.score = score
        self.tell = tell
        self.stopped_at: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A point that was given up stays so if it was killed behind its last checkpoint."""
        if self.stopped_at is not None:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare at a rung; behind the last epoch there is nothing to save."""
        epochs = trainer.current_epoch + 1
        if not self.rule.is_rung(epochs) or epochs == trainer.max_epochs:
            return
        score = self.score()
        if score is None or not math.isfinite(score):
            return
        self.stopped_at = None if self._is_ahead(epochs, score) else epochs
        self.tell(self.stopped_at)
        if self.stopped_at is not None:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Where the point was given up."""
        return {"stopped_at": self.stopped_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.stopped_at = state_dict["stopped_at"]

    def _is_ahead(self, epochs: int, score: float) -> bool:
        """A resumed point that has been at this rung is compared by what it left there."""
        folder = self.folder / RUNGS / str(epochs)
        own = {"schema": SCHEMA, "point": self.point, "generation": self.generation, "score": score}
        exclusive_files.create(folder / f"{self.point}.json", own)
        found = {path.stem: exclusive_files.read(path) for path in folder.glob("*.json")}
        scores = {
            point: float(content["score"])
            for point, content in found.items()
            if content is not None and content.get("generation") == self.generation
        }
        score = scores.pop(self.point, score)
        return goes_on(score, list(scores.values()), self.rule.eta, self.direction)
