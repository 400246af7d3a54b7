"""The rules: each looks at one run's curves and returns what it found with its receipt, or None.

A rule is a pure function of the curves; its thresholds stand at the top with their reasons. `diagnose` asks them in
order of gravity and lets a graver finding silence those that would only restate it. All levels are medians of windows
and all slopes are robust (`shared.advise.trends`); a finding needs an effect that is large against the run's whole
progress and large against the noise, so a noisy healthy run is left in peace. How often the rules are right is measured
in docs/advise.md.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shared.advise.curves import Curves
from shared.advise.trends import Level, Values, end_window, level, lowest, noise, slope, trend_p

MIN_EPOCHS = 6
"""Below, medians of two windows would share points: nothing is said but what needs no statistics (NaN)."""

LEARNED_SHARE = 0.02
"""A loss that fell by less than this share of its first value has not begun to learn: guessing the class frequencies
already gains more than that over random weights."""
Z = 3.0
"""Standard errors that an effect must exceed. A dozen looks at a curve at 2 would find something in any healthy run."""
SURE_P = 0.01
"""Of a trend test, for the same reason."""
SUPPORT_P = 0.05
"""Of a trend test that only supports another curve's sure one."""
OVERFIT_SHARE = 0.05
"""Val loss has risen when it gave back this share of its progress; less costs little, and best.ckpt has the best."""
GAVE_BACK = 0.3
"""A train loss that ends this share of its progress above its own best has diverged: sampling noise and restarts of a
schedule stay well below."""
SHAKING_SHARE = 0.15
"""Scatter of the epoch means of the TRAIN loss, as a share of its progress. They average hundreds of samples, so beyond
a few percent it is the weights that shake."""
QUIET_SHARE = 0.05
"""Scatter of the train loss below this share of its level is what a small training set gives: not the weights."""
JUMPS = (0.1, 0.5)
"""Scatter of the logarithms of train and val loss from epoch to epoch. Where train jumps by a factor of 1.1 and val by
1.6 at once, the weights are being thrown about, however large the fall from an absurd first epoch was."""
EXPLODED = 10.0
"""A first epoch this many times the level at which the fit then stands still was no beginning but a blow."""
STRAIGHT = 0.6
"""Slope of the last third over slope of the first. exp(-t/tau) has 0.6 at a run of 0.77 tau: the run has not even
covered one time constant, which more epochs of the same kind would not mend cheaply."""
BENT_UP = 2.0
"""And above this the fall does not follow the rate at all, so that the rate is not what holds it back."""
SLOW_SHARE = 0.3
"""A run that has lost a third of its loss is not slow, whatever its shape."""
STILL_FALLING_SHARE = 0.05
"""A quarter more epochs, at the slope of the last third, would gain this share of the progress so far; twice as much is
asked where the schedule ended near zero, since under every such schedule the loss falls at its end and levels off."""
FLAT_SHARE = 0.03
"""From the second quarter of the run to its last, the val loss gained less than this share of the whole progress, and
so surely that a standard error more would not reach it. An exponential does that from nine time constants a run on."""
_TINY = 1e-300  # instead of a division by zero
FLAT_MIN_EPOCHS = 12
"""Quarters of fewer epochs are too short to be called a standstill."""


@dataclass(frozen=True)
class Finding:
    """What a rule found.

    Attributes:
        rule: Its name, one of `GRAVITY`.
        sentence: What it means, for people.
        window: First and last epoch that it looked at, counted from 1; None where it looked at no epochs.
        numbers: What it measured, the receipt.
    """

    rule: str
    sentence: str
    window: tuple[int, int] | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


GRAVITY = (
    "nan", "diverged", "dead", "lr_too_high", "overfit", "lr_too_low", "underfit", "plateau", "dead_part",
)  # fmt: skip
"""Rules in the order in which their advice comes first."""


def diagnose(curves: Curves, *, complete: bool = True) -> list[Finding]:
    """All findings of a run, the gravest first; empty for a healthy one.

    Args:
        curves: Its curves.
        complete: Whether the run took all the epochs that it was to take; otherwise nothing is said about more epochs.
    """
    if found := not_finite(curves):
        return [found]
    clean = _finite(curves)
    if len(clean) < MIN_EPOCHS:
        return []
    for rule in (diverged, dead, lr_too_high):  # what follows would only restate these in other words
        if found := rule(clean):
            return [found]
    if found := overfit(clean):
        return [found, *dead_parts(clean)]
    rules = (lr_too_low, underfit, plateau) if complete else (lr_too_low, plateau)
    first = next((found for rule in rules if (found := rule(clean))), None)
    return ([first] if first else []) + dead_parts(clean)


