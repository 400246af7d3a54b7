"""What a module is worth: paired differences with intervals, a verdict in words, and what many comparisons do to it."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from projects.redheart.ablation.answers import Score, StoryAnswers, scores_of
from shared.errors import DataError
from shared.statistics import estimate_many

WORTH, NOTHING, HARMFUL = "worth something", "worth nothing that this fold can show", "harmful"
UNCHANGED, UNDECIDED = "changes no answer", "not decidable"
UNMOVED = "no story's answer changed"
"""The outputs differ in their digits, but no story's answer as the score counts it (a class, a rank)."""
LEVEL = 0.05
_ROUNDING = 1e-12
WITHOUT, DIFFERENCE = "without", "worth"
Advance = Callable[[int, int], None]


def compare(
    full: StoryAnswers, without: Mapping[str, StoryAnswers], *, seed: int, draws: int = 2000, advance: Advance
) -> list[dict[str, Any]]:
    """Set a network beside itself without each module, on the same stories and the same draws of them.

    Args:
        full: Answers of the network with everything.
        without: Module -> answers without it.
        seed: Of the group bootstrap.
        draws: Number of bootstrap draws.
        advance: Called with (modules done, modules in all) as often as all are gone through.

    Returns:
        One row for each module and score: {module, metric, with, without, worth, verdict, smallest_detectable, p_value,
        p_holm, verdict_holm}. `worth` is an estimate whose sign is turned so that above 0 means the module helps, None
        where the module changes no answer of the task.

    Raises:
        DataError: If an answer is about other stories.
    """
    full = full.sorted_by_row()
    others = {module: answers.sorted_by_row() for module, answers in without.items()}
    for module, other in others.items():
        if not np.array_equal(other.rows, full.rows):
            raise DataError(f"the answers without {module} are about other stories; the run was changed: ablate again")
    scores = scores_of(full)
    changed = {
        (module, metric)
        for module, other in others.items()
        for metric in scores
        if not full.same_as(other, metric.split("/")[0])
    }
    found = _estimates(scores, others, changed, len(np.unique(full.group)), seed, draws, advance)
    rows: list[dict[str, Any]] = []
    for module in others:
        for metric in scores:
            row = {"module": module, "metric": metric, "with": found["", metric, WITHOUT]}
            if (module, metric) in changed:
                worth = found[module, metric, DIFFERENCE]
                rows.append(row | {"without": found[module, metric, WITHOUT], "worth": worth, **judge(worth)})
            else:
                rows.append(row | {"without": row["with"], "worth": None, "verdict": UNCHANGED})
    adjust(rows)
    return rows


