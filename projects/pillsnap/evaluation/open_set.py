"""'None of the 100': a score of how little a photo looks like any class, and the probability made of it.

Only numpy: the server and the export use it where no torch and no scipy are installed.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SCORES: tuple[str, ...] = ("msp", "max_logit", "energy")
"""Kinds of score, see `none_score`."""

_ABOVE_THRESHOLD = 1e-5  # a photo that sits on the threshold must not tip over in the float32 of an exported graph
_MAX_STEPS = 100


def none_score(logits: ArrayLike, kind: str) -> NDArray[np.float64]:
    """How little a photo looks like any class; higher means rather none of them.

    With m the largest logit of a row and E = log(sum(exp(logits))):

    - "msp": E - m, the surprise in nats of the most likely answer, -log(max softmax), in [0, log K];
    - "max_logit": -m;
    - "energy": -E.

    So each is a sum of the same two numbers, which a graph computes once.

    Args:
        logits: (N, K) calibrated logits, finite.
        kind: One of `SCORES`.

    Returns:
        (N,) float64.

    Raises:
        ValueError: If the kind is unknown, or the logits are no finite (N, K).

    Source: Hendrycks and Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples", ICLR 2017
    (msp; there the probability, here its negative logarithm, which orders alike and does not pile up at 1); Hendrycks
    et al., "Scaling Out-of-Distribution Detection for Real-World Settings", ICML 2022 (max logit); Liu et al.,
    "Energy-based Out-of-distribution Detection", NeurIPS 2020, equation 4.

    Example:
        >>> none_score([[0.0, 0.0]], "msp").round(3).tolist()
        [0.693]
    """
    if kind not in SCORES:
        raise ValueError(f"score is {kind!r}; allowed are {', '.join(SCORES)}")
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2 or not np.isfinite(values).all():
        raise ValueError(f"logits have shape {values.shape}; finite (N, K) with K >= 2 are needed")
    highest = values.max(axis=1)
    if kind == "max_logit":
        return np.asarray(-highest)
    surprise = np.log(np.exp(values - highest[:, None]).sum(axis=1))
    return np.asarray(surprise if kind == "msp" else -(highest + surprise))


@dataclass(frozen=True)
class NoneOfThese:
    """From calibrated logits to the probability that the photo shows none of the classes, and when to say so.

    The photo is declared none of the classes where the probability lies above the threshold, not where it equals it.

    Attributes:
        score: One of `SCORES`.
        slope: Factor of the score, >= 0: a higher score never lowers the probability.
        offset: Log-odds of none of these at score 0.
        threshold: Probability above which no answer is given, in [0, 1].

    Raises:
        ValueError: If the score is unknown, a number is not finite, the slope negative or the threshold outside [0, 1].
    """

    score: str
    slope: float
    offset: float
    threshold: float

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise ValueError(f"score is {self.score!r}; allowed are {', '.join(SCORES)}")
        if not (math.isfinite(self.slope) and self.slope >= 0.0 and math.isfinite(self.offset)):
            raise ValueError(
                f"slope is {self.slope} and offset {self.offset}; a slope >= 0 and a finite offset are needed"
            )
        if not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold is {self.threshold}; it is a probability in [0, 1]")

    def probability(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Probability of none of these, (N,) in [0, 1], from calibrated logits (N, K).

        Raises:
            ValueError: As in `none_score`.
        """
        return _sigmoid(self.slope * none_score(logits, self.score) + self.offset)

    def decide(self, logits: ArrayLike) -> NDArray[np.bool_]:
        """Whether each photo is declared none of the classes, (N,)."""
        return np.asarray(self.probability(logits) > self.threshold)

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "NoneOfThese":
        """The reverse of `as_dict`; further keys are ignored.

        Raises:
            ValueError: If a field is missing or wrong.
        """
        missing = [key for key in ("score", "slope", "offset", "threshold") if key not in content]
        if missing:
            raise ValueError(f"none of these lacks {', '.join(missing)}; it holds {', '.join(content) or 'nothing'}")
        numbers = (content["slope"], content["offset"], content["threshold"])
        return cls(str(content["score"]), *(float(number) for number in numbers))


