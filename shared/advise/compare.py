"""Which settings went with better results: a rank test by permutation within blocks of otherwise equal runs.

Runs are compared only within one project, one monitor and one validation set. Settings that changed together in every
run are one factor, since nothing can tell them apart. For each factor the runs that agree in all other factors form a
block; its values are permuted within the blocks, so another setting that happened to be better cannot pass for it.
Where the blocks leave too few arrangements for any result to be significant, that is what is said.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from shared.advise.compose import written
from shared.advise.records import Record
from shared.config import differing_keys

NO_SETTING = (
    "experiment", "resume", "paths", "logger", "audit", "stages", "runtime", "callbacks.progress", "callbacks.panels",
    "callbacks.learning_rate", "data.num_workers", "data.scan_workers", "data.eval_batch_size", "data.cache_folder",
    "data.store_device", "trainer.log_every_n_steps", "model.compile", "callbacks.live_push",
)  # fmt: skip
"""Keys that change where or how a run is carried out, not what comes out."""
REPLICATE = ("seed",)
"""Keys whose runs are repetitions of one setting."""
ALPHA = 0.05
DRAWS = 2000


@dataclass(frozen=True)
class Factor:
    """Settings that changed together, and what went with each of their values.

    Attributes:
        keys: Their dotted keys.
        levels: For each combination of values: the values as written, number of runs, median and best result.
        p_value: Of the permutation test after Holm's correction over all factors; None where it could not be made.
        verdict: "better", "no difference seen" or "too few to tell", with the reason in `sentence`.
        sentence: The same for people.
        best_values: Values of the level with the best median.
    """

    keys: tuple[str, ...]
    levels: tuple[dict[str, Any], ...]
    p_value: float | None
    verdict: str
    sentence: str
    best_values: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs of one project, by one monitor."""

    project: str
    monitor: str
    mode: str
    records: tuple[Record, ...]  # best first
    values: tuple[float, ...]
    factors: tuple[Factor, ...]
    left_out: tuple[str, ...]


def compare(records: Sequence[Record]) -> list[Comparison]:
    """Compare the finished runs of each project that share a monitor; groups of one run are left out."""
    groups: dict[tuple[str, str, str], list[Record]] = defaultdict(list)
    left: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for record in records:
        if record.project is None:
            continue
        group = (record.project, *record.monitor)
        if record.state == "done" and record.best(*record.monitor) is not None:
            groups[group].append(record)
        else:
            left[group].append(record.name)
    return [_compared(group, found, left[group]) for group, found in groups.items() if len(found) > 1]


def _compared(group: tuple[str, str, str], records: list[Record], left_out: list[str]) -> Comparison:
    project, monitor, mode = group
    values = [found[0] for record in records if (found := record.best(monitor, mode))]
    order = sorted(range(len(records)), key=lambda i: values[i], reverse=mode == "max")
    records, values = [records[i] for i in order], [values[i] for i in order]
    return Comparison(
        project, monitor, mode, tuple(records), tuple(values), tuple(_factors(records, values, mode)), tuple(left_out)
    )


def varied_keys(records: Sequence[Record]) -> list[str]:
    """Settings that are not the same in all runs, repetitions apart."""
    configs = [record.config or {} for record in records]
    keys = sorted({key for other in configs[1:] for key in differing_keys(configs[0], other)})
    return [key for key in keys if not _is_one_of(key, (*NO_SETTING, *REPLICATE))]


def _factors(records: list[Record], values: list[float], mode: str) -> list[Factor]:
    """One factor for each way in which settings part the runs."""
    alike: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for key in varied_keys(records):
        alike[_codes([written(record.value(key)) for record in records])].append(key)
    partitions = list(alike)
    ranks = rankdata([-value if mode == "max" else value for value in values])
    tests = [
        _test(np.array(codes), _numbers(records, alike[codes]), ranks, [o for o in partitions if o != codes])
        for codes in partitions
    ]
    corrected = _holm([test.p_value for test in tests])
    factors = [
        _factor(tuple(alike[codes]), codes, records, values, mode, p_value, test)
        for codes, p_value, test in zip(partitions, corrected, tests, strict=True)
    ]
    return sorted(factors, key=lambda factor: (factor.p_value is None, factor.p_value or 0.0, factor.keys))


def _factor(
    keys: tuple[str, ...],
    codes: tuple[int, ...],
    records: list[Record],
    values: list[float],
    mode: str,
    p_value: float | None,
    test: "_Test",
) -> Factor:
    levels: list[dict[str, Any]] = []
    for code in range(max(codes) + 1):
        members = [i for i, other in enumerate(codes) if other == code]
        results = [values[i] for i in members]
        levels.append({
            "values": tuple(written(records[members[0]].value(key)) for key in keys), "runs": len(members),
            "median": float(np.median(results)), "best": max(results) if mode == "max" else min(results),
        })  # fmt: skip
    levels.sort(key=lambda entry: entry["median"], reverse=mode == "max")
    name = " with ".join(keys) if len(keys) <= 3 else f"{', '.join(keys[:3])} and {len(keys) - 3} more together"
    together = " (they changed together: which of them it was cannot be told)" if len(keys) > 1 else ""
    best = levels[0]["values"]
    verdict, sentence = _said(test, p_value, len(records), ", ".join(best))
    return Factor(keys, tuple(levels), p_value, verdict, f"{name}: {sentence}{together}", best)


