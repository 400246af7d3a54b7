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
_CORRECTED = {HELD_OUT: "", CROSS_FITTED: ", corrected for the data that the blocks share"}

MIN_GROUPS = 6
LEVEL = 0.95  # one-sided
UNSEEN_LEVEL = 0.9  # one-sided, of the confirmation on groups without a say in the sweet spots
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
        smallest_detectable: 2.5 standard errors (of the form); None where the spread is unknown.
        groups_needed: Groups that a gain as large as the one seen would need; None where that cannot be said.
        form: `HELD_OUT` or `CROSS_FITTED`.
        lower_unseen: One-sided 90 % lower bound over the groups without a say in the sweet spots, where that counted.
    """

    decision: Decision
    reason: str
    n_groups: int
    mean_gain: float | None
    lower: float | None
    smallest_detectable: float | None
    groups_needed: int | None
    form: str
    lower_unseen: float | None = None

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


def accept(
    d: NDArray[np.float64], form: str, blocks: int | None = None, unseen: NDArray[np.bool_] | None = None
) -> Acceptance:
    """One-sided paired t test by group: is the child better than the best single checkpoint?

    Held out: accepted iff mean(d) - t(.95, n - 1) * sd(d) / sqrt(n) > 0 with n >= 6 groups and d not all zero.

    Cross-fitted: children of different blocks were chosen on largely the same groups, so their held-out gains are not
    independent, and the plain test is too sure of itself. The squared standard error sd^2 / n is multiplied by
    1 + K / (K - 1) for K blocks: K times the ratio 1 / (K - 1) of groups judged to groups that chose. Whatever this
    accepts, the plain test accepts too.

    That correction holds for what is rerun without each block, and the sweet spots are not: val chose them, and its
    groups are judged too. So, where at least 2 groups were `unseen` by the sweet spots, the gain must also be confirmed
    on these alone: the lower bound of the same kind, one-sided 90 %, must exceed 0.

    Args:
        d: (n,) mean loss of the best single checkpoint minus that of the child, in each group; positive is a gain.
        form: How d was made, `HELD_OUT` or `CROSS_FITTED`.
        blocks: Blocks K of the cross-fitted form, at least 2; None (and only None) in the held-out form.
        unseen: (n,) groups without a say in the sweet spots, in the cross-fitted form; None: no such group is known.

    Raises:
        ValueError: If d has another shape, the form is unknown or blocks or unseen do not go with it.

    Source: CONTRACTS 'Statistics'; the quantile is Student's, one-sided 95 %. The correction is Nadeau and Bengio,
    "Inference for the Generalization Error", Machine Learning 52 (2003), section 4.2, with J = K blocks.

    Example:
        >>> accept(np.array([0.1, 0.2, 0.1, 0.2, 0.1, 0.2]), HELD_OUT).decision
        'accepted'
    """
    d = np.asarray(d, dtype=np.float64)
    if d.ndim != 1:
        raise ValueError(f"d has shape {d.shape}; one gain for each group, (n,), is needed")
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; allowed are {', '.join(map(repr, FORMS))}")
    if (blocks is None) != (form == HELD_OUT) or (blocks is not None and blocks < 2):
        raise ValueError(f"blocks is {blocks}; the form {CROSS_FITTED!r} needs at least 2, {HELD_OUT!r} needs None")
    if unseen is not None and (form == HELD_OUT or unseen.shape != d.shape):
        raise ValueError(f"unseen has shape {unseen.shape}; {d.shape} is needed, and None in the form {HELD_OUT!r}")
    if not np.isfinite(d).all():
        return _not_finite(d, form)
    n = len(d)
    mean = float(d.mean()) if n else None
    shared = 1.0 if blocks is None else 1.0 + blocks / (blocks - 1)
    error = float(d.std(ddof=1)) * math.sqrt(shared / n) if n > 1 else None
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
    confirmed = None if unseen is None else _lower_of(d[unseen], shared)
    decision: Decision = "accepted" if lower > 0.0 and (confirmed is None or confirmed > 0.0) else "declined"
    reason = _decided(decision, n, mean, lower, DETECTABLE * error, needed, form)
    if form == CROSS_FITTED and lower > 0.0:
        reason += _unseen_sentence(confirmed)
    return Acceptance(decision, reason, n, mean, lower, detectable, needed, form, confirmed)


def _lower_of(d: NDArray[np.float64], shared: float) -> float | None:
    """Lower bound over the unseen groups; None below 2 of them."""
    if len(d) < 2:
        return None
    error = float(d.std(ddof=1)) * math.sqrt(shared / len(d))
    return float(d.mean()) - float(stdtrit(len(d) - 1, UNSEEN_LEVEL)) * error


def _unseen_sentence(confirmed: float | None) -> str:
    if confirmed is None:
        return " The sweet spots were chosen on these groups too, and no others can confirm the gain."
    groups = f"the groups without a say in the sweet spots (one-sided 90 % lower bound {confirmed:.4g})"
    return f" It is confirmed on {groups}." if confirmed > 0.0 else f" It is not confirmed on {groups}."


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
        f"({form}), with a one-sided 95 % lower bound of the gain of {lower:.4g}{_CORRECTED[form]}; the smallest gain "
        f"that could have been seen is {detectable:.4g}."
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