def _estimates(
    scores: Mapping[str, Score],
    others: Mapping[str, StoryAnswers],
    changed: set[tuple[str, str]],
    num_groups: int,
    seed: int,
    draws: int,
    advance: Advance,
) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Estimates of every score with everything ("" as module) and without, and of the worth, from one set of draws."""
    theirs = {module: scores_of(other) for module, other in others.items()}
    pairs = [(module, metric) for module in others for metric in scores if (module, metric) in changed]

    def values(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        own = {metric: score.statistic(weights) for metric, score in scores.items()}
        columns = list(own.values())
        for done, module in enumerate(others, start=1):
            for metric in (metric for name, metric in pairs if name == module):
                without = theirs[module][metric].statistic(weights)
                sign = 1.0 if scores[metric].larger_is_better else -1.0
                columns += [without, sign * (own[metric] - without)]
            advance(done, len(others))
        return np.stack(columns, axis=1)

    keys = [("", metric, WITHOUT) for metric in scores]
    keys += [(module, metric, kind) for module, metric in pairs for kind in (WITHOUT, DIFFERENCE)]
    limits = [scores[metric].bounds if kind == WITHOUT else (-np.inf, np.inf) for _, metric, kind in keys]
    found = estimate_many(values, limits, num_groups, seed=seed, draws=draws)
    return {key: estimate.as_dict() for key, estimate in zip(keys, found, strict=True)}


def judge(worth: Mapping[str, Any]) -> dict[str, Any]:
    """Verdict, smallest gain that could have been seen, and p-value of one estimate.

    The p-value (two-sided) takes the spread from the interval's width; the smallest detectable gain is 2.5 of these
    spreads, as for the acceptance of a crossover. Where the groups do not vary there is no spread to judge by: nothing
    is tested, and no gain can be said to have been detectable.

    Args:
        worth: value, lo, hi, n_groups, method.
    """
    value, lo, hi = worth["value"], worth["lo"], worth["hi"]
    if lo is None or hi is None:
        reason = str(worth["method"]).removeprefix("no interval: ")
        return {"verdict": f"{UNDECIDED} ({reason})", "smallest_detectable": None, "p_value": None}
    if hi - lo < _ROUNDING:
        same = f"{UNDECIDED} (no variation between groups)" if abs(value) > _ROUNDING else UNMOVED
        return {"verdict": same, "smallest_detectable": None, "p_value": None}
    verdict = WORTH if lo > 0 else HARMFUL if hi < 0 else NOTHING
    freedom = max(1, int(worth["n_groups"]) - 1)
    spread = (hi - lo) / (2 * float(stdtrit(freedom, 0.975)))
    p_value = 2 * float(stdtr(freedom, -abs(value) / spread))
    return {"verdict": verdict, "smallest_detectable": 2.5 * spread, "p_value": p_value}


def adjust(rows: list[dict[str, Any]]) -> None:
    """Add `p_holm` and `verdict_holm` to rows, over all that have a p-value.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979).
    """
    tested = [row for row in rows if row.get("p_value") is not None]
    adjusted = holm([row["p_value"] for row in tested])
    for row in rows:
        row.setdefault("p_value", None)
        row.setdefault("smallest_detectable", None)
        row["p_holm"], row["verdict_holm"] = None, row["verdict"]
    for row, p_holm in zip(tested, adjusted, strict=True):
        row["p_holm"] = p_holm
        sure = p_holm <= LEVEL and row["verdict"] in (WORTH, HARMFUL)
        row["verdict_holm"] = row["verdict"] if sure else NOTHING


def holm(p_values: list[float]) -> list[float]:
    """Holm-adjusted p-values, in the given order.

    Raises:
        ValueError: If a value is no probability.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    for p_value in p_values:
        if not 0.0 <= p_value <= 1.0 or math.isnan(p_value):
            raise ValueError(f"p-value is {p_value}; allowed are 0 to 1")
    count, worst = len(p_values), 0.0
    adjusted = [0.0] * count
    for step, place in enumerate(sorted(range(count), key=lambda place: p_values[place])):
        worst = max(worst, min(1.0, (count - step) * p_values[place]))
        adjusted[place] = worst
    return adjusted


def sentences(rows: list[dict[str, Any]]) -> list[str]:
    """One sentence a module: what it is worth after the correction, or how small a gain would have been seen."""
    found = []
    for module in dict.fromkeys(row["module"] for row in rows):
        own = [row for row in rows if row["module"] == module]
        found.append(f"{module}: {_summary(own)}")
    return found


def _summary(rows: list[dict[str, Any]]) -> str:
    good = [row["metric"] for row in rows if row["verdict_holm"] == WORTH]
    bad = [row["metric"] for row in rows if row["verdict_holm"] == HARMFUL]
    said = [f"{WORTH} for {', '.join(good)}"] if good else []
    said += [f"{HARMFUL} for {', '.join(bad)}"] if bad else []
    if said:
        return "; ".join(said)
    still = {row["verdict"] for row in rows}
    if still <= {UNCHANGED, UNMOVED}:
        return UNMOVED if UNMOVED in still else UNCHANGED
    seen = [row for row in rows if row["smallest_detectable"] is not None]
    if not seen:
        return str(next(row["verdict"] for row in rows if row["verdict"] not in (UNCHANGED, UNMOVED)))
    limits = ", ".join(f"{row['metric']} {row['smallest_detectable']:.3g}" for row in seen)
    return f"{NOTHING} (smallest detectable: {limits})"
