"""What the open-set part is worth on photos it was not fitted on, with intervals by group."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from projects.pillsnap.evaluation.open_set import SCORES, NoneOfThese, none_score
from projects.pillsnap.evaluation.two_samples import Sides, TwoSampleIntervals
from shared.auroc import PooledAuroc
from shared.calibration import bin_index
from shared.report.evaluation import Intervals, mean_by_group
from shared.statistics import MIN_GROUPS, BoundedStatistic

KEPT_SHARE = 0.95
"""Share of known photos that are answered where the false positive rate is read off."""

CURVE_POINTS = 200
_CELLS_PER_CHUNK = 4_000_000


@dataclass(frozen=True)
class OpenSetSample:
    """Photos of the classes and photos of held-out ones, with what the intervals count.

    Attributes:
        known: (N, K) calibrated logits of photos of the K classes.
        unknown: (M, K) calibrated logits of photos of held-out classes.
        right: (N,) bool, whether the first candidate of the known photo is its class.
        known_group: (N,) integer codes of pill and sitting.
        unknown_group: (M,) integer codes of the held-out class: photos of one class are not independent observations.

    Raises:
        ValueError: If the lengths do not fit, or a part has no photo.
    """

    known: NDArray[np.float64]
    unknown: NDArray[np.float64]
    right: NDArray[np.bool_]
    known_group: NDArray[np.int64]
    unknown_group: NDArray[np.int64]

    def __post_init__(self) -> None:
        lengths = len(self.known), len(self.right), len(self.known_group), len(self.unknown), len(self.unknown_group)
        if len(set(lengths[:3])) > 1 or lengths[3] != lengths[4] or not lengths[0] or not lengths[3]:
            raise ValueError(
                f"known, right, known_group, unknown and unknown_group have the lengths {lengths}; the first three "
                "must be equal, as the last two, and none 0"
            )

    def groups(self) -> tuple[NDArray[np.int64], Sides]:
        """Group of every photo, known ones first, (N + M,); the number of known groups and of held-out classes."""
        known = np.unique(self.known_group, return_inverse=True)
        unknown = np.unique(self.unknown_group, return_inverse=True)
        count = len(known[0])
        return np.concatenate([known[1], unknown[1] + count]), (count, len(unknown[0]))


def open_set_report(
    sample: OpenSetSample, fitted: NoneOfThese, *, base_rate: float, intervals: TwoSampleIntervals
) -> dict[str, Any]:
    """Every number of the open-set part.

    Args:
        sample: Photos that nothing was fitted on.
        fitted: Score, slope, offset and threshold.
        base_rate: Share of unknown photos for which calibration, risk and coverage are stated, in (0, 1).
        intervals: Seed and draws.

    Returns:
        `scores` by kind with `auroc` and `fpr95`; `decisions` (share of known photos answered, share of those answers
        that are right, share of unknown photos declined); `calibration` (ece, brier at the base rate); `curve` (risk
        and coverage) and `aurc`; counts.
    """
    group, sides = sample.groups()

    def both(statistic: BoundedStatistic) -> dict[str, Any]:
        return with_enough_classes(intervals.of_two_samples(statistic, sides), sides[1])

    stated = np.concatenate([fitted.probability(sample.known), fitted.probability(sample.unknown)])
    is_unknown = np.arange(len(stated)) >= len(sample.known)
    declined = stated > fitted.threshold
    answered = ~declined[: len(sample.known)]
    coverage, risk = risk_coverage(sample, fitted.score, base_rate)
    return {
        "n_known": len(sample.known),
        "n_unknown": len(sample.unknown),
        "known_groups": sides[0],
        "unknown_classes": sides[1],
        "base_rate": base_rate,
        "chosen": fitted.as_dict(),
        "scores": {kind: _detection(sample, kind, group, sum(sides), both) for kind in SCORES},
        "decisions": {
            "known_answered": _share(answered, sample.known_group, intervals),
            "right_among_answered": _share(sample.right[answered], sample.known_group[answered], intervals),
            "right_without_open_set": _share(sample.right, sample.known_group, intervals),
            "unknown_declined": with_enough_classes(
                _share(declined[is_unknown], sample.unknown_group, intervals), sides[1]
            ),
        },
        "calibration": {
            name: both(statistic)
            for name, statistic in calibration_at(stated, is_unknown, group, sum(sides), base_rate).items()
        },
        "curve": {"coverage": coverage.tolist(), "risk": risk.tolist()},
        "aurc": float(np.trapezoid(risk, coverage) / (coverage[-1] - coverage[0])) if len(coverage) > 1 else None,
    }


def _detection(
    sample: OpenSetSample, kind: str, group: NDArray[np.int64], num_groups: int, both: Any
) -> dict[str, Any]:
    low, high = none_score(sample.known, kind), none_score(sample.unknown, kind)
    scores = np.concatenate([low, high])
    is_unknown = np.arange(len(scores)) >= len(low)
    auroc = BoundedStatistic(PooledAuroc(scores, is_unknown, group, num_groups), 0.0, 1.0)
    return {"auroc": both(auroc), "fpr95": both(false_positive_rate(low, high, group, num_groups))}


def with_enough_classes(estimate: dict[str, Any], classes: int) -> dict[str, Any]:
    """The estimate, without its interval where it rests on fewer held-out classes than an interval needs."""
    if classes >= MIN_GROUPS:
        return estimate
    noun = "held-out class" if classes == 1 else "held-out classes"
    return estimate | {"lo": None, "hi": None, "method": f"no interval: {classes} {noun}"}


def false_positive_rate(
    known: NDArray[np.float64],
    unknown: NDArray[np.float64],
    group: NDArray[np.int64],
    num_groups: int,
    kept: float = KEPT_SHARE,
) -> BoundedStatistic:
    """Share of unknown photos that are answered where at least `kept` of the known photos are, of group weights.

    In every draw the cut is set anew on that draw's known photos.

    Args:
        known: (N,) scores, higher means rather unknown.
        unknown: (M,) scores.
        group: (N + M,) codes in [0, num_groups), known photos first.
        num_groups: G.
        kept: Share of known photos, in (0, 1].
    """
    order, order_unknown = np.argsort(known, kind="stable"), np.argsort(unknown, kind="stable")
    known_sorted, known_group = known[order], group[: len(known)][order]
    unknown_sorted, unknown_group = unknown[order_unknown], group[len(known) :][order_unknown]
    # Photos with equal scores are answered together.
    last_equal = np.searchsorted(known_sorted, known_sorted, "right") - 1
    below = np.searchsorted(unknown_sorted, known_sorted, "right")

    def rate(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.full(len(weights), np.nan)
        step = max(1, _CELLS_PER_CHUNK // (len(known) + len(unknown)))
        for start in range(0, len(weights), step):
            block = weights[start : start + step]
            kept_weight = np.cumsum(block[:, known_group], axis=1)
            answered = np.concatenate([np.zeros((len(block), 1)), np.cumsum(block[:, unknown_group], axis=1)], axis=1)
            cut = last_equal[(kept_weight >= kept * kept_weight[:, -1:] - 1e-9).argmax(axis=1)]
            rows, total = np.arange(len(block)), answered[:, -1]
            defined = (total > 0) & (kept_weight[:, -1] > 0)
            found[start : start + step][defined] = (answered[rows, below[cut]] / np.maximum(total, 1e-300))[defined]
        return found

    return BoundedStatistic(rate, 0.0, 1.0)


def calibration_at(
    stated: NDArray[np.float64],
    is_unknown: NDArray[np.bool_],
    group: NDArray[np.int64],
    num_groups: int,
    base_rate: float,
    num_bins: int = 15,
) -> dict[str, BoundedStatistic]:
    """Calibration error and Brier score of the probability, as they would be at the base rate.

    Known and unknown photos are averaged apart and mixed by the base rate, so the shares at hand do not matter.

    Args:
        stated: (N,) probabilities of being unknown.
        is_unknown: (N,) bool.
        group: (N,) codes in [0, num_groups).
        num_groups: G.
        base_rate: Share of unknown photos, in (0, 1).
        num_bins: Equal-width bins of the calibration error.
    """
    bins = bin_index(stated, num_bins)
    parts = ((~is_unknown, 1.0 - base_rate), (is_unknown, base_rate))
    sizes: list[NDArray[np.float64]] = []
    gaps: list[NDArray[np.float64]] = []
    squares: list[NDArray[np.float64]] = []
    for mask, _ in parts:
        cells = group[mask] * num_bins + bins[mask]
        difference = is_unknown[mask] - stated[mask]
        sizes.append(np.bincount(group[mask], minlength=num_groups).astype(np.float64))
        gap = np.bincount(cells, difference, num_groups * num_bins).astype(np.float64)
        gaps.append(gap.reshape(num_groups, num_bins))
        squares.append(np.bincount(group[mask], difference**2, num_groups).astype(np.float64))
    shares = [share for _, share in parts]

    def mixed(weights: NDArray[np.float64], sums: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Mean (D, ...) of known and of unknown photos, mixed; NaN where a draw lacks one of them."""
        total = np.zeros((len(weights), *sums[0].shape[1:]))
        for share, part, size in zip(shares, sums, sizes, strict=True):
            below = weights @ size
            divisor = np.where(below > 0, below, np.nan).reshape(-1, *(1,) * (part.ndim - 1))
            total = total + share * (weights @ part) / divisor
        return total

    return {
        "ece": BoundedStatistic(lambda weights: np.abs(mixed(weights, gaps)).sum(axis=1), 0.0, 1.0),
        "brier": BoundedStatistic(lambda weights: mixed(weights, squares), 0.0, 1.0),
    }


