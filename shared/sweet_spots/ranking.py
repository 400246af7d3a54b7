"""Which epochs a module group may still be best at, while the fit goes on: what thinning keeps."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shared.sweet_spots.analyses import Floats, Series, eligible, scores, smooth, vote
from shared.sweet_spots.choose import Keys, Row, deciding_analysis, series_of


def rank_epochs(
    rows: Sequence[Row],
    groups: Sequence[str],
    fallback: Mapping[int, float],
    *,
    num_epochs: int | None = None,
    deciding: Mapping[str, str] | None = None,
    windows: Mapping[str, Sequence[float]] | None = None,
    keys: Keys | None = None,
    overfit_weight: float = 0.2,
    stability_weight: float = 0.1,
) -> dict[str, list[int]]:
    """The epochs of each group, the one that its deciding analysis would rather vote for first.

    Epochs that the analysis may vote for come before those outside of its window, and of equals the earlier before the
    later. But for `plateau`, whose smoothed curve and band move with what follows, the score of an epoch is final once
    there is a later one; so of all but the newest, what is among the first n at the end was so ever since. That holds
    for a run as long as it was meant to be: one that stops early has shorter windows.

    Args:
        rows: Snapshots so far, ascending by epoch.
        groups: Names of the groups.
        fallback: Epoch -> what ranks it where the analysis has nothing to read, lower is better.
        num_epochs: Epochs that the run shall have; None: not known, the windows are those of the run so far.
        deciding: As in `choose`, like what follows.
        windows: See there.
        keys: See there.
        overfit_weight: See there.
        stability_weight: See there.

    Returns:
        Group -> epochs of all rows.
    """
    run = num_epochs if num_epochs is not None else (rows[-1]["epoch"] + 1 if rows else 0)
    weights = {"overfit_weight": overfit_weight, "stability_weight": stability_weight}
    found = {}
    for group in groups:
        series = series_of(rows, run, keys or Keys(), group)
        name = deciding_analysis(group, series, deciding)
        window = (windows or {}).get(group)
        found[group] = _ranked(series, name, None if window is None else (window[0], window[1]), fallback, weights)
    return found


def _ranked(
    series: Series, analysis: str, window: tuple[float, float] | None, fallback: Mapping[int, float],
    weights: Mapping[str, Any],
) -> list[int]:  # fmt: skip
    epochs = [int(epoch) for epoch in series.epochs]
    values = _smoothed(series.loss) if analysis == "plateau" else scores(analysis, series, **weights)
    if values is None:  # the analysis will abstain
        values = np.array([fallback.get(epoch, math.nan) for epoch in epochs], dtype=np.float64)
    elif analysis == "overfit":  # the spread of the newest changes with its neighbour; its file stays anyway
        values = np.append(values[:-1], np.nan)
    inside = eligible(analysis, series, window) & np.isfinite(values)
    first = vote(analysis, series, window, **weights).epoch if analysis == "plateau" else None
    badness = [math.inf if math.isnan(value) else value for value in values.tolist()]
    places = sorted(range(len(epochs)), key=lambda i: (epochs[i] != first, not inside[i], badness[i], epochs[i]))
    return [epochs[i] for i in places]


def _smoothed(loss: Floats) -> Floats:
    """The loss as the plateau sees it, NaN where it is not finite."""
    values, finite = np.full(len(loss), np.nan), np.isfinite(loss)
    if finite.any():
        values[finite] = smooth(loss[finite])
    return values