def not_finite(curves: Curves) -> Finding | None:
    """A loss that became NaN or infinite.

    An epoch without validation has no val loss, which is no fault; a val loss that was there each epoch and then never
    again is one.
    """
    train, val = curves.train, curves.val
    stopped = _stopped(val)
    for name, broken in (("train", ~np.isfinite(train) & ~np.isnan(train).all()), ("val", np.isinf(val) | stopped)):
        if broken.any():
            first, last = int(curves.epochs[int(np.argmax(broken))]), int(curves.epochs[-1])
            return Finding(
                "nan", f"the {name} loss is not finite from epoch {first} on", (first, last),
                {"first_epoch": first, "broken_epochs": int(broken.sum())},
            )  # fmt: skip
    return None


def diverged(curves: Curves) -> Finding | None:
    """The train loss ends far above its own best level, and stays there."""
    best, end = lowest(curves.train), _end(curves.train)
    start = float(curves.train[0])
    progress = start - best.value
    rise = end.value - best.value
    if best.last >= end.first or rise <= Z * _joint(best, end) or rise <= GAVE_BACK * max(progress, 0.0):
        return None
    if rise <= LEARNED_SHARE * abs(best.value):
        return None
    share = rise / progress if progress > 0 else math.inf
    given = f"{min(share, 9.99):.0%} of what it had gained" if progress > 0 else "more than it ever gained"
    return Finding(
        "diverged",
        f"the train loss was {best.value:.4g} around epoch {_middle(curves, best)} and ends at {end.value:.4g}: it "
        f"gave back {given}",
        _window(curves, best.first, end.last),
        {"best": best.value, "end": end.value, "standard_error": _joint(best, end)},
    )  # fmt: skip


def dead(curves: Curves) -> Finding | None:
    """The train loss went nowhere: no fall worth the name, no trend, no shaking."""
    start, end = _start(curves.train), _end(curves.train)
    fall = max(float(curves.train[0]), start.value) - end.value
    level_ = abs(start.value)
    if fall > LEARNED_SHARE * level_ or noise(curves.train) > QUIET_SHARE * level_:
        return None
    if fall > Z * _joint(start, end) and trend_p(curves.train, -1) < SURE_P and _straightness(curves) >= STRAIGHT:
        return None  # slow but steady: the rate is too low, which is another rule
    return Finding(
        "dead", f"the train loss went from {start.value:.4g} to {end.value:.4g}: nothing was learned",
        _window(curves, 0, len(curves) - 1), {"start": start.value, "end": end.value, "noise": noise(curves.train)},
    )  # fmt: skip


def lr_too_high(curves: Curves) -> Finding | None:
    """The train loss shakes: the scatter of its epoch means is large against all it gained, and does not calm down."""
    half = len(curves) // 2
    late = curves.train[half:]
    shaking = noise(late)
    progress = max(float(curves.train[0]) - _end(curves.train).value, 0.0)
    jumps = tuple(noise(np.log(np.maximum(values[half:], _TINY))) for values in (curves.train, curves.val))
    numbers = {"scatter": shaking, "progress": progress, "train_log_scatter": jumps[0], "val_log_scatter": jumps[1]}
    window = _window(curves, half, len(curves) - 1)
    if min(curves.train.min(), curves.val.min()) > 0 and jumps[0] > JUMPS[0] and jumps[1] > JUMPS[1]:
        factors = [math.exp(jump) for jump in jumps]
        return Finding(
            "lr_too_high",
            f"from epoch to epoch the losses jump {factors[0]:.2g}-fold (train) and {factors[1]:.2g}-fold (val)",
            window, numbers,
        )  # fmt: skip
    level_ = abs(float(np.median(late)))
    if not shaking > SHAKING_SHARE * progress or not shaking > QUIET_SHARE * level_:
        return None
    return Finding(
        "lr_too_high",
        f"the train loss jumps by about {shaking:.3g} from epoch to epoch, against {progress:.3g} gained in all",
        window, numbers,
    )  # fmt: skip


