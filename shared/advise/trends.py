"""Robust measures of a noisy curve: its noise, its level at either end, its slope and whether the slope is real.

An epoch's loss is noisy (a small val fold, the order of the batches), so no rule looks at single points: levels are
medians, slopes are Theil-Sen's, and each comes with a standard error from the scatter around the trend.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

Values = NDArray[np.float64]

_MAD_TO_SD = 1.4826  # of a normal distribution
_MEDIAN_COST = 1.2533  # sqrt(pi / 2): a median scatters so much more than a mean


@dataclass(frozen=True)
class Level:
    """Median of a window with its standard error."""

    value: float
    error: float
    first: int  # index of the window's first point
    last: int  # and of its last one, included


def noise(values: Values) -> float:
    """Standard deviation of the scatter around a smooth trend, from second differences.

    A straight line has none, and single jumps (a restart of the schedule) do not count, since the median absolute value
    is taken. NaN below four points.

    Example:
        >>> noise(np.arange(10.0))
        0.0
    """
    if len(values) < 4:
        return math.nan
    return float(_MAD_TO_SD * np.median(np.abs(np.diff(values, 2))) / math.sqrt(6.0))


def level(values: Values, first: int, last: int) -> Level:
    """Median of `values[first..last]`, its error from the noise of the whole curve."""
    window = values[first : last + 1]
    scatter = noise(values)
    error = 0.0 if len(window) == 0 or math.isnan(scatter) else scatter / math.sqrt(len(window))
    return Level(float(np.median(window)), error * (_MEDIAN_COST if len(window) > 2 else 1.0), first, last)


def end_window(num: int) -> int:
    """Points that stand for an end of a curve: a tenth of it, at least 3."""
    return max(3, round(num / 10))


def lowest(values: Values) -> Level:
    """The window of `end_window` points with the lowest median; its middle says when the curve was best."""
    width = min(end_window(len(values)), len(values))
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, width), axis=1)
    first = int(np.argmin(medians))
    return level(values, first, first + width - 1)


def slope(values: Values, at: Values | None = None) -> float:
    """Theil-Sen slope: the median over all pairs.

    Args:
        values: The curve, (E,).
        at: Where its points stand, strictly ascending, (E,); by default 0, 1, ...

    Example:
        >>> slope(np.array([0.0, 1.0, 2.0, 50.0, 4.0]))
        1.0
    """
    places = np.arange(len(values), dtype=np.float64) if at is None else at
    first, second = np.triu_indices(len(values), k=1)
    return float(np.median((values[second] - values[first]) / (places[second] - places[first])))


def trend_p(values: Values, direction: int) -> float:
    """One-sided p-value of Mann and Kendall's test for a rise (direction 1) or a fall (-1); 1 below four points."""
    if len(values) < 4 or np.ptp(values) == 0:
        return 1.0
    alternative = "greater" if direction > 0 else "less"
    return float(kendalltau(np.arange(len(values)), values, alternative=alternative).pvalue)
