"""Rows of an encoder kept beside the data: computed once, found again by the hash of the text.

Three files `<name>.embedded.<key>.*`, where the key is that of the encoder's identity (model, weights, pooling):

- `.json`: the identity, shape and dtype of a row;
- `.npy`: the rows, an array that numpy opens as it is;
- `.index`: for each row the blake2b-128 of its text, the CRC-32 of its bytes and how much of it is filled.

A row is valid once its entry stands in the index, which is written after the rows are on the disk: a process that is
killed leaves at most rows without an entry, and the next one writes over them.
"""

import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from projects.redheart.encoders.base import Encoded, Encoder
from projects.redheart.encoders.batches import BatchedEncoding
from shared.atomic import write_json
from shared.errors import DataError

FORMAT = "embedded-texts-1"

# S16 compares as 16 bytes: numpy drops zeros at the end, but at a fixed width no two digests differ by that alone.
ENTRY = np.dtype([("text", "S16"), ("crc", "<u4"), ("count", "<u2")])
FLUSH_BYTES = 16 << 20
"""Rows are gathered up to this size, then written with their entries: what a killed run has to compute again."""

_READ_BYTES = 8 << 20

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all), as in `shared.base_data`, which imports Lightning."""


def _silent(what: str, done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True)
class Filled:
    """What a call of `EmbeddingCache.fill` did.

    Attributes:
        num_texts: Texts asked for.
        num_distinct: Different ones among them.
        num_encoded: Those that were not there yet.
        num_halvings: How often memory ran out and the batch was halved.
    """

    num_texts: int
    num_distinct: int
    num_encoded: int
    num_halvings: int


class EmbeddedTexts:
    """All valid rows of a cache, mapped from the file.

    Attributes:
        vectors: (R, *shape) memory map, read only.
        counts: (R,) uint16, filled entries along a row's first axis.
    """

    def __init__(self, vectors: NDArray[Any], index: NDArray[Any]) -> None:
        self.vectors = vectors
        self.counts: NDArray[np.uint16] = np.ascontiguousarray(index["count"])
        self._order = np.argsort(index["text"], kind="stable")
        self._sorted = index["text"][self._order]

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Row of each text, (n,).

        Raises:
            KeyError: If a text has no row.
        """
        found = self.find(text_digests(texts))
        if (found < 0).any():
            raise KeyError(f"text {int(np.argmax(found < 0))} has no row in the embedding cache; fill it first")
        return found

    def find(self, digests: NDArray[np.bytes_]) -> NDArray[np.int64]:
        """Row of each digest, (n,), -1 where there is none."""
        if len(self._sorted) == 0:
            return np.full(len(digests), -1, dtype=np.int64)
        place = np.minimum(np.searchsorted(self._sorted, digests), len(self._sorted) - 1)
        return np.where(self._sorted[place] == digests, self._order[place], -1)


