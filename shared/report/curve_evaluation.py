"""From the curves on the test fold to the parts of report.json, each number with its interval by group."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.curve_scores import CurveScores, is_flat
from shared.errors import DataError
from shared.report.evaluation import BEST_SINGLE, FINAL, EstimateDict, Intervals, mean_by_group, parts_of_fold
from shared.report.outputs import CurveOutputs
from shared.sample_index import SampleIndex

COMPARED = ("r2", "rmse")
TOLERANCE = 1e-6  # excess below which a check is kept: float32 rounding of numbers near 1

Checks = Callable[[NDArray[np.float64]], Mapping[str, NDArray[np.float64]]]
"""Curves (N, C, L) -> name of the check -> (N,) excess."""


@dataclass(frozen=True)
class CurveEvaluation:
    """The parts of report.json that the test fold gives for predicted curves, in the form of the schema.

    Attributes:
        models: Networks: five scores, and r2 and rmse minus those of best_single (paired).
        baselines: Baselines: five scores, and r2 and rmse of final minus theirs (paired).
        per_channel: Channel to the five scores of final there.
        per_point: The axis, and rmse of final and of each baseline at each of its points.
        per_group: Part of the fold to its size, r2 and rmse of final and the baselines, paired differences.
        checks: What no target can break: how many samples of the target and of each row break it.
        warnings: What the reader must know about these numbers.
    """

    models: list[dict[str, Any]]
    baselines: list[dict[str, Any]]
    per_channel: dict[str, dict[str, EstimateDict]]
    per_point: dict[str, Any]
    per_group: dict[str, dict[str, Any]]
    checks: list[dict[str, Any]]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return the parts under their keys of report.json; warnings are for the caller to add to the others."""
        parts = {
            "models": self.models,
            "baselines": self.baselines,
            "per_channel": self.per_channel,
            "per_point": self.per_point,
            "per_group": self.per_group,
            "checks": self.checks,
        }
        return {key: value for key, value in parts.items() if value}


def evaluate_curves(
    outputs: CurveOutputs,
    index: SampleIndex,
    *,
    model_rows: Sequence[str],
    seed: int,
    draws: int = 2000,
    subsets: Mapping[str, NDArray[np.bool_]] | None = None,
    checks: Checks | None = None,
) -> CurveEvaluation:
    """Score every row on the test fold, overall, by channel, by point of the axis and on parts of the fold.

    Args:
        outputs: Predictions of all rows; "final" must be among them.
        index: The index that `outputs.rows` point into; its groups are what intervals count.
        model_rows: Names of the rows that are networks; all others are baselines.
        seed: Of the group bootstrap.
        draws: Number of bootstrap draws.
        subsets: Name to (N,) mask over the test samples.
        checks: What no target can break, see `BaseModule.checks`.

    Raises:
        DataError: If a row is missing, the outputs do not fit the index, or a subset is empty or misnamed.
    """
    missing = [name for name in (*model_rows, FINAL) if name not in outputs.predictions]
    if missing or FINAL not in model_rows:
        raise DataError(
            f"networks to evaluate are {', '.join(model_rows)}; they must include {FINAL!r} and have outputs, "
            f"which exist for {', '.join(outputs.predictions)}."
        )
    if outputs.rows.min() < 0 or outputs.rows.max() >= len(index):
        raise DataError(f"the test outputs name row {outputs.rows.max()}; the sample index has {len(index)} rows.")
    group = index.group[outputs.rows]
    everything = np.ones(len(group), dtype=np.bool_)
    scores = {name: _scores(outputs, name, group, everything) for name in outputs.predictions}
    baselines = [name for name in outputs.predictions if name not in model_rows]
    intervals = Intervals(seed, draws)
    parts = parts_of_fold(outputs.rows, index, subsets or {})
    return CurveEvaluation(
        models=[_model_row(name, scores, intervals) for name in model_rows],
        baselines=[_baseline_row(name, scores, intervals) for name in baselines],
        per_channel=_per_channel(outputs, group, intervals),
        per_point=_per_point(outputs, group, (FINAL, *baselines), intervals),
        per_group={
            name: column | _part(outputs, group, mask, (FINAL, *baselines), intervals)
            for name, (mask, column) in parts.items()
        },
        checks=[] if checks is None else _checks(outputs, group, checks, intervals),
        warnings=_flat_warning(outputs),
    )


