"""Point estimates with intervals by group: 1,000 slices of 12 batteries are 12 independent observations, not 1,000.

Everything here works on group weights. A bootstrap draw is a row of counts, a jackknife replicate a row of ones with
one zero, so a statistic that is vectorised over rows of weights serves both, and two of them on one row are paired.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Statistic: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps group weights (D, G) to values (D,), NaN where a row of weights leaves the statistic undefined."""

Statistics: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps group weights (D, G) to K values for each row, (D, K), each as that of a `Statistic`."""

MIN_GROUPS = 6  # below, an interval would rest on a handful of numbers: there is none
MIN_GROUPS_BOOTSTRAP = 30  # below, percentiles are too narrow; t over jackknife pseudo-values widens with few groups
MAX_UNDEFINED_SHARE = 0.01  # a class in k of G groups misses about exp(-k) of the draws: 1 % asks for 5 groups
_ROUNDING = 1e-12  # spreads below this are arithmetic, not data
_WEIGHTS_PER_CHUNK = 4_000_000  # 32 MB of weights at a time, whatever the number of groups


@dataclass(frozen=True)
class BoundedStatistic:
    """A statistic that knows its range, so that an interval never claims an accuracy above 1."""

    function: Statistic
    lowest: float
    highest: float

    def __call__(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate the statistic on group weights (D, G)."""
        return self.function(weights)


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, or with the reason why it has none.

    Attributes:
        value: The statistic on all groups; NaN where it is undefined, for example the F1 of a class that is absent.
        lo: Lower end of the interval, None without one.
        hi: Upper end of the interval, None without one.
        n_groups: Number of groups behind it.
        method: How the interval was made, or "no interval: ..." with the reason.
    """

    value: float
    lo: float | None
    hi: float | None
    n_groups: int
    method: str

    def as_dict(self) -> dict[str, Any]:
        """The fields for JSON, which has no NaN: an undefined value is None."""
        return {
            "value": _finite_or_none(self.value),
            "lo": _finite_or_none(self.lo),
            "hi": _finite_or_none(self.hi),
            "n_groups": self.n_groups,
            "method": self.method,
        }


def estimate(
    statistic: Statistic, num_groups: int, *, seed: int = 0, draws: int = 2000, level: float = 0.95
) -> Estimate:
    """The statistic on all groups with an interval by the method that the number of groups allows.

    From 30 groups on: percentile interval of a seeded group bootstrap. From 6 on: t interval over jackknife
    pseudo-values. Below 6: no interval. Draws on which the statistic is undefined are dropped; when they are more than
    1 % of all, or when any jackknife replicate is undefined, there is no interval and `method` says so: what is left
    would describe only the data sets in which the rare class happened to appear.

    Nominal 95 % held the truth in 93 to 94 % of simulated data sets whose groups differ in size, at 8, 18 and 60 groups
    (tests/shared/test_statistics.py): read the intervals as slightly short.

    The interval of a statistic that resampling biases, as it does the expected calibration error, is biased with it.

    Args:
        statistic: Maps weights (D, G) to (D,). A `BoundedStatistic` has its interval cut to its range.
        num_groups: G.
        seed: Of the bootstrap; equal seeds and G give equal draws.
        draws: Number of bootstrap draws.
        level: Nominal coverage, in (0, 1).

    Raises:
        ValueError: If a setting is out of range, or the statistic does not return one value per row of weights.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 11 (pseudo-values) and 13
    (percentile interval); there samples are drawn, here whole groups.

    Example:
        >>> hits, sizes = np.array([9.0, 7, 8, 10, 6, 8]), np.full(6, 10.0)
        >>> found = estimate(lambda w: (w @ hits) / (w @ sizes), num_groups=6)
        >>> round(found.value, 3), round(found.lo, 3), round(found.hi, 3)
        (0.8, 0.652, 0.948)
    """
    bounds = (statistic.lowest, statistic.highest) if isinstance(statistic, BoundedStatistic) else (-np.inf, np.inf)

    def column(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return _evaluate(statistic, weights)[:, None]

    return estimate_many(column, [bounds], num_groups, seed=seed, draws=draws, level=level)[0]


def estimate_many(
    statistics: Statistics,
    bounds: Sequence[tuple[float, float]],
    num_groups: int,
    *,
    seed: int = 0,
    draws: int = 2000,
    level: float = 0.95,
) -> list[Estimate]:
    """Many statistics of the same groups, each as `estimate` gives it, from one set of draws.

    Drawing 2,000 times among thousands of groups takes longer than most scores; here it is done once for all of them.

    Args:
        statistics: Maps weights (D, G) to (D, K).
        bounds: K pairs (lowest, highest) that a statistic can reach; its interval is cut to them.
        num_groups: G.
        seed: As in `estimate`.
        draws: As in `estimate`.
        level: As in `estimate`.

    Returns:
        K estimates.

    Raises:
        ValueError: If a setting is out of range, or the statistics do not return K values per row of weights.
    """
    _check_settings(num_groups, draws, level)
    values = _table(statistics, np.ones((1, num_groups)), len(bounds))[0]
    if num_groups < MIN_GROUPS or not np.isfinite(values).any():
        return [_without_interval(float(value), num_groups) for value in values]
    few = num_groups < MIN_GROUPS_BOOTSTRAP
    if few:
        others = _table(statistics, np.ones((num_groups, num_groups)) - np.eye(num_groups), len(bounds))
    else:
        others = np.concatenate([_table(statistics, w, len(bounds)) for w in _draws(num_groups, seed, draws)])
    found = []
    for value, column, (lowest, highest) in zip(values.tolist(), others.T, bounds, strict=True):
        if not math.isfinite(value):
            found.append(_without_interval(value, num_groups))
            continue
        lo, hi, method = _jackknife(column, value, level) if few else _percentiles(column, level)
        if lo is not None and hi is not None:
            lo, hi = (float(np.clip(end, lowest, highest)) for end in (lo, hi))
        found.append(Estimate(value, lo, hi, num_groups, method))
    return found


def _without_interval(value: float, num_groups: int) -> Estimate:
    """What is said of a statistic that is undefined, or of too few groups."""
    if not math.isfinite(value):
        return Estimate(math.nan, None, None, num_groups, "no interval: undefined on these data")
    return Estimate(value, None, None, num_groups, f"no interval: {_counted(num_groups, 'group')}")


def estimate_difference(
    a: Statistic, b: Statistic, num_groups: int, *, seed: int = 0, draws: int = 2000, level: float = 0.95
) -> Estimate:
    """The difference a - b, paired: both see the same weights, so what is common to a group cancels.

    Args:
        a: First statistic; both must count the same groups in the same order.
        b: Statistic that is subtracted.
        num_groups: Number of groups G.
        seed: As in `estimate`.
        draws: As in `estimate`.
        level: As in `estimate`.

    Raises:
        ValueError: As in `estimate`.
    """

    def difference(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return _evaluate(a, weights) - _evaluate(b, weights)

    return estimate(difference, num_groups, seed=seed, draws=draws, level=level)


def _jackknife(replicates: NDArray[np.float64], value: float, level: float) -> tuple[float | None, float | None, str]:
    """The t interval over pseudo-values G * value - (G - 1) * value without group g, from the latter, (G,)."""
    num_groups = len(replicates)
    undefined = int(np.sum(~np.isfinite(replicates)))
    if undefined:
        return None, None, f"no interval: undefined without {undefined} of the {num_groups} groups"
    pseudo = num_groups * value - (num_groups - 1) * replicates
    centre, spread = float(pseudo.mean()), float(pseudo.std(ddof=1))
    half = float(stdtrit(num_groups - 1, (1.0 + level) / 2.0)) * spread / math.sqrt(num_groups)
    return centre - half, centre + half, "t interval over jackknife pseudo-values" + _note(np.ptp(replicates))


def _draws(num_groups: int, seed: int, draws: int) -> Iterator[NDArray[np.float64]]:
    """Weights (D, G) of the draws of G groups with replacement, in chunks that fit into memory."""
    rng = np.random.default_rng(seed)
    chunk = max(1, _WEIGHTS_PER_CHUNK // num_groups)
    equal = np.full(num_groups, 1.0 / num_groups)
    # Rows are drawn one after the other, so the cut into chunks does not change them.
    for start in range(0, draws, chunk):
        yield rng.multinomial(num_groups, equal, size=min(chunk, draws - start)).astype(np.float64)


def _percentiles(values: NDArray[np.float64], level: float) -> tuple[float | None, float | None, str]:
    """The percentile interval over the values of all draws, (D,)."""
    draws = len(values)
    defined = values[np.isfinite(values)]
    undefined = draws - len(defined)
    if undefined > MAX_UNDEFINED_SHARE * draws:
        return None, None, f"no interval: undefined on {undefined} of {draws} group bootstrap draws"
    lo, hi = np.quantile(defined, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    dropped = f" ({undefined} undefined, dropped)" if undefined else ""
    return float(lo), float(hi), f"group bootstrap, {draws} draws{dropped}" + _note(np.ptp(defined))


def _table(statistics: Statistics, weights: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The values (D, K) as float64, after a look at their shape."""
    values = np.asarray(statistics(weights), dtype=np.float64)
    if values.shape != (len(weights), count):
        raise ValueError(
            f"statistics returned shape {values.shape} for weights {weights.shape}; it must be "
            f"({len(weights)}, {count})"
        )
    return values


def _evaluate(statistic: Statistic, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The statistic's values (D,) as float64, after a look at their shape."""
    values = np.asarray(statistic(weights), dtype=np.float64)
    if values.shape != (len(weights),):
        raise ValueError(
            f"statistic returned shape {values.shape} for weights {weights.shape}; it must be ({len(weights)},)"
        )
    return values


def _check_settings(num_groups: int, draws: int, level: float) -> None:
    if num_groups < 1:
        raise ValueError(f"num_groups is {num_groups}; at least 1 is needed")
    if draws < 100:
        raise ValueError(f"draws is {draws}; percentiles need at least 100")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; it must lie between 0 and 1, for example 0.95")


def _note(spread: np.floating[Any]) -> str:
    """A width of zero is a fact about these groups, not certainty: the text must say which."""
    return ", no variation between groups" if spread < _ROUNDING else ""


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _finite_or_none(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
