"""From the probabilities on the test fold to the parts of report.json, each number with its interval by group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.calibration import confidence_and_hit
from shared.errors import DataError
from shared.report.outputs import TestOutputs
from shared.report.risk_evaluation import risk_coverage_part
from shared.report.task_evaluation import constant_targets, tasks_part
from shared.sample_index import SampleIndex
from shared.scores import MANY_CLASSES, ClassificationScores
from shared.splits import MOST_ABSENT_BY_NAME
from shared.statistics import BoundedStatistic, Statistic, estimate, estimate_difference

__all__ = ["Evaluation", "Intervals", "TestOutputs", "calibration_scores", "evaluate_classification"]

FINAL = "final"
BEST_SINGLE = "best_single"
ALL = "all"
"""Name of the part of the test fold that is all of it."""

COMPARED_WITH_BEST_SINGLE = ("f1_macro", "auroc_macro", "nll")

EstimateDict = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """The parts of report.json that the test fold gives, in the form of the schema.

    Attributes:
        models: Networks: six metrics, and f1_macro, auroc_macro and nll minus those of best_single (paired).
        baselines: Baselines: six metrics, and f1_macro of final minus theirs (paired).
        per_class: Class to f1, precision, recall and support of final.
        per_group: Part of the fold ("all", "axis=x", a named subset) to its size, accuracy and f1_macro of final and
            the baselines there, paired differences, and the mean confidence of right and of wrong answers.
        warnings: What the reader must know about these numbers.
        risk_coverage: What final errs when it answers only where it is sure, see `risk_coverage_part`.
        tasks: The numbers predicted beside the classes, by head, see `tasks_part`.
    """

    models: list[dict[str, Any]]
    baselines: list[dict[str, Any]]
    per_class: dict[str, dict[str, Any]]
    per_group: dict[str, dict[str, Any]]
    warnings: list[str]
    risk_coverage: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the parts under their keys of report.json; warnings are for the caller to add to the others."""
        parts = {
            "models": self.models,
            "baselines": self.baselines,
            "per_class": self.per_class,
            "per_group": self.per_group,
            "risk_coverage": self.risk_coverage,
            "tasks": self.tasks,
        }
        return {key: value for key, value in parts.items() if value}


class Intervals:
    """Estimates by group with one seed and one number of draws, as dicts of report.json.

    Args:
        seed: Of the group bootstrap; the same for all rows, so that equal groups see equal draws.
        draws: Number of bootstrap draws.
    """

    def __init__(self, seed: int, draws: int) -> None:
        self._settings = {"seed": seed, "draws": draws}

    def of(self, statistic: Statistic, num_groups: int) -> EstimateDict:
        """Return the estimate of one statistic."""
        return estimate(statistic, num_groups, **self._settings).as_dict()

    def of_difference(self, a: Statistic, b: Statistic, num_groups: int) -> EstimateDict:
        """Return the paired estimate of a minus b."""
        return estimate_difference(a, b, num_groups, **self._settings).as_dict()


