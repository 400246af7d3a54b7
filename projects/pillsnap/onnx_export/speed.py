"""How long things take beside each other: in turns within one run, so that a busy machine slows all of them alike."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def time_in_turns(
    calls: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 2
) -> dict[str, dict[str, Any]]:
    """Time several calls, one of each a round, the order shifted by one each round.

    Args:
        calls: Name -> what to time; the first is what the others are compared with.
        rounds: Timed calls of each, >= 1.
        warm_up: Calls of each before, not timed.

    Returns:
        Name -> {"p50_ms", "p95_ms", "ratio", "samples_ms"}; `ratio` is the median over rounds of the time as a share of
        the first one's in the same round.

    Raises:
        ValueError: If there is nothing to time.
    """
    if not calls or rounds < 1:
        raise ValueError(f"{len(calls)} calls and {rounds} rounds were given; at least one each is needed")
    names = list(calls)
    for name in names:
        for _ in range(warm_up):
            calls[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            started = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - started)
    first = np.array(seconds[names[0]])
    found = {}
    for name in names:
        taken = np.array(seconds[name])
        p50, p95 = np.percentile(1000 * taken, (50, 95))
        found[name] = {
            "p50_ms": float(p50),
            "p95_ms": float(p95),
            "ratio": float(np.median(taken / first)),
            "samples_ms": (1000 * taken).tolist(),
        }
    return found