class EmbeddingCache:
    """The cache of one encoder beside a data file.

    Args:
        stem: Path without suffix: `<folder>/stories` gives `<folder>/stories.embedded.<key>.npy`.
        encoder: Who computes what is missing.
        flush_bytes: Size of rows that are written at once, > 0.
    """

    def __init__(self, stem: Path, encoder: Encoder, *, flush_bytes: int = FLUSH_BYTES) -> None:
        self.encoder = encoder
        self.flush_bytes = flush_bytes
        base = f"{stem.name}.embedded.{encoder.identity.key()}"
        self.folder = stem.parent
        self.rows_path = self.folder / f"{base}.npy"
        self.index_path = self.folder / f"{base}.index"
        self.description_path = self.folder / f"{base}.json"
        self._row_shape: tuple[int, ...] | None = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row: as the files say, so that a full cache needs no model; else as the encoder says."""
        if self._row_shape is None:
            stored = self._description()
            self._row_shape = self.encoder.shape if stored is None else tuple(stored["shape"])
        return self._row_shape

    def fill(self, texts: Sequence[str], on_progress: Progress = _silent) -> Filled:
        """Compute the rows of all texts that have none; of equal texts, one.

        A second process waits for the first, then finds its rows there.

        Args:
            texts: Texts, in any order.
            on_progress: Told how many of the missing ones are done.

        Raises:
            DataError: If the files are damaged, of another encoder, or cannot be written.
            TrainingError: If memory runs out with a single text.
        """
        digests = text_digests(texts)
        distinct, first = np.unique(digests, return_index=True)
        missing = self._missing(distinct)
        halvings = 0
        if missing.any():
            try:
                with self._locked(on_progress):
                    missing = self._missing(distinct)  # another process may have written them meanwhile
                    halvings = self._append([texts[place] for place in first[missing]], distinct[missing], on_progress)
            except OSError as error:
                raise DataError(
                    f"embeddings {self.rows_path} cannot be written ({error}); what is there stays valid"
                ) from error
        return Filled(len(texts), len(distinct), int(missing.sum()), halvings)

    def read(self) -> EmbeddedTexts:
        """Map all valid rows, after their bytes were compared with the index.

        Raises:
            DataError: If the files are missing, truncated, damaged or of another encoder.
        """
        index = self._index()
        if self._description() is None or len(index) == 0:
            raise DataError(f"embeddings {self.rows_path} do not exist yet; fill the cache first")
        start = self._check_rows(len(index))
        self._check_bytes(index, start)
        vectors = np.memmap(
            self.rows_path, dtype=self.encoder.dtype, mode="r", offset=start, shape=(len(index), *self.row_shape)
        )
        return EmbeddedTexts(vectors, index)

    # -- reading ---------------------------------------------------------------------------------------------------

    def _missing(self, distinct: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        """Which of the digests have no valid row."""
        index = self._index()
        if self._description() is not None:
            self._check_rows(len(index))
        elif len(index):
            raise self._damaged(f"{self.description_path.name} is missing")
        return ~np.isin(distinct, index["text"])

    def _description(self) -> dict[str, Any] | None:
        """What the .json says, or None where there is none."""
        try:
            content = json.loads(self.description_path.read_text(encoding="utf-8"))
            stored = {key: content[key] for key in ("format", "identity", "shape", "dtype")}
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"{self.description_path.name} cannot be read ({error})") from error
        wanted = {"format": FORMAT, "identity": self.encoder.identity.as_dict(), "dtype": self.encoder.dtype.str}
        for key, value in wanted.items():
            if stored[key] != value:
                name, found, needed = _first_difference(key, stored[key], value)
                raise DataError(
                    f"embeddings {self.rows_path} are of another encoder: {name} is {found!r}, needed is {needed!r}; "
                    "remove the files, or choose that encoder"
                )
        return stored

    def _index(self) -> NDArray[Any]:
        """Entries of the index; a last one that was cut off by a kill does not count."""
        try:
            content = self.index_path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):  # the second is told where the files are to be made
            content = b""
        return np.frombuffer(content[: len(content) // ENTRY.itemsize * ENTRY.itemsize], dtype=ENTRY)

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self.row_shape)) * self.encoder.dtype.itemsize

    def _check_rows(self, num_rows: int) -> int:
        """Compare header and size of the .npy with the index; return where the rows begin."""
        if num_rows == 0:
            return 0
        try:
            with self.rows_path.open("rb") as stream:
                shape, dtype, start = read_header(stream)
                size = os.fstat(stream.fileno()).st_size
        except (OSError, ValueError) as error:
            raise self._damaged(f"its header cannot be read ({error})") from error
        if shape[1:] != self.row_shape or dtype != self.encoder.dtype:
            raise self._damaged(
                f"it holds rows {dtype} of {shape[1:]}, {self.encoder.dtype} of {self.row_shape} are needed"
            )
        if size < start + num_rows * self._row_bytes:
            raise self._damaged(f"it is truncated: {size} bytes, {start + num_rows * self._row_bytes} were written")
        return start

    def _check_bytes(self, index: NDArray[Any], start: int) -> None:
        """Compare every row with its CRC, through a small buffer: the map would count as memory in use."""
        rows_at_once = max(1, _READ_BYTES // self._row_bytes)
        expected = index["crc"].tolist()
        with self.rows_path.open("rb") as stream:
            stream.seek(start)
            for first in range(0, len(expected), rows_at_once):
                wanted = expected[first : first + rows_at_once]
                found = row_crcs(stream.read(len(wanted) * self._row_bytes), self._row_bytes)
                if found != wanted:
                    bad = next(place for place, crc in enumerate(wanted) if place >= len(found) or found[place] != crc)
                    raise self._damaged(f"row {first + bad} is not what was written")

    def _damaged(self, why: str) -> DataError:
        return DataError(
            f"embeddings {self.rows_path} cannot be used: {why}; remove the files {self.index_path.stem}.* to make "
            "them anew"
        )

    # -- writing ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self, on_progress: Progress) -> Iterator[None]:
        """Hold the lock of these files; the system lets go of it when the process ends, however it ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.index_path.open("ab") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_progress("waiting for another process that embeds", 0, 1)
                fcntl.flock(stream, fcntl.LOCK_EX)
                on_progress("waiting for another process that embeds", 1, 1)
            yield

    def _append(self, texts: list[str], digests: NDArray[np.bytes_], on_progress: Progress) -> int:
        """Encode and write; return how often memory ran out."""
        if not texts:
            return 0
        what = f"embedding with {self.encoder.identity.model}"
        on_progress(what, 0, len(texts))
        encoding, done = BatchedEncoding(self.encoder), 0
        with self._opened() as (rows, index):
            pending: list[tuple[NDArray[np.bytes_], Encoded]] = []
            size = 0
            for positions, encoded in encoding.run(texts):
                pending.append((digests[positions], encoded))
                size += encoded.values.nbytes
                done += len(positions)
                if size >= self.flush_bytes or done == len(texts):
                    write_pending(rows, index, pending, self._row_bytes)
                    pending, size = [], 0
                on_progress(what, done, len(texts))
            rows.seek(0)
            num_rows = index.tell() // ENTRY.itemsize
            rows.write(header_bytes((num_rows, *self.row_shape), self.encoder.dtype))
            flush(rows)
        return encoding.num_halvings

    @contextmanager
    def _opened(self) -> Iterator[tuple[BinaryIO, BinaryIO]]:
        """Rows and index, cut back to the valid rows and ready to be extended; made where missing."""
        num_rows = len(self._index())
        header = header_bytes((num_rows, *self.row_shape), self.encoder.dtype)
        if num_rows == 0:
            self.rows_path.write_bytes(header)
            identity = self.encoder.identity.as_dict()
            about = {
                "format": FORMAT,
                "identity": identity,
                "shape": list(self.row_shape),
                "dtype": self.encoder.dtype.str,
            }
            write_json(self.description_path, about)
        with self.rows_path.open("r+b") as rows, self.index_path.open("r+b") as index:
            rows.truncate(len(header) + num_rows * self._row_bytes)
            index.truncate(num_rows * ENTRY.itemsize)
            rows.seek(0, os.SEEK_END)
            index.seek(0, os.SEEK_END)
            yield rows, index