def risk_coverage(
    sample: OpenSetSample, kind: str, base_rate: float, points: int = CURVE_POINTS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of photos answered, and share of those answers that are wrong, as the threshold rises.

    Any answer to an unknown photo is wrong. Photos with equal scores are answered together.

    Args:
        sample: The photos.
        kind: One of `SCORES`.
        base_rate: Share of unknown photos in the stream that this describes, in (0, 1).
        points: The curve is thinned to about so many points; first and last stay.

    Returns:
        coverage, rising to 1, and risk, each (P,).
    """
    scores = np.concatenate([none_score(sample.known, kind), none_score(sample.unknown, kind)])
    num_known, num_unknown = len(sample.known), len(sample.unknown)
    weight = np.repeat([(1.0 - base_rate) / num_known, base_rate / num_unknown], [num_known, num_unknown])
    wrong = np.concatenate([~sample.right, np.ones(num_unknown, dtype=np.bool_)])
    order = np.argsort(scores, kind="stable")
    coverage, errors = np.cumsum(weight[order]), np.cumsum((weight * wrong)[order])
    ends = np.flatnonzero(np.append(np.diff(scores[order]) > 0, True))
    if len(ends) > points:
        ends = ends[np.unique(np.linspace(0, len(ends) - 1, points).round().astype(np.int64))]
    return coverage[ends], errors[ends] / coverage[ends]


def _share(mask: ArrayLike, group: NDArray[np.int64], intervals: Intervals) -> dict[str, Any]:
    """Share of True with its interval."""
    values = np.asarray(mask, dtype=np.float64)
    if not len(values):
        return {"value": None, "lo": None, "hi": None, "n_groups": 0, "method": "no interval: no photo"}
    return intervals.of(*mean_by_group(values, group.astype(np.int32)))


def none_of_these_content(
    fitted: NoneOfThese, aurocs: Mapping[str, float], tuning: Mapping[str, Any], final_sha256: str
) -> dict[str, Any]:
    """Content of none_of_these.json, which the export puts into the model file.

    Args:
        fitted: What was fitted.
        aurocs: AUROC of each score on the tuning photos.
        tuning: base_rate, accept_known and how many photos of what it was fitted on.
        final_sha256: The final network it belongs to.
    """
    return {
        "format": "pillsnap-none-of-these-1",
        "final_sha256": final_sha256,
        **fitted.as_dict(),
        "tuning": dict(tuning) | {"auroc": dict(aurocs)},
    }