def _scores(outputs: CurveOutputs, name: str, group: NDArray[np.int32], mask: NDArray[np.bool_]) -> CurveScores:
    return CurveScores(outputs.row(name)[mask], outputs.target[mask], group[mask], outputs.axes.values)


def _estimates(scores: CurveScores, intervals: Intervals, keys: Sequence[str] = ()) -> dict[str, EstimateDict]:
    chosen = {key: statistic for key, statistic in scores.all().items() if not keys or key in keys}
    return {key: intervals.of(statistic, scores.num_groups) for key, statistic in chosen.items()}


def _differences(ours: CurveScores, theirs: CurveScores, intervals: Intervals) -> dict[str, EstimateDict]:
    """Our scores minus theirs, paired."""
    a, b = ours.all(), theirs.all()
    return {key: intervals.of_difference(a[key], b[key], ours.num_groups) for key in COMPARED}


def _model_row(name: str, scores: Mapping[str, CurveScores], intervals: Intervals) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "metrics": _estimates(scores[name], intervals)}
    if name != BEST_SINGLE and BEST_SINGLE in scores:
        row["diff_to_best_single"] = _differences(scores[name], scores[BEST_SINGLE], intervals)
    return row


def _baseline_row(name: str, scores: Mapping[str, CurveScores], intervals: Intervals) -> dict[str, Any]:
    difference = _differences(scores[FINAL], scores[name], intervals)
    return {"name": name, "metrics": _estimates(scores[name], intervals), "diff_to_final": difference}


def _per_channel(
    outputs: CurveOutputs, group: NDArray[np.int32], intervals: Intervals
) -> dict[str, dict[str, EstimateDict]]:
    found = {}
    for k, channel in enumerate(outputs.axes.channels):
        here = slice(k, k + 1)
        scores = CurveScores(outputs.row(FINAL)[:, here], outputs.target[:, here], group, outputs.axes.values)
        found[channel] = _estimates(scores, intervals)
    return found


def _per_point(
    outputs: CurveOutputs, group: NDArray[np.int32], names: Sequence[str], intervals: Intervals
) -> dict[str, Any]:
    rows: dict[str, list[EstimateDict]] = {name: [] for name in names}
    for k, value in enumerate(outputs.axes.values):
        for name in names:
            here = slice(k, k + 1)
            scores = CurveScores(outputs.row(name)[:, :, here], outputs.target[:, :, here], group, [value])
            rows[name].append(intervals.of(scores.rmse(), scores.num_groups))
    return {"axis": outputs.axes.axis_dict(), "rmse": rows}


def _part(
    outputs: CurveOutputs, group: NDArray[np.int32], mask: NDArray[np.bool_], names: Sequence[str], intervals: Intervals
) -> dict[str, Any]:
    scores = {name: _scores(outputs, name, group, mask) for name in names}
    final = scores[FINAL]
    return {
        "n": int(mask.sum()),
        "groups": final.num_groups,
        "rows": {name: _estimates(row, intervals, COMPARED) for name, row in scores.items()},
        "diff_to_final": {
            name: _differences(final, row, intervals) for name, row in scores.items() if name != FINAL
        },
    }  # fmt: skip


def _checks(
    outputs: CurveOutputs, group: NDArray[np.int32], checks: Checks, intervals: Intervals
) -> list[dict[str, Any]]:
    """Violations by the target itself and by every row: a target that breaks a check tells about the check."""
    found = []
    for row, curves in {"target": outputs.target, **outputs.predictions}.items():
        for name, excess in checks(curves).items():
            broken = np.asarray(excess) > TOLERANCE
            found.append(
                {
                    "name": name,
                    "row": row,
                    "n": len(broken),
                    "violations": int(broken.sum()),
                    "worst": max(float(np.max(excess)), 0.0),
                    "share": intervals.of(*mean_by_group(broken.astype(np.float64), group)),
                }
            )
    return found


def _flat_warning(outputs: CurveOutputs) -> list[str]:
    flat = is_flat(outputs.target)
    if not flat.any():
        return []
    return [f"{flat.sum()} of {flat.size} true curves of the test fold are flat: correlation and peak leave them out"]
