"""Labelled logs of runs that never were: eight kinds of fit, at any noise, with and without schedules.

The curves are drawn from other forms than the rules test for: power laws beside exponentials, noise with heavy tails
and with memory, dips and bumps, four schedules, lengths from 12 to 300 epochs and losses of any scale.
"""

from collections.abc import Callable

import numpy as np

KINDS = ("overfit", "lr_too_high", "lr_too_low", "plateau", "nan", "dead", "underfit", "healthy")
SCHEDULES = ("constant", "warmup_cosine", "one_cycle", "warm_restarts")


def learning_rates(rng, num_epochs, name):
    """Rates at each epoch's end, (E,), highest `base`."""
    base = 10 ** rng.uniform(-4.5, -2)
    share = (np.arange(num_epochs) + 1) / num_epochs
    if name == "constant":
        return np.full(num_epochs, base)
    if name == "warm_restarts":
        period = max(5, num_epochs // 3)
        return base * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * (np.arange(num_epochs) % period) / period)))
    top = 0.05 if name == "warmup_cosine" else 0.3
    rise, fall = share / top, 0.5 * (1 + np.cos(np.pi * (share - top) / (1 - top)))
    return base * np.where(share < top, rise, np.maximum(fall, 1e-4))


def falling(rng, share, speed):
    """A curve from 1 to nearly 0 over `share` in (0, 1]: exponential or power law; speed in time constants a run."""
    if rng.random() < 0.5:
        return np.exp(-speed * share)
    power = rng.uniform(1.5, 3.0)
    return (1 + speed * share / power) ** -power


def scatter(rng, num_epochs, size):
    """Noise of standard deviation about `size`: heavy tails (t with 4 degrees) and some memory."""
    white = rng.standard_t(4, num_epochs) / np.sqrt(2)
    memory = rng.uniform(0.0, 0.3)
    coloured = np.empty(num_epochs)
    coloured[0] = white[0]
    for i in range(1, num_epochs):
        coloured[i] = memory * coloured[i - 1] + np.sqrt(1 - memory**2) * white[i]
    return size * coloured


def _healthy(rng, share, lr):
    speed = rng.uniform(5, 9)
    train = falling(rng, share, speed)
    gap = rng.uniform(0.0, 0.1) * (1 - train)
    return train, np.maximum(train, falling(rng, share, speed)) + gap


def _underfit(rng, share, lr):
    train = falling(rng, share, rng.uniform(1.3, 2.2))
    return train, train + rng.uniform(0.0, 0.05) * (1 - train)


def _lr_too_low(rng, share, lr):
    work = np.cumsum(lr) / lr.sum()  # what a small step buys is proportional to the rate
    train = 1 - rng.uniform(0.3, 0.8) * (1 - falling(rng, work, rng.uniform(0.05, 0.4)))
    return train, train + rng.uniform(-0.01, 0.01)


def _plateau(rng, share, lr):
    stop = rng.uniform(0.02, 0.08)  # the fall is over after this share of the run
    train = np.exp(-share / stop)
    val = 0.02 + np.exp(-share / (stop * rng.uniform(0.9, 1.1)))
    if rng.random() < 0.4:
        train = train - rng.uniform(0.2, 0.5) * share  # memorises, to no avail
    return train, val


def _overfit(rng, share, lr):
    turn = rng.uniform(0.15, 0.6)
    train = falling(rng, share, rng.uniform(4, 7))
    after = np.clip(share - turn, 0, None) / (1 - turn)
    val = falling(rng, share, 4 / turn) + rng.uniform(0.15, 0.8) * after ** rng.uniform(0.8, 1.5)
    return train - 0.15 * share, val


def _lr_too_high(rng, share, lr):
    if rng.random() < 0.5:  # jumps about a level
        train = 0.5 + 0.5 * np.exp(-share / 0.05) + rng.uniform(0.15, 0.5) * rng.standard_normal(len(share))
        return train, train + 0.1 * rng.standard_normal(len(share))
    turn = rng.uniform(0.2, 0.6)  # learns, then is thrown out
    train = (
        falling(rng, np.minimum(share, turn), 4.0 / turn) + rng.uniform(0.5, 3.0) * np.clip(share - turn, 0, 0.3) / 0.3
    )
    return train, train * rng.uniform(1.0, 1.3)


def _dead(rng, share, lr):
    return np.ones(len(share)), np.ones(len(share))


_FORMS: dict[str, Callable] = {
    "healthy": _healthy, "underfit": _underfit, "lr_too_low": _lr_too_low, "plateau": _plateau, "overfit": _overfit,
    "lr_too_high": _lr_too_high, "dead": _dead, "nan": _healthy,
}  # fmt: skip


def losses(kind, seed, noise):
    """One labelled run.

    Args:
        kind: One of KINDS.
        seed: Of everything that is drawn.
        noise: Standard deviation of the val loss's scatter as a share of the progress; the train loss has a quarter.

    Returns:
        train (E,), val (E,), lr (E,).
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    num_epochs = int(np.exp(rng.uniform(np.log(12), np.log(300))))
    lr = learning_rates(rng, num_epochs, SCHEDULES[rng.integers(len(SCHEDULES))])
    share = np.arange(num_epochs) / (num_epochs - 1)
    train, val = _FORMS[kind](rng, share, lr)
    floor, progress = rng.uniform(0.2, 1.0), 10 ** rng.uniform(-2, 1)
    # A fit that went nowhere stands at a level: its noise is the sampling noise there, not a share of a progress.
    size = noise * {"dead": 0.05, "lr_too_low": 0.3}.get(kind, 1.0)
    train = progress * (floor + train + scatter(rng, num_epochs, size / 4))
    val = progress * (floor + val + scatter(rng, num_epochs, size))
    if kind == "nan":
        at = int(rng.integers(1, num_epochs))
        train[at:] = np.nan
        val[at:] = np.inf if rng.random() < 0.3 else np.nan
    return train, val, lr


def log_text(train, val, lr, *, ending="\n"):
    """The lines that a fit writes, as in the specification."""
    best = np.minimum.accumulate(val)
    rows = enumerate(zip(train, val, best, lr, strict=True), 1)
    return "".join(
        f"[EPOCH] {n}/{len(train)} train_loss={a:.6f} val_loss={b:.6f} best_val={c:.6f} lr={d:.3e}{ending}"
        for n, (a, b, c, d) in rows
    )
