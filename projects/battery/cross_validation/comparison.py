"""Networks and floor on the same samples: scores with intervals, paired differences, rounds and kinds apart."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.auroc import PooledAuroc
from shared.cross_validation.pooling import Pooled
from shared.report.evaluation import FINAL, Intervals
from shared.report.outputs import TestOutputs
from shared.sample_index import SampleIndex
from shared.scores import ClassificationScores
from shared.statistics import BoundedStatistic, Statistic

METRICS = ("auroc", "accuracy", "f1_macro", "f1_positive", "nll", "ece")
"""AUROC over all pairs, share of right answers, mean F1 of the two classes, F1 of the class "defective", and how far
the probabilities are from what happens: likelihood and calibration error."""

WITHIN = "auroc_within_rounds"
"""AUROC over pairs of one round only: five networks need not agree on what a probability means."""

LITERATURE: tuple[dict[str, Any], ...] = (
    {"name": "SVM on hand-crafted features", "accuracy": 0.824, "source": "Deitsch et al. 2019"},
    {"name": "VGG-19, pretrained on ImageNet", "accuracy": 0.884, "source": "Deitsch et al. 2019"},
)
"""Accuracy on the binary task as published; see `protocol_differences`."""


def compare(
    index: SampleIndex,
    pooled: Pooled[TestOutputs],
    floors: Mapping[str, NDArray[np.float64]],
    *,
    seed: int,
    draws: int = 2000,
) -> dict[str, Any]:
    """Score every row of the networks and every floor on all samples.

    Args:
        index: N samples of two classes; class 1 is what the AUROC ranks.
        pooled: Out-of-fold probabilities of the networks.
        floors: Floor name to (N, 2) out-of-fold probabilities.
        seed: Of the group bootstrap, the same for all rows.
        draws: Number of bootstrap draws.

    Returns:
        The parts "rows", "differences", "rounds" and "kinds" of cross_validation.json.
    """
    probs = _distinct(pooled.outputs.probs) | dict(floors)
    intervals = Intervals(seed, draws)
    everything = np.ones(len(index), dtype=np.bool_)
    groups = len(np.unique(index.group))
    statistics = {name: _statistics(index, values, everything, pooled.round_of) for name, values in probs.items()}
    against = [name for name in probs if name != FINAL]
    return {
        "rows": {
            name: {metric: intervals.of(statistic, groups) for metric, statistic in row.items()}
            for name, row in statistics.items()
        },
        "differences": {
            name: {
                metric: intervals.of_difference(statistics[FINAL][metric], statistics[name][metric], groups)
                for metric in (*METRICS, WITHIN)
            }
            for name in against
        },
        "rounds": [_round(index, probs, pooled, number) for number in range(len(pooled.folds))],
        "kinds": _kinds(index, probs, floors, pooled.round_of, intervals),
    }


def _distinct(probs: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Put final first and leave out what is final under another name: best_single; types permuted within the type."""
    final = probs[FINAL]
    return {FINAL: final} | {name: values for name, values in probs.items() if not np.array_equal(values, final)}


def _statistics(
    index: SampleIndex, probs: NDArray[np.float64], mask: NDArray[np.bool_], round_of: NDArray[np.int64]
) -> dict[str, Statistic]:
    """Scores of one row on the samples in `mask`, as functions of the weights of their groups."""
    target, group = index.label[mask].astype(np.int64), index.group[mask]
    scores = ClassificationScores(probs[mask], target, group)
    codes = np.searchsorted(scores.group_values, group)
    within = PooledAuroc(probs[mask, 1], target == 1, codes, scores.num_groups, round_of[mask])
    return {
        "auroc": scores.auroc_macro(),
        "accuracy": scores.accuracy(),
        "f1_macro": scores.f1_macro(),
        "f1_positive": scores.f1(1),
        "nll": scores.nll(),
        "ece": scores.ece(),
        WITHIN: BoundedStatistic(within, 0.0, 1.0),
    }


def _round(
    index: SampleIndex, probs: Mapping[str, NDArray[np.float64]], pooled: Pooled[TestOutputs], number: int
) -> dict[str, Any]:
    """AUROC and accuracy of each row in one round, without intervals: rounds share most of their training samples."""
    mask = pooled.tested(number)
    values = {}
    for name, row in probs.items():
        statistics = _statistics(index, row, mask, pooled.round_of)
        ones = np.ones((1, len(np.unique(index.group[mask]))))
        values[name] = {metric: float(statistics[metric](ones)[0]) for metric in ("auroc", "accuracy")}
    return {"round": number, "tested": int(mask.sum()), "rows": values}


def _kinds(
    index: SampleIndex,
    probs: Mapping[str, NDArray[np.float64]],
    floors: Mapping[str, NDArray[np.float64]],
    round_of: NDArray[np.int64],
    intervals: Intervals,
) -> dict[str, Any]:
    """Each value of the metadata column `kind` on its own."""
    parts: dict[str, Any] = {}
    for code, kind in enumerate(index.meta_names["kind"]):
        mask = index.meta["kind"] == code
        if not mask.any():
            continue
        groups = len(np.unique(index.group[mask]))
        statistics = {name: _statistics(index, values, mask, round_of) for name, values in probs.items()}
        parts[kind] = {
            "n": int(mask.sum()),
            "positive": int((index.label[mask] == 1).sum()),
            "rows": {
                name: {metric: intervals.of(row[metric], groups) for metric in ("auroc", "accuracy")}
                for name, row in statistics.items()
            },
            "differences": {
                name: {"auroc": intervals.of_difference(statistics[FINAL]["auroc"], statistics[name]["auroc"], groups)}
                for name in floors
            },
        }
    return parts


def protocol_differences(index: SampleIndex) -> list[str]:
    """Say why the published numbers stand beside ours and not in one ranking with them."""
    share = float(np.mean(index.label == 1))
    return [
        f"Samples: theirs are the full set of 2,624 cells, ours {len(index):,} of them.",
        "Training: they fitted on 1,968 cells; a round here fits on about "
        f"{round(0.7 * len(index), -1):,.0f}, the rest of its part chooses the epoch or is kept for later stages.",
        "Test: theirs are the 656 other cells; here every cell is tested once, in five rounds.",
        "First weights: their network was pretrained on ImageNet; ours starts from random weights.",
        f"Classes: {share:.0%} of the cells here are defective (probability 0.5 and above), 31% of the full set; the "
        f"answer 'functional' alone is right for {1 - share:.0%} here and 69% there: accuracies do not rank them.",
        "Modules: which cells come from one module is not published, so ours may stand on both sides of a split.",
        "Choice: the shipped recipe was chosen on development images of round 0, test images of rounds 1 to 4; "
        "the floor was not tuned, so the pooled comparison leans towards the network and only round 0 is untouched.",
    ]
