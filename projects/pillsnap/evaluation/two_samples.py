"""Intervals of numbers that rest on two independent samples of groups: photos of the classes and held-out classes.

240 sittings of known pills beside 10 held-out classes are not 250 observations of one kind. Pooled, they would pass for
many, and a draw of 250 from both would hold 10 classes only on average. Here the smaller side decides what is done, and
each side is resampled by itself.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from shared.report.evaluation import EstimateDict, Intervals
from shared.statistics import (
    MAX_UNDEFINED_SHARE,
    MIN_GROUPS,
    MIN_GROUPS_BOOTSTRAP,
    BoundedStatistic,
    Estimate,
    Statistic,
)

Sides = tuple[int, int]
"""Number of groups of the first and of the second sample; the weights of the first come first."""

LEVEL = 0.95
_CELLS_PER_CHUNK = 4_000_000  # 32 MB of weights at a time
_ROUNDING = 1e-12  # spreads below this are arithmetic, not data


class TwoSampleIntervals(Intervals):
    """`Intervals` that also know numbers of two samples.

    Args:
        seed: Of the group bootstrap.
        draws: Number of bootstrap draws.
    """

    def __init__(self, seed: int, draws: int) -> None:
        super().__init__(seed, draws)
        self._seed, self._draws = seed, draws

    def of_two_samples(self, statistic: BoundedStatistic, sides: Sides) -> EstimateDict:
        """Return the estimate of one statistic of both samples, see `estimate_two_samples`."""
        return estimate_two_samples(statistic, sides, seed=self._seed, draws=self._draws).as_dict()


def estimate_two_samples(statistic: BoundedStatistic, sides: Sides, *, seed: int = 0, draws: int = 2000) -> Estimate:
    """The statistic on all groups with a 95 % interval by the method that the smaller sample allows.

    From 30 groups on: percentile interval of a bootstrap that draws each sample by itself. From 6 on: t interval with
    Welch's and Satterthwaite's degrees of freedom, on the log-odds scale of the statistic's range. The variances of the
    two samples are added: of a sample of fewer than 30 groups by its jackknife, of another by a bootstrap of that
    sample alone, since a jackknife fails where a quantile of many photos is taken. Below 6 groups: no interval.
    Undefined draws and replicates are treated as in `shared.statistics.estimate`.

    Args:
        statistic: Maps weights (D, G + H) to (D,), first sample first.
        sides: G and H, each >= 1.
        seed: Of the bootstrap.
        draws: Number of bootstrap draws, >= 2.

    Returns:
        Value, interval and method; `n_groups` is that of the smaller sample.

    Raises:
        ValueError: If a sample has no group.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), sections 8.3 (two samples) and 11.5
    (pseudo-values); Welch, "The generalization of 'Student's' problem ...", Biometrika 34 (1947). The sum of the
    variances of both samples is that of Arvesen, "Jackknifing U-statistics", Annals of Mathematical Statistics 40
    (1969); log-odds are what Pepe, "The Statistical Evaluation of Medical Tests" (2003), section 5.2, uses for AUROC.
    """
    if min(sides) < 1:
        raise ValueError(f"the samples have {sides[0]} and {sides[1]} groups; each needs at least 1")
    smaller = min(sides)
    value = float(statistic(np.ones((1, sum(sides))))[0])
    if not math.isfinite(value):
        return Estimate(math.nan, None, None, smaller, "no interval: undefined on these data")
    if smaller < MIN_GROUPS:
        return Estimate(value, None, None, smaller, f"no interval: {smaller} {'group' if smaller == 1 else 'groups'}")
    try:
        if smaller < MIN_GROUPS_BOOTSTRAP:
            lo, hi, method = _t_interval(statistic, value, sides, seed, draws)
        else:
            lo, hi, method = _percentiles(statistic, sides, seed, draws)
    except _UndefinedError as reason:
        return Estimate(value, None, None, smaller, f"no interval: {reason}")
    lo, hi = (float(np.clip(end, statistic.lowest, statistic.highest)) for end in (lo, hi))
    return Estimate(value, lo, hi, smaller, method)


class _UndefinedError(Exception):
    """The statistic is undefined on too many draws or without some group."""


def _t_interval(
    statistic: BoundedStatistic, value: float, sides: Sides, seed: int, draws: int
) -> tuple[float, float, str]:
    variances, freedoms = [], []
    for side, size in enumerate(sides):
        if size < MIN_GROUPS_BOOTSTRAP:
            replicates = _without_each(statistic, sides, side)
            variances.append(float(replicates.var()) * (size - 1))
        else:
            variances.append(float(_drawn(statistic, sides, (side,), seed, draws).var(ddof=1)))
        freedoms.append(size - 1)
    method = f"t interval over {sides[0]} and {sides[1]} groups, jackknife below {MIN_GROUPS_BOOTSTRAP}"
    total = sum(variances)
    if total < _ROUNDING**2:
        return value, value, f"{method}, no variation between groups"
    freedom = total**2 / sum(variance**2 / own for variance, own in zip(variances, freedoms, strict=True))
    half = float(stdtrit(freedom, (1.0 + LEVEL) / 2.0)) * math.sqrt(total)
    span = statistic.highest - statistic.lowest
    share = (value - statistic.lowest) / span
    if not 0.0 < share < 1.0:  # at the end of its range it has no log-odds
        return value - half, value + half, method
    centre, reach = math.log(share / (1.0 - share)), half / span / (share * (1.0 - share))
    lo, hi = (statistic.lowest + span * 0.5 * (1.0 + math.tanh(0.5 * (centre + sign * reach))) for sign in (-1.0, 1.0))
    return lo, hi, method


def _percentiles(statistic: Statistic, sides: Sides, seed: int, draws: int) -> tuple[float, float, str]:
    values = _drawn(statistic, sides, (0, 1), seed, draws)
    lo, hi = np.quantile(values, [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0])
    dropped = f" ({draws - len(values)} undefined, dropped)" if len(values) < draws else ""
    return float(lo), float(hi), f"group bootstrap of {sides[0]} and {sides[1]} groups, {draws} draws{dropped}"


def _without_each(statistic: Statistic, sides: Sides, side: int) -> NDArray[np.float64]:
    """The statistic without each group of one sample in turn."""
    size = sides[side]
    weights = np.ones((size, sum(sides)))
    weights[np.arange(size), np.arange(size) + side * sides[0]] = 0.0
    values = statistic(weights)
    undefined = int(np.sum(~np.isfinite(values)))
    if undefined:
        raise _UndefinedError(f"undefined without {undefined} of the {size} groups")
    return values


def _drawn(statistic: Statistic, sides: Sides, which: tuple[int, ...], seed: int, draws: int) -> NDArray[np.float64]:
    """The statistic on draws of the groups of the samples `which`, each by itself; of the other all groups."""
    rngs = [np.random.default_rng([seed, side]) for side in range(2)]  # the cut into chunks does not change the draws
    step = max(1, _CELLS_PER_CHUNK // sum(sides))
    parts = []
    for start in range(0, draws, step):
        number = min(step, draws - start)
        weights = [
            rng.multinomial(size, np.full(size, 1.0 / size), number) if side in which else np.ones((number, size))
            for side, (rng, size) in enumerate(zip(rngs, sides, strict=True))
        ]
        parts.append(statistic(np.concatenate(weights, axis=1).astype(np.float64)))
    values = np.concatenate(parts)
    defined = values[np.isfinite(values)]
    undefined = draws - len(defined)
    if undefined > MAX_UNDEFINED_SHARE * draws:
        raise _UndefinedError(f"undefined on {undefined} of {draws} group bootstrap draws")
    return defined
