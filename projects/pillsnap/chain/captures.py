"""`captures.csv`: one row a photo of the data set, and which photos may never part.

A capture is one physical pill in one sitting: same pill, same table, same light. Two photos of a capture on two sides
of a split would let the network score by remembering the table. The column `capture` is what the file's name says; the
column `group` is what the split keeps together: captures joined where they hold the same bytes.
"""

import csv
import io
import re
from collections.abc import Hashable, Iterable
from dataclasses import astuple, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from projects.pillsnap.chain.files import CAPTURES, OTHERS, checked_path, command, read_step
from shared.errors import ConfigError, DataError

DEFAULT_PATTERN = r"^(?P<capture>.+)_\d+$"
DOMAINS = ("studio", "real")
OTHER = "other"
"""Domain of photos of drugs that are none of the classes."""

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True)
class PhotoRow:
    """A photo of the data set.

    Attributes:
        path: Below the data set, '/' separated: combined/<kcode>/studio_<name>, .../real_<name>, others/<kcode>/...
        kcode: The drug.
        domain: studio, real, or other for a drug that is none of the classes.
        capture: `<domain>/<kcode>/<capture>`, or `<domain>/<capture>` where captures are shared by classes.
        group: The name of the group that a split keeps together: the first of its captures.
        size: Bytes.
        sha256: Of the bytes, hexadecimal.
    """

    path: str
    kcode: str
    domain: str
    capture: str
    group: str
    size: int
    sha256: str


_COLUMNS = [field.name for field in fields(PhotoRow)]


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a capture pattern.

    Raises:
        ConfigError: It is no regular expression, or has no group named `capture`.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"the capture pattern {pattern!r} is no regular expression ({error}).") from error
    if "capture" not in compiled.groupindex:
        raise ConfigError(f"the capture pattern {pattern!r} must name its part: '(?P<capture>...)'.")
    return compiled


def capture_of(pattern: re.Pattern[str], name: str) -> str | None:
    """Return the capture that a file name without its folder tells, None where it tells none.

    Example:
        >>> capture_of(re.compile(DEFAULT_PATTERN), "r07_02.jpg")
        'r07'
    """
    match = pattern.search(Path(name).stem)
    return (match["capture"] or None) if match else None


def join(pairs: Iterable[tuple[_Key, _Key]]) -> dict[_Key, _Key]:
    """Join keys that pairs connect, over any number of steps; return key -> the smallest key of its set.

    Args:
        pairs: Keys that belong together; a key alone is a pair with itself.

    Example:
        >>> join([("b", "c"), ("a", "b"), ("d", "d")])
        {'b': 'a', 'c': 'a', 'a': 'a', 'd': 'd'}
    """
    parent: dict[_Key, _Key] = {}

    def root(key: _Key) -> _Key:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for one, other in pairs:
        first, second = sorted((root(one), root(other)), key=str)
        parent[second] = first
    return {key: root(key) for key in list(parent)}


def captures_bytes(rows: Iterable[PhotoRow]) -> bytes:
    """Return the table as CSV, rows by path."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(astuple(row) for row in sorted(rows, key=lambda row: row.path))
    return text.getvalue().encode("utf-8")


def read_captures(dataset: Path, content: bytes | None = None) -> list[PhotoRow]:
    """Read `captures.csv`, or `content` as if it stood there.

    Returns:
        The rows, sorted by path.

    Raises:
        DataError: It is missing or damaged: the line, what was found, and the command that makes it.
    """
    path = dataset / CAPTURES
    content = read_step(dataset, CAPTURES) if content is None else content
    remedy = f"make it again with `{command(CAPTURES)}`"
    try:
        table = csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True)
        header = next(table, [])
        if header != _COLUMNS:
            raise DataError(f"{path} has the columns {header}; expected are {_COLUMNS}; {remedy}.")
        rows = [_row(f"{path} line {table.line_num}", values, remedy) for values in table]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no readable CSV file in UTF-8 ({error}); {remedy}.") from error
    for before, row in pairwise(rows):
        if before.path >= row.path:
            raise DataError(f"{path}: {row.path!r} stands twice or out of order; {remedy}.")
    return rows


def _row(where: str, values: list[str], remedy: str) -> PhotoRow:
    """Check one line."""
    if len(values) != len(_COLUMNS):
        raise DataError(f"{where} has {len(values)} values, not {len(_COLUMNS)}; {remedy}.")
    path, kcode, domain, capture, group, size, sha256 = values
    parts = checked_path(path, where).split("/")
    prefix = f"{domain}_"
    if domain not in (*DOMAINS, OTHER) or (parts[0] == OTHERS) != (domain == OTHER) or not parts[2].startswith(prefix):
        raise DataError(f"{where}: the photo {path!r} cannot be of the domain {domain!r}; {remedy}.")
    if (
        parts[1] != kcode
        or not capture
        or not group
        or not size.isdecimal()
        or not re.fullmatch("[0-9a-f]{64}", sha256)
    ):
        raise DataError(f"{where}: kcode, capture, group, size or sha256 of {path!r} is not sound; {remedy}.")
    return PhotoRow(path, kcode, domain, capture, group, int(size), sha256)
