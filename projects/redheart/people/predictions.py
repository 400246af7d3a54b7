"""`predictions.csv` of a finished run, read back."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import CheckpointError

PROB = "prob_"


@dataclass(frozen=True)
class Predictions:
    """What the final network said about the test fold.

    Attributes:
        classes: Names of the emotions, in the order of the probabilities.
        probs: Sample id -> (K,) calibrated probabilities.
        label: Sample id -> name of the label.
        columns: Sample id -> all columns as text.
    """

    classes: tuple[str, ...]
    probs: dict[str, NDArray[np.float64]]
    label: dict[str, str]
    columns: dict[str, dict[str, str]]


def read_predictions(run: Path) -> Predictions:
    """Read a run's predictions.csv.

    Raises:
        CheckpointError: If the file is missing, has other columns or holds what is no number.
    """
    path = run / "predictions.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = list(csv.DictReader(stream))
        names = [name for name in lines[0] if name.startswith(PROB)]
        probs = {line["sample_id"]: np.array([float(line[name]) for name in names]) for line in lines}
        label = {line["sample_id"]: line["label"] for line in lines}
    except (OSError, KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error!r}); the run's own test wrote it: restore it") from error
    if not names:
        raise CheckpointError(f"{path} has no column {PROB}<class>; the run's own test wrote it: restore it")
    classes = tuple(name.removeprefix(PROB) for name in names)
    return Predictions(classes, probs, label, {line["sample_id"]: line for line in lines})
