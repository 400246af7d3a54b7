"""People's ratings of stories: the table, and z-scores within a person.

`subjects.csv` has one row for each (id, subject) with valence, arousal and dominance of the nine-point self-assessment
(Bradley and Lang, "Measuring Emotion: the Self-Assessment Manikin", 1994), and may have features of the EEG.
"""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError

SUBJECTS = "subjects.csv"
RATINGS: tuple[str, ...] = ("valence", "arousal", "dominance")
RATING_RANGE = (1.0, 9.0)
EEG_FEATURES: tuple[str, ...] = (
    "frontal_alpha_asymmetry", "theta_power", "alpha_power", "beta_power", "gamma_power", "p300", "lpp",
)  # fmt: skip
FEWEST_FOR_ZSCORE = 2

_NEEDED = ("id", "subject", *RATINGS)
_KNOWN = (*_NEEDED, *EEG_FEATURES)


@dataclass(frozen=True, eq=False)
class SubjectTable:
    """R ratings, one a row.

    Attributes:
        ids: Story ids, in file order; a story stands once for each person who rated it.
        subject: Names of the people.
        numbers: Column (valence, arousal, dominance and the EEG features that the file has) -> (R,) float64; NaN where
            an EEG feature is missing.
    """

    ids: tuple[str, ...]
    subject: tuple[str, ...]
    numbers: dict[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.ids)

    def subjects(self) -> list[str]:
        """Return the names of the people, sorted."""
        return sorted(set(self.subject))


def read_subjects(path: Path) -> SubjectTable:
    """Read and check `subjects.csv`.

    Raises:
        DataError: The file is missing, no UTF-8 or no such table, a rating is missing or outside 1 to 9, a feature is
            no finite number, or a pair (id, subject) stands twice; names the line.
    """
    table = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    ratings: dict[tuple[str, str], int] = {}
    try:
        columns = list(table.fieldnames or ())
        _check_columns(path, columns)
        numbers: dict[str, list[float]] = {column: [] for column in columns if column not in ("id", "subject")}
        for fields in table:
            where = f"{path} line {table.line_num}"
            if None in fields or None in fields.values():
                raise DataError(f"{where} has another number of values than the header; give {len(columns)}.")
            pair = (fields["id"].strip(), fields["subject"].strip())
            if not all(pair):
                raise DataError(f"{where} has no {'subject' if pair[0] else 'id'}; complete or remove the line.")
            if pair in ratings:
                raise DataError(f"{where} rates {pair[0]!r} by {pair[1]!r} again, as line {ratings[pair]}; keep one.")
            ratings[pair] = table.line_num
            for column, values in numbers.items():
                values.append(_number(fields[column], column, where))
    except csv.Error as error:
        raise DataError(f"{path} line {table.line_num} is no readable CSV ({error}); save it again.") from error
    if not ratings:
        raise DataError(f"{path} has no line below its header; give one for each rating.")
    ids, subject = zip(*ratings, strict=True)
    return SubjectTable(ids, subject, {column: np.array(values) for column, values in numbers.items()})


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"the ratings {path} do not exist; give a table with {', '.join(_NEEDED)}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error}); save it as UTF-8.") from error


def _check_columns(path: Path, columns: list[str]) -> None:
    missing = [column for column in _NEEDED if column not in columns]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(columns) or 'none'}.")
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise DataError(f"{path} has the column {twice[0]!r} twice; each must stand once.")
    unknown = [column for column in columns if column not in _KNOWN]
    if unknown:
        raise DataError(f"{path} has the column {unknown[0]!r}; allowed are {', '.join(_KNOWN)}.")


def _number(value: str, column: str, where: str) -> float:
    """Return a rating from 1 to 9, or a finite feature; NaN for an empty feature."""
    rating = column in RATINGS
    if not value.strip() and not rating:
        return math.nan
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    low, high = RATING_RANGE if rating else (-math.inf, math.inf)
    if not math.isfinite(number) or not low <= number <= high:
        allowed = f"a number from {low:g} to {high:g}" if rating else "a finite number, or nothing where it is missing"
        raise DataError(f"{where} has {column} {value!r}; allowed is {allowed}.")
    return number


def zscore_within(
    values: NDArray[np.float64], subject: tuple[str, ...] | list[str]
) -> tuple[NDArray[np.float64], dict[str, str]]:
    """Put each person's values on mean 0 and standard deviation 1 (n - 1), so that people can be compared.

    Args:
        values: (R,) one column; NaN where missing, which stays NaN.
        subject: (R,) names.

    Returns:
        (R,) z-scores, NaN for a person that has none, and person -> why: fewer than two values, or no spread.

    Raises:
        ValueError: Lengths differ.

    Example:
        >>> z, why = zscore_within(np.array([1.0, 3.0, 5.0]), ["a", "a", "b"])
        >>> z.round(3).tolist(), why
        ([-0.707, 0.707, nan], {'b': '1 value'})
    """
    if values.shape != (len(subject),):
        raise ValueError(f"values have shape {values.shape}, expected ({len(subject)},), one a subject")
    names = np.array(subject, dtype=object)
    scores = np.full(len(values), np.nan)
    without: dict[str, str] = {}
    for name in sorted(set(subject)):
        rows = np.flatnonzero((names == name) & ~np.isnan(values))
        own = values[rows]
        if len(rows) < FEWEST_FOR_ZSCORE:
            without[name] = f"{len(rows)} value{'' if len(rows) == 1 else 's'}"
        elif own.max() == own.min():
            without[name] = "no spread"
        else:
            scores[rows] = (own - own.mean()) / own.std(ddof=1)
    return scores, without
