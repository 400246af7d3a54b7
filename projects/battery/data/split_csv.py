"""The user's own split: CSV files with path, label, battery_type, axis and battery_id become fold codes."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError, DataError, LeakError
from shared.folds import FOLDS
from shared.sample_index import SampleIndex

COLUMNS: tuple[str, ...] = ("path", "label", "battery_type", "axis", "battery_id")
FOLD_COLUMNS: tuple[str, ...] = ("fold", "split")
ALL_FOLDS = "all"
"""Key of a file that names the fold of each row in a column `fold` or `split`."""

_AMBIGUOUS = -2


class _Line(NamedTuple):
    """One line of a CSV with the fold that it belongs to."""

    where: str
    fold: str
    fields: dict[str, str]


def apply_split_csv(index: SampleIndex, files: Mapping[str, Path]) -> NDArray[np.int8]:
    """Read a split from CSV files and check each row against the index.

    A path is matched with the sample of the same id; otherwise, since the file may come from another machine, with
    the one sample of the same file name.

    Args:
        index: All samples, with meta columns kind and axis.
        files: Fold name -> its file; or "all" -> one file with a column `fold` or `split`.

    Returns:
        (N,) int8 fold codes, positions in `shared.folds.FOLDS`; -1 for samples that no file names.

    Raises:
        ConfigError: `files` is empty or a key is neither a fold nor "all".
        DataError: A file or column is missing, a row names a file that is gone, an unknown label or fold, contradicts
            the JSON label or the file name, or comes twice.
        LeakError: A sample or a battery stands in two folds.
    """
    allowed = (*FOLDS, ALL_FOLDS)
    if not files:
        raise ConfigError(f"data.split_csv names no file; give a file for some of {', '.join(allowed)}.")
    unknown = [key for key in files if key not in allowed]
    if unknown:
        raise ConfigError(f"data.split_csv has the key {unknown[0]!r}; allowed are {', '.join(allowed)}.")
    rows = _SampleRows(index)
    fold = np.full(len(index), -1, dtype=np.int8)
    fold_of_group: dict[int, tuple[int, str]] = {}
    for key, path in files.items():
        for line in _lines(path, key):
            row = rows.find(line)
            code = FOLDS.index(line.fold)
            _check_against(index, row, line)
            if fold[row] == code:
                raise DataError(f"{line.where} names {index.ids[row]!r} a second time; remove one of the lines.")
            group = int(index.group[row])
            other, other_where = fold_of_group.setdefault(group, (code, line.where))
            if other != code:
                raise LeakError(
                    f"battery {index.group_names[group]} is in {FOLDS[other]} ({other_where}) and in {line.fold} "
                    f"({line.where}); move all its slices into one fold."
                )
            fold[row] = code
    return fold


class _SampleRows:
    """Finds the row of a sample by path, or by file name where that is unique."""

    def __init__(self, index: SampleIndex) -> None:
        self._by_id: dict[str, int] = {}
        self._by_name: dict[str, int] = {}
        for row in range(len(index)):
            sample_id = index.ids[row]
            self._by_id[sample_id] = row
            name = sample_id.rpartition("/")[2]
            self._by_name[name] = _AMBIGUOUS if name in self._by_name else row

    def find(self, line: _Line) -> int:
        path = line.fields["path"]
        # Windows paths know both separators.
        parts = PureWindowsPath(path).parts
        row = self._by_id.get("/".join(parts))
        if row is None:
            row = self._by_name.get(parts[-1] if parts else "")
        if row is None:
            raise DataError(
                f"{line.where} names {path!r}, which is not among the {len(self._by_id)} scanned images; copy the file "
                "or remove the line."
            )
        if row == _AMBIGUOUS:
            raise DataError(
                f"{line.where} names {path!r}, and several scanned images are called {parts[-1]!r}; "
                "write the path below the data root."
            )
        return row


def _lines(path: Path, key: str) -> Iterator[_Line]:
    """Yield the lines of one CSV, blanks stripped."""
    if not path.is_file():
        raise DataError(f"split file {path} (data.split_csv.{key}) does not exist; correct the path.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            table = csv.DictReader(stream)
            fold_column = _check_columns(path, key, [name.strip() for name in table.fieldnames or ()])
            table.fieldnames = [name.strip() for name in table.fieldnames or ()]
            for raw in table:
                # A line with too few cells gives None, one with too many a list under the key None.
                fields = {name: (value or "").strip() for name, value in raw.items() if isinstance(name, str)}
                where = f"{path} line {table.line_num}"
                fold = fields[fold_column] if fold_column else key
                if fold not in FOLDS:
                    raise DataError(f"{where} has {fold_column} {fold!r}; allowed are {', '.join(FOLDS)}.")
                yield _Line(where, fold, fields)
            if table.line_num < 2:
                raise DataError(f"split file {path} has no line below its header; write the split again.")
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"split file {path} is no readable CSV ({error}); save it as UTF-8 text.") from error


def _check_columns(path: Path, key: str, present: list[str]) -> str | None:
    """Return the name of the fold column, None where the whole file is one fold."""
    missing = [column for column in COLUMNS if column not in present]
    if missing:
        raise DataError(
            f"split file {path} lacks the columns {', '.join(missing)}; it has {', '.join(present) or 'none'}."
        )
    if key != ALL_FOLDS:
        return None
    found = [column for column in FOLD_COLUMNS if column in present]
    if len(found) != 1:
        raise DataError(
            f"split file {path} must have exactly one of the columns {' and '.join(FOLD_COLUMNS)}, it has "
            f"{', '.join(found) or 'neither'}; add it or give a file for each fold."
        )
    return found[0]


def _check_against(index: SampleIndex, row: int, line: _Line) -> None:
    """Refuse a line that says other things about a sample than its JSON label and its file name do."""
    text = line.fields["label"]
    code = int(text) if text.isdecimal() else index.classes.index(text) if text in index.classes else -1
    if not 0 <= code < len(index.classes):
        names = ", ".join(f"{place} {name}" for place, name in enumerate(index.classes))
        raise DataError(f"{line.where} has label {text!r}; allowed are {names}.")
    sample_id = index.ids[row]
    if code != index.label[row]:
        raise DataError(
            f"{line.where} calls {sample_id!r} {index.classes[code]}, its JSON label says "
            f"{index.classes[index.label[row]]}; correct one of the two."
        )
    for column, key in (("battery_type", "kind"), ("axis", "axis")):
        own = index.meta_names[key][index.meta[key][row]]
        if line.fields[column] != own:
            raise DataError(
                f"{line.where} gives {sample_id!r} {column} {line.fields[column]!r}, its file name says {own!r}; "
                "correct the line."
            )
    battery = index.group_name(row)
    given = line.fields["battery_id"]
    # "0109", "109" (a spreadsheet drops the zeros) and "cell_0109" are the same battery.
    if _bare(given) != _bare(battery.rpartition("_")[2]) and given != battery:
        raise DataError(
            f"{line.where} gives {sample_id!r} battery_id {given!r}, its file name says {battery!r}; correct the line."
        )


def _bare(number: str) -> str:
    return number.lstrip("0") or "0"