def write_pending(
    rows: BinaryIO, index: BinaryIO, pending: Sequence[tuple[NDArray[np.bytes_], Encoded]], row_bytes: int
) -> None:
    """Write rows, wait until they are on the disk, and only then their entries."""
    entries = []
    for digests, encoded in pending:
        content = np.ascontiguousarray(encoded.values).tobytes()
        rows.write(content)
        entry = np.zeros(len(digests), dtype=ENTRY)
        entry["text"], entry["count"], entry["crc"] = digests, encoded.counts, row_crcs(content, row_bytes)
        entries.append(entry.tobytes())
    flush(rows)
    index.write(b"".join(entries))
    flush(index)


def flush(stream: BinaryIO) -> None:
    """Bring what was written to the disk."""
    stream.flush()
    os.fsync(stream.fileno())


def row_crcs(content: bytes, row_bytes: int) -> list[int]:
    """CRC-32 of each whole row in some bytes."""
    view = memoryview(content)
    return [zlib.crc32(view[begin : begin + row_bytes]) for begin in range(0, len(content) - row_bytes + 1, row_bytes)]


def text_digests(texts: Sequence[str]) -> NDArray[np.bytes_]:
    """Blake2b-128 of each text in UTF-8, (n,) of 16 bytes."""
    content = b"".join(hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest() for text in texts)
    return np.frombuffer(content, dtype="S16")


def header_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """The header of an .npy file; numpy leaves room for the number of rows to grow, so its length stays the same."""
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def read_header(stream: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and length of the header of an .npy file.

    Raises:
        ValueError: If it is none, or not as this code writes it.
    """
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("it is no .npy file of version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if fortran:
        raise ValueError("its rows are in Fortran order")
    return shape, dtype, stream.tell()


def _first_difference(key: str, found: Any, wanted: Any) -> tuple[str, Any, Any]:
    """Dotted name and both values of the first field that differs; the whole values where they are no mappings."""
    if not isinstance(found, dict) or not isinstance(wanted, dict):
        return key, found, wanted
    names = [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]
    return f"{key}.{names[0]}", found.get(names[0]), wanted.get(names[0])
