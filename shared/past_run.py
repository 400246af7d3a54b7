"""What a run left behind about its samples: events of `ledger.jsonl`, rows of `splits.csv`, digests with folds."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.atomic import replacing
from shared.errors import DataError
from shared.sample_index import DIGEST_BYTES, SampleIndex
from shared.splits import iterate_splits

LEDGER_FILE = "ledger.jsonl"
SPLITS_FILE = "splits.csv"
DIGESTS_FILE = "ledger_digests.npy"


@dataclass(frozen=True)
class PastRun:
    """The samples of a bound run and which folds it has used.

    Attributes:
        path: Run directory.
        bound: Its `bind` event.
        used: Folds that served a purpose.
        digests: (M, 17) uint8, sorted: content digest and fold code of every sample that had a digest.
    """

    path: Path
    bound: dict[str, Any]
    used: frozenset[str]
    digests: NDArray[np.uint8]

    @classmethod
    def read(cls, path: Path) -> "PastRun":
        """Read the ledger of a run, without changing anything in it.

        Raises:
            DataError: The directory holds no bound ledger, or its files were changed after they were bound.
        """
        ledger = path / LEDGER_FILE
        if not ledger.is_file():
            raise DataError(f"run {path} has no {LEDGER_FILE}, so which samples it used is unknown.")
        events, _ = read_journal(ledger)
        bound = next((event for event in events if event["event"] == "bind"), None)
        if bound is None:
            raise DataError(f"{ledger} has no bind event, so which samples run {path.name} used is unknown.")
        splits = path / SPLITS_FILE
        if not splits.is_file() or hashlib.sha256(splits.read_bytes()).hexdigest() != bound["splits_hash"]:
            raise DataError(f"{splits} is missing or was changed after run {path.name} was bound to it; restore it.")
        used = {event["fold"] for event in events if event["event"] == "use"}
        used |= {"test" for event in events if event["event"] == "open_test"}
        return cls(path, bound, frozenset(used), _read_digests(path / DIGESTS_FILE, bound))

    def samples(self) -> Iterator[tuple[str, str, str]]:
        """Yield (sample id, group name, fold) of every sample of the run."""
        return ((sample_id, group, fold) for sample_id, group, _, fold in iterate_splits(self.path / SPLITS_FILE))


def pack_digests(index: SampleIndex, fold: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return (M, 17) uint8: digest and fold code of each sample that has a digest, sorted bytewise."""
    known = index.has_digest()
    table = np.concatenate([index.digest[known], fold[known, None].astype(np.uint8)], axis=1)
    return table[np.lexsort(table.T[::-1])]


def hash_digests(digests: NDArray[np.uint8]) -> str:
    """Return the sha256 (hex) of the rows of the table, one after the other."""
    return hashlib.sha256(np.ascontiguousarray(digests).tobytes()).hexdigest()


def write_digests(path: Path, digests: NDArray[np.uint8]) -> None:
    """Write the table as .npy atomically."""
    with replacing(path) as temporary:
        np.save(temporary, digests, allow_pickle=False)


def _read_digests(path: Path, bound: dict[str, Any]) -> NDArray[np.uint8]:
    """Read the table and check it against the hash that the ledger holds."""
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is missing or damaged ({error}); restore it from the run.") from error
    if table.ndim != 2 or table.shape[1] != DIGEST_BYTES + 1 or hash_digests(table) != bound["digests_sha256"]:
        raise DataError(f"{path} was changed after the run was bound; restore it.")
    return np.asarray(table, dtype=np.uint8)


def read_journal(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """Read the events of a ledger and tell whether its last line is torn, as kill -9 or a power cut leaves it.

    Returns:
        The whole events, and True if the file must be rewritten before anything is appended.

    Raises:
        DataError: A line other than the last is no event.
    """
    *lines, tail = path.read_bytes().split(b"\n")
    events = []
    for number, line in enumerate(lines, start=1):
        event = _parse(line)
        if event is None:
            raise DataError(f"{path} line {number} is no ledger event; the file was changed by hand: restore it.")
        events.append(event)
    last = _parse(tail)
    if last is not None:  # only its newline is missing: what it says happened, so it counts
        events.append(last)
    return events, bool(tail)


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the event in a line, or None."""
    try:
        event = json.loads(line)
    except ValueError:  # UnicodeDecodeError and JSONDecodeError both are
        return None
    return event if isinstance(event, dict) and "event" in event else None
