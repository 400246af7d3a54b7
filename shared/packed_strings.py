"""Many strings as two arrays, so that 200,000 paths cost megabytes and are shared by forked loader workers."""

from array import array
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError

_TAKE_CHUNK = 16_384  # rows gathered at once: the byte positions of a chunk are int64, eight times the text itself


class PackedStrings:
    """Strings stored as one UTF-8 buffer and the offsets at which each begins.

    A list of 200,000 Python strings touches its reference counts on every read, which copies the pages in every
    forked loader worker; two arrays do not.

    Args:
        buffer: (B,) uint8, the UTF-8 bytes of all strings one after the other.
        offsets: (N + 1,) int64, from 0 to B, never falling; string i is buffer[offsets[i]:offsets[i + 1]].

    Raises:
        DataError: Dtypes or offsets are not of this form.
    """

    __slots__ = ("buffer", "offsets")

    def __init__(self, buffer: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        if buffer.dtype != np.uint8 or buffer.ndim != 1:
            raise DataError(f"packed strings need a flat uint8 buffer, found {buffer.dtype} of shape {buffer.shape}.")
        if offsets.dtype != np.int64 or offsets.ndim != 1 or len(offsets) == 0:
            raise DataError(
                f"packed strings need flat int64 offsets, at least one, found {offsets.dtype} of shape {offsets.shape}."
            )
        if offsets[0] != 0 or offsets[-1] != len(buffer) or bool((np.diff(offsets) < 0).any()):
            raise DataError(f"the offsets of packed strings must rise from 0 to the {len(buffer)} bytes of the buffer.")
        self.buffer = buffer
        self.offsets = offsets

    @classmethod
    def pack(cls, strings: Iterable[str]) -> "PackedStrings":
        """Pack strings from any iterable; a generator is never held as a list.

        Raises:
            DataError: A string is not valid Unicode, as file names in another encoding come out of the file system.
        """
        text = bytearray()
        ends = array("q", [0])
        for string in strings:
            try:
                text += string.encode("utf-8")
            except UnicodeEncodeError as error:
                raise DataError(
                    f"string {len(ends) - 1} is {string!r}, which is not valid UTF-8; rename that file."
                ) from error
            ends.append(len(text))
        return cls(np.frombuffer(text, dtype=np.uint8), np.frombuffer(ends, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def raw(self, row: int) -> bytes:
        """Return the UTF-8 bytes of string `row`; negative rows count from the end, as in a list."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} packed strings does not exist.")
        row %= len(self)
        return self.buffer[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def __getitem__(self, row: int) -> str:
        return self.raw(row).decode("utf-8")

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedStrings):
            return NotImplemented
        return np.array_equal(self.offsets, other.offsets) and np.array_equal(self.buffer, other.buffer)

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def take(self, rows: NDArray[np.int64]) -> "PackedStrings":
        """Return the strings at `rows`, (M,) int64, in that order; rows may repeat.

        Raises:
            IndexError: A row is outside 0 .. N - 1.
        """
        rows = checked_rows(rows, len(self))
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(np.diff(self.offsets)[rows], out=offsets[1:])
        buffer = np.empty(int(offsets[-1]), dtype=np.uint8)
        for start in range(0, len(rows), _TAKE_CHUNK):
            stop = min(start + _TAKE_CHUNK, len(rows))
            target = np.arange(offsets[start], offsets[stop])
            shift = self.offsets[rows[start:stop]] - offsets[start:stop]
            source = target + np.repeat(shift, np.diff(offsets[start : stop + 1]))
            buffer[offsets[start] : offsets[stop]] = self.buffer[source]
        return PackedStrings(buffer, offsets)

    def to_list(self) -> list[str]:
        """Return all strings as a list: for class or group names, not for the ids of a large data set."""
        return list(self)

    def first_duplicate(self) -> str | None:
        """Return a string that occurs twice, or None; needs 16 bytes a string, not a set of them."""
        # Equal strings have equal hashes; strings with equal hashes are compared, so a collision costs time only.
        codes = np.fromiter((hash(self.raw(row)) for row in range(len(self))), dtype=np.int64, count=len(self))
        order = np.argsort(codes, kind="stable")
        ordered = codes[order]
        repeated = np.zeros(len(codes), dtype=np.bool_)
        repeated[1:] = ordered[1:] == ordered[:-1]
        repeated[:-1] |= repeated[1:]
        seen: set[bytes] = set()
        for row in order[repeated]:
            text = self.raw(int(row))
            if text in seen:
                return text.decode("utf-8")
            seen.add(text)
        return None


def checked_rows(rows: NDArray[np.int64], num_rows: int) -> NDArray[np.int64]:
    """Return `rows` as a flat int64 array after checking that each is a row of a table of `num_rows`.

    Raises:
        IndexError: The rows are not integers (a Boolean mask, for example), or one is outside the table.
    """
    rows = np.asarray(rows)
    if rows.size == 0:
        return np.zeros(0, dtype=np.int64)
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise IndexError(f"rows must be a flat array of integers, found {rows.dtype} of shape {rows.shape}.")
    if rows.min() < 0 or rows.max() >= num_rows:
        raise IndexError(f"rows {rows.min()} to {rows.max()} were asked of a table with rows 0 to {num_rows - 1}.")
    return rows.astype(np.int64, copy=False)
