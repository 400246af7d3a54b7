"""What a network said about stories, and its scores as functions of group weights, ready for paired intervals."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from projects.redheart.tasks import EMOTION, SCORES
from shared.rank_correlation import RankCorrelations
from shared.scores import ClassificationScores
from shared.statistics import BoundedStatistic, Statistic

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StoryAnswers:
    """Answers and targets of all tasks on N stories.

    Attributes:
        rows: (N,) rows of the sample index.
        group: (N,) integer codes; intervals count groups.
        probs: (N, K) calibrated emotion probabilities, rows sum to 1.
        label: (N,) emotion.
        prediction: Task -> (N, D) in [0, 1].
        target: Task -> (N, D) in [0, 1].
        mask: Task -> (N, D) bool, False where the target is missing.
    """

    rows: NDArray[np.int64]
    group: NDArray[np.int64]
    probs: Floats
    label: NDArray[np.int64]
    prediction: dict[str, Floats]
    target: dict[str, Floats]
    mask: dict[str, NDArray[np.bool_]]

    def sorted_by_row(self) -> "StoryAnswers":
        """The same answers in the order of the index, so that two passes are paired story by story."""
        order = np.argsort(self.rows, kind="stable")
        tasks = {
            part: {task: values[order] for task, values in getattr(self, part).items()}
            for part in ("prediction", "target", "mask")
        }
        return StoryAnswers(self.rows[order], self.group[order], self.probs[order], self.label[order], **tasks)

    def same_as(self, other: "StoryAnswers", task: str) -> bool:
        """Whether both say the same about a task, to the last bit."""
        if task == EMOTION:
            return bool(np.array_equal(self.probs, other.probs))
        return bool(np.array_equal(self.prediction[task], other.prediction[task]))


@dataclass(frozen=True)
class Score:
    """A score with its direction.

    Attributes:
        statistic: Of group weights.
        larger_is_better: Whether a gain is an increase.
    """

    statistic: Statistic
    larger_is_better: bool

    @property
    def bounds(self) -> tuple[float, float]:
        """Values that it can take."""
        assert isinstance(self.statistic, BoundedStatistic)  # all of `scores_of` are
        return self.statistic.lowest, self.statistic.highest


def scores_of(answers: StoryAnswers) -> dict[str, Score]:
    """`<task>/<metric>` -> score: macro-F1 and NLL of the emotion, mean absolute error and Spearman of the others.

    A task that no story has a target for is left out. Spearman is the mean over the task's numbers.
    """
    emotion = ClassificationScores(answers.probs, answers.label, answers.group)
    found = {
        f"{EMOTION}/f1_macro": Score(emotion.f1_macro(), True),
        f"{EMOTION}/nll": Score(emotion.nll(), False),
    }
    _, place = np.unique(answers.group, return_inverse=True)
    for task in SCORES:
        if task in answers.prediction and answers.mask[task].any():
            parts = answers.prediction[task], answers.target[task], answers.mask[task], place
            found[f"{task}/mae"] = Score(mean_absolute_error(*parts), False)
            if has_spread(answers, task):
                found[f"{task}/spearman"] = Score(mean_spearman(*parts), True)
    return found


def mean_absolute_error(
    prediction: Floats, target: Floats, mask: NDArray[np.bool_], place: NDArray[np.int64]
) -> BoundedStatistic:
    """Mean of |prediction - target| over all valid numbers, as a statistic of group weights.

    Args:
        prediction: (N, D) in [0, 1].
        target: (N, D) in [0, 1].
        mask: (N, D), True where there is a target.
        place: (N,) position of each story's group in 0 .. G - 1.
    """
    gap = np.where(mask, np.abs(prediction - target), 0.0).sum(axis=1)
    total = np.bincount(place, weights=gap)
    size = np.bincount(place, weights=mask.sum(axis=1))

    def mean(weights: Floats) -> Floats:
        below = weights @ size
        found: Floats = np.divide(weights @ total, below, out=np.full(len(weights), np.nan), where=below > 0)
        return found

    return BoundedStatistic(mean, 0.0, 1.0)


def mean_spearman(
    prediction: Floats, target: Floats, mask: NDArray[np.bool_], place: NDArray[np.int64]
) -> BoundedStatistic:
    """Spearman's correlation of each number of a task, averaged over them, as a statistic of group weights.

    Where a draw leaves a number without spread the mean is undefined (NaN). A number whose targets are all equal has no
    correlation and is left out.

    Args:
        prediction: (N, D).
        target: (N, D).
        mask: (N, D), True where there is a target.
        place: (N,) position of each story's group in 0 .. G - 1.

    Raises:
        ValueError: If no number of the task has two different targets.
    """
    valid = [(column, mask[:, column]) for column in range(mask.shape[1]) if mask[:, column].any()]
    ranks = [
        RankCorrelations([prediction[here, column]], target[here, column], place[here])
        for column, here in valid
        if np.ptp(target[here, column]) > 0
    ]
    if not ranks:
        raise ValueError("no number of the task has two different targets; a correlation needs them")

    def mean(weights: Floats) -> Floats:
        return np.asarray(np.mean([rank(weights)[:, 0] for rank in ranks], axis=0))

    return BoundedStatistic(mean, -1.0, 1.0)


def has_spread(answers: StoryAnswers, task: str) -> bool:
    """Whether some number of a task has two different targets."""
    target, mask = answers.target[task], answers.mask[task]
    return any(np.ptp(target[here, column]) > 0 for column, here in enumerate(mask.T) if here.any())
