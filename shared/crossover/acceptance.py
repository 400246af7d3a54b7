"""The one test that decides whether a crossed network replaces the best single checkpoint, paired by group."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Decision = Literal["accepted", "declined", "undecidable"]

HELD_OUT, CROSS_FITTED = "held-out accept part", "cross-fitted"
FORMS = (HELD_OUT, CROSS_FITTED)

MIN_GROUPS = 6
LEVEL = 0.95  # one-sided
DETECTABLE = 2.5  # standard errors: a true gain of this size is accepted in about four of five runs


@dataclass(frozen=True)
class Acceptance:
    """Outcome of the acceptance test.

    Attributes:
        decision: "accepted", "declined" or "undecidable".
        reason: Why, in a sentence or two, always with the number of groups and the smallest gain it could have seen.
        n_groups: Groups in the test.
        mean_gain: Mean of the gains; None where it is not finite or there is no group.
        lower: One-sided 95 % lower bound of the mean gain; None below 6 groups or without finite gains.
        smallest_detectable: 2.5 standard errors; None where the spread is unknown.
        groups_needed: Groups that a gain as large as the one seen would need; None where that cannot be said.
        form: `HELD_OUT` or `CROSS_FITTED`.
    """

    decision: Decision
    reason: str
    n_groups: int
    mean_gain: float | None
    lower: float | None
    smallest_detectable: float | None
    groups_needed: int | None
    form: str

    def as_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


def group_means(losses: NDArray[np.float64], group: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean loss of each group.

    Args:
        losses: (N,) loss of each sample.
        group: (N,) code of each sample's group.

    Returns:
        The means (n,) and the codes (n,) in ascending order. A group with a loss that is not finite has no finite mean.

    Raises:
        ValueError: If the arrays differ in length.

    Example:
        >>> group_means(np.array([1.0, 3.0, 5.0]), np.array([7, 7, 2]))[0].tolist()
        [5.0, 2.0]
    """
    if losses.shape != group.shape or losses.ndim != 1:
        raise ValueError(f"losses and group must be two arrays (N,), found {losses.shape} and {group.shape}")
    codes, place = np.unique(group, return_inverse=True)
    with np.errstate(invalid="ignore"):
        sums = np.bincount(place, weights=losses, minlength=len(codes))
    return sums / np.bincount(place, minlength=len(codes)), codes.astype(np.int64)


def accept(d: NDArray[np.float64], form: str) -> Acceptance:
    """One-sided paired t test by group: is the child better than the best single checkpoint?

    Accepted iff mean(d) - t(.95, n - 1) * sd(d) / sqrt(n) > 0 with n >= 6 groups and d not all zero.

    Args:
        d: (n,) mean loss of the best single checkpoint minus that of the child, in each group; positive is a gain.
        form: How d was made, `HELD_OUT` or `CROSS_FITTED`.

    Raises:
        ValueError: If d has another shape or the form is unknown.

    Source: CONTRACTS 'Statistics'; the quantile is Student's, one-sided 95 %.

    Example:
        >>> accept(np.array([0.1, 0.2, 0.1, 0.2, 0.1, 0.2]), HELD_OUT).decision
        'accepted'
    """
    d = np.asarray(d, dtype=np.float64)
    if d.ndim != 1:
        raise ValueError(f"d has shape {d.shape}; one gain for each group, (n,), is needed")
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; allowed are {', '.join(map(repr, FORMS))}")
    if not np.isfinite(d).all():
        return _not_finite(d, form)
    n = len(d)
    mean = float(d.mean()) if n else None
    error = float(d.std(ddof=1)) / math.sqrt(n) if n > 1 else None
    detectable = None if error is None else DETECTABLE * error
    needed = _groups_needed(n, mean, error)
    if n < MIN_GROUPS:
        reason = _too_few(n, needed, detectable, form)
        return Acceptance("undecidable", reason, n, mean, None, detectable, needed, form)
    assert mean is not None
    assert error is not None
    if not d.any():
        reason = (
            f"The child's loss equals that of the best single checkpoint in each of the {n} groups ({form}), so there "
            "is nothing to test; the smallest gain that could have been seen is 0."
        )
        return Acceptance("undecidable", reason, n, 0.0, 0.0, 0.0, None, form)
    lower = mean - float(stdtrit(n - 1, LEVEL)) * error
    decision: Decision = "accepted" if lower > 0.0 else "declined"
    reason = _decided(decision, n, mean, lower, DETECTABLE * error, needed, form)
    return Acceptance(decision, reason, n, mean, lower, detectable, needed, form)


def _groups_needed(n: int, mean: float | None, error: float | None) -> int | None:
    """Groups at which the gain seen would be 2.5 standard errors; at least 6; None for no gain or no spread known."""
    if mean is None or error is None:
        return MIN_GROUPS if n < MIN_GROUPS else None
    if mean <= 0.0:
        return MIN_GROUPS if n < MIN_GROUPS else None
    return max(MIN_GROUPS, math.ceil(n * (DETECTABLE * error / mean) ** 2))


def _decided(
    decision: Decision, n: int, mean: float, lower: float, detectable: float, needed: int | None, form: str
) -> str:
    word = "lower" if mean > 0 else "higher"
    text = (
        f"The child's mean loss is {abs(mean):.4g} {word} than that of the best single checkpoint over {n} groups "
        f"({form}), with a one-sided 95 % lower bound of the gain of {lower:.4g}; the smallest gain that could have "
        f"been seen is {detectable:.4g}."
    )
    if decision == "declined" and needed is not None and needed > n:
        text += f" A gain as large as the one seen would need about {needed} groups."
    return text


def _too_few(n: int, needed: int | None, detectable: float | None, form: str) -> str:
    smallest = "is unknown" if detectable is None else f"is {detectable:.4g}"
    at_least = f"at least {MIN_GROUPS} are needed"
    if needed is not None and needed > MIN_GROUPS:
        at_least += f", and about {needed} for a gain as large as the one seen"
    counted = "1 group" if n == 1 else f"{n} groups"
    return f"{counted} ({form}) cannot decide: {at_least}; the smallest gain that could have been seen {smallest}."


def _not_finite(d: NDArray[np.float64], form: str) -> Acceptance:
    """A child whose loss is infinite is worse; where the best single's own is not finite nothing can be compared."""
    n, bad = len(d), int(np.sum(~np.isfinite(d)))
    if n >= MIN_GROUPS and np.isneginf(d[~np.isfinite(d)]).all():
        who, decision = "the child's loss is infinite", "declined"
    else:
        who, decision = "the losses are not finite or too few", "undecidable"
    reason = f"In {bad} of {n} groups ({form}) {who}; the smallest gain that could have been seen is unknown."
    return Acceptance(decision, reason, n, None, None, None, None, form)  # type: ignore[arg-type]
