"""Networks and floors on the same samples: scores with intervals by group, paired differences, channels, rounds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.curve_scores import CurveAxes, CurveScores
from shared.report.evaluation import FINAL, EstimateDict, Intervals
from shared.statistics import BoundedStatistic, Statistic

METRICS = ("r2", "r2_uniform", "rmse", "mae", "pearson", "peak_shift")
"""r2 is over all outputs together (variance-weighted), r2_uniform the mean of the R^2 of each output."""

Curves = NDArray[np.float64]


def statistics_of(
    prediction: Curves, target: Curves, group: NDArray[np.int32], axes: CurveAxes
) -> tuple[dict[str, Statistic], int]:
    """Return every score of one row as a function of group weights, and the number of groups."""
    scores = CurveScores(prediction, target, group, axes.values)
    found = scores.all() | {"r2_uniform": uniform_r2(prediction, target, group)}
    return {metric: found[metric] for metric in METRICS}, scores.num_groups


def uniform_r2(prediction: Curves, target: Curves, group: NDArray[np.int32]) -> Statistic:
    """R^2 of each channel at each point, averaged: scikit-learn's `r2_score` as it comes.

    Args:
        prediction: (N, C, L).
        target: (N, C, L).
        group: (N,) integer codes.

    Returns:
        Weights (D, G) -> (D,); NaN where an output does not vary.
    """
    names, place = np.unique(group, return_inverse=True)
    true, said = target.reshape(len(target), -1), prediction.reshape(len(target), -1)
    centred = true - true.mean(axis=0)

    def sums(values: Curves) -> Curves:
        total = np.zeros((len(names), values.shape[1]))
        np.add.at(total, place, values)
        return total

    total, squares, residual = sums(centred), sums(np.square(centred)), sums(np.square(said - true))
    size = np.bincount(place).astype(np.float64)

    def score(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = weights @ squares
        spread = whole - np.square(weights @ total) / (weights @ size)[:, None]
        known = spread > 1e-12 * whole
        ratio = np.divide(weights @ residual, spread, out=np.full(spread.shape, np.nan), where=known)
        return np.asarray(1.0 - ratio.mean(axis=1))

    return BoundedStatistic(score, -np.inf, 1.0)


def compare(
    rows: Mapping[str, Curves],
    target: Curves,
    group: NDArray[np.int32],
    round_of: NDArray[np.int64],
    axes: CurveAxes,
    *,
    detailed: Sequence[str],
    seed: int,
    draws: int = 2000,
) -> dict[str, Any]:
    """Score every row on all samples.

    Args:
        rows: Row name -> (N, C, L) out-of-fold curves; "final" is among them.
        target: (N, C, L).
        group: (N,) codes of the groups that intervals count.
        round_of: (N,) the round that tested a sample.
        axes: What C and L are.
        detailed: Rows that are also scored by channel and by point.
        seed: Of the group bootstrap, the same for all rows.
        draws: Number of bootstrap draws.

    Returns:
        The parts "rows", "differences", "same_as_final", "per_channel", "per_point" and "rounds" of
        cross_validation.json.
    """
    final = rows[FINAL]
    same = [name for name, values in rows.items() if name != FINAL and np.array_equal(values, final)]
    own = {FINAL: final} | {name: values for name, values in rows.items() if name not in same}
    detailed = [FINAL, *(name for name in detailed if name in own and name != FINAL)]
    intervals = Intervals(seed, draws)
    statistics = {name: statistics_of(values, target, group, axes)[0] for name, values in own.items()}
    groups = len(np.unique(group))
    return {
        "rows": {
            name: {metric: intervals.of(statistic, groups) for metric, statistic in row.items()}
            for name, row in statistics.items()
        },
        "differences": {
            name: {
                metric: intervals.of_difference(statistics[FINAL][metric], row[metric], groups) for metric in METRICS
            }
            for name, row in statistics.items()
            if name != FINAL
        },
        "same_as_final": same,
        "per_channel": _per_channel({name: own[name] for name in detailed}, target, group, axes, intervals),
        "per_point": _per_point({name: own[name] for name in detailed}, target, group, axes, intervals),
        "rounds": [_round(own, target, group, round_of == number, axes, int(number)) for number in np.unique(round_of)],
    }


def _per_channel(
    rows: Mapping[str, Curves], target: Curves, group: NDArray[np.int32], axes: CurveAxes, intervals: Intervals
) -> dict[str, dict[str, EstimateDict]]:
    """R^2 of each row on each channel alone."""
    found: dict[str, dict[str, EstimateDict]] = {}
    for k, channel in enumerate(axes.channels):
        here = slice(k, k + 1)
        scores = {name: CurveScores(row[:, here], target[:, here], group, axes.values) for name, row in rows.items()}
        found[channel] = {name: intervals.of(score.r2(), score.num_groups) for name, score in scores.items()}
    return found


def _per_point(
    rows: Mapping[str, Curves], target: Curves, group: NDArray[np.int32], axes: CurveAxes, intervals: Intervals
) -> dict[str, Any]:
    """RMSE at each point of the axis, with intervals for final only: a figure carries one band."""
    groups = len(np.unique(group))
    without = {"lo": None, "hi": None, "n_groups": groups, "method": "no interval: only final has one here"}
    found: dict[str, list[EstimateDict]] = {}
    for name, row in rows.items():
        scores = [
            CurveScores(row[:, :, k : k + 1], target[:, :, k : k + 1], group, [value]).rmse()
            for k, value in enumerate(axes.values)
        ]
        if name == FINAL:
            found[name] = [intervals.of(score, groups) for score in scores]
        else:
            found[name] = [{"value": float(score(np.ones((1, groups)))[0])} | without for score in scores]
    return {"axis": axes.axis_dict(), "rmse": found}


def _round(
    rows: Mapping[str, Curves],
    target: Curves,
    group: NDArray[np.int32],
    mask: NDArray[np.bool_],
    axes: CurveAxes,
    number: int,
) -> dict[str, Any]:
    """Scores of each row in one round, without intervals: rounds share most of their training samples."""
    values: dict[str, dict[str, float | None]] = {}
    for name, row in rows.items():
        statistics, groups = statistics_of(row[mask], target[mask], group[mask], axes)
        found = {metric: float(statistic(np.ones((1, groups)))[0]) for metric, statistic in statistics.items()}
        values[name] = {metric: value if np.isfinite(value) else None for metric, value in found.items()}
    return {"round": number, "tested": int(mask.sum()), "rows": values}