def fit_none_of_these(
    known: ArrayLike,
    unknown: ArrayLike,
    *,
    base_rate: float,
    accept_known: float = 0.95,
    threshold_known: ArrayLike | None = None,
    score: str | None = None,
) -> NoneOfThese:
    """Fit slope, offset and threshold, and choose the score, on photos that nothing is measured on afterwards.

    The score is the one with the highest AUROC, unknown against known (the first of `SCORES` among equals). Slope and
    offset maximise the likelihood of a logistic regression in which all unknown photos together weigh `base_rate` and
    all known ones the rest, so the probability is meant for a stream of photos in which that share is unknown. The
    threshold is the smallest probability which at least the share `accept_known` of the known photos do not exceed: at
    least so many of those very photos are still answered, rightly or wrongly; of other photos about as many.

    Where higher scores do not go with unknown photos (AUROC not above one half), slope is 0: the probability is the
    base rate for every photo, and none is turned away.

    Args:
        known: (N, K) calibrated logits of photos of the K classes.
        unknown: (M, K) calibrated logits of photos of other classes.
        base_rate: Share of unknown photos that the probability is stated for, in (0, 1).
        accept_known: Share of known photos that must still be answered, in (0, 1].
        threshold_known: (L, K) calibrated logits of known photos to set the threshold on; None: `known`.
        score: One of `SCORES` instead of the choice by AUROC.

    Raises:
        ValueError: If a share is out of range, a part has no photo, or as in `none_score`.

    Source: Platt, "Probabilistic Outputs for Support Vector Machines" (1999), with his targets (n + 1) / (n + 2) and
    1 / (n + 2), which keep the slope finite where the parts separate; the weights are ours.
    """
    if not 0.0 < base_rate < 1.0:
        raise ValueError(f"base_rate is {base_rate}; a share of unknown photos between 0 and 1 is needed")
    if not 0.0 < accept_known <= 1.0:
        raise ValueError(f"accept_known is {accept_known}; a share above 0, at most 1, is needed")
    parts = {
        "known": known,
        "unknown": unknown,
        "threshold_known": known if threshold_known is None else threshold_known,
    }
    empty = [name for name, part in parts.items() if not len(np.asarray(part))]
    if empty:
        raise ValueError(f"{' and '.join(empty)} have no photo; at least one each is needed")
    areas = score_aurocs(known, unknown)
    chosen = max(areas, key=lambda kind: areas[kind]) if score is None else score
    slope, offset = _platt(none_score(known, chosen), none_score(unknown, chosen), base_rate)
    stated = _sigmoid(slope * none_score(parts["threshold_known"], chosen) + offset)
    return NoneOfThese(chosen, slope, offset, _upper_quantile(stated, accept_known))


def score_aurocs(known: ArrayLike, unknown: ArrayLike) -> dict[str, float]:
    """AUROC of each kind of score: the share of (unknown, known) pairs in which the unknown photo scores higher.

    Args:
        known: (N, K) calibrated logits.
        unknown: (M, K) calibrated logits.

    Raises:
        ValueError: As in `none_score`.
    """
    return {kind: _auroc(none_score(known, kind), none_score(unknown, kind)) for kind in SCORES}


def _auroc(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """Share of pairs with `high` above `low`, ties counted half."""
    ranked = np.sort(low)
    twice = np.searchsorted(ranked, high, "left") + np.searchsorted(ranked, high, "right")
    return float(twice.sum()) / (2.0 * len(low) * len(high))


def _upper_quantile(values: NDArray[np.float64], share: float) -> float:
    """Smallest of the values which at least `share` of them do not exceed, a hair above it."""
    # Rounding must not ask for one value more: 0.95 * 20 is 19, not 19.000000000000004.
    place = max(math.ceil(share * len(values) - 1e-9), 1) - 1
    return min(float(np.sort(values)[place]) * (1.0 + _ABOVE_THRESHOLD), 1.0)


def _platt(known: NDArray[np.float64], unknown: NDArray[np.float64], base_rate: float) -> tuple[float, float]:
    """Slope >= 0 and offset of the weighted logistic regression, by Newton's method on the standardised score."""
    plain = 0.0, math.log(base_rate / (1.0 - base_rate))
    scores = np.concatenate([known, unknown])
    centre, spread = float(scores.mean()), float(scores.std())
    if spread == 0.0 or _auroc(known, unknown) <= 0.5:
        return plain
    x = (scores - centre) / spread
    is_unknown = np.arange(len(scores)) >= len(known)
    weight = np.where(is_unknown, base_rate / len(unknown), (1.0 - base_rate) / len(known))
    target = np.where(is_unknown, (len(unknown) + 1.0) / (len(unknown) + 2.0), 1.0 / (len(known) + 2.0))
    slope, offset = _newton(x, target, weight, start=plain)
    # Soft targets of very few photos, or a few far outliers, can turn the slope although the order is right.
    return (slope / spread, offset - slope * centre / spread) if slope > 0.0 else plain


def _newton(
    x: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64], start: tuple[float, float]
) -> tuple[float, float]:
    """Minimum of the weighted cross-entropy, which is convex; steps are halved until it falls."""
    design = np.stack([x, np.ones_like(x)], axis=1)
    beta = np.array(start)
    value = _cross_entropy(design @ beta, target, weight)
    for _ in range(_MAX_STEPS):
        stated = _sigmoid(design @ beta)
        gradient = design.T @ (weight * (stated - target))
        curvature = (design * (weight * stated * (1.0 - stated))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient)
        factor = 1.0
        while (lower := _cross_entropy(design @ (beta - factor * step), target, weight)) > value and factor > 1e-6:
            factor /= 2.0
        if lower > value:  # only rounding is left
            break
        beta, value = beta - factor * step, lower
        if np.abs(factor * step).max() < 1e-10:
            break
    return float(beta[0]), float(beta[1])


def _cross_entropy(margin: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    return float(weight @ (np.logaddexp(0.0, margin) - target * margin))


def _sigmoid(margin: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-margin)) without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * margin)))
