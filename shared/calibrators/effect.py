"""What a calibrator changed on the samples it was chosen on: every score by calibrators that did not see the sample."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.calibration import confidence_and_hit
from shared.calibrators.choose import Choice
from shared.scores import ClassificationScores
from shared.statistics import BoundedStatistic, Statistic, estimate, estimate_difference

ScoreDict = dict[str, dict[str, Any]]


def measure_effect(
    choice: Choice, logits: Tensor, target: Tensor, group: NDArray[np.integer], *, seed: int = 0, draws: int = 2000
) -> dict[str, ScoreDict]:
    """Calibration scores before and after, and their paired difference, with intervals by group.

    `after` is measured by cross-fitting: each fold of groups is calibrated by a fit without it. It tells what the
    choice is worth on new groups, though a little less than the calibrator fitted on all of them; the choice of the
    method itself has seen all groups. Where nothing was fitted, after equals before.

    Args:
        choice: Made on the same samples in the same order.
        logits: (N, C).
        target: (N,).
        group: (N,) codes.
        seed: Of the group bootstrap.
        draws: Bootstrap draws.

    Returns:
        {"before", "after", "difference": {score: estimate}}. The scores are `ece`, `classwise_ece`, `adaptive_ece`,
        `brier`, `nll`, `confidence_right` and `confidence_wrong` (mean confidence of right and of wrong answers).
    """
    before = torch.softmax(logits.detach().cpu().double(), dim=1).numpy()
    after = before if choice.held_out is None or choice.method == "identity" else choice.held_out
    first, num_groups = _scores(before, target, group)
    second = first if after is before else _scores(after, target, group)[0]

    def estimates(scores: Mapping[str, Statistic]) -> ScoreDict:
        return {name: estimate(score, num_groups, seed=seed, draws=draws).as_dict() for name, score in scores.items()}

    stated = estimates(first)
    return {
        "before": stated,
        "after": stated if second is first else estimates(second),
        "difference": {
            name: estimate_difference(second[name], first[name], num_groups, seed=seed, draws=draws).as_dict()
            for name in first
        },
    }


def _scores(probs: NDArray[np.float64], target: Tensor, group: NDArray[np.integer]) -> tuple[dict[str, Statistic], int]:
    classes = target.detach().cpu().numpy()
    scores = ClassificationScores(probs, classes, np.asarray(group))
    confidence, hit = confidence_and_hit(probs, classes)
    code = np.searchsorted(scores.group_values, group)
    return {
        "ece": scores.ece(),
        "classwise_ece": scores.classwise_ece(),
        "adaptive_ece": scores.adaptive_ece(),
        "brier": scores.brier(),
        "nll": scores.nll(),
        "confidence_right": _mean_over(confidence, hit, code, scores.num_groups),
        "confidence_wrong": _mean_over(confidence, 1.0 - hit, code, scores.num_groups),
    }, scores.num_groups


def _mean_over(
    confidence: NDArray[np.float64], chosen: NDArray[np.float64], group: NDArray[np.int64], num_groups: int
) -> Statistic:
    """Mean confidence of the chosen samples (1.0, others 0.0); NaN where the weights leave none."""
    total = np.bincount(group, confidence * chosen, num_groups)
    size = np.bincount(group, chosen, num_groups)

    def mean(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        above, below = weights @ total, weights @ size
        return np.divide(above, below, out=np.full(len(weights), np.nan), where=below > 0)

    return BoundedStatistic(mean, 0.0, 1.0)