def overfit(curves: Curves) -> Finding | None:
    """The val loss rose after its best while the train loss went on falling."""
    best, end = lowest(curves.val), _end(curves.val)
    progress = max(float(np.max(curves.val[: best.first + 1])) - best.value, 0.0)
    rise = end.value - best.value
    if best.last >= end.first or rise <= Z * _joint(best, end) or rise <= OVERFIT_SHARE * progress:
        return None
    middle = (best.first + best.last) // 2
    train_then, train_end = level(curves.train, best.first, best.last), _end(curves.train)
    falls = train_then.value - train_end.value > Z * _joint(train_then, train_end)
    if trend_p(curves.val[middle:], 1) >= SURE_P or not falls:
        return None
    return Finding(
        "overfit",
        f"the val loss was best around epoch {_middle(curves, best)} ({best.value:.4g}) and rose to {end.value:.4g}, "
        "while the train loss went on falling "
        f"from {train_then.value:.4g} to {train_end.value:.4g}",
        _window(curves, middle, len(curves) - 1),
        {"best_epoch": _middle(curves, best), "best": best.value, "end": end.value, "standard_error": _joint(best, end),
         "train_then": train_then.value, "train_end": train_end.value},
    )  # fmt: skip


def lr_too_low(curves: Curves) -> Finding | None:
    """The train loss falls surely but slowly and in a straight line, as if the fit had only begun."""
    start, end = _start(curves.train), _end(curves.train)
    fall = start.value - end.value
    if fall <= Z * _joint(start, end) or trend_p(curves.train, -1) >= SURE_P:
        return None
    straight = _straightness(curves)
    share = (float(curves.train[0]) - end.value) / abs(float(curves.train[0]))
    if not STRAIGHT <= straight <= BENT_UP or share > SLOW_SHARE:
        return None
    return Finding(
        "lr_too_low",
        f"the train loss fell by only {share:.1%}, and in its last third {straight:.0%} as fast, per unit of learning "
        "rate, as in its first: it has hardly left the start",
        _window(curves, 0, len(curves) - 1), {"fall_share": share, "slope_last_over_first": straight},
    )  # fmt: skip