def _said(test: "_Test", p_value: float | None, num: int, best: str) -> tuple[str, str]:
    if p_value is None:
        return "too few to tell", f"too few to tell, {num} runs: {test.reason}"
    if p_value >= ALPHA:
        return "no difference seen", f"no difference seen (p = {p_value:.2g}), which is not proof of none"
    return (
        "better",
        f"{test.reason or best} went with better results (p = {p_value:.2g}, rank test, the rest held equal)",
    )


@dataclass(frozen=True)
class _Test:
    """p-value, None where it could not be made; the reason for that, or what a trend test found."""

    p_value: float | None
    reason: str = ""


def _test(
    codes: NDArray[np.int64],
    numbers: NDArray[np.float64] | None,
    ranks: NDArray[np.float64],
    others: list[tuple[int, ...]],
) -> _Test:
    """Permute a factor within blocks of otherwise equal runs.

    Args:
        codes: Level of each run, (R,).
        numbers: The same as numbers, where the factor is one numeric setting, (R,).
        ranks: Rank of each run's result, 1 the best, (R,).
        others: Levels of the other factors.
    """
    blocks = np.array(_codes([str(row) for row in zip(*others, strict=True)])) if others else np.zeros(len(codes), int)
    members = [np.flatnonzero(blocks == block) for block in range(int(blocks.max()) + 1)]
    ways = math.prod(_arrangements(codes[rows]) for rows in members)
    if ways == 1:
        return _Test(None, "in no two of them did it change alone")
    centred = ranks - np.array([ranks[rows].mean() for rows in members])[blocks]
    # Swapping the names of equally large levels gives the same spread, so that many arrangements tie with the best.
    ties = math.prod(math.factorial(int(size)) for size in np.bincount(np.bincount(codes)))
    if ties / ways <= ALPHA:
        return _Test(_p_value(codes, members, lambda shuffled: _spread(shuffled, centred)))
    if numbers is not None and 2 / ways <= ALPHA:
        steps = rankdata(numbers)
        places = np.array([steps[codes == code][0] for code in range(int(codes.max()) + 1)])
        slope = float(places[codes] @ centred)
        p_value = _p_value(codes, members, lambda shuffled: abs(float(places[shuffled] @ centred)))
        return _Test(p_value, "smaller values" if slope > 0 else "larger values")
    return _Test(None, f"their {ways} arrangements cannot give p below {ALPHA:g}")


def _p_value(
    codes: NDArray[np.int64], members: list[NDArray[np.int64]], statistic: Callable[[NDArray[np.int64]], float]
) -> float:
    """Share of seeded arrangements whose statistic is at least the observed one."""
    rng = np.random.default_rng(0)
    observed, hits = statistic(codes), 0
    for _ in range(DRAWS):
        shuffled = codes.copy()
        for rows in members:
            shuffled[rows] = rng.permutation(codes[rows])
        hits += statistic(shuffled) >= observed - 1e-9
    return (1 + hits) / (1 + DRAWS)


def _arrangements(codes: NDArray[np.int64]) -> int:
    """Number of different orders of some levels."""
    ways = math.factorial(len(codes))
    for count in np.bincount(codes):
        ways //= math.factorial(int(count))
    return ways


def _spread(codes: NDArray[np.int64], centred: NDArray[np.float64]) -> float:
    """Sum over levels of n * mean rank squared."""
    sums, counts = np.bincount(codes, centred), np.bincount(codes)
    return float(np.sum(sums**2 / np.maximum(counts, 1)))


def _numbers(records: list[Record], keys: list[str]) -> NDArray[np.float64] | None:
    values = [record.value(keys[0]) for record in records]
    if len(keys) > 1 or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return None
    return np.array(values, dtype=np.float64)


def _holm(p_values: list[float | None]) -> list[float | None]:
    """Holm's correction over the tests that were made."""
    made = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    worst = 0.0
    for place, (p, i) in enumerate(made):
        worst = max(worst, min(1.0, p * (len(made) - place)))
        corrected[i] = worst
    return corrected


def _codes(values: Sequence[Any]) -> tuple[int, ...]:
    """Equal values -> equal numbers, in order of first appearance."""
    seen: dict[Any, int] = {}
    return tuple(seen.setdefault(value, len(seen)) for value in values)


def _is_one_of(key: str, roots: Sequence[str]) -> bool:
    return any(key == root or key.startswith(f"{root}.") for root in roots)
