"""The sheets that raters send back, checked against the key."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from projects.redheart.people.export import EMOTION, SCHEMA, SCORE_COLUMNS
from shared.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Ratings:
    """What raters said.

    Attributes:
        raters: Names, from the files.
        items: Of the key, in its order.
        emotion: (raters, items) code of the emotion, NaN where empty.
        scores: Column -> (raters, items) number in [0, 1], NaN where empty.
    """

    raters: tuple[str, ...]
    items: tuple[str, ...]
    emotion: NDArray[np.float64]
    scores: dict[str, NDArray[np.float64]]


def read_key(path: Path) -> dict[str, Any]:
    """Read the key of an export.

    Raises:
        DataError: If it is missing or none.
    """
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        if key["schema"] != SCHEMA or not key["items"] or not key["emotions"]:
            raise ValueError("it has another schema or no items")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no key of an export ({error}); give the .key.json that export wrote") from error
    return dict(key)


def read_ratings(paths: list[Path], key: dict[str, Any]) -> Ratings:
    """Read one sheet a rater.

    Raises:
        ConfigError: If there are fewer than two sheets, or two of one name.
        DataError: If a sheet is broken, holds an unknown or repeated item, another emotion or a number outside [0, 1];
            the message names file, item and column.
    """
    names = [path.stem for path in paths]
    if len(paths) < 2 or len(set(names)) < len(names):
        raise ConfigError(f"ratings are {', '.join(map(str, paths)) or 'none'}; two files or more of distinct names")
    items = tuple(key["items"])
    columns = (EMOTION, *SCORE_COLUMNS)
    tables = {column: np.full((len(paths), len(items)), np.nan) for column in columns}
    place = {item: number for number, item in enumerate(items)}
    for rater, path in enumerate(paths):
        for item, row in _lines(path, place).items():
            for column in columns:
                text = (row.get(column) or "").strip()
                if text:
                    tables[column][rater, place[item]] = _value(text, column, key["emotions"], path, item)
    return Ratings(tuple(names), items, tables.pop(EMOTION), tables)


def _lines(path: Path, known: dict[str, int]) -> dict[str, dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}); save it as CSV in UTF-8") from error
    if not rows or "item" not in rows[0] or EMOTION not in rows[0]:
        raise DataError(
            f"{path} lacks the columns item and {EMOTION}, or has no row; send back the sheet of the export"
        )
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        item = (row["item"] or "").strip()
        if item not in known:
            raise DataError(f"{path} rates {item!r}, which the key does not hold; is it the sheet of another export?")
        if item in found:
            raise DataError(f"{path} rates {item!r} twice; each item may stand once")
        found[item] = row
    return found


def _value(text: str, column: str, emotions: list[str], path: Path, item: str) -> float:
    if column == EMOTION:
        if text.lower() not in emotions:
            raise DataError(f"{path}, item {item}: emotion is {text!r}, allowed: {', '.join(emotions)}, or empty")
        return float(emotions.index(text.lower()))
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = np.nan
    if not 0.0 <= value <= 1.0:
        raise DataError(f"{path}, item {item}: {column} is {text!r}, allowed: a number from 0 to 1, or empty")
    return value