def underfit(curves: Curves) -> Finding | None:
    """Train and val loss were both still falling at the end."""
    num = len(curves)
    first = num - max(5, num // 3)
    if first < 1:
        return None
    progress = float(curves.train[0]) - _end(curves.train).value
    gains = []
    # Val is the noisier of the two, so it is looked at over a longer window.
    for values, p_needed, begin in ((curves.train, SURE_P, first), (curves.val, SUPPORT_P, min(first, num // 2))):
        window = values[begin:]
        own = max(float(values[0]) - _end(values).value, _TINY)
        if trend_p(window, -1) >= p_needed:
            return None
        gains.append(-slope(window) * num / 4 / own)
    needed = STILL_FALLING_SHARE * (2 if _annealed(curves) else 1)
    if progress <= 0 or gains[0] <= needed or gains[1] <= needed / 2:
        return None
    return Finding(
        "underfit",
        f"both losses were still falling in the last {num - first} epochs: a quarter more at that pace would add "
        f"{min(gains):.0%} to all progress so far",
        _window(curves, first, num - 1), {"train_gain_share": gains[0], "val_gain_share": gains[1]},
    )  # fmt: skip


def plateau(curves: Curves) -> Finding | None:
    """The val loss stood still over the last three quarters of the run."""
    num = len(curves)
    if num < FLAT_MIN_EPOCHS:
        return None
    begin = num // 4
    middle, end = level(curves.val, begin, num // 2), level(curves.val, num - max(3, num // 4), num - 1)
    progress = float(np.max(curves.val[: begin + 1])) - min(middle.value, end.value)
    gain = middle.value - end.value
    if progress <= Z * noise(curves.val) or gain + _joint(middle, end) >= FLAT_SHARE * progress:
        return None
    train_then, train_end = level(curves.train, middle.first, middle.last), level(curves.train, end.first, end.last)
    train_progress = max(float(curves.train[0]) - train_end.value, _TINY)
    train_gain = (train_then.value - train_end.value) / train_progress
    if float(curves.train[0]) > EXPLODED * train_then.value > 0:
        return Finding(
            "lr_too_high",
            f"the train loss began at {float(curves.train[0]):.4g}, as if thrown out by its first steps, and then "
            f"stood still at {train_end.value:.4g}",
            _window(curves, 0, num - 1), {"start": float(curves.train[0]), "end": train_end.value},
        )  # fmt: skip
    memorises = train_gain > 2 * FLAT_SHARE
    cause = (
        f", while the train loss gained {train_gain:.0%} more: what it still learns does not carry over"
        if memorises
        else ", and so did the train loss"
    )
    return Finding(
        "plateau",
        f"the val loss stood still from epoch {int(curves.epochs[begin])} on "
        f"({middle.value:.4g} to {end.value:.4g}){cause}",
        _window(curves, begin, num - 1),
        {"gain_share": gain / progress, "error_share": _joint(middle, end) / progress, "train_gain_share": train_gain},
    )  # fmt: skip


def dead_parts(curves: Curves) -> list[Finding]:
    """Tasks or module groups whose own val loss never fell while the whole did: `val/<part>/loss`."""
    findings = []
    for key, values in curves.columns.items():
        parts = key.split("/")
        if parts[0] != "val" or parts[-1] != "loss" or len(parts) < 3 or not np.isfinite(values).all():
            continue
        best, start = lowest(values), float(values[0])
        fall = start - best.value
        if fall > LEARNED_SHARE * abs(start) or noise(values) > LEARNED_SHARE * abs(start):
            continue
        findings.append(Finding(
            "dead_part",
            f"{key} went from {start:.4g} to at best {best.value:.4g}: this part learned nothing while the rest did",
            _window(curves, 0, len(curves) - 1), {"start": start, "best": best.value},
        ))  # fmt: skip
    return findings


def rest(curves: Curves) -> str:
    """What a run without findings was doing in its second half, in words that claim no more than its noise allows."""
    clean = _finite(curves)
    half = len(clean) // 2
    train_falls, val_falls = (trend_p(values[half:], -1) < SUPPORT_P for values in (clean.train, clean.val))
    if train_falls and val_falls:
        return "train and val loss were still falling in the second half, though not fast"
    if train_falls:
        return "the train loss was still falling in the second half; of the val loss its scatter does not tell"
    return "no clear trend is left in the second half"


def _finite(curves: Curves) -> Curves:
    """Epochs that have both losses; val alone stands for train, or train for val, where a log has one of them only."""
    train = curves.train if not np.isnan(curves.train).all() else curves.val
    val = curves.val if not np.isnan(curves.val).all() else curves.train
    keep = np.isfinite(train) & np.isfinite(val)
    columns = {key: values[keep] for key, values in (curves.columns | {"train/loss": train, "val/loss": val}).items()}
    return Curves(curves.epochs[keep], columns, curves.max_epochs, curves.notes)


def _stopped(values: Values) -> NDArray[np.bool_]:
    """The trailing NaN of a curve that had a value in each epoch before them, (E,)."""
    missing = np.isnan(values)
    num_good = int(np.argmax(missing)) if missing.any() else len(values)
    trailing = 0 < num_good < len(values) and bool(missing[num_good:].all())
    # After a single value the next validation may just not have come yet.
    return (np.arange(len(values)) >= num_good) & trailing & (num_good > 1)


def _straightness(curves: Curves) -> float:
    """Slope of the train loss over its last third, divided by that over its first, in sums of learning rates.

    Thirds and slopes are of the work done, the sum of the rates, which keeps a warm-up or a decay from looking like a
    bend; without rates the epochs themselves count. The first epoch is left out, since its mean is taken over the
    fastest moments of the fit. 0 where there was no fall at first.
    """
    train, lr = curves.train[1:], curves.lr[1:]
    known = np.isfinite(lr).all() and (lr > 0).all()
    work = np.cumsum(lr if known else np.ones(len(train)))
    share = work / work[-1]
    first = max(3, int(np.searchsorted(share, 1 / 3)))
    last = min(len(train) - 3, int(np.searchsorted(share, 2 / 3)))
    early, late = slope(train[:first], share[:first]), slope(train[last:], share[last:])
    return late / early if early < 0 else 0.0


def _annealed(curves: Curves) -> bool:
    """Whether the schedule ended below a tenth of its highest rate."""
    lr = curves.lr[np.isfinite(curves.lr)]
    return bool(len(lr) and lr[-1] < 0.1 * lr.max())


def _start(values: Values) -> Level:
    return level(values, 0, min(end_window(len(values)), len(values)) - 1)


def _end(values: Values) -> Level:
    return level(values, max(0, len(values) - end_window(len(values))), len(values) - 1)


def _joint(a: Level, b: Level) -> float:
    """Standard error of the difference of two levels."""
    return math.hypot(a.error, b.error)


def _middle(curves: Curves, where: Level) -> int:
    return int(curves.epochs[(where.first + where.last) // 2])


def _window(curves: Curves, first: int, last: int) -> tuple[int, int]:
    return int(curves.epochs[first]), int(curves.epochs[last])
