"""The part `tasks` of report.json: the numbers that a network of classes predicts beside its classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.number_scores import BOUNDS, METRICS, NEED_SPREAD, NumberScores
from shared.report.outputs import HeadOutputs
from shared.statistics import estimate_many
from shared.table_rows import model_rows

FINAL, BEST_SINGLE = "final", "best_single"
COMPARED = ("mae", "spearman")
"""Metrics whose differences to the best single checkpoint are told, and those of each number of final."""

Floats = NDArray[np.float64]
EstimateDict = dict[str, Any]

_ANYTHING = (-np.inf, np.inf)


def tasks_part(
    heads: Mapping[str, HeadOutputs], group: NDArray[np.int32], *, seed: int, draws: int = 2000
) -> dict[str, dict[str, Any]]:
    """Score every head on the samples that have a target for it, each number with its interval by group.

    Args:
        heads: The heads, each with at least one target; "final" must be among the rows.
        group: (N,) integer codes.
        seed: Of the group bootstrap.
        draws: Number of bootstrap draws.

    Returns:
        Head to {"n", "groups": those with a target, "rows": {row: {mae, rmse, r2, spearman}}, each the mean over the
        numbers of the head, "per_number": {number: {mae, spearman}} of final, "diff_to_best_single": {row: {mae,
        spearman}}, the row minus best_single, paired}. A number whose target does not vary is left out of the means of
        r2 and spearman; where a row's prediction of a number does not vary, its spearman is undefined, and so is the
        mean, since a mean over the others would be another quantity.
    """
    return {name: _Head(head, group).part(seed, draws) for name, head in heads.items()}


class _Head:
    """The scores of one head, as columns that one set of draws serves.

    A column is a score of a row (its mean over the numbers), a difference of two rows, or a score of one number.
    """

    def __init__(self, head: HeadOutputs, group: NDArray[np.int32]) -> None:
        self.names = head.names
        self.rows = model_rows(head.predictions)
        said = {name: head.predictions[name] for name in self.rows}
        self.scores = NumberScores(said, head.target, head.mask, group)
        self.compared = [row for row in self.rows if row != BEST_SINGLE] if BEST_SINGLE in self.rows else []
        self.keys: list[tuple[str, str, str]] = [
            *(("rows", row, metric) for row in self.rows for metric in METRICS),
            *(("per_number", name, metric) for name in self.names for metric in COMPARED),
            *(("diff_to_best_single", row, metric) for row in self.compared for metric in COMPARED),
        ]

    def part(self, seed: int, draws: int) -> dict[str, Any]:
        """The head's entry of the part."""
        bounds = [_ANYTHING if part == "diff_to_best_single" else BOUNDS[metric] for part, _, metric in self.keys]
        found = estimate_many(self._columns, bounds, self.scores.num_groups, seed=seed, draws=draws)
        parts: dict[str, dict[str, dict[str, EstimateDict]]] = {}
        for (part, name, metric), entry in zip(self.keys, found, strict=True):
            told = entry.as_dict()
            if told["value"] is None:
                told["method"] = f"no interval: {self._why_undefined(part, name, metric)}"
            parts.setdefault(part, {}).setdefault(name, {})[metric] = told
        return {"n": self.scores.num_samples, "groups": self.scores.num_groups, **parts}

    def _columns(self, weights: Floats) -> Floats:
        """Every key's values, (W, K)."""
        values = self.scores.values(weights)
        means = {metric: self._mean(values[metric], metric) for metric in METRICS}
        best = self.rows.index(BEST_SINGLE) if self.compared else -1
        columns = []
        for part, name, metric in self.keys:
            if part == "per_number":
                columns.append(values[metric][:, self.rows.index(FINAL), self.names.index(name)])
                continue
            column = means[metric][:, self.rows.index(name)]
            columns.append(column if part == "rows" else column - means[metric][:, best])
        return np.stack(columns, axis=1)

    def _mean(self, values: Floats, metric: str) -> Floats:
        """Mean over the numbers that count, (W, rows); a number that a draw leaves undefined makes it undefined."""
        counted = self.scores.counted(metric)
        if not counted.any():
            return np.full(values.shape[:2], np.nan)
        return np.asarray(values[:, :, counted].mean(axis=2))

    def _why_undefined(self, part: str, name: str, metric: str) -> str:
        """Why there is no value, in words."""
        numbers = self.scores.counted(metric)
        rows = [name] if part == "rows" else [name, BEST_SINGLE]
        if part == "per_number":
            rows, numbers = [FINAL], np.array([other == name for other in self.names], dtype=np.bool_)
            if not (numbers & self.scores.present).any():
                return "no sample has a target"
        if metric in NEED_SPREAD and not (numbers & ~self.scores.constant).any():
            return "the target does not vary"
        still = dict.fromkeys(number for row in rows for number in self._named(self.scores.still[row] & numbers))
        if metric == "spearman" and still:
            return f"the prediction of {', '.join(still)} does not vary"
        return "undefined on these data"

    def _named(self, mask: NDArray[np.bool_]) -> Sequence[str]:
        return [name for name, chosen in zip(self.names, mask.tolist(), strict=True) if chosen]


def constant_targets(heads: Mapping[str, HeadOutputs]) -> list[str]:
    """Sentences about numbers whose targets on the fold are missing or do not vary."""
    found = []
    for head, part in heads.items():
        nobody = np.zeros(len(part.target), dtype=np.int64)
        scores = NumberScores({FINAL: part.predictions[FINAL]}, part.target, part.mask, nobody)
        names = [name for name, constant in zip(part.names, scores.constant.tolist(), strict=True) if constant]
        if names:
            found.append(
                f"{head}: the targets of {', '.join(names)} do not vary on the test fold or are missing: R² and "
                "Spearman leave them out."
            )
    return found