def evaluate_classification(
    outputs: TestOutputs,
    index: SampleIndex,
    *,
    model_rows: Sequence[str],
    seed: int,
    draws: int = 2000,
    subsets: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Evaluation:
    """Score every row on the test fold, overall, by class and on parts of it.

    Args:
        outputs: Probabilities of all rows; "final" must be among them.
        index: The index that `outputs.rows` point into; its groups are what intervals count.
        model_rows: Names in `outputs.probs` that are networks; all others are baselines.
        seed: Of the group bootstrap.
        draws: Number of bootstrap draws.
        subsets: Name to (N,) mask over the test samples, e.g. "y/z only".

    Raises:
        DataError: If outputs and index do not fit, a row is missing, or a subset is empty, has another length or takes
            the name of another part.
    """
    outputs.check_against(index)
    missing = [name for name in (*model_rows, FINAL) if name not in outputs.probs]
    if missing or FINAL not in model_rows:
        raise DataError(
            f"networks to evaluate are {', '.join(model_rows)}; they must include {FINAL!r} and have outputs, "
            f"which exist for {', '.join(outputs.probs)}."
        )
    group = index.group[outputs.rows]
    scores = {name: ClassificationScores(probs, outputs.target, group) for name, probs in outputs.probs.items()}
    baselines = [name for name in outputs.probs if name not in model_rows]
    intervals = Intervals(seed, draws)
    parts = parts_of_fold(outputs.rows, index, subsets or {})
    return Evaluation(
        models=[_model_row(name, scores, intervals) for name in model_rows],
        baselines=[_baseline_row(name, scores, intervals) for name in baselines],
        per_class=_per_class(outputs, index, intervals),
        per_group={
            name: column | _part(outputs, group, mask, (FINAL, *baselines), intervals)
            for name, (mask, column) in parts.items()
        },
        warnings=[*_absent_classes(outputs, index), *constant_targets(outputs.heads)],
        risk_coverage=risk_coverage_part(outputs.row(FINAL), outputs.target, group, seed=seed, draws=draws),
        tasks=tasks_part(outputs.heads, group, seed=seed, draws=draws),
    )


def calibration_scores(
    probs: NDArray[np.float64], outputs: TestOutputs, index: SampleIndex, *, seed: int, draws: int = 2000
) -> dict[str, EstimateDict]:
    """Return the calibration scores with intervals: the form of `calibration.before` and `calibration.after`.

    Args:
        probs: (N, C) probabilities on the samples of `outputs`, e.g. of final before its calibrator.
        outputs: Where targets and rows come from.
        index: The index that `outputs.rows` point into.
        seed: Of the group bootstrap.
        draws: Number of bootstrap draws.
    """
    outputs.check_against(index)
    scores = ClassificationScores(probs, outputs.target, index.group[outputs.rows])
    intervals = Intervals(seed, draws)
    chosen = {
        "ece": scores.ece(),
        "classwise_ece": scores.classwise_ece(),
        "adaptive_ece": scores.adaptive_ece(),
        "brier": scores.brier(),
        "nll": scores.nll(),
    }
    return {name: intervals.of(statistic, scores.num_groups) for name, statistic in chosen.items()}


def _metrics(scores: ClassificationScores, intervals: Intervals) -> dict[str, EstimateDict]:
    return {name: intervals.of(statistic, scores.num_groups) for name, statistic in scores.all().items()}


def _model_row(name: str, scores: Mapping[str, ClassificationScores], intervals: Intervals) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "metrics": _metrics(scores[name], intervals)}
    if name != BEST_SINGLE and BEST_SINGLE in scores:
        ours, theirs = scores[name].all(), scores[BEST_SINGLE].all()
        row["diff_to_best_single"] = {
            metric: intervals.of_difference(ours[metric], theirs[metric], scores[name].num_groups)
            for metric in dict.fromkeys((_main(scores[name]), *COMPARED_WITH_BEST_SINGLE))
        }
    return row


def _baseline_row(name: str, scores: Mapping[str, ClassificationScores], intervals: Intervals) -> dict[str, Any]:
    final, ours = scores[FINAL], scores[name]
    main = _main(ours)
    difference = intervals.of_difference(final.all()[main], ours.all()[main], ours.num_groups)
    return {"name": name, "metrics": _metrics(ours, intervals), "diff_to_final": {main: difference}}


def _main(scores: ClassificationScores) -> str:
    """What rows are set against each other by: macro-F1, but of many classes, of which a draw lacks some, accuracy."""
    return "accuracy" if scores.num_classes >= MANY_CLASSES else "f1_macro"


def _per_class(outputs: TestOutputs, index: SampleIndex, intervals: Intervals) -> dict[str, dict[str, Any]]:
    """F1, precision and recall of final for each class of the index, absent ones included."""
    probs, target = outputs.row(FINAL), outputs.target
    group = index.group[outputs.rows]
    scores = ClassificationScores(probs, target, group)
    predicted = probs.argmax(axis=1)
    return {
        name: {
            "f1": intervals.of(scores.f1(code), scores.num_groups),
            # Precision is the accuracy where this class was predicted, recall the accuracy where it is true.
            "precision": _accuracy(probs, target, group, predicted == code, intervals),
            "recall": _accuracy(probs, target, group, target == code, intervals),
            "support": int((target == code).sum()),
        }
        for code, name in enumerate(index.classes)
    }


def _accuracy(
    probs: NDArray[np.float64],
    target: NDArray[np.int64],
    group: NDArray[np.int32],
    mask: NDArray[np.bool_],
    intervals: Intervals,
) -> EstimateDict:
    """Accuracy where `mask` holds; its intervals count only the groups that have such a sample."""
    if not mask.any():
        return _no_sample()
    scores = ClassificationScores(probs[mask], target[mask], group[mask])
    return intervals.of(scores.accuracy(), scores.num_groups)


