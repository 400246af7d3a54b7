"""Five ways to say at which epoch a network was best, from the metrics of its snapshots alone.

Each analysis gives every snapshot a score, lower is better, and votes for the lowest; of equals, for the earliest. What
is not finite is left out and said. An analysis without what it needs abstains and says why.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Window = tuple[float, float]

WINDOWS: dict[str, Window] = {
    "overfit": (0.0, 1.0),
    "balance": (20 / 60, 44 / 60),
    "stable": (40 / 60, 1.0),
    "own_loss": (0.0, 1.0),
    "plateau": (0.0, 1.0),
}
"""Part of the run that each analysis looks at, as shares of its epochs.

The reference gives own losses a window of their own for each of its groups; what holds for a group in general is the
whole run."""

ACCURACY_WEIGHT = 0.5
_MISSING = {
    "overfit": "no loss on train is logged",
    "balance": "no accuracy is logged",
    "own_loss": "the group logs no loss of its own",
}
_MIN_PLATEAU = 5  # second differences of fewer snapshots say nothing about noise
_ROUNDING = 1e-9  # 20/60 of 60 epochs is epoch 20, not the one after


@dataclass(frozen=True)
class Series:
    """Metrics over S snapshots; NaN where a value was not logged or not finite.

    Attributes:
        epochs: (S,) numbers of the epochs from 0, ascending.
        num_epochs: Epochs of the whole run.
        loss: (S,) loss on val.
        train_loss: (S,) loss on train, None where never logged.
        accuracy: (S,) in [0, 1] on val, None where never logged.
        own_loss: (S,) the group's own loss on val, None where never logged.
    """

    epochs: NDArray[np.int64]
    num_epochs: int
    loss: Floats
    train_loss: Floats | None = None
    accuracy: Floats | None = None
    own_loss: Floats | None = None


@dataclass(frozen=True)
class Vote:
    """What one analysis says.

    Attributes:
        analysis: Its name.
        epoch: The epoch it votes for, None where it abstains.
        score: The score of that epoch.
        reason: A sentence.
        span: First and last epoch that are as good within the noise; only the plateau knows one.
    """

    analysis: str
    epoch: int | None
    score: float | None
    reason: str
    span: tuple[int, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields for JSON."""
        span = None if self.span is None else list(self.span)
        return {
            "analysis": self.analysis, "epoch": self.epoch, "score": self.score, "reason": self.reason, "span": span,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Vote":
        """The vote that `as_dict` wrote."""
        span = None if content["span"] is None else (int(content["span"][0]), int(content["span"][1]))
        return cls(content["analysis"], content["epoch"], content["score"], content["reason"], span)


def vote(
    analysis: str,
    series: Series,
    window: Window | None = None,
    *,
    overfit_weight: float = 0.2,
    stability_weight: float = 0.1,
) -> Vote:
    """Let one analysis vote.

    * overfit: loss + overfit_weight * max(0, loss - train loss) + stability_weight * spread of the loss over the
      snapshot and its two neighbours (standard deviation, divisor n; at the ends over the two there are).
    * balance: loss - 0.5 * accuracy.
    * stable: variance (divisor n) of the loss over the snapshot and the two before it, all three in the window.
    * own_loss: the group's own loss.
    * plateau: the loss smoothed by a running median of three and then a running mean of three (at the ends over the two
      there are); the earliest epoch within one standard error of its minimum. The error of a mean of three is the
      noise / sqrt(3), the noise estimated from second differences, which a trend does not disturb.

    Args:
        analysis: Its name.
        series: The metrics.
        window: First and last epoch to look at, as shares of the run; None: `WINDOWS`. Epoch e (from 0) stands at the
            share (e + 1) / num_epochs.
        overfit_weight: Of the over-fit penalty.
        stability_weight: Of the local spread.

    Raises:
        ValueError: If there is no such analysis.

    Source: one-standard-error rule: Breiman et al., "Classification and Regression Trees" (1984), section 3.4.3; noise
    from second differences: Gasser, Sroka, Jennen-Steinmetz, Biometrika 73 (1986), equation 2.

    Example:
        >>> losses = np.array([0.9, 0.5, 0.3, 0.4, 0.6, 0.8])
        >>> vote("overfit", Series(np.arange(6), 6, losses, train_loss=losses)).epoch
        2
    """
    if analysis not in ANALYSES:
        raise ValueError(f"analysis is {analysis!r}; allowed: {', '.join(ANALYSES)}")
    low, high = WINDOWS[analysis] if window is None else window
    inside = _inside(series, (low, high))
    where = f"epochs {max(0, math.ceil(low * series.num_epochs - _ROUNDING) - 1)} to " + str(
        math.floor(high * series.num_epochs + _ROUNDING) - 1
    )
    if not inside.any():
        return Vote(analysis, None, None, f"abstains: no snapshot lies in {where}")
    if analysis == "plateau":
        return _plateau(series, inside, where)
    found = scores(analysis, series, overfit_weight=overfit_weight, stability_weight=stability_weight)
    if found is None:
        return Vote(analysis, None, None, f"abstains: {_MISSING[analysis]}")
    usable = eligible(analysis, series, window)
    if not usable.any():
        return Vote(analysis, None, None, f"abstains: fewer than three snapshots lie in {where}")
    over = f"{overfit_weight:g} x (val - train where positive)"
    what = {
        "overfit": f"val loss + {over} + {stability_weight:g} x local spread",
        "balance": f"val loss - {ACCURACY_WEIGHT:g} x accuracy",
        "stable": "variance of the last three val losses",
        "own_loss": "the group's own loss",
    }[analysis]
    return _lowest(analysis, what, found, series.epochs, usable, where)


def eligible(analysis: str, series: Series, window: Window | None = None) -> NDArray[np.bool_]:
    """(S,) whether an analysis may vote for a snapshot, were its score finite.

    `stable` needs three snapshots in the window and so may not vote for the first two there.
    """
    inside = _inside(series, WINDOWS[analysis] if window is None else window)
    return inside & (np.cumsum(inside) > 2) if analysis == "stable" else inside


def scores(
    analysis: str, series: Series, *, overfit_weight: float = 0.2, stability_weight: float = 0.1
) -> Floats | None:
    """What an analysis other than the plateau gives each snapshot, inside its window or not.

    Returns:
        (S,), lower is better, NaN where nothing can be said; None where the analysis lacks what it needs.
    """
    if analysis == "overfit" and series.train_loss is not None:
        penalty = overfit_weight * np.maximum(0.0, series.loss - series.train_loss)
        return series.loss + penalty + stability_weight * local_spread(series.loss)
    if analysis == "balance" and series.accuracy is not None:
        return series.loss - ACCURACY_WEIGHT * series.accuracy
    if analysis == "stable":
        found = np.full(len(series.loss), np.nan)
        if len(found) >= 3:
            found[2:] = np.lib.stride_tricks.sliding_window_view(series.loss, 3).var(axis=1)
        return found
    return series.own_loss if analysis == "own_loss" else None


def _inside(series: Series, window: Window) -> NDArray[np.bool_]:
    """(S,) whether a snapshot lies in the window."""
    position = (series.epochs + 1) / series.num_epochs
    return (position >= window[0] - _ROUNDING) & (position <= window[1] + _ROUNDING)


def _plateau(series: Series, inside: NDArray[np.bool_], where: str) -> Vote:
    usable = inside & np.isfinite(series.loss)
    if usable.sum() < _MIN_PLATEAU:
        return Vote("plateau", None, None, f"abstains: {usable.sum()} finite val losses in {where}, 5 are needed")
    epochs, losses = series.epochs[usable], series.loss[usable]
    smoothed = smooth(losses)
    error = noise(losses) / math.sqrt(3.0)
    band = epochs[smoothed <= smoothed.min() + error]
    first, last = int(band[0]), int(band[-1])
    score = float(smoothed[epochs == first][0])
    lowest = int(epochs[np.argmin(smoothed)])
    return Vote(
        "plateau", first, score,
        f"epoch {first} is the first whose smoothed val loss ({score:.4g}) lies within one standard error "
        f"({error:.2g}) of the lowest ({smoothed.min():.4g}, epoch {lowest}); that band ends at epoch {last}"
        + _left_out(inside, usable),
        (first, last),
    )  # fmt: skip


ANALYSES = tuple(WINDOWS)
"""Names of the analyses."""


def local_spread(values: Floats) -> Floats:
    """Standard deviation (divisor n) of each value and its two neighbours, of those that are finite.

    Args:
        values: (S,).

    Returns:
        (S,), NaN where the value itself is not finite.
    """
    padded = np.concatenate([[np.nan], np.where(np.isfinite(values), values, np.nan), [np.nan]])
    return np.array(
        [np.nanstd(padded[i : i + 3]) if np.isfinite(value) else np.nan for i, value in enumerate(values)],
        dtype=np.float64,
    )


def smooth(values: Floats) -> Floats:
    """Running median of three, then running mean of three; at the ends over the two there are. (S,) to (S,)."""
    for function in (np.nanmedian, np.nanmean):
        padded = np.concatenate([[np.nan], values, [np.nan]])
        values = function(np.lib.stride_tricks.sliding_window_view(padded, 3), axis=1)
    return values


def noise(values: Floats) -> float:
    """Standard deviation of independent noise around a smooth curve, from second differences of (S,) values, S >= 3."""
    second = values[:-2] - 2.0 * values[1:-1] + values[2:]
    return float(np.sqrt(np.mean(second**2) / 6.0))  # the variance of a second difference is (1 + 4 + 1) sigma^2


def _lowest(
    analysis: str, what: str, scores: Floats, epochs: NDArray[np.int64], inside: NDArray[np.bool_], where: str
) -> Vote:
    """Vote for the lowest finite score."""
    usable = inside & np.isfinite(scores)
    if not usable.any():
        return Vote(analysis, None, None, f"abstains: {what} is nowhere finite in {where}")
    place = int(np.argmin(np.where(usable, scores, np.inf)))
    score, epoch = float(scores[place]), int(epochs[place])
    reason = f"{what} is lowest ({score:.4g}) at epoch {epoch} of {where}{_left_out(inside, usable)}"
    return Vote(analysis, epoch, score, reason)


def _left_out(inside: NDArray[np.bool_], usable: NDArray[np.bool_]) -> str:
    number = int(inside.sum() - usable.sum())
    return f"; {number} of {inside.sum()} snapshots left out (not finite)" if number else ""
