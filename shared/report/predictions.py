"""predictions.csv: every sample of the tested fold with what the final network said about it."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from shared.atomic import replacing
from shared.errors import DataError
from shared.folds import FOLDS
from shared.report.evaluation import FINAL
from shared.report.outputs import CurveOutputs, TestOutputs
from shared.sample_index import SampleIndex


def write_predictions(path: Path, index: SampleIndex, outputs: TestOutputs, fold: str) -> None:
    """Write one line for each sample of `outputs`, in the order of the index, atomically.

    Columns: sample_id, group, fold, each metadata column (empty where missing), label, predicted, and prob_<class> of
    the final network; then for each number of each other head `true_<head>_<name>` and `predicted_<head>_<name>`, both
    empty where there is no target.

    Args:
        path: The file, normally predictions.csv in the run directory.
        index: All samples.
        outputs: The pass over the fold.
        fold: Its name.

    Raises:
        DataError: If there is no such fold, or the outputs do not fit the index or have no row "final".
    """
    _check_fold(fold)
    outputs.check_against(index)
    order = np.argsort(outputs.rows)
    probs = outputs.row(FINAL)[order]
    header = [
        "sample_id",
        "group",
        "fold",
        *index.meta,
        "label",
        "predicted",
        *(f"prob_{name}" for name in index.classes),
        *(f"{kind}_{head}_{name}" for head, part in outputs.heads.items() for name in part.names for kind in _KINDS),
    ]
    of_heads = _head_cells(outputs)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        for place, row, values in zip(order.tolist(), outputs.rows[order].tolist(), probs, strict=True):
            meta = _meta(index, row)
            said = index.classes[int(values.argmax())]
            # 17 digits bring back the same double, so scores can be computed again from this file exactly.
            numbers = [f"{value:.17g}" for value in values]
            label = index.classes[index.label[row]]
            start = [index.ids[row], index.group_name(row), fold, *meta, label, said]
            writer.writerow([*start, *numbers, *of_heads(place)])


_KINDS = ("true", "predicted")


def _head_cells(outputs: TestOutputs) -> Callable[[int], list[str]]:
    """Gives the cells of one sample: the true and the predicted value of each number of each head."""
    pairs = [
        (head.mask[:, number], head.target[:, number], head.predictions[FINAL][:, number])
        for head in outputs.heads.values()
        for number in range(len(head.names))
    ]

    def cells(place: int) -> list[str]:
        # Targets and network are of float32: 9 digits bring back the same number.
        return [f"{values[place]:.9g}" if mask[place] else "" for mask, *both in pairs for values in both]

    return cells


def write_curve_predictions(path: Path, index: SampleIndex, outputs: CurveOutputs, fold: str) -> None:
    """Write one line for each sample of `outputs`, in the order of the index, atomically.

    Columns: sample_id, group, fold, each metadata column, rmse, then `true_<channel>_<value>` for every channel and
    point of the axis and `predicted_<channel>_<value>` likewise, as final said it.

    Args:
        path: The file, normally predictions.csv in the run directory.
        index: All samples.
        outputs: The pass over the fold.
        fold: Its name.

    Raises:
        DataError: If there is no such fold, or the outputs have no row "final".
    """
    _check_fold(fold)
    order = np.argsort(outputs.rows)
    count = len(order)
    target, predicted = (curves[order].reshape(count, -1) for curves in (outputs.target, outputs.row(FINAL)))
    rmse = np.sqrt(np.square(predicted - target).mean(axis=1))
    points = [f"{channel}_{value:g}" for channel in outputs.axes.channels for value in outputs.axes.values]
    columns = [*(f"true_{point}" for point in points), *(f"predicted_{point}" for point in points)]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["sample_id", "group", "fold", *index.meta, "rmse", *columns])
        for place, row in enumerate(outputs.rows[order].tolist()):
            # 9 digits bring back the same float32, which is what data and network hold.
            numbers = [f"{value:.9g}" for value in (*target[place], *predicted[place])]
            start = [index.ids[row], index.group_name(row), fold, *_meta(index, row)]
            writer.writerow([*start, f"{rmse[place]:.9g}", *numbers])


def _check_fold(fold: str) -> None:
    if fold not in FOLDS:
        raise DataError(f"predictions of fold {fold!r} cannot be written; the folds are {', '.join(FOLDS)}.")


def _meta(index: SampleIndex, row: int) -> list[str]:
    """Metadata of a sample, "" where missing."""
    return [index.meta_names[key][codes[row]] if codes[row] >= 0 else "" for key, codes in index.meta.items()]
