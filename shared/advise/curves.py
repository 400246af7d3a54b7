"""Loss curves of a run, read from metrics.csv or from the lines of train_log.txt, whoever wrote them."""

import csv
import io
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError

_LINE = re.compile(r"^\s*\[EPOCH\]\s+(\d+)\s*/\s*(\d+|None)\s+(.*?)\s*$")
_PAIR = re.compile(r"(\w+)=(\S+)")
_LOG_KEYS = {"train_loss": "train/loss", "val_loss": "val/loss", "best_val": "best_val", "lr": "lr"}


@dataclass(frozen=True)
class Curves:
    """What a run logged at the end of each epoch.

    Attributes:
        epochs: Epoch numbers counted from 1, ascending, (E,) int64.
        columns: Metric key -> its value at each of these epochs, (E,) float64, NaN where it was not logged or was NaN.
        max_epochs: Epochs that the run was to take, None where nothing says so.
        notes: One sentence for each thing that was passed over while reading.
    """

    epochs: NDArray[np.int64]
    columns: dict[str, NDArray[np.float64]]
    max_epochs: int | None = None
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.epochs)

    def column(self, key: str) -> NDArray[np.float64]:
        """The values of a key, all NaN where it was never logged, (E,) float64."""
        return self.columns.get(key, np.full(len(self), math.nan))

    @property
    def train(self) -> NDArray[np.float64]:
        """Training loss, (E,) float64."""
        return self.column("train/loss")

    @property
    def val(self) -> NDArray[np.float64]:
        """Validation loss, (E,) float64."""
        return self.column("val/loss")

    @property
    def lr(self) -> NDArray[np.float64]:
        """Learning rate at the end of each epoch, (E,) float64."""
        return self.column("lr")


def parse_log(text: str) -> Curves:
    """Curves from lines `[EPOCH] N/total train_loss=X val_loss=Y best_val=Z lr=A`.

    Other lines are passed over. A line that was cut off in writing, or whose values are no numbers, is passed over and
    counted in `notes`; NaN and infinity are values. An epoch that comes again replaces what stood from it on, as after
    a resume.

    Args:
        text: Content of the log; any line ending.

    Example:
        >>> parse_log("[EPOCH] 1/2 train_loss=0.5 val_loss=0.6 best_val=0.6 lr=1e-3").val.tolist()
        [0.6]
    """
    rows: dict[int, dict[str, float]] = {}
    total: int | None = None
    damaged = 0
    lines = text.splitlines()
    unended = bool(text) and not text.endswith(("\n", "\r"))
    for position, line in enumerate(lines):
        if "[EPOCH]" not in line:
            continue
        row, planned = _parsed(line)
        # A last line without its end may have lost digits of its last number (lr=1e-0), so it counts only where whole.
        if row is None or (unended and position == len(lines) - 1 and not _is_whole(line)):
            damaged += 1
            continue
        epoch = int(row.pop("epoch"))
        rows = {earlier: values for earlier, values in rows.items() if earlier < epoch} | {epoch: row}
        total = planned or total
    notes = () if not damaged else (f"{damaged} damaged [EPOCH] line{'s' * (damaged > 1)} passed over",)
    return _curves(rows, total, notes)


def parse_metrics(text: str) -> Curves:
    """Curves from metrics.csv, whose `epoch` counts from 0.

    Raises:
        DataError: If the table has no `epoch` column.
    """
    reader = csv.DictReader(io.StringIO(text.replace("\0", "")))
    if "epoch" not in (reader.fieldnames or ()):
        raise DataError(f"metrics.csv has no column epoch, it has {', '.join(reader.fieldnames or ()) or 'none'}")
    rows: dict[int, dict[str, float]] = {}
    damaged = 0
    for cells in reader:
        values = {str(key): _number(cell) for key, cell in cells.items() if key and cell not in (None, "")}
        epoch = values.pop("epoch", None)
        torn = None in cells or None in cells.values()  # more or fewer cells than the head has
        if torn or epoch is None or not math.isfinite(epoch) or None in values.values():
            damaged += 1
            continue
        rows[int(epoch) + 1] = {key: value for key, value in values.items() if value is not None}
    notes = () if not damaged else (f"{damaged} damaged row{'s' * (damaged > 1)} of metrics.csv passed over",)
    return _curves(dict(sorted(rows.items())), None, notes)


def read_text(path: Path) -> str:
    """A text file, whatever bytes a crash left in it.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def _parsed(line: str) -> tuple[dict[str, float] | None, int | None]:
    """Values of one line and the planned number of epochs; None where the line is damaged."""
    found = _LINE.match(line)
    if found is None:
        return None, None
    row = {"epoch": float(found[1])}
    for name, text in _PAIR.findall(found[3]):
        if name in _LOG_KEYS:
            value = _number(text)
            if value is None:
                return None, None
            row[_LOG_KEYS[name]] = value
    if "train/loss" not in row and "val/loss" not in row:
        return None, None
    return row, None if found[2] == "None" else int(found[2])


def _is_whole(line: str) -> bool:
    """Whether a line that has no line ending shows its last number in full: lr=9.9e-04, not lr=9.9e-0."""
    return re.search(r"lr=\d(\.\d+)?e[+-]\d\d$|lr=\d+\.\d{4,}$", line.rstrip()) is not None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _curves(rows: dict[int, dict[str, float]], total: int | None, notes: tuple[str, ...]) -> Curves:
    keys = dict.fromkeys(key for row in rows.values() for key in row)
    columns = {key: np.array([row.get(key, math.nan) for row in rows.values()], dtype=np.float64) for key in keys}
    return Curves(np.array(list(rows), dtype=np.int64), columns, total, notes)