def _no_sample() -> EstimateDict:
    return {"value": None, "lo": None, "hi": None, "n_groups": 0, "method": "no interval: no sample"}


def parts_of_fold(
    rows: NDArray[np.int64], index: SampleIndex, subsets: Mapping[str, NDArray[np.bool_]]
) -> dict[str, tuple[NDArray[np.bool_], dict[str, Any]]]:
    """All of the fold, the named subsets, then each value of each metadata column: name to mask and `column` entry.

    Args:
        rows: (N,) rows of the index.
        index: All samples.
        subsets: Name to (N,) mask.

    Raises:
        DataError: If a subset is empty, has another length or takes the name of another part.
    """
    count = len(rows)
    parts: dict[str, tuple[NDArray[np.bool_], dict[str, Any]]] = {ALL: (np.ones(count, dtype=np.bool_), {})}
    for key, codes in index.meta.items():
        here = codes[rows]
        for code, value in [*enumerate(index.meta_names[key]), (-1, "(missing)")]:
            if (here == code).any():
                parts[f"{key}={value}"] = (here == code, {"column": key})
    for name, mask in subsets.items():
        if mask.shape != (count,) or mask.dtype != np.bool_ or not mask.any():
            raise DataError(
                f"subset {name!r} is {mask.dtype} of shape {mask.shape} with {int(np.sum(mask))} samples; "
                f"a bool mask of shape ({count},) with at least one is needed."
            )
        if name in parts:
            raise DataError(f"subset {name!r} has the name of another part; taken are {', '.join(parts)}.")
        parts[name] = (mask, {})
    return parts


def _part(
    outputs: TestOutputs,
    group: NDArray[np.int32],
    mask: NDArray[np.bool_],
    names: Sequence[str],
    intervals: Intervals,
) -> dict[str, Any]:
    """Scores of final and the baselines on one part of the fold; macro-F1 is over the classes that occur in it."""
    target, group = outputs.target[mask], group[mask]
    scores = {name: ClassificationScores(outputs.row(name)[mask], target, group) for name in names}
    final, main = scores[FINAL], _main(scores[FINAL])
    return {
        "n": int(mask.sum()),
        "groups": final.num_groups,
        "rows": {
            name: {
                "accuracy": intervals.of(row.accuracy(), row.num_groups),
                "f1_macro": intervals.of(row.f1_macro(), row.num_groups),
            }
            for name, row in scores.items()
        },
        "diff_to_final": {
            name: {main: intervals.of_difference(final.all()[main], row.all()[main], row.num_groups)}
            for name, row in scores.items()
            if name != FINAL
        },
        "confidence": _confidence(outputs.row(FINAL)[mask], target, group, intervals),
    }


def _confidence(
    probs: NDArray[np.float64], target: NDArray[np.int64], group: NDArray[np.int32], intervals: Intervals
) -> dict[str, EstimateDict]:
    """Mean confidence of right and of wrong answers; a network to be trusted is less sure when it is wrong."""
    confidence, right = confidence_and_hit(probs, target)
    chosen = {"right": right > 0.0, "wrong": right == 0.0}
    return {
        name: intervals.of(*mean_by_group(confidence[mask], group[mask])) if mask.any() else _no_sample()
        for name, mask in chosen.items()
    }


def mean_by_group(values: NDArray[np.float64], group: NDArray[np.int32]) -> tuple[Statistic, int]:
    """Return the mean of values in [0, 1] as a statistic of group weights, and the number of groups.

    Args:
        values: (N,).
        group: (N,) integer codes.
    """
    names, place = np.unique(group, return_inverse=True)
    total, size = np.bincount(place, weights=values), np.bincount(place)
    # Every group in `names` has a sample and every draw has a group, so the divisor is never zero.
    return BoundedStatistic(lambda weights: (weights @ total) / (weights @ size), 0.0, 1.0), len(names)


def _absent_classes(outputs: TestOutputs, index: SampleIndex) -> list[str]:
    absent = [name for code, name in enumerate(index.classes) if not (outputs.target == code).any()]
    if len(absent) > MOST_ABSENT_BY_NAME:
        named = ", ".join(absent[:MOST_ABSENT_BY_NAME])
        return [
            f"{len(absent)} of {len(index.classes)} classes have no sample in the test fold ({named}, ...): no "
            "interval for them, and macro averages leave them out."
        ]
    return [
        f"class {name} has no sample in the test fold: no interval for it, and macro averages leave it out."
        for name in absent
    ]
