"""How much less a network errs when it answers only where it is sure, as functions of group weights."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Shares of the samples that are answered, at which the risk is told."""
RISKS = (0.05, 0.10)
"""Risks for which the largest coverage is told."""

_NUMBERS_PER_CHUNK = 400_000  # weights of the samples held at a time
_ROUNDING = 1e-9  # 0.05 * 60 must not be less than 3

Floats = NDArray[np.float64]


class RiskCoverage:
    """Risk and coverage of one network: `values(weights)` gives all its numbers for many weights of the groups.

    The samples are answered in the order of their confidence, the surest first. Coverage is the share answered, risk
    the error rate among these. Samples of equal confidence are answered in random order, and the numbers are the means
    over all such orders, so they do not depend on the order of the file; a weight of 2 is the same as having each
    sample of the group twice.

    - The risk at a coverage c: errors among the c * n surest, divided by c * n; between two whole numbers of samples
      and within equal confidences the errors rise in a straight line.
    - AURC, the area under the curve: the mean of the risk over the 1, 2, ..., n surest samples.
    - The coverage at a risk r: the largest share with a risk of at most r that a threshold on the confidence can answer
      (so equal confidences are answered all or none); 0 where there is none.

    Args:
        confidence: (N,) the larger, the surer.
        right: (N,) bool, whether the answer is right.
        group: (N,) integer codes, any values.

    Attributes:
        num_groups: G.

    Raises:
        ValueError: If the arrays do not fit or a confidence is not finite.

    Source: Geifman and El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017; AURC as in Geifman,
    Uziel and El-Yaniv, "Bias-reduced uncertainty estimation for deep neural classifiers", ICLR 2019, equation 4. The
    class AURC of torch-uncertainty integrates the same risks by trapezoids from coverage 1/n to 1 and divides by
    1 - 1/n, and breaks ties by the order of the samples; both go to the same area as n grows.
    """

    def __init__(self, confidence: ArrayLike, right: ArrayLike, group: ArrayLike) -> None:
        sure, hit = np.asarray(confidence, dtype=np.float64), np.asarray(right)
        codes = np.asarray(group)
        if sure.ndim != 1 or hit.shape != sure.shape or codes.shape != sure.shape or not len(sure):
            raise ValueError(
                f"confidence {sure.shape}, right {hit.shape} and group {codes.shape} must be (N,), with N of at least 1"
            )
        if hit.dtype != np.bool_ or codes.dtype.kind not in "iu" or not np.isfinite(sure).all():
            raise ValueError(
                f"right is {hit.dtype} and group {codes.dtype}; bool and integers are needed, and a finite confidence"
            )
        names, place = np.unique(codes, return_inverse=True)
        self.num_groups = len(names)
        order = np.argsort(-sure, kind="stable")
        self._group, self._wrong = place[order], ~hit[order]
        ordered = sure[order]
        self._ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # of equal confidences

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """What each of the columns of `values` can reach."""
        return [(0.0, 1.0)] * (len(COVERAGES) + 1 + len(RISKS))

    def values(self, weights: Floats) -> Floats:
        """All numbers for weights (W, G).

        Returns:
            (W, K): the risk at each of `COVERAGES`, AURC, the coverage at each of `RISKS`; NaN without any weight.
        """
        chunk = max(1, _NUMBERS_PER_CHUNK // len(self._group))
        return np.concatenate(
            [self._chunk(weights[start : start + chunk]) for start in range(0, max(len(weights), 1), chunk)]
        )

    def _chunk(self, weights: Floats) -> Floats:
        mass = np.ascontiguousarray(weights.T)[self._group]  # (N, w), one row a sample
        answered = np.cumsum(mass, axis=0)[self._ends]
        errors = np.cumsum(mass * self._wrong[:, None], axis=0)[self._ends]
        total = answered[-1]
        columns = [*_risks(answered, errors), _area(answered, errors)]
        for risk in RISKS:
            kept = np.where(errors <= risk * answered + _ROUNDING, answered, 0.0).max(axis=0)
            columns.append(np.divide(kept, total, out=np.full(len(total), np.nan), where=total > 0))
        return np.stack(columns, axis=1)


def _risks(answered: Floats, errors: Floats) -> list[Floats]:
    """Risk at each of `COVERAGES`, from the curves (blocks, w)."""
    found = np.full((len(COVERAGES), answered.shape[1]), np.nan)
    start = np.zeros(1)
    for draw, total in enumerate(answered[-1]):
        if total > 0:
            at = np.array(COVERAGES) * total
            upto = np.concatenate([start, answered[:, draw]])
            found[:, draw] = np.interp(at, upto, np.concatenate([start, errors[:, draw]])) / at
    return list(found)


def _area(answered: Floats, errors: Floats) -> Floats:
    """Mean risk over the 1, ..., n surest, (w,).

    Within a block of equal confidences the expected errors among k samples are E + e (k - K), with K samples and E
    errors before it and its error rate e. Summed over its k, divided by k, this is e m + (E - e K) (H(K + m) - H(K))
    for its m samples, with the harmonic numbers H.
    """
    before = np.concatenate([np.zeros((1, answered.shape[1])), answered[:-1]])
    wrong_before = np.concatenate([np.zeros((1, answered.shape[1])), errors[:-1]])
    mass = answered - before
    rate = np.divide(errors - wrong_before, mass, out=np.zeros_like(mass), where=mass > 0)
    harmonic = digamma(answered + 1.0)  # minus a constant that the difference drops
    steps = np.diff(harmonic, axis=0, prepend=np.full((1, answered.shape[1]), digamma(1.0)))
    summed = (rate * mass + (wrong_before - rate * before) * steps).sum(axis=0)
    total = answered[-1]
    return np.divide(summed, total, out=np.full(len(total), np.nan), where=total > 0)
